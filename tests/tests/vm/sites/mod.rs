//! Kernels that are traced by their instructions, after a probe plan.

pub(crate) mod bare;
pub(crate) mod recall;
pub(crate) mod skipped;
pub(crate) mod stock;

use lazymmu_abi::{Kind, Record};
use lazymmu_trace::{Reader, Symbols};

/// A trace in memory.
pub(crate) struct Trace {
    pub(crate) header: lazymmu_trace::Header,
    pub(crate) symbols: Symbols,
    pub(crate) records: Vec<Record>,
}

impl Trace {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut reader = Reader::from_bytes(bytes).unwrap();
        let mut records = Vec::new();
        while let Some(batch) = reader.next_batch().unwrap() {
            records.extend_from_slice(batch);
        }
        Self { header: reader.about.header.clone(), symbols: reader.about.symbols.clone(), records }
    }

    /// The accesses, in their order.
    pub(crate) fn accesses(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| {
            [Kind::Read, Kind::Write, Kind::Rmw].iter().any(|kind| *kind as u8 == record.kind)
        })
    }

    /// How many records never arrived.
    pub(crate) fn lost(&self) -> u64 {
        self.losses().iter().map(|(_, _, count)| count).sum()
    }

    /// What was lost: by which CPU, of which kind, how many.
    pub(crate) fn losses(&self) -> Vec<(u16, u8, u64)> {
        let losses = self.records.iter().filter(|record| record.kind == Kind::Lost as u8);
        losses.map(|record| (record.cpu, record.op, record.value)).collect()
    }

    /// The function that a record's call stack begins in.
    pub(crate) fn function(&self, record: &Record) -> &str {
        self.symbols.frames(record.stack).next().map_or("?", |frame| frame.function.as_str())
    }
}
