//! What can be learned from a kernel image: BTF, symbols, source lines.
//!
//! Everything here only reads files. Nothing is loaded into a kernel or attached to one.

#![forbid(unsafe_code)]

pub mod address;
pub mod arch;
pub mod btf;
pub mod build_id;
pub mod config;
mod elf;
pub mod image;
pub mod kallsyms;
mod lines;
pub mod plan;
mod source_path;
pub mod symbolizer;
pub mod vmlinux;

pub use elf::ElfError;
