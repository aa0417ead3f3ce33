//! The rings of records and of call stacks: how many there are, made and given to the programs, waited for, and emptied.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::task::Poll;

use aya::maps::{ArrayOfMaps, Map, MapData, RingBuf};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF;
use lazymmu_abi::{Head, MAX_RINGS, Record};
use tokio::io::unix::AsyncFd;

use crate::Error;
use crate::item::{self, Item};
use crate::sys::{self, RecordRings};

/// The array of the rings of stacks in the object.
const STACK_RINGS: &str = "STACK_RINGS";
/// Where each ring of records stands, and their places.
const HEADS: &str = "HEADS";
const PLACES: &str = "PLACES";

/// The programs wake the reader each time another part of a ring, one in so many, is filled.
const PARTS: u32 = 8;

/// How much larger a ring of records is than the one of stacks beside it, if that has a page at least.
const RECORDS_TO_STACKS: u32 = 4;

/// How the memory is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// How many rings; a power of two.
    count: u32,
    /// Bytes of each, if it is one of records.
    bytes: u32,
    /// Bytes of a page.
    page: u32,
    /// How many CPUs share a ring if their numbers are spread evenly; a power of two.
    sharing: u32,
    /// How many can share one, whichever come up.
    most_sharing: u32,
}

/// The CPUs of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpus {
    /// Those that are up: one more than the highest number.
    pub(crate) online: u32,
    /// The same for those that can come up.
    pub(crate) possible: u32,
}

impl Cpus {
    /// A machine with one.
    pub(crate) const ONE: Self = Self { online: 1, possible: 1 };
}

impl Layout {
    /// The least memory that there can be: half of it may be kept for programs that look at the same time.
    pub(crate) fn least(page: u32, cpus: Cpus) -> u32 {
        let kept = cpus.possible.max(1).next_power_of_two() * Head::SPARE_PLACES * size_of::<Record>() as u32;
        page.max(2 * kept)
    }

    /// One ring for each CPU, if the memory makes so many pages and the programs take so many; fewer where some would
    /// lie idle. `total` and `page` are powers of two, and `total` is at least [`Layout::least`].
    pub(crate) fn new(total: u32, page: u32, cpus: Cpus) -> Self {
        let wanted = cpus.online.clamp(1, MAX_RINGS).min(total / page).max(1);
        let count = 1 << wanted.ilog2();
        let sharing = |cpus: u32| cpus.max(1).div_ceil(count);
        Self {
            count,
            bytes: total / count,
            page,
            sharing: sharing(cpus.online).next_power_of_two(),
            most_sharing: sharing(cpus.possible),
        }
    }

    /// What turns the number of a CPU into that of its ring.
    pub(crate) fn mask(self) -> u32 {
        self.count - 1
    }

    /// How many records a ring has place for.
    pub(crate) fn places(self) -> u32 {
        self.bytes / size_of::<Record>() as u32
    }

    /// How many of these may be taken.
    pub(crate) fn limit(self) -> u32 {
        self.places() - self.most_sharing * Head::SPARE_PLACES
    }

    fn stack_bytes(self) -> u32 {
        (self.bytes / RECORDS_TO_STACKS).max(self.page)
    }

    /// Has the loader make the rings of records as large as that.
    pub(crate) fn set(self, loader: &mut EbpfLoader<'_>) {
        loader.map_max_entries(HEADS, self.count);
        loader.map_max_entries(PLACES, self.count * self.places());
    }

    /// After how many bytes of one CPU the programs wake the reader.
    pub(crate) fn wake_step(self) -> u32 {
        (self.bytes / PARTS / self.sharing).max(1)
    }
}

/// All rings.
pub(crate) struct Rings {
    records: RecordRings,
    stacks: Vec<AsyncFd<RingBuf<MapData>>>,
    /// Up to where each ring of records is emptied; nothing between two emptyings.
    ends: Vec<u64>,
    /// The ring where the emptying stands.
    at: usize,
    /// Records that are to be handed over, but behind the stacks that they may name.
    taken: Vec<Record>,
}

impl Rings {
    /// Maps the rings of records; makes those of stacks and gives them to the programs.
    pub(crate) fn new(ebpf: &mut Ebpf, layout: Layout) -> Result<Self, Error> {
        let failed = |source| Error::Map { name: STACK_RINGS, source };
        let [heads, places] = [HEADS, PLACES].map(|name| match ebpf.take_map(name) {
            Some(Map::Array(map)) => Ok(map),
            _ => Err(Error::Mismatch(name)),
        });
        let records =
            RecordRings::new(heads?, places?).map_err(|source| Error::Mapping { name: PLACES, source })?;
        let array = ebpf.map_mut(STACK_RINGS).ok_or(Error::Mismatch(STACK_RINGS))?;
        let mut array: ArrayOfMaps<&mut MapData, RingBuf<MapData>> = array.try_into().map_err(failed)?;
        let mut stacks = Vec::new();
        for index in 0..layout.count {
            let kind = BPF_MAP_TYPE_RINGBUF as u32;
            let ring = aya_obj::Map::new_from_params(kind, 0, 0, layout.stack_bytes(), 0);
            let ring = MapData::create(ring, "STACK_RING", None)
                .map_err(|error| Error::object(EbpfError::MapError(error)))?;
            let ring: RingBuf<MapData> =
                Map::from_map_data(ring).map_err(failed)?.try_into().map_err(failed)?;
            array.set(index, &ring, 0).map_err(failed)?;
            stacks.push(sys::watch(ring).map_err(watching)?);
        }
        Ok(Self { records, stacks, ends: Vec::new(), at: 0, taken: Vec::new() })
    }

    /// Waits until the programs wake the reader.
    pub(crate) async fn woken(&self) -> Result<(), Error> {
        let woken = poll_fn(|context| {
            let mut woken = Poll::Pending;
            for ring in &self.stacks {
                match ring.poll_read_ready(context) {
                    Poll::Ready(Ok(mut guard)) => {
                        // Before the ring is emptied: a wake-up that comes meanwhile is kept.
                        guard.clear_ready();
                        woken = Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            woken
        });
        woken.await.map_err(watching)
    }

    /// Hands over up to `most` records, and each stack before the first record that names it. Breaks when each ring was emptied
    /// of all that was in it when the emptying began; else the next call goes on.
    pub(crate) fn empty(
        &mut self,
        most: usize,
        mut take: impl FnMut(Item),
    ) -> Result<ControlFlow<()>, Error> {
        let Self { records, ends, at, taken, .. } = self;
        if ends.is_empty() {
            ends.extend((0..records.count()).map(|ring| records.given(ring)));
        }
        while let Some(end) = ends.get(*at)
            && taken.len() < most
        {
            let room = most - taken.len();
            let stands = records.take(*at, *end, room, |record| taken.push(record));
            if stands < *end && taken.len() == most {
                break;
            }
            // It is emptied, or what comes next in it is still being filled in.
            *at += 1;
        }
        let whole = *at == ends.len();
        if whole {
            ends.clear();
            *at = 0;
        }
        // Who sent a record sent the stack before it, or knew that it was sent.
        self.take_stacks(&mut take)?;
        // What has no kind is a place that a program took in vain.
        let records = self.taken.drain(..).filter(|record| record.kind != 0);
        records.map(Item::Record).for_each(take);
        Ok(if whole { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Hands over all stacks that are there.
    fn take_stacks(&mut self, take: &mut impl FnMut(Item)) -> Result<(), Error> {
        for ring in &mut self.stacks {
            while let Some(bytes) = ring.get_mut().next() {
                take(Item::Stack(item::decode(&bytes)?));
            }
        }
        Ok(())
    }
}

fn watching(source: std::io::Error) -> Error {
    Error::Io { what: "watch the rings".to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::{Cpus, Layout};

    const PAGE: u32 = 4096;

    #[test]
    fn the_rings_are_together_what_was_asked_for() {
        for (total, online, possible, count, kept) in [
            (16 << 20, 1, 1, 1, 16),
            (16 << 20, 2, 2, 2, 16),
            (16 << 20, 3, 3, 2, 32),
            (16 << 20, 12, 12, 8, 32),
            (16 << 20, 256, 256, 16, 256),
            (16 << 20, 2, 240, 2, 1920),
            (16 << 20, 0, 0, 1, 16),
            (PAGE, 1, 1, 1, 16),
            (PAGE, 2, 2, 1, 32),
            (2 * PAGE, 4, 4, 2, 32),
            (1 << 30, 16, 16, 16, 16),
        ] {
            let cpus = Cpus { online, possible };
            assert!(total >= Layout::least(PAGE, cpus), "{total} {cpus:?}");
            let layout = Layout::new(total, PAGE, cpus);
            assert_eq!((layout.count, layout.bytes), (count, total / count), "{total} {cpus:?}");
            assert_eq!(layout.mask(), count - 1);
            let places = layout.bytes / 64;
            assert_eq!((layout.places(), layout.limit()), (places, places - kept), "{cpus:?}");
            assert!(layout.limit() >= places / 2);
            assert!(layout.wake_step().is_power_of_two());
        }
        let least = |possible| Layout::least(PAGE, Cpus { online: 1, possible });
        assert_eq!([1, 2, 3, 64].map(least), [PAGE, PAGE, 2 * PAGE, 32 * PAGE]);
    }
}
