//! End to end tests of the built binary.

#![forbid(unsafe_code)]
