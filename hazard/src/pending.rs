//! The writes that wait, found by the address of their entry.
//!
//! One table for all tasks and CPUs. An entry may have several writes that wait: of two tasks, or of one task where an
//! architecture queues the earlier and not the later. Page-table entries lie side by side in pages, so the table keeps an array of
//! slots for each 4 KiB of entries that has something pending: a lookup is one index, a write of n entries fills n
//! slots, and nothing is allocated once the table has grown to what the machine keeps open at one time.

mod chunks;
#[cfg(test)]
mod tests;

use rustc_hash::FxHashMap;

use self::chunks::{Chunks, Part, SLOTS, parts};
use crate::profile::ProfileMask;
use crate::types::{CpuId, EntryAddr, Nanos, ProcessId, StackId, TaskId};

/// Set in a slot when something else changed the entry after the write, so that values prove nothing.
const DISTURBED: u32 = 1 << 31;
/// Set in a slot when earlier writes of the entry wait as well.
const HIDES: u32 = 1 << 30;
/// Set in a slot when a later write of the entry was flushed before this one, so that values prove nothing.
const PASSED: u32 = 1 << 29;
/// Entries that wait for each chunk, when all that may wait do and no more chunks are to be had.
const ENTRIES_PER_CHUNK: usize = 64;
/// Chunks that any table may have: those of the largest write, and some more.
const LEAST_CHUNKS: usize = 256;
const FLAGS: u32 = DISTURBED | HIDES | PASSED;

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
    /// Whether the contract lets it wait. Others are kept for what they are to one architecture.
    pub(crate) counted: bool,
}

impl Write {
    /// Whether an earlier write of the entry need not be kept for what it still is to some profile.
    fn replaces(&self, earlier: &Self) -> bool {
        let waits = earlier.waits.without(self.waits);
        self.owner == earlier.owner && waits.or(earlier.late.without(self.late)).is_empty()
    }
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
    /// Whether earlier writes wait as well.
    pub(crate) hides: bool,
    /// Whether there is a later one, or was.
    pub(crate) behind: bool,
}

impl Pending {
    #[inline]
    fn of(slot: u32) -> Option<Self> {
        (slot != 0).then(|| Self {
            write: WriteId((slot & !FLAGS) - 1),
            disturbed: slot & DISTURBED != 0,
            hides: slot & HIDES != 0,
            behind: slot & PASSED != 0,
        })
    }
}

/// All pending writes.
pub(crate) struct Table {
    chunks: Chunks,
    writes: Vec<Write>,
    free_writes: Vec<u32>,
    /// The earlier writes of entries that have several, the latest at the end; by the number of the entry in memory.
    hidden: FxHashMap<u64, Vec<Pending>>,
    /// How many those are.
    hidden_len: usize,
    /// Entries with something pending.
    live: usize,
    /// Those with something pending that counts.
    counted: usize,
    limit: usize,
    /// The most chunks that are kept at once.
    chunk_limit: usize,
}

impl Table {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            chunks: Chunks::new(),
            writes: Vec::new(),
            free_writes: Vec::new(),
            hidden: FxHashMap::default(),
            hidden_len: 0,
            live: 0,
            counted: 0,
            limit: limit.min(PASSED as usize - 2),
            // Where entries wait one by one in tables far apart, each costs a chunk: 32 times what it costs in company.
            chunk_limit: (limit / ENTRIES_PER_CHUNK).max(LEAST_CHUNKS),
        }
    }

    /// Entries with something pending that counts.
    pub(crate) fn len(&self) -> usize {
        self.counted
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
        let chunk = self.chunks.find(part.number)?;
        let slot = self.chunks.at(chunk).slots[part.from];
        Pending::of(slot)
    }

    /// Everything that waits at `entry`, of which `top` is the latest, from the latest on.
    pub(crate) fn chain(&self, entry: EntryAddr, top: Pending) -> impl Iterator<Item = Pending> + '_ {
        let hidden = if top.hides { self.hidden_at(entry) } else { &[] };
        std::iter::once(top).chain(hidden.iter().rev().copied())
    }

    /// The earlier writes that wait at `entry`, the latest at the end.
    fn hidden_at(&self, entry: EntryAddr) -> &[Pending] {
        self.hidden.get(&(entry.0 / EntryAddr::SIZE)).map_or(&[], Vec::as_slice)
    }

    /// Takes note that `count` entries from `first` were changed by something that is not pending.
    pub(crate) fn disturb(&mut self, first: EntryAddr, count: u16) {
        for part in parts(first, count) {
            let Some(chunk) = self.chunks.find(part.number) else { continue };
            for slot in &mut self.chunks.at(chunk).slots[part.range()] {
                *slot |= if *slot == 0 { 0 } else { DISTURBED };
            }
        }
    }

    /// The short way for what nearly every write is: of one entry that has none, in a table in use. The caller fills
    /// the place.
    #[inline]
    pub(crate) fn place_for_one(
        &mut self,
        first: EntryAddr,
        count: u16,
        counted: bool,
    ) -> Option<(WriteId, &mut Write)> {
        if count != 1 || self.live >= self.limit {
            return None;
        }
        let part = Part::at(first);
        let index = self.chunks.find(part.number)?;
        let chunk = self.chunks.at(index);
        let slot = &mut chunk.slots[part.from];
        if *slot != 0 {
            return None;
        }
        let id = self.free_writes.pop()?;
        *slot = id + 1;
        chunk.live += 1;
        self.live += 1;
        self.counted += usize::from(counted);
        Some((WriteId(id), &mut self.writes[id as usize]))
    }

    /// Adds a write in front of what was pending at its entries before. `None` if the table is full.
    pub(crate) fn insert(&mut self, write: Write) -> Option<WriteId> {
        let writes = self.writes.len() - self.free_writes.len();
        let count = usize::from(write.count);
        if self.live + count > self.limit || writes >= self.limit || self.hidden_len + count > self.limit {
            return None;
        }
        if !self.has_chunks_for(&write) {
            return None;
        }
        let id = if let Some(id) = self.free_writes.pop() {
            self.writes[id as usize] = write;
            id
        } else {
            self.writes.push(write);
            self.writes.len() as u32 - 1
        };
        for part in parts(write.first, write.count) {
            let chunk = self.chunks.find_or_add(part.number);
            let slots = &mut chunk.slots[part.range()];
            let fresh = slots.iter().filter(|slot| **slot == 0).count();
            let empty = fresh == part.len;
            if empty {
                slots.fill(id + 1);
            }
            chunk.live += fresh;
            self.live += fresh;
            if empty {
                self.counted += if write.counted { fresh } else { 0 };
            } else {
                self.insert_before(&write, id, part);
            }
        }
        Some(WriteId(id))
    }

    /// Whether the chunks of a write's entries are there or may be made.
    fn has_chunks_for(&mut self, write: &Write) -> bool {
        let room = self.chunk_limit.saturating_sub(self.chunks.len());
        let parts = parts(write.first, write.count);
        // Most have room for the most that a write can need.
        room > usize::from(u16::MAX) / SLOTS + 1
            || parts.filter(|part| self.chunks.find(part.number).is_none()).count() <= room
    }

    /// Adds a write to entries of which some have one.
    #[cold]
    fn insert_before(&mut self, write: &Write, id: u32, part: Part) {
        let Some(chunk) = self.chunks.find(part.number) else { return };
        for place in part.range() {
            let entry = part.entry(place);
            let slot = self.chunks.at(chunk).slots[place];
            let counted = self.counts_at(slot, entry);
            self.counted += usize::from(write.counted && !counted);
            let mut flags = slot & HIDES;
            if let Some(earlier) = Pending::of(slot)
                && !write.replaces(&self.writes[earlier.write.0 as usize])
            {
                let earlier = Pending { hides: false, behind: true, ..earlier };
                self.hidden.entry(entry.0 / EntryAddr::SIZE).or_default().push(earlier);
                self.hidden_len += 1;
                flags = HIDES;
            }
            self.chunks.at(chunk).slots[place] = (id + 1) | flags;
        }
    }

    /// Whether anything at the entry counts.
    fn counts_at(&self, slot: u32, entry: EntryAddr) -> bool {
        let counts = |pending: &Pending| self.write(pending.write).counted;
        let Some(top) = Pending::of(slot) else { return false };
        counts(&top) || top.hides && self.hidden_at(entry).iter().any(counts)
    }

    /// Removes a write that was flushed. Returns how many of its entries have no later write of the same task that counts.
    #[inline]
    pub(crate) fn remove(&mut self, id: WriteId) -> usize {
        match self.remove_one(id) {
            Some(last) => last,
            None => self.take(id, false),
        }
    }

    /// The short way for what nearly every write is: of one entry, and alone there.
    #[inline]
    fn remove_one(&mut self, id: WriteId) -> Option<usize> {
        let &Write { first, count, counted, .. } = self.write(id);
        let part = Part::at(first);
        let index = if count == 1 { self.chunks.find(part.number)? } else { return None };
        let chunk = self.chunks.at(index);
        let slot = &mut chunk.slots[part.from];
        if *slot & !(DISTURBED | PASSED) != id.0 + 1 {
            return None;
        }
        *slot = 0;
        chunk.live -= 1;
        self.live -= 1;
        self.counted -= usize::from(counted);
        if chunk.live == 0 {
            self.chunks.give_back(part.number, index);
        }
        self.free_writes.push(id.0);
        Some(usize::from(counted))
    }

    /// Removes a write of which nobody knows whether it was flushed. Then nobody knows what an earlier one is worth
    /// either: they go with it.
    pub(crate) fn forget(&mut self, id: WriteId) {
        self.take(id, true);
    }

    fn take(&mut self, id: WriteId, forget: bool) -> usize {
        let write = *self.write(id);
        let mut last = 0;
        for part in parts(write.first, write.count) {
            let Some(index) = self.chunks.find(part.number) else { continue };
            let mut freed = 0;
            for place in part.range() {
                if forget {
                    self.forget_behind(id, index, place, part);
                }
                let slot = self.chunks.at(index).slots[place];
                let alone = slot & !(DISTURBED | PASSED) == id.0 + 1;
                if alone {
                    self.chunks.at(index).slots[place] = 0;
                    freed += 1;
                    last += usize::from(write.counted);
                    self.counted -= usize::from(write.counted);
                } else if slot & HIDES != 0 {
                    last += self.remove_hidden(id, &write, index, place, part);
                }
            }
            self.live -= freed;
            let chunk = self.chunks.at(index);
            chunk.live -= freed;
            if chunk.live == 0 {
                self.chunks.give_back(part.number, index);
            }
        }
        self.free_writes.push(id.0);
        last
    }

    /// Drops what is behind that write at an entry.
    fn forget_behind(&mut self, id: WriteId, chunk: usize, place: usize, part: Part) {
        let slot = self.chunks.at(chunk).slots[place];
        if slot & HIDES == 0 || Pending::of(slot).is_none_or(|top| top.write != id) {
            return;
        }
        let entry = part.entry(place);
        let counted = self.counts_at(slot, entry);
        let gone = self.hidden.remove(&(entry.0 / EntryAddr::SIZE)).map_or(0, |hidden| hidden.len());
        self.hidden_len -= gone;
        self.chunks.at(chunk).slots[place] &= !HIDES;
        self.counted -= usize::from(counted && !self.counts_at(slot & !HIDES, entry));
    }

    /// Removes a write from an entry that has several. Returns 1 if no later one of its task counts, and it does.
    #[cold]
    fn remove_hidden(&mut self, id: WriteId, write: &Write, chunk: usize, place: usize, part: Part) -> usize {
        let entry = part.entry(place);
        let slot = self.chunks.at(chunk).slots[place];
        let Some(top) = Pending::of(slot) else { return 0 };
        let number = entry.0 / EntryAddr::SIZE;
        let Some(hidden) = self.hidden.get_mut(&number) else { return 0 };
        let writes = &self.writes;
        let later = |pending: &Pending| {
            let other = &writes[pending.write.0 as usize];
            other.owner == write.owner && other.counted
        };
        let last;
        if top.write == id {
            last = true;
            self.hidden_len -= 1;
            let flags = |next: &Pending| PASSED | if next.disturbed { DISTURBED } else { 0 };
            let next = hidden.pop().map_or(0, |next| (next.write.0 + 1) | flags(&next));
            self.chunks.at(chunk).slots[place] = next | if hidden.is_empty() { 0 } else { HIDES };
        } else if let Some(at) = hidden.iter().position(|pending| pending.write == id) {
            last = !later(&top) && !hidden[at + 1..].iter().any(later);
            hidden.remove(at);
            self.hidden_len -= 1;
            if hidden.is_empty() {
                self.chunks.at(chunk).slots[place] &= !HIDES;
            }
        } else {
            return 0;
        }
        if hidden.is_empty() {
            self.hidden.remove(&number);
        }
        let slot = self.chunks.at(chunk).slots[place];
        self.counted -= usize::from(write.counted && !self.counts_at(slot, entry));
        usize::from(last && write.counted)
    }
}
