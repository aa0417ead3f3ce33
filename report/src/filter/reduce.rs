//! Chooses the records of a reduced trace: whole sections, and all that bears on them.
//!
//! Records go in in their order and come out in their order, fewer. What may be left out are accesses, those of a
//! section all or none; mode calls and the like always stay, so that the engine knows of every task and every CPU in
//! which state it is. A section waits here until it is over, and until everything is over that touched an entry which
//! it had written: then it is known whether one of them is wanted, and either all of them are kept or none. So whatever
//! the engine concludes about a kept section, it concludes from the reduced records as well. Where the wait would be
//! too long, what waits is kept: too much is harmless.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use lazymmu_abi::{Context, Kind, Record};
use lazymmu_hazard::rules::Severity;
use lazymmu_hazard::{Engine, EntryAddr, Nanos, StackId, TaskId};
use lazymmu_trace::Symbols;

use super::Filter;
use super::term::Seen;

/// The most records that wait: 16 MiB.
const MAX_WAITING: usize = 1 << 18;
/// The longest wait, in the time of the records.
const PATIENCE: Nanos = Nanos(1_000_000_000);

/// Chooses the records of a reduced trace.
pub struct Reducer {
    filter: Filter,
    engine: Engine,
    start: Option<Nanos>,
    waiting: VecDeque<Waiting>,
    spans: Spans,
    open: HashMap<TaskId, SpanId>,
    /// Who wrote the entry, as far as that is not over.
    writers: HashMap<EntryAddr, Writers>,
    /// Which terms about functions hold of a stack.
    stacks: HashMap<StackId, u64>,
}

/// The spans that wrote an entry: they are all in one group.
#[derive(Clone, Copy)]
struct Writers {
    /// The one that wrote it last. It may be over, while others of its group are not.
    last: SpanId,
    /// How many times the entry is in the lists of open spans.
    open: usize,
}

struct Waiting {
    record: Record,
    fate: Fate,
}

#[derive(Clone, Copy)]
enum Fate {
    Keep,
    Drop,
    /// That of the span.
    With(SpanId),
}

impl Reducer {
    /// Chooses by this filter. The engine must be new, with the settings that the replay of the trace will have.
    #[must_use]
    pub fn new(filter: Filter, mut engine: Engine) -> Self {
        engine.watch_possible();
        Self {
            filter,
            engine,
            start: None,
            waiting: VecDeque::new(),
            spans: Spans::default(),
            open: HashMap::new(),
            writers: HashMap::new(),
            stacks: HashMap::new(),
        }
    }

    /// Takes one record, and puts those that are kept for certain into `kept`. `symbols` are the names of all stacks;
    /// `None` while they are not known, and then sections that a function might select are kept.
    pub fn push(&mut self, record: &Record, symbols: Option<&Symbols>, kept: &mut Vec<Record>) {
        let first = self.start.is_none();
        let start = *self.start.get_or_insert(Nanos(record.time));
        let task = TaskId::of(record);
        let uncertain = self.uncertain();
        self.engine.process(record);

        let kind = Kind::try_from(record.kind).ok();
        let in_task = record.context() == Context::Task;
        if kind == Some(Kind::Section) && in_task && self.engine.in_section(task) {
            self.open.entry(task).or_insert_with(|| self.spans.open());
        }
        let section = self.open.get(&task).copied();
        let touched = self.touch(kind, record, section);
        let span = section.or(touched);
        let mut fate = match (kind, span) {
            // Times count from the first record.
            _ if first => Fate::Keep,
            (Some(Kind::Read | Kind::Write | Kind::Rmw), Some(span)) => Fate::With(span),
            (Some(Kind::Read | Kind::Write | Kind::Rmw), None) => Fate::Drop,
            // What is no access may bear on any section, and there is little of it.
            _ => Fate::Keep,
        };
        if let Some(span) = section {
            let seen =
                Seen { record, time: Nanos(record.time).since(start), name: self.engine.name_of(task) };
            let holding = self.holding(seen, symbols);
            self.spans.get(span).terms |= holding;
        }
        // Where the engine is less certain after a record than before, the reduced trace must leave it so.
        let wanted = self.hazards(span, symbols) || self.uncertain() != uncertain;
        if wanted {
            match span {
                Some(span) => self.spans.keep(span),
                None => fate = Fate::Keep,
            }
        }
        if let Fate::With(span) = fate {
            self.spans.group(span).waiting += 1;
        }
        self.waiting.push_back(Waiting { record: *record, fate });
        self.close(kind, task, symbols.is_some());
        self.drain(kept);
    }

    /// The end of the records.
    pub fn finish(&mut self, symbols: Option<&Symbols>, kept: &mut Vec<Record>) {
        for task in self.open.keys().copied().collect::<Vec<_>>() {
            self.close_task(task, symbols.is_some());
        }
        self.drain(kept);
    }

    /// What makes the engine forget, or a verdict inconclusive, as far as it depends on sections.
    fn uncertain(&self) -> [u64; 4] {
        let counts = self.engine.statistics();
        [counts.unknown, counts.resynced, counts.untracked, counts.moved]
    }

    /// Joins the spans that have to do with the same entries. Returns the span of another task that the access has to
    /// do with.
    fn touch(&mut self, kind: Option<Kind>, record: &Record, section: Option<SpanId>) -> Option<SpanId> {
        if !matches!(kind, Some(Kind::Read | Kind::Write | Kind::Rmw)) {
            return None;
        }
        let mut touched = None;
        for index in 0..u64::from(record.count.max(1)) {
            let entry = EntryAddr(record.entry).advance(index);
            let writer = self.writers.get(&entry).map(|writers| writers.last);
            if let Some(writer) = writer.filter(|writer| Some(*writer) != section) {
                if let Some(other) = section.or(touched) {
                    self.spans.join(other, writer);
                }
                touched.get_or_insert(writer);
            }
            if let Some(section) = section
                && kind != Some(Kind::Read)
                && writer != Some(section)
            {
                let writers = self.writers.entry(entry).or_insert(Writers { last: section, open: 0 });
                *writers = Writers { last: section, open: writers.open + 1 };
                self.spans.get(section).entries.push(entry);
            }
        }
        touched
    }

    /// The terms that hold of a section because of a record.
    fn holding(&mut self, seen: Seen<'_>, symbols: Option<&Symbols>) -> u64 {
        let mut holding = 0;
        for (number, term) in self.filter.terms().filter(|(_, term)| !term.is_of_stack()) {
            holding |= u64::from(term.of_record(seen, symbols)) << number;
        }
        let filter = &self.filter;
        holding
            | *self.stacks.entry(StackId(seen.record.stack)).or_insert_with(|| {
                let of_stack = filter.terms().filter(|(_, term)| term.is_of_stack());
                of_stack
                    .fold(0, |bits, (number, term)| bits | u64::from(term.of_record(seen, symbols)) << number)
            })
    }

    /// Takes note of the hazards of the last record. Returns whether one of them may be selected.
    fn hazards(&mut self, span: Option<SpanId>, symbols: Option<&Symbols>) -> bool {
        let mut wanted = false;
        for hazard in self.engine.take_hazards() {
            // A reduced trace gives no advice.
            if hazard.place.rule.info().severity == Severity::Advice {
                continue;
            }
            let mark = self.filter.mark(&hazard);
            let selected = self.filter.selects(mark, &hazard.place, symbols) != Some(false);
            wanted |= selected;
            let writer = hazard.example.write.and_then(|write| self.open.get(&write.task).copied());
            // The access may be in no section, and the entry have been written by others since.
            if let Some(writer) = writer.filter(|_| selected) {
                self.spans.keep(writer);
            }
            if let (Some(span), Some(writer)) = (span, writer) {
                self.spans.join(span, writer);
            }
            let rules = self.filter.terms().filter(|(_, term)| term.is_of_rule());
            let holding = rules.fold(0, |bits, (number, term)| {
                bits | u64::from(term.of_place(&hazard.place, symbols) == Some(true)) << number
            });
            for party in [span, writer].into_iter().flatten() {
                self.spans.get(party).terms |= holding;
            }
        }
        wanted
    }

    /// Ends the spans whose sections are over.
    fn close(&mut self, kind: Option<Kind>, task: TaskId, named: bool) {
        let over: Vec<_> = match kind {
            // A loss may end every section.
            Some(Kind::Lost) => {
                self.open.keys().copied().filter(|task| !self.engine.in_section(*task)).collect()
            }
            _ if self.open.contains_key(&task) && !self.engine.in_section(task) => vec![task],
            _ => return,
        };
        for task in over {
            self.close_task(task, named);
        }
    }

    fn close_task(&mut self, task: TaskId, named: bool) {
        let Some(id) = self.open.remove(&task) else { return };
        let filter = &self.filter;
        let span = self.spans.get(id);
        let terms = span.terms;
        for entry in std::mem::take(&mut span.entries) {
            if let Entry::Occupied(mut writers) = self.writers.entry(entry) {
                writers.get_mut().open -= 1;
                if writers.get().open == 0 {
                    writers.remove();
                }
            }
        }
        let of_stack = |number: usize| filter.terms.get(number).is_some_and(super::Term::is_of_stack);
        let holds = filter.holds(&|number| (named || !of_stack(number)).then_some(terms >> number & 1 == 1));
        if holds != Some(false) {
            self.spans.keep(id);
        }
        self.spans.close(id);
    }

    /// Lets go of what is decided.
    fn drain(&mut self, kept: &mut Vec<Record>) {
        let newest = self.waiting.back().map_or(Nanos(0), |newest| Nanos(newest.record.time));
        while let Some(Waiting { record, fate }) = self.waiting.front() {
            let keep = match fate {
                Fate::Keep => true,
                Fate::Drop => false,
                Fate::With(span) => {
                    let too_long =
                        self.waiting.len() > MAX_WAITING || newest.since(Nanos(record.time)) > PATIENCE;
                    let group = self.spans.group(*span);
                    if !group.keep && group.open > 0 {
                        if !too_long {
                            return;
                        }
                        group.keep = true;
                    }
                    group.waiting -= 1;
                    let keep = group.keep;
                    self.spans.forget(*span);
                    keep
                }
            };
            if keep {
                kept.push(*record);
            }
            self.waiting.pop_front();
        }
    }
}

/// Names a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SpanId(u64);

/// A section, or the part of it that was seen.
struct Span {
    /// The span that stands for the group that it belongs to; itself if it does.
    head: SpanId,
    /// The terms that hold of it.
    terms: u64,
    /// What it wrote.
    entries: Vec<EntryAddr>,
    group: Group,
}

/// Spans that are kept together; only that of the head counts.
struct Group {
    members: Vec<SpanId>,
    keep: bool,
    /// Spans that are not over.
    open: usize,
    /// Records that wait.
    waiting: usize,
}

/// The spans of which records wait or may come.
#[derive(Default)]
struct Spans {
    all: HashMap<SpanId, Span>,
    next: u64,
}

impl Spans {
    fn open(&mut self) -> SpanId {
        let id = SpanId(self.next);
        self.next += 1;
        let group = Group { members: vec![id], keep: false, open: 1, waiting: 0 };
        self.all.insert(id, Span { head: id, terms: 0, entries: Vec::new(), group });
        id
    }

    fn get(&mut self, id: SpanId) -> &mut Span {
        self.all.entry(id).or_insert_with(|| Span {
            head: id,
            terms: 0,
            entries: Vec::new(),
            group: Group { members: vec![id], keep: true, open: 0, waiting: 0 },
        })
    }

    fn group(&mut self, id: SpanId) -> &mut Group {
        let head = self.get(id).head;
        &mut self.get(head).group
    }

    fn keep(&mut self, id: SpanId) {
        self.group(id).keep = true;
    }

    fn close(&mut self, id: SpanId) {
        let group = self.group(id);
        group.open = group.open.saturating_sub(1);
        self.forget(id);
    }

    /// Forgets the group if nothing of it waits or may come.
    fn forget(&mut self, id: SpanId) {
        let group = self.group(id);
        if group.open == 0 && group.waiting == 0 {
            for member in std::mem::take(&mut group.members) {
                self.all.remove(&member);
            }
        }
    }

    fn join(&mut self, one: SpanId, other: SpanId) {
        let (mut into, mut from) = (self.get(one).head, self.get(other).head);
        if into == from {
            return;
        }
        if self.get(into).group.members.len() < self.get(from).group.members.len() {
            std::mem::swap(&mut into, &mut from);
        }
        let gone = std::mem::replace(
            &mut self.get(from).group,
            Group { members: Vec::new(), keep: false, open: 0, waiting: 0 },
        );
        for member in &gone.members {
            self.get(*member).head = into;
        }
        let group = &mut self.get(into).group;
        group.members.extend(gone.members);
        group.keep |= gone.keep;
        group.open += gone.open;
        group.waiting += gone.waiting;
    }
}
