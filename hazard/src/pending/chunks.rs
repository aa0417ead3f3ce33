//! Slots for entries, in chunks of 4 KiB of entries that are made when one of them is needed.

use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::types::EntryAddr;

/// Entries in a chunk: 4 KiB of them. Larger tables (arm64 with 64 KiB pages) are several chunks.
pub(super) const SLOTS: usize = 512;
/// Chunks asked for last that are remembered.
const RECENT: usize = 16;

/// The slots of the entries in one 4 KiB.
pub(super) struct Chunk {
    pub(super) slots: Box<[u32; SLOTS]>,
    /// Slots that are not 0.
    pub(super) live: usize,
}

/// All chunks, found by their number: that of their first entry in memory, in chunks.
pub(super) struct Chunks {
    by_number: FxHashMap<u64, u32>,
    store: Vec<Chunk>,
    free: Vec<u32>,
    /// What was asked for last, at the place that the end of its number says, and where it is, if anywhere: each CPU is
    /// busy with one or two page tables at a time.
    recent: [(u64, Option<u32>); RECENT],
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self {
            by_number: FxHashMap::default(),
            store: Vec::new(),
            free: Vec::new(),
            // No chunk has that number: addresses have fewer bits.
            recent: [(u64::MAX, None); RECENT],
        }
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    #[inline]
    pub(super) fn find(&mut self, number: u64) -> Option<usize> {
        let (known, index) = self.recent[recent(number)];
        let index = if known == number { index } else { self.look_up(number) };
        index.map(|index| index as usize)
    }

    #[inline(never)]
    fn look_up(&mut self, number: u64) -> Option<u32> {
        let index = self.by_number.get(&number).copied();
        self.recent[recent(number)] = (number, index);
        index
    }

    pub(super) fn find_or_add(&mut self, number: u64) -> &mut Chunk {
        let index = self.find(number).unwrap_or_else(|| {
            let index = self.free.pop().unwrap_or_else(|| {
                self.store.push(Chunk { slots: Box::new([0; SLOTS]), live: 0 });
                self.store.len() as u32 - 1
            });
            self.by_number.insert(number, index);
            self.recent[recent(number)] = (number, Some(index));
            index as usize
        });
        &mut self.store[index]
    }

    #[inline]
    pub(super) fn at(&mut self, index: usize) -> &mut Chunk {
        &mut self.store[index]
    }

    /// Gives up a chunk whose slots are all 0.
    pub(super) fn give_back(&mut self, number: u64, index: usize) {
        self.by_number.remove(&number);
        self.free.push(index as u32);
        self.recent[recent(number)] = (number, None);
    }

    /// How many chunks there is memory for.
    #[cfg(test)]
    pub(super) fn made(&self) -> usize {
        self.store.len()
    }
}

/// The place of a chunk among those asked for last.
#[inline]
fn recent(number: u64) -> usize {
    number as usize % RECENT
}

/// The entries of a write that lie in one chunk.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) from: usize,
    pub(super) len: usize,
}

impl Part {
    #[inline]
    pub(super) fn at(entry: EntryAddr) -> Self {
        let index = entry.0 / EntryAddr::SIZE;
        Self { number: index / SLOTS as u64, from: (index % SLOTS as u64) as usize, len: 1 }
    }

    pub(super) fn range(self) -> Range<usize> {
        self.from..self.from + self.len
    }

    /// The entry at that place of the chunk.
    pub(super) fn entry(self, place: usize) -> EntryAddr {
        EntryAddr((self.number * SLOTS as u64 + place as u64) * EntryAddr::SIZE)
    }
}

/// The parts of `count` entries from `first` on.
pub(super) fn parts(first: EntryAddr, count: u16) -> impl Iterator<Item = Part> {
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
