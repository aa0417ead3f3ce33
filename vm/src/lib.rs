//! A QEMU machine that runs one job on one kernel.

#![forbid(unsafe_code)]
