//! A filter applied to the hazards of an engine, one by one.
//!
//! What depends on the event (task, CPU, time) is asked when it happens, what depends on the place (rule, functions,
//! level) at the end: a live session learns the names of functions late. So the outcome is the same as if all names
//! had been known from the start.

use std::collections::HashMap;

use lazymmu_hazard::rules::Severity;
use lazymmu_hazard::{Engine, Hazard, Occurrence, Outcome, Place, Proof};
use lazymmu_trace::Symbols;

use super::Filter;

/// Hazards that a filter may select.
pub struct Selection {
    filter: Filter,
    by_mark: HashMap<(Place, Mark), usize>,
    /// In the order in which each was first seen.
    candidates: Vec<Candidate>,
    hazards: u64,
    advice: bool,
}

/// Which terms hold of an event: a bit for each.
type Mark = u64;

/// Hazards at one place of which the same terms hold.
struct Candidate {
    mark: Mark,
    occurrence: Occurrence,
    /// The number of the hazard that is `occurrence.first_proven`.
    proven_at: u64,
}

impl Selection {
    /// Nothing yet.
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        Self { filter, by_mark: HashMap::new(), candidates: Vec::new(), hazards: 0, advice: true }
    }

    /// For the records of a reduced trace: advice is about all sections of a call path, and they are not all there.
    #[must_use]
    pub fn of_reduced(self) -> Self {
        Self { advice: false, ..self }
    }

    /// Takes the hazards that a watched engine has for it.
    pub fn take(&mut self, engine: &mut Engine) {
        for hazard in engine.take_hazards() {
            self.add(&hazard);
        }
    }

    /// Takes one hazard.
    pub fn add(&mut self, hazard: &Hazard) {
        if !self.advice && hazard.place.rule.info().severity == Severity::Advice {
            return;
        }
        self.hazards += 1;
        let mark = self.filter.mark(hazard);
        let Hazard { place, breaks, example } = *hazard;
        let candidates = &mut self.candidates;
        let index = *self.by_mark.entry((place, mark)).or_insert_with(|| {
            let occurrence =
                Occurrence { place, count: 0, proven: 0, breaks, first: example, first_proven: None };
            candidates.push(Candidate { mark, occurrence, proven_at: u64::MAX });
            candidates.len() - 1
        });
        let Candidate { occurrence, proven_at, .. } = &mut candidates[index];
        occurrence.count += 1;
        occurrence.breaks = occurrence.breaks.or(breaks);
        if example.proof == Proof::Different {
            occurrence.proven += 1;
            if occurrence.first_proven.is_none() {
                (occurrence.first_proven, *proven_at) = (Some(example), self.hazards);
            }
        }
    }

    /// What is selected of what came so far, in the order in which each place was first seen.
    #[must_use]
    pub fn occurrences(&self, symbols: &Symbols) -> Vec<Occurrence> {
        let mut by_place: HashMap<Place, usize> = HashMap::new();
        let mut selected: Vec<(Occurrence, u64)> = Vec::new();
        for Candidate { mark, occurrence, proven_at } in &self.candidates {
            if self.filter.selects(*mark, &occurrence.place, Some(symbols)) == Some(false) {
                continue;
            }
            let next = selected.len();
            let index = *by_place.entry(occurrence.place).or_insert(next);
            let Some((sum, first_proven_at)) = selected.get_mut(index) else {
                selected.push((occurrence.clone(), *proven_at));
                continue;
            };
            sum.count += occurrence.count;
            sum.proven += occurrence.proven;
            sum.breaks = sum.breaks.or(occurrence.breaks);
            if proven_at < first_proven_at {
                (sum.first_proven, *first_proven_at) = (occurrence.first_proven, *proven_at);
            }
        }
        selected.into_iter().map(|(occurrence, _)| occurrence).collect()
    }

    /// The outcome with the selected hazards alone.
    #[must_use]
    pub fn outcome(&self, outcome: Outcome, symbols: &Symbols) -> Outcome {
        Outcome { occurrences: self.occurrences(symbols), ..outcome }
    }

    /// What it selects by.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }
}

impl Filter {
    /// Which terms hold of the event.
    pub(super) fn mark(&self, hazard: &Hazard) -> Mark {
        let holding = self.terms().filter(|(_, term)| term.of_event(hazard));
        holding.fold(0, |mark, (number, _)| mark | 1 << number)
    }

    /// Whether it selects an event with that mark at that place; `None` if that needs names that are not there.
    pub(super) fn selects(&self, mark: Mark, place: &Place, symbols: Option<&Symbols>) -> Option<bool> {
        self.holds(&|number| {
            let term = self.terms.get(number)?;
            if term.is_of_event() { Some(mark >> number & 1 == 1) } else { term.of_place(place, symbols) }
        })
    }
}
