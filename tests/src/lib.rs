//! What the end to end tests share: the binary, and the machines they run it in.
//!
//! The tests themselves stand in `tests/`. They see only what a user sees: arguments, output, files, exit statuses.

#![forbid(unsafe_code)]

mod binary;
mod lab;
mod report;

pub use binary::{Said, lazymmu, run as run_binary};
pub use lab::{Lab, Missing, PROBE_PLAN, Series, Stock, sections, step_output};
pub use report::{Report, number_before};
