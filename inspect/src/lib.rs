//! What can be learned from a kernel image: BTF, symbols, source lines.

#![forbid(unsafe_code)]
