//! What crosses the kernel line: the record, the call stack that belongs to it, and the codes in them.
//!
//! The eBPF programs write these types, the trace file stores them and the engine reads them in place, so a
//! change of their layout is a change of the trace format. Settings and counters cross the line as well, but are
//! never stored. Only plain data lives here: no logic (but the hash that names a stack), no `std`.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod counters;
mod op;
mod record;
mod ring;
mod settings;
mod site;
mod stack;

pub use counters::{Counters, KINDS, RUNNERS};
pub use op::{Kind, Level, Op, OpInfo, UnknownCode};
pub use record::{Context, Flags, LeftOut, Record};
pub use ring::{Head, MAX_RINGS};
pub use settings::{Code, Deferral, Scope, Settings};
pub use site::{REGISTER_WORDS, Site, SiteSettings};
pub use stack::{HOOK_FRAMES, STACK_FRAMES, StackHash, StackItem};
