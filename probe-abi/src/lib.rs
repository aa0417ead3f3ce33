//! What crosses the kernel line: the record, the call stack that belongs to it, and the codes in them.
//!
//! The eBPF programs write these types, the trace file stores them and the engine reads them in place, so a
//! change of their layout is a change of the trace format. Only plain data lives here: no logic, no `std`.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod op;
mod record;
mod stack;

pub use op::{Kind, Level, Op, OpInfo, UnknownCode};
pub use record::{Context, Flags, Record};
pub use stack::{STACK_FRAMES, StackItem};
