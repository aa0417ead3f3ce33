//! Detects page-table hazards of the lazy MMU mode in a stream of records.

#![forbid(unsafe_code)]
