//! What the kernel side counted: the proof that seen and lost together are all that was produced.
//!
//! The records say *where* something was lost (kind `Lost`), these counters say how much in all.

use serde::{Deserialize, Serialize};

/// The counters of one capture, from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Records that the hooks wanted to send, lost ones included.
    pub produced: u64,
    /// What was lost, by CPU and kind.
    pub lost: Vec<Losses>,
}

/// How much one CPU lost of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Losses {
    /// The CPU.
    pub cpu: u16,
    /// A [`lazymmu_abi::Kind`] by its number; 0 if it is not known.
    pub kind: u8,
    /// How many.
    pub count: u64,
}

impl Counters {
    /// Everything that was lost, stacks left out: they are call paths and no events.
    pub fn lost_records(&self) -> u64 {
        let records = self.lost.iter().filter(|lost| lost.kind != lazymmu_abi::Kind::Stack as u8);
        records.fold(0, |sum, lost| sum.saturating_add(lost.count))
    }
}
