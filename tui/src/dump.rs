//! One frame as text: for tests, for bug reports, and for who has no terminal.

use std::fmt::Write as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use crate::drive::Driver;
use crate::keys::Key;
use crate::source::{Kind, Source};
use crate::state::{Effect, Input, Look};
use crate::view::draw;

/// How long a source may take until it has told everything.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a dump is of.
#[derive(Clone, Debug)]
pub struct Dump<'a> {
    /// Columns and rows.
    pub size: (u16, u16),
    /// What is typed before.
    pub keys: &'a [Key],
    /// Whether colours are written, as escape sequences.
    pub colour: bool,
}

/// Types the keys, waits after each until nothing more changes, and returns the frame.
///
/// # Errors
///
/// Says that the source took too long, or failed.
pub fn dump(
    source: &mut dyn Source,
    look: Look,
    sources: Option<&Path>,
    dump: &Dump<'_>,
) -> Result<String, String> {
    let live = source.about().kind == Kind::Live;
    let mut driver = Driver::new(source, look, sources, dump.size);
    settle(&mut driver, live)?;
    for key in dump.keys {
        let effects = driver.input(Input::Key(*key));
        if effects.contains(&Effect::Quit) {
            break;
        }
        settle(&mut driver, live)?;
    }
    let (width, height) = dump.size;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).map_err(|error| error.to_string())?;
    terminal.draw(|frame| draw(&driver.state, frame)).map_err(|error| error.to_string())?;
    let buffer = terminal.backend().buffer();
    Ok(if dump.colour { coloured(buffer) } else { plain(buffer) })
}

fn settle(driver: &mut Driver<'_>, live: bool) -> Result<(), String> {
    let began = Instant::now();
    loop {
        // Asked before what came is taken in: what comes in between is waited for.
        let idle = !driver.is_busy();
        let changed = driver.poll();
        if driver.has_failed() {
            return Err("a thread that reads the trace has failed".to_owned());
        }
        if idle && !changed && (live || driver.is_settled()) {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err("the source took too long".to_owned());
        }
        sleep(Duration::from_millis(1));
    }
}

fn rows(buffer: &Buffer) -> impl Iterator<Item = &[Cell]> {
    buffer.content.chunks(usize::from(buffer.area.width).max(1))
}

fn plain(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in rows(buffer) {
        let line: String = row.iter().map(Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn coloured(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in rows(buffer) {
        let blank = |cell: &Cell| cell.symbol() == " " && codes(cell).is_empty();
        let end = row.iter().rposition(|cell| !blank(cell)).map_or(0, |last| last + 1);
        let mut now = String::new();
        for cell in &row[..end] {
            let wanted = codes(cell);
            if wanted != now {
                // Writing to a string does not fail.
                let _ = write!(text, "\x1b[0{wanted}m");
                now = wanted;
            }
            text.push_str(cell.symbol());
        }
        if !now.is_empty() {
            text.push_str("\x1b[0m");
        }
        text.push('\n');
    }
    text
}

/// The parameters of the escape sequence for a cell.
fn codes(cell: &Cell) -> String {
    let mut codes = String::new();
    for (modifier, code) in [
        (Modifier::BOLD, ";1"),
        (Modifier::DIM, ";2"),
        (Modifier::ITALIC, ";3"),
        (Modifier::UNDERLINED, ";4"),
        (Modifier::REVERSED, ";7"),
    ] {
        if cell.modifier.contains(modifier) {
            codes.push_str(code);
        }
    }
    for (colour, base) in [(cell.fg, 30), (cell.bg, 40)] {
        if let Some(number) = number(colour) {
            let code = if number < 8 { base + number } else { base + 60 + number - 8 };
            let _ = write!(codes, ";{code}");
        }
    }
    codes
}

/// The number of a colour among the sixteen that the themes use.
fn number(colour: Color) -> Option<u8> {
    Some(match colour {
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        Color::DarkGray => 8,
        Color::LightYellow => 11,
        Color::White => 15,
        _ => return None,
    })
}
