//! What can go wrong with the file as a whole. Damage inside a readable trace is no error: see [`crate::Damage`].
//!
//! Messages fit after "failed to".

use std::io;

use crate::Version;

/// Why a trace cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened, or not moved about in.
    #[error("open the trace {name}: {source}")]
    Open {
        /// The file.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The system failed to deliver the file's bytes.
    #[error("read the trace {name} at byte {at}: {source}")]
    Io {
        /// The file.
        name: String,
        /// Where in it.
        at: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// The file has no bytes.
    #[error("read the trace {name}: the file is empty; record it again")]
    Empty {
        /// The file.
        name: String,
    },
    /// Not a trace by its first bytes.
    #[error("read the trace {name}: this is no lazymmu trace; `lazymmu record` makes one")]
    NotATrace {
        /// The file.
        name: String,
    },
    /// A trace of a newer major version.
    #[error(
        "read the trace {name}: its format {version} is newer than {}, which this lazymmu reads; use lazymmu {least} or later",
        Version::CURRENT
    )]
    Newer {
        /// The file.
        name: String,
        /// The format's version that it gives.
        version: Version,
        /// The oldest lazymmu that reads it, as the file says.
        least: String,
    },
    /// A trace whose header cannot be used; without it nothing after it can be judged.
    #[error("read the trace {name}: its header is unreadable: {what}; record it again")]
    Header {
        /// The file.
        name: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Why a trace cannot be written any further. What was written before can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file cannot be made.
    #[error("create the trace {name}: {source}")]
    Create {
        /// The file.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The disk is full, the pipe closed, or the like.
    #[error("write to the trace: {source}; {}", what_is_left(*whole))]
    Io {
        /// How many bytes of whole blocks the trace has.
        whole: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// The header does not fit in a block.
    #[error("write the trace's header: it takes {bytes} bytes, and {limit} is the most")]
    HeaderTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A block's content could not be encoded or compressed.
    #[error("encode a block of the trace: {source}")]
    Encode {
        /// The encoder's reason.
        source: io::Error,
    },
    /// The trace was finished before, or stopped at an error that was returned before.
    #[error("write to the trace: it was ended before")]
    Ended,
}

fn what_is_left(whole: u64) -> String {
    match whole {
        0 => "nothing was recorded".to_owned(),
        _ => format!("what was recorded before, {whole} bytes, can be replayed"),
    }
}
