//! Scenarios: small histories written by hand, in a text that reads like the story of the bug.
//!
//! A scenario becomes what a trace is: a header, call stacks with names, records. Nothing of the engine is known here;
//! what the text expects of it is only carried along. The text is defined in `docs/scenarios.md`.

mod build;
mod error;
mod expect;
mod line;
mod mode;
mod parse;
mod path;

use std::path::Path;

use lazymmu_abi::Record;

pub use error::ScenarioError;
pub use expect::{Expectation, Expected, ExpectedFinding, Profiles};

use crate::{Header, Symbols, WriteError, Writer};

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is about, in one line.
    pub title: String,
    /// The machine and kernel that it is about.
    pub header: Header,
    /// The call stacks.
    pub symbols: Symbols,
    /// What happens.
    pub records: Vec<Record>,
    /// What should be found.
    pub expectations: Vec<Expectation>,
}

/// The word that every scenario begins with.
const FIRST_WORD: &str = "scenario";

impl Scenario {
    /// The ending of the files.
    pub const EXTENSION: &str = "scn";

    /// Reads a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let name = path.as_ref().display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text),
            Err(source) => Err(ScenarioError::Read { name, source }),
        }
    }

    /// Reads a text; `name` is for messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        parse::scenario(name, text)
    }

    /// Whether these first bytes of a file can be those of a scenario: its first word is `scenario`.
    pub fn is_at_start_of(bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        first.is_some_and(|line| line.split_whitespace().next() == Some(FIRST_WORD))
    }

    /// The same history as a trace file.
    pub fn to_trace(&self) -> Result<Vec<u8>, WriteError> {
        let mut writer = Writer::new(Vec::new(), &self.header)?;
        writer.symbols(&self.symbols)?;
        writer.records(&self.records)?;
        writer.finish()?;
        Ok(writer.into_sink())
    }
}

#[cfg(test)]
mod tests;
