//! Detects page-table hazards of the Linux kernel's lazy MMU mode in a stream of records.
//!
//! A pure state machine: records go in one by one, findings come out. It does no I/O, reads no clock, starts no
//! thread, and does not know where the records come from, so a live capture and a replayed trace get the same
//! verdict.
//!
//! ```
//! use lazymmu_hazard::{Config, Engine, Verdict};
//!
//! let mut engine = Engine::new(Config::default());
//! for record in [lazymmu_abi::Record::default()] {
//!     engine.process(&record);
//! }
//! let outcome = engine.finish();
//! // A record of a kind that this version does not know leaves the verdict open.
//! assert_eq!(outcome.verdict(), Verdict::Inconclusive);
//! ```
//!
//! # What the order of the records must be
//!
//! Records of one CPU come in the order in which they happened; records of different CPUs are merged by whoever
//! feeds the engine. A `Lost` record stands before the first record that its CPU delivered after the loss.
//!
//! # Where things are
//!
//! * [`profile`]: what each architecture defers, one table per architecture;
//! * [`rules`]: one file per rule, with its text;
//! * `section`: the mode of a task; `cpus`: that of a CPU; `pending`: the writes that wait; `occurrence`: findings while they add up;
//! * [`Outcome::classes`]: findings grouped for people.

#![forbid(unsafe_code)]

mod class;
mod config;
mod cpus;
mod engine;
mod nests;
mod occurrence;
mod outcome;
mod pending;
pub mod profile;
pub mod rules;
mod section;
mod statistics;
mod tasks;
mod types;
mod value;

pub use class::{Class, ProfileVerdict, Site, StackNames, State, without_suffixes};
pub use config::{Arch, Config};
pub use cpus::CpuMode;
pub use engine::{Engine, Open, Waiting};
pub use occurrence::{Example, Hazard, Occurrence, Place, Proof, Written};
pub use outcome::{Gap, Losses, Outcome, Reason, Verdict};
pub use rules::Breach;
pub use statistics::{BatchSizes, Statistics};
pub use types::{CpuId, EntryAddr, Nanos, ProcessId, StackId, TaskId, TaskName};
