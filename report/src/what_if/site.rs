//! A place in the kernel, as a person names it.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use lazymmu_abi::Record;
use lazymmu_hazard::without_suffixes;
use lazymmu_trace::{Frame, Symbols};

/// A place: `function`, `function+0xoff` or `file:line`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// Every access in this function, or in what the compiler inlined into it.
    Function(String),
    /// The access that returns to this many bytes after the start of the function.
    Offset(String, u64),
    /// The access in this source line, or in an inlined function that this line calls.
    Line(String, u32),
}

/// Why a text names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("understand the site {0}: it is neither FUNCTION, FUNCTION+0xOFFSET nor FILE:LINE")]
pub struct SiteError(String);

impl FromStr for Site {
    type Err = SiteError;

    fn from_str(text: &str) -> Result<Self, SiteError> {
        let refuse = || SiteError(text.to_owned());
        let site = if let Some((file, line)) = text.rsplit_once(':') {
            Self::Line(file.to_owned(), line.parse().map_err(|_| refuse())?)
        } else if let Some((function, offset)) = text.split_once('+') {
            let digits = offset.strip_prefix("0x").ok_or_else(refuse)?;
            let offset = u64::from_str_radix(digits, 16).map_err(|_| refuse())?;
            Self::Offset(function.to_owned(), offset)
        } else {
            Self::Function(text.to_owned())
        };
        let (Self::Function(name) | Self::Offset(name, _) | Self::Line(name, _)) = &site;
        if name.is_empty() || name.contains(char::is_whitespace) { Err(refuse()) } else { Ok(site) }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(name) => f.write_str(name),
            Self::Offset(name, offset) => write!(f, "{name}+{offset:#x}"),
            Self::Line(file, line) => write!(f, "{file}:{line}"),
        }
    }
}

impl Site {
    fn is_at(&self, frame: &Frame) -> bool {
        match self {
            Self::Function(name) => without_suffixes(&frame.function) == name || frame.function == *name,
            Self::Offset(name, offset) => {
                !frame.inlined && frame.offset == *offset && frame.function == *name
            }
            Self::Line(file, line) => frame.line == Some(*line) && frame.file.as_ref() == Some(file),
        }
    }
}

/// Finds the accesses of a site, by their stacks.
pub(super) struct Sites<'a> {
    site: &'a Site,
    symbols: &'a Symbols,
    known: HashMap<u64, bool>,
}

impl<'a> Sites<'a> {
    pub(super) fn new(site: &'a Site, symbols: &'a Symbols) -> Self {
        Self { site, symbols, known: HashMap::new() }
    }

    /// Whether the record was made there: at its innermost address, with all functions that are inlined there.
    pub(super) fn has(&mut self, record: &Record) -> bool {
        let (site, symbols) = (self.site, self.symbols);
        *self.known.entry(record.stack).or_insert_with(|| {
            let innermost = symbols.addresses(record.stack).and_then(|addresses| addresses.first());
            innermost.is_some_and(|address| symbols.frames_at(*address).iter().any(|frame| site.is_at(frame)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_as_they_are_written() {
        for text in ["copy_pte_range", "copy_pte_range+0x1f3", "mm/memory.c:1309"] {
            assert_eq!(text.parse::<Site>().map(|site| site.to_string()).as_deref(), Ok(text));
        }
        for bad in ["", "a b", "f+12", "f+0x", "mm/memory.c:", ":12", "mm/memory.c:x"] {
            assert!(bad.parse::<Site>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_compiler_adds_to_a_name_does_not_count() {
        let frame = |function: &str, inlined| Frame {
            function: function.to_owned(),
            offset: 0x10,
            module: None,
            file: Some("mm/memory.c".to_owned()),
            line: Some(7),
            inlined,
        };
        let is_at = |site: &str, frame| site.parse::<Site>().unwrap().is_at(&frame);
        assert!(is_at("f", frame("f.isra.0", true)));
        assert!(is_at("f+0x10", frame("f", false)) && !is_at("f+0x10", frame("f", true)));
        assert!(is_at("mm/memory.c:7", frame("f", true)) && !is_at("mm/memory.c:8", frame("f", true)));
        assert!(!is_at("memory.c:7", frame("f", true)));
    }
}
