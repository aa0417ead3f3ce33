//! The engine's own words for the numbers in a record, so that no two of them can be mixed up.

use core::fmt;

use lazymmu_abi::Record;

/// Kernel virtual address of a page-table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryAddr(pub u64);

impl EntryAddr {
    /// Bytes from one entry to the next, on every architecture with a lazy MMU mode.
    pub const SIZE: u64 = 8;

    /// The address of the entry `index` entries after this one.
    #[must_use]
    pub const fn advance(self, index: u64) -> Self {
        Self(self.0.wrapping_add(index.wrapping_mul(Self::SIZE)))
    }

    /// How many entries this one is after `first`.
    #[must_use]
    pub const fn index_from(self, first: Self) -> u64 {
        self.0.wrapping_sub(first.0) / Self::SIZE
    }
}

impl fmt::Display for EntryAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// A range of virtual addresses; `end` is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VirtRange {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A task. Each CPU has an idle task of its own, all with thread id 0, so those are told apart by the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u64);

impl TaskId {
    /// The task that a record names.
    #[inline]
    #[must_use]
    pub const fn of(record: &Record) -> Self {
        if record.tid == 0 { Self(((record.cpu as u64) << 32) | (1 << 48)) } else { Self(record.tid as u64) }
    }

    /// The thread id that the kernel shows; 0 for an idle task.
    #[must_use]
    pub const fn tid(self) -> u32 {
        self.0 as u32
    }
}

/// A process: the thread group of a task, which user space calls its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub u32);

/// A CPU's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CpuId(pub u16);

/// Nanoseconds of the trace's clock, or since the first record where that is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The time from `earlier` to this; 0 if the order is the other way round.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// Hash of a call stack, as the record carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(pub u64);

impl StackId {
    /// No stack was taken, or it is not known.
    pub const NONE: Self = Self(0);
}

/// A task's name as the kernel has it: up to 15 bytes, the rest zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskName(pub [u8; 16]);

impl TaskName {
    /// The name in a `TaskName` record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&record.entry.to_le_bytes());
        bytes[8..].copy_from_slice(&record.value.to_le_bytes());
        Self(bytes)
    }
}

impl fmt::Display for TaskName {
    /// Bytes that are no text, or that would move a terminal's cursor, are shown as `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take_while(|byte| **byte != 0) {
            let shown = if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' };
            write!(f, "{shown}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_tasks_of_two_cpus_are_two_tasks() {
        let on = |cpu| TaskId::of(&Record { cpu, ..Record::default() });
        assert_ne!(on(0), on(1));
        assert_eq!(on(3).tid(), 0);
        assert_ne!(on(0), TaskId::of(&Record { tid: 1, ..Record::default() }));
    }

    #[test]
    fn names_are_cut_at_the_zero_and_made_printable() {
        let record = Record {
            entry: u64::from_le_bytes(*b"kworker/"),
            value: u64::from_le_bytes(*b"0\x1b\0rest!"),
            ..Record::default()
        };
        assert_eq!(TaskName::of(&record).to_string(), "kworker/0?");
    }

    #[test]
    fn addresses_wrap_instead_of_overflowing() {
        let last = EntryAddr(!7);
        assert_eq!(last.advance(1), EntryAddr(0));
        assert_eq!(EntryAddr(0x1010).index_from(EntryAddr(0x1000)), 2);
    }
}
