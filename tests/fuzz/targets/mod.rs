//! What must hold of any input, one module for each kind of input that lazymmu reads.
//!
//! Each has one function, `check`, which panics if something does not hold. The fuzzer calls it with what it makes up,
//! the test `fuzz_corpus` with what the fuzzer has found worth keeping. Nothing here makes input up.

// Each program of the fuzzer uses one of them.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a check fails")]

pub mod btf;
pub mod filter;
mod judging;
pub mod kallsyms;
pub mod records;
pub mod scenario;
pub mod suppressions;
pub mod trace;
