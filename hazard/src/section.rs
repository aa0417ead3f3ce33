//! The lazy MMU mode of one task: what each mode call does to it.
//!
//! From 7.0 on the record carries the task's counters after the call, and they are the truth
//! (`lazy_mmu_mode_enable/disable/pause/resume`, include/linux/pgtable.h, 7.2:261 to 387). Before, the kernel
//! keeps no counters, sections do not nest and nothing can be paused (include/linux/pgtable.h, 6.12:201 on), so the
//! calls themselves are followed.
//!
//! This module does not know entries: it says *that* something was flushed, the engine knows what.

use lazymmu_abi::{Op, Record};

/// A task's counters. The mode is active when `enable` is not 0 and `pause` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) enable: u32,
    pub(crate) pause: u32,
}

impl Mode {
    pub(crate) const fn active(self) -> bool {
        self.enable > 0 && self.pause == 0
    }

    /// The counters in a record of kind `Section`; `None` if that kernel keeps none.
    pub(crate) fn in_record(record: &Record) -> Option<Self> {
        // The drop-in gives ~0u for a counter that the kernel does not have.
        let counter = |value: u64| u32::try_from(value).ok().filter(|count| *count != u32::MAX);
        let enable = record.known_value().and_then(counter)?;
        let pause = record.known_memory().and_then(counter)?;
        Some(Self { enable, pause })
    }
}

/// The most that a counter of the kernel can hold, and what it holds after it was counted down from 0: they are bytes
/// (struct lazy_mmu_state, include/linux/mm_types_task.h, 7.2).
pub(crate) const HIGHEST: u32 = 0xff;
/// See [`HIGHEST`].
pub(crate) const UNDERFLOWN: u32 = HIGHEST;

/// What a mode call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: paused, in an interrupt, with softirqs off, or no section.
    Nothing,
    /// The outermost section began.
    Entered,
    /// An inner section began; no functional effect.
    EnteredInner,
    /// The outermost section ended, after a flush.
    Left,
    /// An inner section ended, after a flush.
    LeftInner,
    /// Everything pending was flushed.
    Flushed,
    /// The mode went off, after a flush; the section remains.
    Paused,
    /// The mode is on again.
    Resumed,
}

impl Effect {
    /// Whether the task has nothing pending after the call.
    pub(crate) const fn flushes(self) -> bool {
        matches!(self, Self::Left | Self::LeftInner | Self::Flushed | Self::Paused)
    }
}

/// The outcome of one mode call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) mode: Mode,
    pub(crate) effect: Effect,
    pub(crate) trust: Trust,
}

/// What the calls that are known make of the counters.
pub(crate) fn expected(before: Mode, op: Op) -> Mode {
    generic(before, op).0
}

/// Whether the counters in the record follow from what was known of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// They do.
    Sure,
    /// They can be explained in two ways, and in one of them something was flushed that no record tells of.
    Doubt,
    /// They do not: some call was never recorded.
    Gap,
}

/// One mode call. `before` is what is known of the task, `counters` what the record says of it afterwards.
pub(crate) fn step(before: Option<Mode>, op: Op, counters: Option<Mode>) -> Step {
    match counters {
        Some(after) => with_counters(before, op, after),
        None => without_counters(before.unwrap_or_default(), op),
    }
}

fn with_counters(before: Option<Mode>, op: Op, after: Mode) -> Step {
    // A leave too many. What the kernel takes for a section from then on is none.
    if op == Op::Leave && after == (Mode { enable: UNDERFLOWN, pause: 0 }) {
        let trust = if before.unwrap_or_default().enable == 0 { Trust::Sure } else { Trust::Gap };
        return Step { mode: Mode::default(), effect: Effect::Nothing, trust };
    }
    // An enter too many: the kernel counts on from 0 and takes the task for outside.
    if op == Op::Enter && before == Some(Mode { enable: HIGHEST, pause: 0 }) && after == Mode::default() {
        return Step { mode: after, effect: Effect::Nothing, trust: Trust::Sure };
    }
    // A resume too many: off for good, and nothing was flushed.
    if op == Op::Resume && after.pause == UNDERFLOWN {
        return Step { mode: after, effect: Effect::Nothing, trust: Trust::Sure };
    }
    // Where nothing is known, assume what would have led here.
    let assumed = before.unwrap_or_else(|| before_of(op, after));
    let (expected, effect) = generic(assumed, op);
    if after == expected {
        return Step { mode: after, effect, trust: Trust::Sure };
    }
    if after == assumed {
        // in_interrupt() is also true in a task that has softirqs off, and then every call returns at once. But it
        // may also be that one call was never recorded and this one made up for it.
        let trust = if after.enable == 0 { Trust::Sure } else { Trust::Doubt };
        return Step { mode: after, effect: Effect::Nothing, trust };
    }
    // Whatever happened in between, this call did what its own counters say.
    let (again, effect) = generic(before_of(op, after), op);
    let effect = if again == after { effect } else { Effect::Nothing };
    Step { mode: after, effect, trust: if before.is_some() { Trust::Gap } else { Trust::Sure } }
}

/// The counters before a call that had its usual effect and left `after`.
fn before_of(op: Op, after: Mode) -> Mode {
    let mut before = after;
    match op {
        Op::Enter if after.active() => before.enable = after.enable - 1,
        Op::Leave if after.pause == 0 => before.enable = after.enable.saturating_add(1),
        Op::Pause => before.pause = after.pause.saturating_sub(1),
        Op::Resume => before.pause = after.pause.saturating_add(1),
        _ => {}
    }
    before
}

/// The generic layer of 7.0 and later.
fn generic(before: Mode, op: Op) -> (Mode, Effect) {
    let Mode { enable, pause } = before;
    match op {
        Op::Enter if pause > 0 => (before, Effect::Nothing),
        Op::Enter => {
            let effect = if enable == 0 { Effect::Entered } else { Effect::EnteredInner };
            (Mode { enable: enable.saturating_add(1), pause }, effect)
        }
        // A leave without an enter underflows in the kernel; here the section is just over.
        Op::Leave if pause > 0 || enable == 0 => (before, Effect::Nothing),
        Op::Leave => {
            let effect = if enable == 1 { Effect::Left } else { Effect::LeftInner };
            (Mode { enable: enable - 1, pause }, effect)
        }
        Op::Pause => {
            let effect = if before.active() { Effect::Paused } else { Effect::Nothing };
            (Mode { enable, pause: pause.saturating_add(1) }, effect)
        }
        Op::Resume if pause == 0 => (before, Effect::Nothing),
        Op::Resume => {
            let after = Mode { enable, pause: pause - 1 };
            (after, if after.active() { Effect::Resumed } else { Effect::Nothing })
        }
        Op::Flush if before.active() => (before, Effect::Flushed),
        _ => (before, Effect::Nothing),
    }
}

/// Kernels before 7.0: on or off.
fn without_counters(before: Mode, op: Op) -> Step {
    let on = Mode { enable: 1, pause: 0 };
    let (mode, effect) = match op {
        Op::Enter if before.active() => (on, Effect::EnteredInner),
        Op::Enter => (on, Effect::Entered),
        // One level is all there is, so an inner leave ends the outer section too.
        _ => generic(before, op),
    };
    Step { mode, effect, trust: Trust::Sure }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(enable: u32, pause: u32) -> Mode {
        Mode { enable, pause }
    }

    /// The calls of mm/tests/lazy_mmu_mode_kunit.c (7.2.13), in order, with the counters after each and what that test
    /// expects of is_lazy_mmu_mode_active(). The effects are those of the comment in include/linux/pgtable.h:219-246.
    const KUNIT: [(Op, Mode, bool, Effect); 10] = [
        (Op::Enter, Mode { enable: 1, pause: 0 }, true, Effect::Entered),
        // "Nested section"
        (Op::Enter, Mode { enable: 2, pause: 0 }, true, Effect::EnteredInner),
        (Op::Leave, Mode { enable: 1, pause: 0 }, true, Effect::LeftInner),
        // "Paused section"
        (Op::Pause, Mode { enable: 1, pause: 1 }, false, Effect::Paused),
        // "No effect (paused)"
        (Op::Enter, Mode { enable: 1, pause: 1 }, false, Effect::Nothing),
        (Op::Leave, Mode { enable: 1, pause: 1 }, false, Effect::Nothing),
        (Op::Pause, Mode { enable: 1, pause: 2 }, false, Effect::Nothing),
        (Op::Resume, Mode { enable: 1, pause: 1 }, false, Effect::Nothing),
        (Op::Resume, Mode { enable: 1, pause: 0 }, true, Effect::Resumed),
        (Op::Leave, Mode { enable: 0, pause: 0 }, false, Effect::Left),
    ];

    #[test]
    fn the_kernels_own_test() {
        let mut before = mode(0, 0);
        for (op, after, active, effect) in KUNIT {
            assert_eq!(generic(before, op), (after, effect), "{op:?} by the rules alone");
            let step = step(Some(before), op, Some(after));
            assert_eq!((step.mode, step.effect, step.trust), (after, effect, Trust::Sure), "{op:?}");
            assert_eq!(after.active(), active, "{op:?}");
            before = after;
        }
    }

    /// The table in the message of the commit that lets sections nest ("[PATCH v6 09/14] mm: enable lazy_mmu sections to
    /// nest", <20251215150323.2218608-10-kevin.brodsky@arm.com>), whole: the counters after each call, and whether it
    /// calls arch_enter, nothing, arch_leave or arch_flush.
    const COMMIT: [(Op, Mode, Effect); 6] = [
        (Op::Enter, Mode { enable: 1, pause: 0 }, Effect::Entered),
        (Op::Enter, Mode { enable: 2, pause: 0 }, Effect::EnteredInner),
        (Op::Pause, Mode { enable: 2, pause: 1 }, Effect::Paused),
        (Op::Resume, Mode { enable: 2, pause: 0 }, Effect::Resumed),
        (Op::Leave, Mode { enable: 1, pause: 0 }, Effect::LeftInner),
        (Op::Leave, Mode { enable: 0, pause: 0 }, Effect::Left),
    ];

    #[test]
    fn the_table_of_the_commit() {
        let mut before = mode(0, 0);
        for (op, after, effect) in COMMIT {
            let step = step(Some(before), op, Some(after));
            assert_eq!((step.mode, step.effect, step.trust), (after, effect, Trust::Sure), "{op:?}");
            before = after;
        }
    }

    #[test]
    fn the_whole_table() {
        // Every call from every state of up to three sections and two pauses; * is a flush, by the comment above
        // lazy_mmu_mode_enable() and the code after it.
        for enable in 0..=3 {
            for pause in 0..=2 {
                let before = mode(enable, pause);
                let paused = pause > 0;
                let (after, flush) = match (paused, enable) {
                    (true, _) => (before, false),
                    (false, n) => (mode(n + 1, 0), false),
                };
                check(before, Op::Enter, after, flush);
                let (after, flush) = match (paused, enable) {
                    (true, _) | (false, 0) => (before, false),
                    (false, n) => (mode(n - 1, 0), true),
                };
                check(before, Op::Leave, after, flush);
                check(before, Op::Pause, mode(enable, pause + 1), !paused && enable > 0);
                let after = if paused { mode(enable, pause - 1) } else { before };
                check(before, Op::Resume, after, false);
                check(before, Op::Flush, before, !paused && enable > 0);
            }
        }
    }

    fn check(before: Mode, op: Op, after: Mode, flushes: bool) {
        let step = step(Some(before), op, Some(after));
        assert_eq!(step.mode, after, "{op:?} from {before:?}");
        assert_eq!(step.effect.flushes(), flushes, "{op:?} from {before:?}");
        assert_eq!(step.trust, Trust::Sure, "{op:?} from {before:?}");
    }

    #[test]
    fn with_softirqs_off_nothing_happens_but_it_is_not_certain() {
        let held = mode(1, 0);
        for op in [Op::Enter, Op::Leave, Op::Pause] {
            let step = step(Some(held), op, Some(held));
            assert_eq!((step.effect, step.trust), (Effect::Nothing, Trust::Doubt), "{op:?}");
        }
        let outside = step(Some(mode(0, 0)), Op::Enter, Some(mode(0, 0)));
        assert_eq!((outside.effect, outside.trust), (Effect::Nothing, Trust::Sure));
    }

    #[test]
    fn counters_that_do_not_follow_show_a_gap() {
        // The leave and the next enter are missing, then two levels at once.
        let step = step(Some(mode(1, 0)), Op::Enter, Some(mode(3, 0)));
        assert_eq!((step.mode, step.effect, step.trust), (mode(3, 0), Effect::EnteredInner, Trust::Gap));
        // Outside, and an enter without effect.
        let step = super::step(Some(mode(2, 0)), Op::Enter, Some(mode(0, 0)));
        assert_eq!((step.mode, step.effect, step.trust), (mode(0, 0), Effect::Nothing, Trust::Gap));
        // The highest that a pause can count to is no resume too many.
        let step = super::step(Some(mode(1, 0)), Op::Pause, Some(mode(1, UNDERFLOWN)));
        assert_eq!((step.effect, step.trust), (Effect::Nothing, Trust::Gap));
    }

    #[test]
    fn the_first_record_of_a_task_is_believed() {
        for (op, after, effect) in [
            (Op::Enter, mode(1, 0), Effect::Entered),
            (Op::Enter, mode(2, 0), Effect::EnteredInner),
            (Op::Leave, mode(1, 0), Effect::LeftInner),
            (Op::Leave, mode(0, 0), Effect::Left),
            (Op::Pause, mode(2, 1), Effect::Paused),
            (Op::Resume, mode(2, 0), Effect::Resumed),
            (Op::Enter, mode(1, 1), Effect::Nothing),
            (Op::Enter, mode(0, 0), Effect::Nothing),
        ] {
            let step = step(None, op, Some(after));
            assert_eq!(
                (step.mode, step.effect, step.trust),
                (after, effect, Trust::Sure),
                "{op:?} {after:?}"
            );
        }
    }

    #[test]
    fn before_7_0_there_is_no_nesting() {
        let on = mode(1, 0);
        for (before, op, after, effect) in [
            (None, Op::Enter, on, Effect::Entered),
            (Some(on), Op::Enter, on, Effect::EnteredInner),
            (Some(on), Op::Flush, on, Effect::Flushed),
            (Some(on), Op::Leave, mode(0, 0), Effect::Left),
            (None, Op::Leave, mode(0, 0), Effect::Nothing),
            (None, Op::Flush, mode(0, 0), Effect::Nothing),
        ] {
            let step = step(before, op, None);
            assert_eq!((step.mode, step.effect), (after, effect), "{op:?} from {before:?}");
        }
    }

    #[test]
    fn counters_that_the_kernel_does_not_keep_are_none() {
        use lazymmu_abi::Flags;
        let record = Record { value: 1, memory: 0, flags: Flags::VALUE | Flags::MEMORY, ..Record::default() };
        assert_eq!(Mode::in_record(&record), Some(mode(1, 0)));
        assert_eq!(Mode::in_record(&Record { flags: 0, ..record }), None);
        assert_eq!(Mode::in_record(&Record { value: u64::from(u32::MAX), ..record }), None);
    }

    #[test]
    fn a_call_too_many_counts_below_zero() {
        let leave = step(None, Op::Leave, Some(mode(UNDERFLOWN, 0)));
        assert_eq!((leave.mode, leave.effect, leave.trust), (mode(0, 0), Effect::Nothing, Trust::Sure));
        let leave = step(Some(mode(1, 0)), Op::Leave, Some(mode(UNDERFLOWN, 0)));
        assert_eq!((leave.mode, leave.trust), (mode(0, 0), Trust::Gap), "two leaves at once");
        let resume = step(Some(mode(1, 0)), Op::Resume, Some(mode(1, UNDERFLOWN)));
        assert_eq!((resume.mode, resume.effect), (mode(1, UNDERFLOWN), Effect::Nothing));
        assert!(!resume.mode.active());
    }

    #[test]
    fn a_call_more_than_can_be_counted_begins_again_at_zero() {
        let enter = step(Some(mode(HIGHEST, 0)), Op::Enter, Some(mode(0, 0)));
        assert_eq!((enter.mode, enter.effect, enter.trust), (mode(0, 0), Effect::Nothing, Trust::Sure));
        let enter = step(Some(mode(HIGHEST - 1, 0)), Op::Enter, Some(mode(HIGHEST, 0)));
        assert_eq!((enter.effect, enter.trust), (Effect::EnteredInner, Trust::Sure), "the last that can be");
        let enter = step(Some(mode(HIGHEST - 1, 0)), Op::Enter, Some(mode(0, 0)));
        assert_eq!(enter.trust, Trust::Gap);
        let leave = step(Some(mode(HIGHEST, 0)), Op::Leave, Some(mode(0, 0)));
        assert_eq!(leave.trust, Trust::Gap, "no leave does that");
    }

    #[test]
    fn absurd_counters_do_not_overflow() {
        let most = u32::MAX - 1;
        for op in [Op::Enter, Op::Leave, Op::Flush, Op::Pause, Op::Resume] {
            for before in [None, Some(mode(0, 0)), Some(mode(most, most)), Some(mode(u32::MAX, u32::MAX))] {
                for after in [None, Some(mode(0, most)), Some(mode(most, 0)), Some(mode(most, most))] {
                    step(before, op, after);
                }
            }
        }
    }
}
