//! The probe plan: where a kernel touches page-table entries, instruction by instruction, found in its image.
//!
//! On a stock kernel the accessors are inlined, so there is no function to hook. The instructions are there all the
//! same, and can be found and probed. [`model`] is what a plan says; [`file`] is how it is kept. Nothing here attaches
//! anything.

mod codes;
pub mod file;
pub mod model;

pub use file::PlanError;
pub use model::{
    Count, Evidence, Kernel, MadeFrom, Plan, Probe, Refusal, Source, StateField, TextOffset, Verdict, Version,
};
