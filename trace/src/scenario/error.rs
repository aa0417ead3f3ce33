//! What can be wrong with a scenario. Messages fit after "failed to".

use std::io;

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file cannot be read, or is no text.
    #[error("read the scenario {name}: {source}")]
    Read {
        /// The file.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The text is not what the format asks for.
    #[error("read the scenario {name}: line {line}, column {column}: {fault}")]
    Syntax {
        /// The file.
        name: String,
        /// The line, from 1.
        line: usize,
        /// The character in it, from 1.
        column: usize,
        /// What is wrong, and what would be right.
        fault: String,
    },
}

/// What is wrong in a line that is known.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) column: usize,
    pub(super) what: String,
}
