//! Pieces of text: numbers and times for people, cutting and filling, and what to draw where there is only ASCII.

use ratatui::buffer::Buffer;
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::state::State;
use crate::theme::Role;

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// A piece of text that is something.
pub(super) fn span(state: &State, role: Role, text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), state.look.theme.style(role))
}

/// Cut to a width, which shows.
pub(super) fn cut(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > most {
            break;
        }
        kept.push(c);
    }
    if most > 0 {
        kept.push('…');
    }
    kept
}

/// Cut from the left: of a path the end says most.
pub(super) fn cut_left(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut kept: Vec<char> = Vec::new();
    let mut used = 1;
    for c in text.chars().rev() {
        used += c.width().unwrap_or(0);
        if used > most {
            break;
        }
        kept.push(c);
    }
    let mark = if most > 0 { "…" } else { "" };
    mark.chars().chain(kept.into_iter().rev()).collect()
}

/// Cut or filled to exactly a width, with one column to what follows.
pub(super) fn cell(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let fill = columns - width(&text).min(columns);
    format!("{text}{} ", " ".repeat(fill))
}

/// The same with the text on the right.
pub(super) fn cell_right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let fill = columns - width(&text).min(columns);
    format!("{}{text} ", " ".repeat(fill))
}

/// A time since the first record.
pub(super) fn time(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{}.{}us", ns / 1_000, ns % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{:03}ms", ns / 1_000_000, ns % 1_000_000 / 1_000),
        _ => format!("{}.{:06}s", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000),
    }
}

/// A number with separators.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// The end of an address, which tells entries of one table apart.
pub(super) fn tail(entry: &str) -> String {
    let digits = entry.strip_prefix("0x").unwrap_or(entry);
    let from = digits.len().saturating_sub(6);
    if digits.is_empty() { String::new() } else { format!("…{}", &digits[from..]) }
}

/// A number in few columns.
pub(super) fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        number if number >= 1e9 => (number / 1e9, "G"),
        number if number >= 1e6 => (number / 1e6, "M"),
        number if number >= 1e3 => (number / 1e3, "k"),
        number => (number, ""),
    };
    let whole = scaled >= 100.0 || (unit.is_empty() && scaled.fract() < 0.05);
    let digits = usize::from(!whole);
    format!("{scaled:.digits$}{unit}")
}

/// Lines of words, none longer than `most` unless a word is.
pub(super) fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let indent = paragraph.len() - paragraph.trim_start().len();
        let mut line = " ".repeat(indent);
        let mut empty = true;
        for word in paragraph.split_whitespace() {
            if !empty && width(&line) + 1 + width(word) > most {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        lines.push(line);
    }
    lines
}

/// The character to draw instead of one that is not ASCII.
fn ascii(c: char) -> char {
    match c {
        c if c.is_ascii() => c,
        '─' => '-',
        '│' => '|',
        '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' => '+',
        '…' => '~',
        '█' => '#',
        '·' => '.',
        _ => '?',
    }
}

/// Draws a line, and shows that it is cut where there is no room for all of it.
pub(super) fn line(buffer: &mut Buffer, x: u16, y: u16, line: &Line<'_>, most: u16) {
    buffer.set_line(x, y, line, most);
    if line.width() > usize::from(most)
        && let Some(last) = most.checked_sub(1).and_then(|last| buffer.cell_mut((x + last, y)))
    {
        last.set_char('…');
    }
}

/// Makes everything ASCII.
pub(super) fn plain(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            let c = cell.symbol().chars().next().map_or(' ', ascii);
            cell.set_char(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times() {
        assert_eq!([count(7), count(1234), count(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!(
            [short(0.4), short(7.0), short(1500.0), short(250e3), short(12.34e6)],
            ["0.4", "7", "1.5k", "250k", "12.3M"]
        );
        assert_eq!(
            [time(158_100), time(1_234_567), time(2_000_001_000)],
            ["158.1us", "1.234ms", "2.000001s"]
        );
    }

    #[test]
    fn cut_and_filled() {
        assert_eq!([cut("abcdef", 4), cut("abc", 3), cut("abc", 0)], ["abc…", "abc", ""]);
        assert_eq!(cut_left("mm/memory.c:12", 8), "…ry.c:12");
        assert_eq!([cell("ab", 4), cell_right("ab", 4), cell("abcdef", 4)], ["ab   ", "  ab ", "abc… "]);
        assert_eq!(wrap("one two three\n  four five", 9), ["one two", "three", "  four", "  five"]);
    }
}
