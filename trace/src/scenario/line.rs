//! One line of a scenario as words, each with its column. Knows no statement.

use std::fmt::Display;

use super::error::Fault;

/// Characters that are words of their own wherever they stand.
const SINGLE: [char; 3] = ['=', '<', ','];

#[derive(Clone, Copy, Debug)]
struct Word<'a> {
    text: &'a str,
    column: usize,
}

/// The words of a line, taken from left to right.
#[derive(Debug)]
pub(super) struct Line<'a> {
    words: Vec<Word<'a>>,
    next: usize,
    /// The column after the last word.
    end: usize,
}

impl<'a> Line<'a> {
    /// Splits a line. `#` begins a comment.
    pub(super) fn new(text: &'a str) -> Self {
        let text = text.split('#').next().unwrap_or_default().trim_end();
        let mut words = Vec::new();
        let mut begun: Option<(usize, usize)> = None;
        let mut column = 1;
        for (at, c) in text.char_indices() {
            let single = SINGLE.contains(&c);
            if let Some((from, column)) = begun.take_if(|_| single || c.is_whitespace()) {
                words.push(Word { text: &text[from..at], column });
            }
            if single {
                words.push(Word { text: &text[at..at + c.len_utf8()], column });
            } else if !c.is_whitespace() {
                begun.get_or_insert((at, column));
            }
            column += 1;
        }
        if let Some((from, column)) = begun {
            words.push(Word { text: &text[from..], column });
        }
        Self { words, next: 0, end: column }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The next word, which stays.
    pub(super) fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).map(|word| word.text)
    }

    /// Takes the next word.
    pub(super) fn word(&mut self, expected: impl Display) -> Result<&'a str, Fault> {
        match self.peek() {
            Some(text) => {
                self.next += 1;
                Ok(text)
            }
            None => Err(self.expected(expected)),
        }
    }

    /// Takes the next word if it is this one.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.next += usize::from(found);
        found
    }

    /// Takes the next word, which must be this one.
    pub(super) fn need(&mut self, word: &str) -> Result<(), Fault> {
        if self.take(word) { Ok(()) } else { Err(self.expected(format_args!("`{word}`"))) }
    }

    /// Takes the next word if it means something to `read`; else the fault says what was expected.
    pub(super) fn read<T>(
        &mut self,
        expected: impl Display,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, Fault> {
        match self.peek().and_then(read) {
            Some(value) => {
                self.next += 1;
                Ok(value)
            }
            None => Err(self.expected(expected)),
        }
    }

    /// The rest of the line as text, which must not be empty.
    pub(super) fn rest(&mut self, expected: impl Display) -> Result<String, Fault> {
        if self.peek().is_none() {
            return Err(self.expected(expected));
        }
        let words: Vec<_> = self.words[self.next..].iter().map(|word| word.text).collect();
        self.next = self.words.len();
        Ok(words.join(" "))
    }

    /// Nothing may be left.
    pub(super) fn end(&self, expected: impl Display) -> Result<(), Fault> {
        if self.peek().is_none() { Ok(()) } else { Err(self.expected(expected)) }
    }

    /// Something else was expected where the line stands.
    pub(super) fn expected(&self, what: impl Display) -> Fault {
        let found = self.peek().map_or_else(|| "the line ends".to_owned(), |text| format!("found `{text}`"));
        Fault { column: self.column(), what: format!("expected {what}, {found}") }
    }

    /// The last word that was taken is wrong.
    pub(super) fn wrong(&self, what: impl Display) -> Fault {
        let last = self.next.checked_sub(1).and_then(|last| self.words.get(last));
        Fault { column: last.map_or(1, |word| word.column), what: what.to_string() }
    }

    fn column(&self) -> usize {
        self.words.get(self.next).map_or(self.end, |word| word.column)
    }
}

/// A number as people write it: decimal, or hexadecimal after `0x`; `_` may stand between digits.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    match digits.strip_prefix("0x") {
        // The library's parsers take a sign.
        _ if digits.contains('+') => None,
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// A number that must fit.
pub(super) fn small<T: TryFrom<u64>>(text: &str) -> Option<T> {
    T::try_from(number(text)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_their_columns() {
        let line = Line::new("  read é[1]=P0 in a<b # in c");
        let words: Vec<_> = line.words.iter().map(|word| (word.text, word.column)).collect();
        assert_eq!(
            words,
            [("read", 3), ("é[1]", 8), ("=", 12), ("P0", 13), ("in", 16), ("a", 19), ("<", 20), ("b", 21)]
        );
        assert_eq!(line.end, 22);
        assert!(Line::new("   # nothing").is_empty());
    }

    #[test]
    fn a_fault_names_what_was_found_and_where() {
        let mut line = Line::new("task parent");
        assert!(line.take("task"));
        assert_eq!(line.read("a number", number).unwrap_err().what, "expected a number, found `parent`");
        assert_eq!(line.word("a name").ok(), Some("parent"));
        let fault = line.need("on").unwrap_err();
        assert_eq!((fault.column, fault.what.as_str()), (12, "expected `on`, the line ends"));
        assert_eq!(line.wrong("no").column, 6);
    }

    #[test]
    fn numbers() {
        assert_eq!(number("0xffff_8880"), Some(0xffff_8880));
        assert_eq!(number("512"), Some(512));
        for bad in ["", "x", "0x", "-1", "+1", "0x+1", "1.5"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(small::<u16>("65536"), None);
    }
}
