//! What the daemon and its clients say to each other over a socket: lines of JSON, each an object with one field whose
//! name says what it is. docs/protocol.md is the definition.
//!
//! [`Request`] is what a client says, [`Message`] what the daemon says; both begin with a [`Hello`]. [`Client`] is a
//! client that blocks. Findings, sections and counts are the types of `lazymmu-report`, as they stand in its documents.
//! Nothing here captures, judges or draws, and nothing needs a runtime.

#![forbid(unsafe_code)]

mod client;
mod error;
mod line;
mod message;
mod request;
mod state;
mod version;

pub use client::Client;
pub use error::Error;
pub use line::MAX_LINE;
pub use message::{
    Addresses, Detail, Dropped, End, Hello, Message, Metrics, Refusal, Snapshot, Timeline, Update, Why,
};
pub use request::{Request, Wanted};
pub use state::{Class, Cpu, Mode, Party, Rate, Second, Status, Task};
pub use version::{VERSION, Version};

/// Where the daemon listens if nothing else is said.
pub const SOCKET: &str = "/run/lazymmu/daemon.sock";
