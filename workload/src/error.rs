//! Why a workload could not do what it says.

use std::io;

/// Why a workload failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no workload of that name.
    #[error("run workload {name:?}: there is none of that name; those that exist: {known}")]
    Unknown {
        /// The name that was given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The system refused something that the workload needs.
    #[error("{attempt}: {source}")]
    System {
        /// What was attempted.
        attempt: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel or the machine lacks what the workload needs.
    #[error("{attempt}: {lacking}")]
    Missing {
        /// What was attempted.
        attempt: String,
        /// What is missing and how to get it.
        lacking: String,
    },
    /// Everything was done, and the effect is not there.
    #[error("{attempt}: {observed}")]
    NoEffect {
        /// What was attempted.
        attempt: String,
        /// What was seen instead of the effect.
        observed: String,
    },
}

impl Error {
    pub(crate) fn no_effect(attempt: impl Into<String>, observed: impl Into<String>) -> Self {
        Self::NoEffect { attempt: attempt.into(), observed: observed.into() }
    }
}

/// Says what was attempted when the system refuses.
pub(crate) trait Attempt<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::System { attempt: what(), source })
    }
}
