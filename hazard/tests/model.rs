//! The engine against a model that is too simple to be wrong: a list of everything, searched from the end.
//!
//! Both see the same random programs. They must agree on each pair of a write and an access, in both directions: what
//! the model calls a hazard the engine reports, and nothing else.

mod support;

use std::collections::BTreeSet;

use lazymmu_abi::{Context, Op};
use lazymmu_hazard::StackId;
use lazymmu_hazard::profile::ProfileId;
use proptest::prelude::*;
use support::{Log, On, entry, task};

/// What a task may do.
#[derive(Clone, Copy, Debug)]
enum Step {
    Enter,
    Leave,
    Flush,
    Pause,
    Resume,
    Write { index: u64, count: u16 },
    Read { index: u64 },
    Rmw { index: u64, count: u16 },
}

#[derive(Clone, Copy, Debug)]
struct Action {
    tid: u32,
    interrupt: bool,
    step: Step,
}

fn action() -> impl Strategy<Value = Action> {
    let index = || 0..6u64;
    let count = || prop_oneof![3 => Just(1u16), 1 => 2..4u16];
    let step = prop_oneof![
        3 => Just(Step::Enter),
        3 => Just(Step::Leave),
        1 => Just(Step::Flush),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        6 => (index(), count()).prop_map(|(index, count)| Step::Write { index, count }),
        6 => index().prop_map(|index| Step::Read { index }),
        2 => (index(), count()).prop_map(|(index, count)| Step::Rmw { index, count }),
    ];
    (1..4u32, prop::bool::weighted(0.1), step).prop_map(|(tid, interrupt, step)| Action {
        tid,
        interrupt,
        step,
    })
}

/// One write that was made, for ever.
struct Made {
    number: usize,
    tid: u32,
    first: u64,
    count: u16,
    flushed: bool,
}

/// The kernel's rules in as many words as the kernel has (include/linux/pgtable.h, 7.2.13:261-387).
#[derive(Default)]
struct Model {
    enable: [u64; 4],
    pause: [u64; 4],
    made: Vec<Made>,
}

impl Model {
    fn flush(&mut self, tid: u32) {
        self.made.iter_mut().filter(|made| made.tid == tid).for_each(|made| made.flushed = true);
    }

    fn active(&self, tid: u32) -> bool {
        self.enable[tid as usize] > 0 && self.pause[tid as usize] == 0
    }

    /// The writes of an entry that wait, the latest first.
    fn waiting(&self, index: u64) -> impl Iterator<Item = &Made> {
        let covers = move |made: &&Made| (made.first..made.first + u64::from(made.count)).contains(&index);
        self.made.iter().rev().filter(|made| !made.flushed).filter(covers)
    }

    /// What a read of an entry misses: the latest write that waits, whoever made it.
    fn missed(&self, index: u64) -> Option<usize> {
        self.waiting(index).next().map(|made| made.number)
    }

    /// What will go over a change of some entries: the latest write of each task.
    fn lands_later(&self, first: u64, count: u16) -> Vec<usize> {
        let mut numbers = Vec::new();
        for index in first..first + u64::from(count) {
            for tid in 0..4 {
                numbers.extend(self.waiting(index).find(|made| made.tid == tid).map(|made| made.number));
            }
        }
        numbers
    }

    /// Does it, and returns the numbers of the writes on which that was a hazard.
    fn step(&mut self, number: usize, Action { tid, interrupt, step }: Action) -> Vec<usize> {
        let task = tid as usize;
        match step {
            Step::Write { index, count } if interrupt => {
                let mut waiting = self.lands_later(index, count);
                waiting
                    .retain(|number| self.made.iter().any(|made| made.number == *number && made.tid == tid));
                return waiting;
            }
            Step::Enter | Step::Leave | Step::Flush | Step::Pause | Step::Resume if interrupt => {}
            Step::Enter if self.pause[task] == 0 => self.enable[task] += 1,
            Step::Leave if self.pause[task] == 0 && self.enable[task] > 0 => {
                self.enable[task] -= 1;
                self.flush(tid);
            }
            Step::Flush if self.active(tid) => self.flush(tid),
            Step::Pause => {
                if self.active(tid) {
                    self.flush(tid);
                }
                self.pause[task] += 1;
            }
            Step::Resume if self.pause[task] > 0 => self.pause[task] -= 1,
            Step::Write { index, count } if self.active(tid) => {
                self.made.push(Made { number, tid, first: index, count, flushed: false });
            }
            Step::Read { index } => return Vec::from_iter(self.missed(index)),
            Step::Rmw { index, count } => return self.lands_later(index, count),
            _ => {}
        }
        Vec::new()
    }
}

/// Pairs of a write and the access that came too early, each by its number in the program.
type Hazards = BTreeSet<(usize, usize)>;

/// Call stacks are numbered like the actions, so that none is folded into another.
const FIRST_STACK: u64 = 1000;

fn records(actions: &[Action], counters: bool) -> (Log, Hazards) {
    let mut log = Log::default();
    let mut model = Model::default();
    let mut hazards = Hazards::new();
    for (number, action) in actions.iter().enumerate() {
        hazards.extend(model.step(number, *action).into_iter().map(|write| (write, number)));
        let on = On { counters, ..task(action.tid, (action.tid % 2) as u16) };
        let on = if action.interrupt { on.in_context(Context::Softirq) } else { on };
        let (enable, pause) = (model.enable[action.tid as usize], model.pause[action.tid as usize]);
        match action.step {
            Step::Enter => log.mode(on, Op::Enter, enable, pause, 1),
            Step::Leave => log.mode(on, Op::Leave, enable, pause, 2),
            Step::Flush => log.mode(on, Op::Flush, enable, pause, 2),
            Step::Pause => log.mode(on, Op::Pause, enable, pause, 2),
            Step::Resume => log.mode(on, Op::Resume, enable, pause, 2),
            Step::Write { index, count } => log.write(on, Op::SetPtes, entry(index), count, 1),
            Step::Read { index } => log.read(on, index, 1),
            Step::Rmw { index, count } => log.rmw(on, Op::GetAndClearFullPtes, index, count, 1),
        };
        if let Some(last) = log.records.last_mut() {
            last.stack = FIRST_STACK + number as u64;
        }
    }
    (log, hazards)
}

fn reported(log: &Log) -> Hazards {
    let outcome = log.run();
    assert!(outcome.reasons().is_empty(), "{:?}", outcome.reasons());
    assert!(outcome.occurrences.iter().all(|found| found.count == 1), "each pair is told once");
    let number = |stack: StackId| (stack.0 - FIRST_STACK) as usize;
    let strict = outcome.occurrences.iter().filter(|found| found.breaks.has(ProfileId::Strict));
    let pairs = strict.filter_map(|found| {
        // Of mode calls that do not pair there is a test of its own.
        Some((number(found.place.write?), number(found.place.access)))
    });
    pairs.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_says_what_the_model_says(actions in prop::collection::vec(action(), 0..80)) {
        let (log, hazards) = records(&actions, true);
        prop_assert_eq!(reported(&log), hazards);
    }

    #[test]
    fn without_counters_too_where_nothing_nests(actions in prop::collection::vec(action(), 0..80)) {
        // Kernels before 7.0 do not pause and do not nest: leave out the calls that would.
        let mut inside = [false; 4];
        let flat: Vec<_> = actions
            .into_iter()
            .filter(|action| {
                let inside = &mut inside[action.tid as usize];
                match action.step {
                    _ if action.interrupt => true,
                    Step::Enter => !std::mem::replace(inside, true),
                    Step::Leave => std::mem::replace(inside, false),
                    Step::Pause | Step::Resume => false,
                    _ => true,
                }
            })
            .collect();
        let (log, hazards) = records(&flat, false);
        prop_assert_eq!(reported(&log), hazards);
    }
}
