//! What ends batches.

use std::collections::BTreeMap;

use lazymmu_abi::{Op, Record};
use lazymmu_hazard::{Engine, TaskId};
use lazymmu_report::Word;
use lazymmu_report::batches::Observer;

/// Watches an engine while it works, and counts the batches with what ended them.
#[derive(Clone, Debug, Default)]
pub(super) struct Causes {
    observer: Observer,
    counts: BTreeMap<&'static str, u64>,
}

impl Causes {
    pub(super) fn process(&mut self, engine: &mut Engine, record: &Record) {
        let before = engine.statistics().batch_sizes.batches;
        self.observer.process(engine, record);
        if engine.statistics().batch_sizes.batches > before {
            let inner = engine.in_section(TaskId::of(record));
            *self.counts.entry(cause(record, inner)).or_default() += 1;
        }
    }

    pub(super) fn observer(&self) -> &Observer {
        &self.observer
    }

    pub(super) fn counts(&self) -> BTreeMap<Word, u64> {
        self.counts.iter().map(|(cause, count)| (Word::Borrowed(*cause), *count)).collect()
    }
}

fn cause(record: &Record, inner: bool) -> &'static str {
    match Op::try_from(record.op) {
        Ok(Op::Leave) if inner => "leave of an inner section",
        Ok(Op::Leave) => "leave",
        Ok(Op::Flush) => "flush",
        Ok(Op::Pause) => "pause",
        Ok(op) => op.name(),
        Err(_) => "unknown",
    }
}
