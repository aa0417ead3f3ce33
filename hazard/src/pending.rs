//! The writes that wait, found by the address of their entry.
//!
//! One table for all tasks and CPUs. Page-table entries lie side by side in pages, so the table keeps an array of
//! slots for each 4 KiB of entries that has something pending: a lookup is one index, a write of n entries fills n
//! slots, and nothing is allocated once the table has grown to what the machine keeps open at one time.

use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::profile::ProfileMask;
use crate::types::{CpuId, EntryAddr, Nanos, ProcessId, StackId, TaskId};

/// Entries in a chunk: 4 KiB of them. Larger tables (arm64 with 64 KiB pages) are several chunks.
const SLOTS: usize = 512;
/// Set in a slot when something else changed the entry after the write, so that values prove nothing.
const DISTURBED: u32 = 1 << 31;

/// A write, as the table keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) owner: TaskId,
    pub(crate) process: ProcessId,
    pub(crate) cpu: CpuId,
    pub(crate) time: Nanos,
    pub(crate) first: EntryAddr,
    pub(crate) count: u16,
    pub(crate) op: u8,
    /// The byte of the level of its entries.
    pub(crate) level: u8,
    /// What the first entry was set to; `None` if the operation does not tell.
    pub(crate) value: Option<u64>,
    pub(crate) stack: StackId,
    pub(crate) opener: StackId,
    /// The profiles in which it still waits.
    pub(crate) waits: ProfileMask,
    /// The profiles in which the store is done, but what belongs to it may wait.
    pub(crate) late: ProfileMask,
    /// The number of the access that met it last.
    pub(crate) met_by: u64,
}

/// Names a write in the table, until it is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WriteId(u32);

/// What is pending at an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) write: WriteId,
    /// Whether the entry was changed by something else since.
    pub(crate) disturbed: bool,
}

struct Chunk {
    slots: Box<[u32; SLOTS]>,
    /// Slots that are not 0.
    live: usize,
}

/// All pending writes.
pub(crate) struct Table {
    /// Where in `store` the chunk with that number is.
    chunks: FxHashMap<u64, usize>,
    store: Vec<Chunk>,
    free_chunks: Vec<usize>,
    /// The chunk found last: sections walk one page table at a time.
    recent: Option<(u64, usize)>,
    writes: Vec<Write>,
    free_writes: Vec<u32>,
    /// Entries with something pending.
    live: usize,
    limit: usize,
}

impl Table {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            chunks: FxHashMap::default(),
            store: Vec::new(),
            free_chunks: Vec::new(),
            recent: None,
            writes: Vec::new(),
            free_writes: Vec::new(),
            live: 0,
            limit: limit.min(DISTURBED as usize - 2),
        }
    }

    /// Entries with something pending.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The write that an id names.
    #[inline]
    pub(crate) fn write(&self, id: WriteId) -> &Write {
        &self.writes[id.0 as usize]
    }

    /// Takes note that an access met the write. False if the same access did so already, at another entry.
    pub(crate) fn meet(&mut self, id: WriteId, access: u64) -> bool {
        let write = &mut self.writes[id.0 as usize];
        std::mem::replace(&mut write.met_by, access) != access
    }

    /// The profiles in which a write waits become fewer.
    pub(crate) fn settle(&mut self, id: WriteId, profiles: ProfileMask) {
        let write = &mut self.writes[id.0 as usize];
        write.waits = write.waits.without(profiles);
        write.late = write.late.without(profiles);
    }

    /// What is pending at `entry`.
    #[inline]
    pub(crate) fn at(&mut self, entry: EntryAddr) -> Option<Pending> {
        let part = Part::at(entry);
        let chunk = self.chunk(part.number)?;
        let slot = self.store[chunk].slots[part.from];
        (slot != 0)
            .then(|| Pending { write: WriteId((slot & !DISTURBED) - 1), disturbed: slot & DISTURBED != 0 })
    }

    /// Takes note that `count` entries from `first` were changed by something that is not pending.
    pub(crate) fn disturb(&mut self, first: EntryAddr, count: u16) {
        for part in parts(first, count) {
            let Some(chunk) = self.chunk(part.number) else { continue };
            for slot in &mut self.store[chunk].slots[part.range()] {
                *slot |= if *slot == 0 { 0 } else { DISTURBED };
            }
        }
    }

    /// Adds a write; it hides what was pending at its entries before. `None` if the table is full.
    pub(crate) fn insert(&mut self, write: Write) -> Option<WriteId> {
        let writes = self.writes.len() - self.free_writes.len();
        if self.live + usize::from(write.count) > self.limit || writes >= self.limit {
            return None;
        }
        let (first, count) = (write.first, write.count);
        let id = if let Some(id) = self.free_writes.pop() {
            self.writes[id as usize] = write;
            id
        } else {
            self.writes.push(write);
            self.writes.len() as u32 - 1
        };
        for part in parts(first, count) {
            let chunk = self.chunk_or_new(part.number);
            let slots = &mut chunk.slots[part.range()];
            let fresh = slots.iter().filter(|slot| **slot == 0).count();
            slots.fill(id + 1);
            chunk.live += fresh;
            self.live += fresh;
        }
        Some(WriteId(id))
    }

    /// Removes a write. Its entries are free again where no later write hid it. Returns how many those were.
    pub(crate) fn remove(&mut self, id: WriteId) -> usize {
        let Write { first, count, .. } = *self.write(id);
        let mut freed = 0;
        for part in parts(first, count) {
            let Some(index) = self.chunk(part.number) else { continue };
            let chunk = &mut self.store[index];
            let before = chunk.live;
            for slot in &mut chunk.slots[part.range()] {
                if *slot & !DISTURBED == id.0 + 1 {
                    *slot = 0;
                    chunk.live -= 1;
                }
            }
            freed += before - chunk.live;
            if chunk.live == 0 {
                self.chunks.remove(&part.number);
                self.free_chunks.push(index);
                self.recent = None;
            }
        }
        self.live -= freed;
        self.free_writes.push(id.0);
        freed
    }

    #[inline]
    fn chunk(&mut self, number: u64) -> Option<usize> {
        if let Some((recent, index)) = self.recent
            && recent == number
        {
            return Some(index);
        }
        let index = *self.chunks.get(&number)?;
        self.recent = Some((number, index));
        Some(index)
    }

    fn chunk_or_new(&mut self, number: u64) -> &mut Chunk {
        let index = self.chunk(number).unwrap_or_else(|| {
            let index = self.free_chunks.pop().unwrap_or_else(|| {
                self.store.push(Chunk { slots: Box::new([0; SLOTS]), live: 0 });
                self.store.len() - 1
            });
            self.chunks.insert(number, index);
            self.recent = Some((number, index));
            index
        });
        &mut self.store[index]
    }
}

/// The entries of a write that lie in one chunk.
#[derive(Clone, Copy)]
struct Part {
    number: u64,
    from: usize,
    len: usize,
}

impl Part {
    #[inline]
    fn at(entry: EntryAddr) -> Self {
        let index = entry.0 / EntryAddr::SIZE;
        Self { number: index / SLOTS as u64, from: (index % SLOTS as u64) as usize, len: 1 }
    }

    fn range(self) -> Range<usize> {
        self.from..self.from + self.len
    }
}

fn parts(first: EntryAddr, count: u16) -> impl Iterator<Item = Part> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let left = usize::from(count) - done;
        if left == 0 {
            return None;
        }
        let mut part = Part::at(first.advance(done as u64));
        part.len = left.min(SLOTS - part.from);
        done += part.len;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(first: u64, count: u16) -> Write {
        Write {
            owner: TaskId::of(&lazymmu_abi::Record { tid: 1, ..Default::default() }),
            process: ProcessId(1),
            cpu: CpuId(0),
            time: Nanos(0),
            first: EntryAddr(first),
            count,
            op: 0,
            level: 0,
            value: None,
            stack: StackId::NONE,
            opener: StackId::NONE,
            waits: ProfileMask::ALL,
            late: ProfileMask::NONE,
            met_by: 0,
        }
    }

    #[test]
    fn a_write_covers_all_its_entries_across_chunks() {
        let mut table = Table::new(10_000);
        let id = table.insert(write(0x1ff0, 1030)).unwrap();
        assert_eq!(table.len(), 1030);
        for inside in [0x1ff0, 0x1ff8, 0x2000, 0x2ff8, 0x3000, 0x1ff0 + 1029 * 8] {
            assert_eq!(table.at(EntryAddr(inside)).map(|p| p.write), Some(id), "{inside:#x}");
        }
        for outside in [0x1fe8, 0x1ff0 + 1030 * 8] {
            assert_eq!(table.at(EntryAddr(outside)), None, "{outside:#x}");
        }
        assert_eq!(table.remove(id), 1030);
        assert!(table.is_empty());
        assert!(table.chunks.is_empty());
        assert_eq!(table.at(EntryAddr(0x2000)), None);
    }

    #[test]
    fn the_later_write_hides_the_earlier() {
        let mut table = Table::new(100);
        let old = table.insert(write(0x1000, 4)).unwrap();
        table.disturb(EntryAddr(0x1008), 1);
        let new = table.insert(write(0x1008, 1)).unwrap();
        assert_eq!(table.at(EntryAddr(0x1008)), Some(Pending { write: new, disturbed: false }));
        assert_eq!(table.remove(old), 3);
        assert_eq!(table.at(EntryAddr(0x1000)), None);
        assert_eq!(table.at(EntryAddr(0x1008)).map(|p| p.write), Some(new));
        assert_eq!(table.remove(new), 1);
    }

    #[test]
    fn disturbing_touches_only_what_is_pending() {
        let mut table = Table::new(100);
        let id = table.insert(write(0x1010, 2)).unwrap();
        table.disturb(EntryAddr(0x1000), 3);
        assert_eq!(table.at(EntryAddr(0x1010)), Some(Pending { write: id, disturbed: true }));
        assert_eq!(table.at(EntryAddr(0x1018)), Some(Pending { write: id, disturbed: false }));
        assert_eq!(table.at(EntryAddr(0x1000)), None);
        assert_eq!(table.remove(id), 2, "a disturbed entry goes with its write");
    }

    #[test]
    fn a_full_table_says_so_and_recovers() {
        let mut table = Table::new(4);
        let id = table.insert(write(0x1000, 3)).unwrap();
        assert_eq!(table.insert(write(0x2000, 2)), None);
        assert!(table.insert(write(0x2000, 1)).is_some());
        table.remove(id);
        assert!(table.insert(write(0x2008, 2)).is_some());
    }

    #[test]
    fn rewriting_one_entry_for_ever_is_bounded_too() {
        let mut table = Table::new(4);
        let kept = (0..100).filter(|_| table.insert(write(0x1000, 1)).is_some()).count();
        assert_eq!(kept, 4);
    }

    #[test]
    fn a_chunk_that_was_given_back_is_not_found_by_its_old_address() {
        let mut table = Table::new(100);
        let first = table.insert(write(0x1000, 1)).unwrap();
        table.remove(first);
        let again = table.insert(write(0x1000, 1)).unwrap();
        let other = table.insert(write(0x5000, 1)).unwrap();
        assert_eq!(table.at(EntryAddr(0x1000)).map(|p| p.write), Some(again));
        assert_eq!(table.remove(again), 1);
        assert_eq!(table.at(EntryAddr(0x1000)), None);
        assert_eq!(table.at(EntryAddr(0x5000)).map(|p| p.write), Some(other));
    }

    #[test]
    fn memory_is_used_again() {
        let mut table = Table::new(10_000);
        for round in 0..1000 {
            let id = table.insert(write(round * 0x10_0000, 512)).unwrap();
            table.remove(id);
        }
        assert_eq!(table.store.len(), 1);
        assert_eq!(table.writes.len(), 1);
    }

    #[test]
    fn the_end_of_the_address_space_wraps() {
        let mut table = Table::new(10_000);
        let id = table.insert(write(!7, 600)).unwrap();
        assert_eq!(table.remove(id), 600);
    }
}
