//! Judges records as they come, and makes snapshots of what is known.

use lazymmu_abi::Record;
use lazymmu_hazard::{Class, Engine};
use lazymmu_report::filter::Selection;
use lazymmu_report::{Filter, Names, Report, Session};
use lazymmu_trace::{Damage, Header, Symbols};

use super::causes::Causes;
use super::hazards::{Log, Moments};
use super::machine::Tracker;
use super::{Judging, Snapshot, engine};

/// An engine, and everybody who watches it.
pub(super) struct Judge {
    header: Header,
    judging: Judging,
    engine: Engine,
    causes: Causes,
    tracker: Tracker,
    log: Log,
    selection: Option<Selection>,
    first: Option<u64>,
    last: u64,
}

impl Judge {
    pub(super) fn new(header: &Header, judging: &Judging) -> Self {
        let mut engine = engine(header);
        engine.watch();
        // A reduced trace was made with a filter, which goes on to hold.
        let own = header.capture.filter.as_ref().and_then(|text| text.parse::<Filter>().ok());
        let reduced = own.is_some();
        let filter = match (own, judging.filter.clone()) {
            (Some(own), Some(more)) => Some(own.clone().and(more).unwrap_or(own)),
            (own, more) => own.or(more),
        };
        let selection = filter.map(Selection::new);
        let selection = selection.map(|whole| if reduced { whole.of_reduced() } else { whole });
        Self {
            header: header.clone(),
            judging: judging.clone(),
            engine,
            causes: Causes::default(),
            tracker: Tracker::default(),
            log: Log::default(),
            selection,
            first: None,
            last: 0,
        }
    }

    pub(super) fn process(&mut self, records: &[Record]) {
        for record in records {
            self.causes.process(&mut self.engine, record);
            self.tracker.take(record);
        }
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        self.first.get_or_insert(first.time);
        self.last = self.last.max(last.time);
        self.take();
    }

    fn take(&mut self) {
        for hazard in self.engine.take_hazards() {
            self.log.add(&hazard);
            if let Some(selection) = &mut self.selection {
                selection.add(&hazard);
            }
        }
    }

    /// No more records come.
    pub(super) fn end(&mut self) {
        self.engine.end();
        self.take();
    }

    /// The names of functions have changed.
    #[allow(dead_code, reason = "sessions learn names late; traces have them from the start")]
    pub(super) fn renamed(&mut self) {
        self.log.renamed();
    }

    /// Where the hazards were.
    pub(super) fn moments(&self) -> &Moments {
        self.log.moments()
    }

    /// What is known now.
    pub(super) fn snapshot(
        &mut self,
        symbols: &Symbols,
        damage: Option<Damage>,
        total: Option<u64>,
    ) -> (Snapshot, Vec<Class>) {
        let mut outcome = self.engine.outcome();
        if let Some(selection) = &self.selection {
            outcome = selection.outcome(outcome, symbols);
        }
        let Judging { suppressions, today, .. } = &self.judging;
        let applied = suppressions.apply(&mut outcome, symbols, *today);
        let session = Session { header: &self.header, symbols, outcome: &outcome, damage };
        let filter = self.selection.as_ref().map(Selection::filter);
        let report = Report::new(&session).with_filter(filter, &self.header);
        let report = report.with_suppressed(suppressions, &applied, &session);
        let start = self.first.unwrap_or_default();
        let records = outcome.statistics.records;
        let snapshot = Snapshot {
            report,
            seen: self.log.seen(&outcome.occurrences, symbols).collect(),
            records,
            total,
            length_ns: self.last.saturating_sub(start),
            rate_now: None,
            done: false,
            batches: self.causes.observer().total(),
            causes: self.causes.counts(),
            machine: self.tracker.machine(&self.engine, symbols, start),
            note: damage.map(|damage| format!("the trace is damaged: {damage}")),
        };
        (snapshot, outcome.classes(&Names(symbols)))
    }
}
