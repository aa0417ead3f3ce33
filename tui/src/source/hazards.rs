//! When hazards were seen, one by one: for the column "last seen", and to go from one to the next.

use std::collections::HashMap;

use lazymmu_hazard::{Hazard, Nanos, Occurrence, Outcome, Place};
use lazymmu_report::Names;
use lazymmu_trace::Symbols;

use super::Seen;

/// More hazards than these cannot be gone to one by one.
const MOST: usize = 1 << 20;

/// When and where a hazard was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) time: Nanos,
    pub(super) cpu: u16,
}

/// The hazards so far.
#[derive(Default)]
pub(super) struct Log {
    last: HashMap<Place, u64>,
    moments: Vec<Moment>,
    /// The class of each place, by its fingerprint.
    classes: HashMap<Place, u64>,
}

impl Log {
    pub(super) fn add(&mut self, hazard: &Hazard) {
        let time = hazard.example.time;
        self.last.insert(hazard.place, time.0);
        if self.moments.len() < MOST {
            self.moments.push(Moment { time, cpu: hazard.example.cpu.0 });
        }
    }

    /// Where the hazards were, as far as there was room.
    pub(super) fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// The names of functions have changed, and with them the classes may.
    pub(super) fn renamed(&mut self) {
        self.classes.clear();
    }

    /// When each class was seen, by fingerprint.
    pub(super) fn seen(
        &mut self,
        occurrences: &[Occurrence],
        symbols: &Symbols,
    ) -> impl Iterator<Item = (String, Seen)> {
        let mut seen: HashMap<u64, Seen> = HashMap::new();
        for occurrence in occurrences {
            let place = occurrence.place;
            let fingerprint = *self.classes.entry(place).or_insert_with(|| class(occurrence, symbols));
            let entry = seen.entry(fingerprint).or_default();
            entry.last_ns = entry.last_ns.max(self.last.get(&place).copied().unwrap_or_default());
        }
        seen.into_iter().map(|(fingerprint, seen)| (format!("{fingerprint:016x}"), seen))
    }
}

fn class(occurrence: &Occurrence, symbols: &Symbols) -> u64 {
    let alone = Outcome { occurrences: vec![occurrence.clone()], ..Outcome::default() };
    alone.classes(&Names(symbols)).first().map_or(0, |class| class.fingerprint)
}
