//! Feeds the reader whatever the fuzzer makes up, once as it is and once with the checksums put right, so that what
//! stands behind them is reached.

#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    common::exercise(bytes);
    common::exercise(&common::with_checksums(bytes));
});
