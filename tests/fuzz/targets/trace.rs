//! Whole trace files: once as they are, and once with the checksums put right, so that what stands behind them is
//! reached. What can be read, damaged as it may be, is judged too.

use lazymmu_trace::Reader;

use super::judging;

#[path = "../../../trace/tests/common/mod.rs"]
mod common;

/// Reads the bytes as a trace.
pub fn check(bytes: &[u8]) {
    one(bytes);
    one(&common::with_checksums(bytes));
}

/// Whether the bytes, their checksums put right, are a trace at all.
pub fn is_trace(bytes: &[u8]) -> bool {
    Reader::from_bytes(&common::with_checksums(bytes)).is_ok()
}

fn one(bytes: &[u8]) {
    common::exercise(bytes);
    if let Ok(mut reader) = Reader::from_bytes(bytes) {
        judging::judge(&mut reader);
    }
}
