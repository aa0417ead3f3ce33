//! The command line of lazymmu: it joins capture, engine, trace and report, and holds no logic of theirs.

#![forbid(unsafe_code)]

mod capturing;
pub mod cli;
pub mod command;
mod doctor;
mod exit;
mod input;
mod naming;
mod notify;
mod policy;
mod privileges;
mod probing;
mod purpose;
mod reducing;
mod running;
pub mod serving;
mod session;
mod watching;
mod whole_file;

pub use exit::{ExitStatus, Failure};
