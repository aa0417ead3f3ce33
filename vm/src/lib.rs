//! A QEMU machine that runs one job on one kernel, as typed phases.
//!
//! ```text
//! Initramfs + Job + Machine --boot--> Booting --until_ready--> Running --finish--> Finished
//! ```
//!
//! The host's side builds an [`Initramfs`] around our own first process, starts QEMU and listens. The guest's side
//! ([`guest`]) is that first process: it mounts the usual file systems, runs the steps of the [`Job`] and sends
//! everything that they say and leave behind through the second serial port, in checked frames. The first serial
//! port is the kernel's console; it is watched for panics and stalls and quoted in every error.
//!
//! The kernel is booted bare, or as the first PV guest of Xen ([`Machine::under`]).
//!
//! This crate knows nothing of what it runs, builds no kernels, and touches nothing outside the guest it starts.

#![forbid(unsafe_code)]

mod accelerator;
mod console;
mod cpio;
mod error;
mod frame;
pub mod guest;
mod image;
mod initramfs;
mod job;
mod libraries;
mod machine;
mod process;
mod qemu;
mod xen;

pub use accelerator::Accelerator;
pub use error::{Error, Excerpt};
pub use image::KernelDirectory;
pub use initramfs::Initramfs;
pub use job::{Command, Job, JobStatus, SignalWhen, Step, StepStatus};
pub use machine::{Booting, Finished, Limits, Machine, Output, Running, StepResult};
pub use qemu::Threads;
