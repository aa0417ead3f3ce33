//! What can go wrong between the two.

use std::io;

use thiserror::Error;

use crate::{Refusal, VERSION, Version};

/// Why the other side could not be understood, or not be reached. The text fits after "failed to".
#[derive(Debug, Error)]
pub enum Error {
    /// It speaks another major version.
    #[error(
        "understand the other side: lazymmu {lazymmu} speaks version {theirs} of the protocol, and this lazymmu {} \
         speaks {VERSION}; both must be of one major version",
        env!("CARGO_PKG_VERSION")
    )]
    Version {
        /// What it speaks.
        theirs: Version,
        /// Which lazymmu it is.
        lazymmu: String,
    },
    /// The line is not what it should be.
    #[error("understand a line: {0}")]
    Line(String),
    /// The line has no end within [`crate::MAX_LINE`] bytes.
    #[error("read a line: it is longer than {0} bytes")]
    TooLong(usize),
    /// The first line was no hello.
    #[error("get to know the other side: it did not say hello, so it is no lazymmu daemon")]
    NoHello,
    /// The daemon refused.
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// The socket.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}
