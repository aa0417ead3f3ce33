//! The probe plan: where a kernel touches page-table entries, instruction by instruction, found in its image.
//!
//! On a stock kernel the accessors are inlined, so there is no function to hook. The instructions are there all the
//! same, and can be found and probed. [`model`] is what a plan says; [`file`] is how it is kept. Nothing here attaches
//! anything.

mod accessors;
mod calls;
mod candidates;
mod codes;
mod copies;
mod dwarf;
pub mod file;
mod flow;
mod inlined;
mod make;
pub mod model;
mod refusals;
mod symbols;
pub mod table;
mod typed;
mod unit;

pub use accessors::is_accessor;
pub use dwarf::DwarfError;
pub use file::PlanError;
pub use make::MakeError;
pub use model::{
    Count, Evidence, Kernel, MadeFrom, Plan, Probe, Refusal, Source, StateField, TextOffset, Verdict, Version,
};

#[cfg(test)]
mod tests;
