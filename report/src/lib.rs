//! Findings as text and JSON.

#![forbid(unsafe_code)]
