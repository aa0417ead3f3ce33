//! The trace file: write, read, recover.

#![forbid(unsafe_code)]

mod symbols;

pub use symbols::{Frame, Symbols};
