//! The counters that a kernel keeps of its lazy MMU mode, so that scenarios need not spell them out.
//!
//! A copy of the kernel's own arithmetic (`lazy_mmu_mode_enable` and so on, include/linux/pgtable.h, 7.2.13:261 to 387)
//! and no more: what follows from the counters is the engine's matter.

use lazymmu_abi::Op;

/// `struct lazy_mmu_state`: both counters are a byte there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) enable: u8,
    pub(super) pause: u8,
}

impl Counters {
    /// The counters after a call in the context of a task.
    pub(super) fn after(self, op: Op) -> Self {
        let Self { enable, pause } = self;
        match op {
            Op::Enter if pause == 0 => Self { enable: enable.wrapping_add(1), pause },
            Op::Leave if pause == 0 => Self { enable: enable.wrapping_sub(1), pause },
            Op::Pause => Self { enable, pause: pause.wrapping_add(1) },
            Op::Resume => Self { enable, pause: pause.wrapping_sub(1) },
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kernel_counts() {
        let mut counters = Counters::default();
        for (op, enable, pause) in [
            (Op::Enter, 1, 0),
            (Op::Enter, 2, 0),
            (Op::Pause, 2, 1),
            (Op::Enter, 2, 1),
            (Op::Pause, 2, 2),
            (Op::Leave, 2, 2),
            (Op::Resume, 2, 1),
            (Op::Resume, 2, 0),
            (Op::Flush, 2, 0),
            (Op::Leave, 1, 0),
            (Op::Leave, 0, 0),
            (Op::Leave, 255, 0),
        ] {
            counters = counters.after(op);
            assert_eq!((counters.enable, counters.pause), (enable, pause), "{op:?}");
        }
    }
}
