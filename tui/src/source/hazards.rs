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

/// Where hazards were, in the order of the records.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments {
    list: Vec<Moment>,
    /// How many more there were than there was room for.
    more: u64,
}

impl Moments {
    fn add(&mut self, moment: Moment, most: usize) {
        if self.list.len() < most {
            self.list.push(moment);
        } else {
            self.more += 1;
        }
    }

    /// All that there were.
    pub(super) fn count(&self) -> u64 {
        self.list.len() as u64 + self.more
    }

    /// The one after a time, or the one before it.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be told which it is.
    pub(super) fn next_to(&self, now: Nanos, after: bool) -> Result<Moment, String> {
        let found = if after {
            self.list.iter().filter(|moment| moment.time > now).min()
        } else {
            self.list.iter().filter(|moment| moment.time < now).max()
        };
        let last = self.list.iter().map(|moment| moment.time).max().unwrap_or_default();
        let beyond = if after { found.is_none() } else { now > last };
        if self.more > 0 && beyond {
            let kept = self.list.len();
            return Err(format!(
                "of {} hazards only the first {kept} can be gone to one by one; go to a time instead",
                self.count()
            ));
        }
        let side = if after { "after" } else { "before" };
        found.copied().ok_or_else(|| format!("there is no hazard {side} this, as far as it was judged"))
    }
}

/// The hazards so far.
#[derive(Default)]
pub(super) struct Log {
    last: HashMap<Place, u64>,
    moments: Moments,
    /// The class of each place, by its fingerprint.
    classes: HashMap<Place, u64>,
}

impl Log {
    pub(super) fn add(&mut self, hazard: &Hazard) {
        let time = hazard.example.time;
        self.last.insert(hazard.place, time.0);
        self.moments.add(Moment { time, cpu: hazard.example.cpu.0 }, MOST);
    }

    /// Where the hazards were, as far as there was room.
    pub(super) fn moments(&self) -> &Moments {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_list_ends_nobody_is_led_astray() {
        let mut moments = Moments::default();
        for time in [10, 20, 30, 40] {
            moments.add(Moment { time: Nanos(time), cpu: 0 }, 3);
        }
        let to = |now, after| moments.next_to(Nanos(now), after).map(|moment| moment.time.0);
        assert_eq!((to(0, true), to(10, true), to(25, true)), (Ok(10), Ok(20), Ok(30)));
        assert_eq!((to(30, false), to(20, false)), (Ok(20), Ok(10)));
        assert!(to(10, false).unwrap_err().contains("no hazard before"));
        // The one after is the one that is not in the list, and before a later time it may be, too.
        for (now, after) in [(30, true), (50, true), (31, false)] {
            assert!(to(now, after).unwrap_err().contains("of 4 hazards only the first 3"), "{now} {after}");
        }
        let mut all = Moments::default();
        all.add(Moment { time: Nanos(10), cpu: 0 }, 3);
        assert!(all.next_to(Nanos(10), true).unwrap_err().contains("no hazard after"));
        assert_eq!(all.next_to(Nanos(50), false).unwrap().time, Nanos(10));
    }
}
