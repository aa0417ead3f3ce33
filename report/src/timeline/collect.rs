//! Finds the sections of findings in the records of a trace, in a pass of their own after it was judged.
//!
//! What is kept is bounded: the beginning of a section, what came right before the hazard, and some of what followed.
//! What waits is asked of the engine, so that it cannot be another answer than the one that was judged by.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet, VecDeque};

use lazymmu_abi::{Kind, Record};
use lazymmu_hazard::{Class, Engine, Nanos, TaskId, TaskName, Waiting};

/// How many steps of a section are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// From its beginning,
    pub head: usize,
    /// before the hazard,
    pub before: usize,
    /// and after it.
    pub after: usize,
}

impl Default for Room {
    /// What a report has.
    fn default() -> Self {
        Self { head: 16, before: 240, after: 48 }
    }
}

/// A record whose section is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The task whose section it is.
    pub owner: TaskId,
    /// The task of the record.
    pub task: TaskId,
    /// When it was, since the first record of the trace.
    pub time: Nanos,
    /// Where it ran.
    pub cpu: u16,
}

impl Mark {
    /// The access of a finding.
    #[must_use]
    pub fn of(class: &Class) -> Self {
        let example = &class.example;
        let owner = example.write.map_or(example.task, |write| write.task);
        Self { owner, task: example.task, time: example.time, cpu: example.cpu.0 }
    }
}

/// A record of a section, and what it did to what waits.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) record: Record,
    pub(super) change: Change,
}

/// What became of the writes that wait.
#[derive(Clone)]
pub(super) enum Change {
    None,
    /// These came.
    Added(Vec<Waiting>),
    /// These are what is left.
    Left(Vec<Waiting>),
}

impl Change {
    pub(super) fn apply(&self, waiting: &mut Vec<Waiting>) {
        match self {
            Self::None => {}
            Self::Added(more) => waiting.extend(more),
            Self::Left(left) => waiting.clone_from(left),
        }
    }
}

/// A hazard whose section is looked for.
struct Wanted {
    mark: Mark,
    found: Option<Found>,
}

/// A section, as far as it was kept.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) owner: TaskId,
    pub(super) name: Option<TaskName>,
    /// The time of the first record of the trace.
    pub(super) start: Nanos,
    /// Whether it begins with the call that entered it.
    pub(super) entered: bool,
    pub(super) head: Vec<Seen>,
    pub(super) left_out: u64,
    /// What waits after the steps that were left out.
    pub(super) waiting: Vec<Waiting>,
    pub(super) tail: Vec<Seen>,
    /// Which step of the tail, or of the head if there is no tail, is the hazard, counted from the first of all.
    pub(super) hazard: usize,
    /// Whether the section went on after the last step.
    pub(super) goes_on: bool,
}

/// The steps of a section that is open.
#[derive(Default)]
struct Open {
    entered: bool,
    head: Vec<Seen>,
    left_out: u64,
    /// What waits before the tail: after the head, if nothing was left out.
    waiting: Vec<Waiting>,
    tail: VecDeque<Seen>,
    /// How many writes waited after the last step, and the latest of them.
    count: usize,
    latest: Option<Waiting>,
    /// The hazards that were met in it and are still followed, with the steps that are still wanted.
    followed: Vec<(usize, usize)>,
}

/// Looks for the sections. Each record is to be shown before the engine takes it in, and after that.
#[derive(Default)]
pub struct Collector {
    wanted: Vec<Wanted>,
    owners: HashSet<TaskId>,
    open: HashMap<TaskId, Open>,
    start: Option<Nanos>,
    room: Room,
    was_open: bool,
}

impl Collector {
    /// For the examples of these findings.
    #[must_use]
    pub fn new(classes: &[Class]) -> Self {
        Self::of(classes.iter().map(Mark::of))
    }

    /// For these records.
    #[must_use]
    pub fn of(marks: impl IntoIterator<Item = Mark>) -> Self {
        let wanted: Vec<_> = marks.into_iter().map(|mark| Wanted { mark, found: None }).collect();
        let owners = wanted.iter().map(|wanted| wanted.mark.owner).collect();
        Self { wanted, owners, ..Self::default() }
    }

    /// With another number of steps.
    #[must_use]
    pub fn with_room(self, room: Room) -> Self {
        Self { room, ..self }
    }

    /// For who begins in the middle of a trace: the time of its first record.
    #[must_use]
    pub fn starting_at(self, first: Nanos) -> Self {
        Self { start: Some(first), ..self }
    }

    /// Whether everything was found, so that no more records are needed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.wanted.iter().all(|wanted| wanted.found.is_some())
            && self.open.values().all(|open| open.followed.is_empty())
    }

    /// The engine is about to take in the record.
    pub fn before(&mut self, engine: &Engine, record: &Record) {
        self.start.get_or_insert(Nanos(record.time));
        self.was_open = engine.in_section(TaskId::of(record));
    }

    /// The engine has taken it in.
    pub fn after(&mut self, engine: &Engine, record: &Record) {
        let task = TaskId::of(record);
        let is_open = engine.in_section(task);
        if !self.was_open && is_open && self.owners.contains(&task) {
            let entered = record.op == lazymmu_abi::Op::Enter as u8;
            self.open.insert(task, Open { entered, ..Open::default() });
        }
        let hits = self.hits(record, task);
        let owners: Vec<_> = self.open.keys().copied().collect();
        for owner in owners {
            let hit = hits.iter().any(|number| self.wanted[*number].mark.owner == owner);
            if owner == task || hit || record.kind == Kind::Lost as u8 || meets(engine, owner, record) {
                self.push(engine, owner, record);
            }
        }
        for number in hits {
            self.hit(engine, number, record);
        }
        // A loss may have closed any.
        let wanted = &mut self.wanted;
        self.open.retain(|owner, open| {
            let still = engine.in_section(*owner);
            if !still {
                for (number, _) in open.followed.drain(..) {
                    wanted[number].ends();
                }
            }
            still
        });
    }

    /// What was found, by the places of the classes.
    pub(super) fn finish(self) -> impl Iterator<Item = Option<Found>> {
        self.wanted.into_iter().map(|wanted| wanted.found)
    }

    /// The hazards whose access the record is.
    fn hits(&self, record: &Record, task: TaskId) -> Vec<usize> {
        let time = Nanos(record.time).since(self.start.unwrap_or_default());
        let hit = |wanted: &Wanted| {
            let Wanted { mark: Mark { task: of, time: at, cpu, .. }, found } = wanted;
            found.is_none() && *at == time && *cpu == record.cpu && *of == task
        };
        let told = !matches!(Kind::try_from(record.kind), Ok(Kind::TaskName | Kind::Lost) | Err(_));
        let numbers = self.wanted.iter().enumerate().filter(|(_, wanted)| told && hit(wanted));
        numbers.map(|(number, _)| number).collect()
    }

    fn push(&mut self, engine: &Engine, owner: TaskId, record: &Record) {
        let Some(open) = self.open.get_mut(&owner) else { return };
        let count = engine.waiting_count(owner);
        let latest = engine.waiting(owner, count.saturating_sub(1)).next();
        let change = match count.cmp(&open.count) {
            Ordering::Equal if latest == open.latest => Change::None,
            Ordering::Greater => Change::Added(engine.waiting(owner, open.count).collect()),
            Ordering::Equal | Ordering::Less => Change::Left(engine.waiting(owner, 0).collect()),
        };
        (open.count, open.latest) = (count, latest);
        let seen = Seen { record: *record, change };
        for (number, wants) in &mut open.followed {
            if let Some(found) = &mut self.wanted[*number].found {
                found.tail.push(seen.clone());
            }
            *wants -= 1;
        }
        open.followed.retain(|(_, wants)| *wants > 0);
        open.push(seen, self.room);
    }

    fn hit(&mut self, engine: &Engine, number: usize, record: &Record) {
        let wanted = &mut self.wanted[number];
        let (owner, start) = (wanted.mark.owner, self.start.unwrap_or_default());
        let name = engine.name_of(owner);
        // It may be about no section at all, such as a leave without an enter.
        let alone = Open { head: vec![Seen { record: *record, change: Change::None }], ..Open::default() };
        let open = self.open.get_mut(&owner);
        let found = |open: &Open| Found {
            owner,
            name,
            start,
            entered: open.entered,
            head: open.head.clone(),
            left_out: open.left_out,
            waiting: open.waiting.clone(),
            tail: open.tail.iter().cloned().collect(),
            hazard: open.head.len() + open.tail.len() - 1,
            goes_on: !open.followed.is_empty(),
        };
        match open {
            Some(open) => {
                open.followed.push((number, self.room.after));
                wanted.found = Some(found(open));
            }
            None => wanted.found = Some(found(&alone)),
        }
    }
}

impl Wanted {
    fn ends(&mut self) {
        if let Some(found) = &mut self.found {
            found.goes_on = false;
        }
    }
}

impl Open {
    fn push(&mut self, seen: Seen, room: Room) {
        if self.head.len() < room.head && self.tail.is_empty() {
            seen.change.apply(&mut self.waiting);
            self.head.push(seen);
            return;
        }
        self.tail.push_back(seen);
        if self.tail.len() > room.before
            && let Some(gone) = self.tail.pop_front()
        {
            gone.change.apply(&mut self.waiting);
            self.left_out += 1;
        }
    }
}

/// Whether the record is an access to an entry that waits in that section.
fn meets(engine: &Engine, owner: TaskId, record: &Record) -> bool {
    let access = matches!(Kind::try_from(record.kind), Ok(Kind::Read | Kind::Write | Kind::Rmw));
    let (from, count) = (record.entry, u64::from(record.count.max(1)));
    access
        && engine.waiting(owner, 0).any(|write| {
            let (first, writes) = (write.first.0, u64::from(write.count));
            from < first.saturating_add(writes * 8) && first < from.saturating_add(count * 8)
        })
}
