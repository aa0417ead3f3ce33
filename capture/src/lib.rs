//! Loads the eBPF programs, drains their rings and accounts for losses.
//!
//! [`Capture::open`] checks what can be checked, loads and attaches; [`Capture::next_batch`] gives what came in,
//! in the order of its times; [`Capture::stop`] detaches, gives the rest and says whether everything that was
//! produced was seen. Nothing here judges a record, writes a file or prints.
//!
//! Every call is inside a tokio runtime with its I/O and time drivers.

#![deny(unsafe_code)]

mod attach;
mod capture;
mod error;
mod hooks;
mod item;
mod kernel;
mod loss;
mod modules;
mod object;
mod probes;
mod rings;
mod sites;
mod sorter;
// The build script's part that reads stamps, for its tests.
#[cfg(test)]
#[path = "../build/stamp.rs"]
mod stamp;
#[cfg(test)]
mod stamp_tests;
#[allow(unsafe_code)]
mod sys;
mod tuning;

pub use attach::LoadedHook;
pub use capture::{Capture, Options, has_drop_in};
pub use error::{Class, Error};
pub use hooks::{HOOKS, Hook, Need, Place};
pub use item::{Item, Stack};
pub use kernel::{examine, is_xen_pv_guest};
pub use lazymmu_abi::{Deferral, Scope};
pub use loss::Totals;
pub use object::has_object;
