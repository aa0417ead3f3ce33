//! The way from the capture to the hub. The capture never waits here: what does not fit is put together with what
//! comes next, or left out.

use std::collections::BTreeMap;

use lazymmu_abi::Record;
use lazymmu_hazard::{CpuMode, Engine, Gap, Losses, Nanos, Occurrence, Open, Outcome, Statistics, TaskName};
use lazymmu_report::Word;
use lazymmu_report::batches::{Batches, Observer};
use lazymmu_trace::Frame;
use tokio::sync::mpsc;

/// So many of the last records are kept, for the courses of sections.
pub const HISTORY: usize = 1 << 17;
/// So many open sections are told at one time.
const SECTIONS: usize = 256;

/// What has come since the last one.
#[derive(Debug, Default)]
pub(super) struct Beat {
    pub(super) stacks: Vec<(u64, Vec<u64>)>,
    pub(super) names: Vec<(u64, Vec<Frame>)>,
    pub(super) records: Vec<Record>,
    /// Whether there were more records, so that these do not follow those before.
    pub(super) cut: bool,
    /// The time of the first record of all.
    pub(super) start: Option<Nanos>,
    pub(super) look: Option<Look>,
    /// What the engine said when there was no more.
    pub(super) end: Option<Box<Outcome>>,
}

/// How the engine stands at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    pub(super) time: Nanos,
    pub(super) statistics: Statistics,
    pub(super) losses: Losses,
    pub(super) gaps: Vec<Gap>,
    pub(super) sections: Vec<OpenSection>,
    pub(super) more_sections: usize,
    pub(super) cpus: Vec<CpuMode>,
    pub(super) batches: Batches,
    pub(super) flushed_by: BTreeMap<Word, u64>,
    /// All hazards, if there are more than at the last look.
    pub(super) occurrences: Option<Vec<Occurrence>>,
}

/// A section that is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenSection {
    pub(super) open: Open,
    pub(super) name: Option<TaskName>,
    /// Entries of the writes that wait.
    pub(super) pending: u64,
}

/// What the capture gives the hub.
#[derive(Debug)]
pub struct Feed {
    beat: Beat,
    to: mpsc::Sender<Beat>,
    start: Option<Nanos>,
    /// How many hazards the hub was told of.
    hazards: u64,
}

impl Feed {
    pub(super) fn new(to: mpsc::Sender<Beat>) -> Self {
        Self { beat: Beat::default(), to, start: None, hazards: 0 }
    }

    /// Records that the engine took in.
    pub fn records(&mut self, records: &[Record]) {
        if self.start.is_none() {
            self.start = records.first().map(|record| Nanos(record.time));
        }
        let kept = &mut self.beat.records;
        if kept.len() + records.len() > HISTORY {
            kept.clear();
            self.beat.cut = true;
        }
        kept.extend_from_slice(&records[records.len().saturating_sub(HISTORY)..]);
    }

    /// A call stack.
    pub fn stack(&mut self, id: u64, addresses: &[u64]) {
        self.beat.stacks.push((id, addresses.to_vec()));
    }

    /// What stands at an address; nothing, if that could not be found out.
    pub fn names(&mut self, address: u64, frames: &[Frame]) {
        self.beat.names.push((address, frames.to_vec()));
    }

    /// Tells how things stand, to be called several times a second. `selected` are the hazards that count, if not all
    /// do. Returns whether the hub takes it now; else it gets it with the next.
    pub fn beat(&mut self, engine: &Engine, observer: &Observer, selected: Option<&[Occurrence]>) -> bool {
        let all = selected.unwrap_or_else(|| engine.occurrences());
        let hazards = all.iter().map(|occurrence| occurrence.count).sum::<u64>();
        let waiting = self.beat.look.take().and_then(|look| look.occurrences);
        let occurrences = if hazards > self.hazards { Some(all.to_vec()) } else { waiting };
        self.hazards = hazards;
        let open = engine.open_sections();
        let section = |open: &Open| OpenSection {
            open: *open,
            name: engine.name_of(open.task),
            pending: engine.waiting(open.task, 0).map(|write| u64::from(write.count)).sum(),
        };
        self.beat.look = Some(Look {
            time: engine.time(),
            statistics: engine.statistics().clone(),
            losses: engine.losses().clone(),
            gaps: engine.gaps().to_vec(),
            sections: open.iter().take(SECTIONS).map(section).collect(),
            more_sections: open.len().saturating_sub(SECTIONS),
            cpus: engine.cpu_modes(),
            batches: observer.total(),
            flushed_by: observer.by_cause(),
            occurrences,
        });
        self.beat.start = self.start;
        let Ok(place) = self.to.try_reserve() else { return false };
        place.send(std::mem::take(&mut self.beat));
        true
    }

    /// The end, with what the engine said last. Waits until the hub has taken it; not for an asynchronous caller.
    pub fn finish(mut self, outcome: Outcome) {
        self.beat.start = self.start;
        self.beat.end = Some(Box::new(outcome));
        // Had the hub's thread panicked, nobody would be left to tell.
        let _ = self.to.blocking_send(self.beat);
    }
}
