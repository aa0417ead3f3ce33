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
    /// The counters do not follow from what was known: some call was never recorded.
    pub(crate) gap: bool,
}

/// One mode call. `before` is what is known of the task, `counters` what the record says of it afterwards.
pub(crate) fn step(before: Option<Mode>, op: Op, counters: Option<Mode>) -> Step {
    match counters {
        Some(after) => with_counters(before, op, after),
        None => without_counters(before.unwrap_or_default(), op),
    }
}

fn with_counters(before: Option<Mode>, op: Op, after: Mode) -> Step {
    // Where nothing is known, assume what would have led here.
    let (before, known) = match before {
        Some(mode) => (mode, true),
        None => (before_of(op, after), false),
    };
    let (expected, effect) = generic(before, op);
    let step = |effect, gap| Step { mode: after, effect, gap };
    if after == expected {
        step(effect, false)
    } else if after == before {
        // in_interrupt() is also true in a task that has softirqs off, and then every call returns at once.
        step(if op == Op::Flush { effect } else { Effect::Nothing }, false)
    } else {
        // Whatever happened in between, this call did what its own counters say.
        let (again, effect) = generic(before_of(op, after), op);
        step(if again == after { effect } else { Effect::Nothing }, known)
    }
}

/// The counters before a call that had its usual effect and left `after`.
fn before_of(op: Op, after: Mode) -> Mode {
    let mut before = after;
    match op {
        Op::Enter if after.active() => before.enable -= 1,
        Op::Leave if after.pause == 0 => before.enable += 1,
        Op::Pause => before.pause = after.pause.saturating_sub(1),
        Op::Resume => before.pause += 1,
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
            (Mode { enable: enable + 1, pause }, effect)
        }
        // A leave without an enter underflows in the kernel; here the section is just over.
        Op::Leave if pause > 0 || enable == 0 => (before, Effect::Nothing),
        Op::Leave => {
            let effect = if enable == 1 { Effect::Left } else { Effect::LeftInner };
            (Mode { enable: enable - 1, pause }, effect)
        }
        Op::Pause => {
            let effect = if before.active() { Effect::Paused } else { Effect::Nothing };
            (Mode { enable, pause: pause + 1 }, effect)
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
        // The inner leave ends the outer section too.
        Op::Leave if before.enable > 0 => (Mode::default(), Effect::Left),
        _ => generic(before, op),
    };
    Step { mode, effect, gap: false }
}
