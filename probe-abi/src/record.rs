//! One event, one cache line.

/// One event as the kernel side saw it: 64 bytes, little-endian in every file, no padding.
///
/// What `entry`, `value`, `memory` and `count` hold depends on the kind:
///
/// | kind | `entry` | `value` | `memory` | `count` |
/// |---|---|---|---|---|
/// | `Section` | 0 | the task's enable count after the operation | its pause count | 0 |
/// | `Read` | the entry's address | what the reader got | what memory held at the hook | 1 |
/// | `Write` | the first entry's address | what was written there | what memory held after it | entries |
/// | `Rmw` | the first entry's address | the value that it replaced | what memory held after it | entries |
/// | `Switch` | 0 | the tid of the next task | the state of the previous task | 0 |
/// | `TlbFlush` | start of the virtual range | its end (exclusive) | the `mm_struct`, 0 for the kernel's half | 0 |
/// | `Fault` | the faulting kernel address | the processor's error code | 0 | 0 |
/// | `TaskExit` | 0 | 0 | 0 | 0 |
/// | `TaskName` | name, bytes 0 to 7 | name, bytes 8 to 15 | 0 | 0 |
/// | `Lost` | 0 | how many records | 0 | 0 |
///
/// The `entry` of a `Section` or `TaskExit` may hold a [`LeftOut`]; it is 0 where every access has its record.
///
/// A `Write` or `Rmw` with [`Flags::HELD`] was kept back in the kernel until something came upon its entry. Its `time`
/// is that of what came, before which it stands; `memory` is the time of its own hook.
///
/// [`Flags::VALUE`] and [`Flags::MEMORY`] say whether `value` and `memory` are known at all.
///
/// A `Lost` stands where the loss was noticed: what is missing lies between the record before it on that CPU
/// and the one after it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Record {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// Kernel virtual address of the page-table entry.
    pub entry: u64,
    /// The value written or seen; see the table above.
    pub value: u64,
    /// The raw value in memory at that instant.
    pub memory: u64,
    /// Return address into the function that used the accessor; for a `Fault`, the instruction that faulted; where an
    /// instruction was probed, its address + 1, so that it can be taken for a return address.
    pub caller: u64,
    /// Hash of the call stack that begins at `caller`; 0 if none was taken.
    pub stack: u64,
    /// Thread id of the current task (the previous one for `Switch`).
    pub tid: u32,
    /// Thread group id of that task.
    pub tgid: u32,
    /// How many consecutive entries the operation covers.
    pub count: u16,
    /// The CPU it happened on; [`Record::ANY_CPU`] for a `Lost` of which the CPU is not known.
    pub cpu: u16,
    /// A [`crate::Kind`].
    pub kind: u8,
    /// An [`crate::Op`]; for `Lost`, the [`crate::Kind`] of the lost records, 0 if not known.
    pub op: u8,
    /// A [`crate::Level`]; 0 where the record concerns no entry.
    pub level: u8,
    /// [`Context`] in the low two bits, [`Flags`] above.
    pub flags: u8,
}

const _: () = {
    assert!(size_of::<Record>() == 64);
    assert!(align_of::<Record>() == 8);
    assert!(core::mem::offset_of!(Record, stack) == 40);
    assert!(core::mem::offset_of!(Record, count) == 56);
    assert!(core::mem::offset_of!(Record, flags) == 63);
};

/// The bits of [`Record::flags`].
pub struct Flags;

impl Flags {
    /// The bits that hold the [`Context`].
    pub const CONTEXT: u8 = 0b11;
    /// [`Record::value`] is known.
    pub const VALUE: u8 = 1 << 2;
    /// [`Record::memory`] is known.
    pub const MEMORY: u8 = 1 << 3;
    /// The record was kept back, and [`Record::memory`] is the time of its hook.
    pub const HELD: u8 = 1 << 4;
}

/// What a task did in a section since its last record of the mode and has no record of, packed into one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Accesses while the mode was on.
    pub accesses: u32,
    /// Entries that they changed.
    pub changed: u32,
    /// Entries that were written and whose store may wait, each once. Those of records that came later with
    /// [`Flags::HELD`] are among them.
    pub pending: u32,
}

impl LeftOut {
    /// The most that each count can be. Who has counted so far leaves nothing more out.
    pub const MOST: u32 = (1 << Self::BITS) - 1;

    const BITS: u32 = 21;

    /// As one word.
    #[inline(always)]
    #[must_use]
    pub const fn packed(self) -> u64 {
        self.accesses as u64 | (self.changed as u64) << Self::BITS | (self.pending as u64) << (2 * Self::BITS)
    }

    /// From one word.
    #[inline]
    #[must_use]
    pub const fn of(word: u64) -> Self {
        let most = Self::MOST as u64;
        Self {
            accesses: (word & most) as u32,
            changed: (word >> Self::BITS & most) as u32,
            pending: (word >> (2 * Self::BITS) & most) as u32,
        }
    }
}

/// In what context the CPU ran, with the numbers of the kernel's `interrupt_context_level()`
/// (include/linux/preempt.h, 6.12 and 7.2).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Context {
    /// A task, by itself or in a system call or fault.
    Task = 0,
    /// A software interrupt.
    Softirq = 1,
    /// A hardware interrupt.
    Hardirq = 2,
    /// A non-maskable interrupt.
    Nmi = 3,
}

impl Record {
    /// The [`Record::cpu`] of a `Lost` that the kernel counts without saying on which CPU. Nothing is certain on
    /// any CPU since the record before it.
    pub const ANY_CPU: u16 = u16::MAX;

    /// The context that the record's flags name.
    #[inline]
    #[must_use]
    pub const fn context(&self) -> Context {
        match self.flags & Flags::CONTEXT {
            0 => Context::Task,
            1 => Context::Softirq,
            2 => Context::Hardirq,
            _ => Context::Nmi,
        }
    }

    /// The value, if it is known.
    #[inline]
    #[must_use]
    pub const fn known_value(&self) -> Option<u64> {
        if self.flags & Flags::VALUE != 0 { Some(self.value) } else { None }
    }

    /// What memory held, if it is known.
    #[inline]
    #[must_use]
    pub const fn known_memory(&self) -> Option<u64> {
        if self.flags & Flags::MEMORY != 0 { Some(self.memory) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::LeftOut;

    #[test]
    fn what_was_left_out_survives_the_word() {
        let most = LeftOut::MOST;
        for (accesses, changed, pending) in
            [(0, 0, 0), (1, 2, 3), (most, 0, most), (0, most, 1), (most, most, most)]
        {
            let left_out = LeftOut { accesses, changed, pending };
            assert_eq!(LeftOut::of(left_out.packed()), left_out);
        }
        assert_eq!(LeftOut::default().packed(), 0);
    }
}
