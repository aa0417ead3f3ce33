//! The trace file: write, read, recover.
//!
//! A trace is a header and then blocks, each with its length and checksums, so that whatever is torn or flipped
//! costs only the blocks it touches. `docs/trace-format.md` has it byte by byte. This crate knows nothing of the
//! engine's rules, and captures nothing itself.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use lazymmu_trace::{Header, Reader, Writer};
//!
//! let mut writer = Writer::new(Vec::new(), &Header::default())?;
//! writer.records(&[lazymmu_abi::Record { time: 7, ..Default::default() }])?;
//! writer.finish()?;
//!
//! let file = writer.into_sink();
//! let mut reader = Reader::from_bytes(&file)?;
//! while let Some(batch) = reader.next_batch()? {
//!     assert_eq!(batch[0].time, 7);
//! }
//! assert!(reader.damage().is_none());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod ahead;
mod block;
mod codec;
mod counters;
mod damage;
mod error;
mod format;
mod header;
mod index;
mod reader;
mod records;
pub mod scenario;
mod side;
mod sink;
mod symbols;
mod walk;
mod writer;

pub use counters::{Counters, Losses};
pub use damage::{Damage, Fault, LostRecords};
pub use error::{ReadError, WriteError};
pub use format::{LEAST_LAZYMMU, Version};
pub use header::{Capture, Clock, Header, Hook, Kernel, Plan, Refused, Sites};
pub use index::{Index, Span};
pub use reader::{About, Reader};
pub use records::Records;
pub use sink::{Sink, Stream};
pub use symbols::{Frame, Symbols};
pub use writer::{Settings, Writer, Written};
