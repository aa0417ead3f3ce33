//! The rings: how many there are, made and given to the programs, waited for, and emptied.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::task::Poll;

use aya::maps::{ArrayOfMaps, Map, MapData, RingBuf};
use aya::{Ebpf, EbpfError};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF;
use lazymmu_abi::MAX_RINGS;
use tokio::io::unix::AsyncFd;

use crate::item::{self, Item};
use crate::{Error, sys};

/// The array of the rings in the object.
const RINGS: &str = "RINGS";

/// The programs wake the reader each time another part of a ring, one in so many, is filled.
const PARTS: u32 = 8;

/// What a ring keeps before each item (BPF_RINGBUF_HDR_SZ).
const HEADER: usize = 8;

/// How the memory is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// How many rings; a power of two.
    count: u32,
    /// Bytes of each.
    bytes: u32,
    /// How many CPUs share a ring, at most; a power of two.
    sharing: u32,
}

impl Layout {
    /// One ring for each CPU, if the memory makes so many pages and the programs take so many; fewer where some would
    /// lie idle. `total` and `page` are powers of two.
    pub(crate) fn new(total: u32, page: u32, cpus: u32) -> Self {
        let wanted = cpus.clamp(1, MAX_RINGS).min(total / page).max(1);
        let count = 1 << wanted.ilog2();
        Self { count, bytes: total / count, sharing: cpus.max(1).div_ceil(count).next_power_of_two() }
    }

    /// What turns the number of a CPU into that of its ring.
    pub(crate) fn mask(self) -> u32 {
        self.count - 1
    }

    /// After how many bytes of one CPU the programs wake the reader.
    pub(crate) fn wake_step(self) -> u32 {
        (self.bytes / PARTS / self.sharing).max(1)
    }
}

/// All rings.
pub(crate) struct Rings {
    all: Vec<AsyncFd<RingBuf<MapData>>>,
    bytes: usize,
    /// Where the emptying stands.
    at: usize,
    /// How much was taken out of the one where it stands.
    taken: usize,
}

impl Rings {
    /// Makes the rings and gives them to the programs.
    pub(crate) fn new(ebpf: &mut Ebpf, layout: Layout) -> Result<Self, Error> {
        let failed = |source| Error::Map { name: RINGS, source };
        let array = ebpf.map_mut(RINGS).ok_or(Error::Mismatch(RINGS))?;
        let mut array: ArrayOfMaps<&mut MapData, RingBuf<MapData>> = array.try_into().map_err(failed)?;
        let mut all = Vec::new();
        for index in 0..layout.count {
            let kind = BPF_MAP_TYPE_RINGBUF as u32;
            let ring = aya_obj::Map::new_from_params(kind, 0, 0, layout.bytes, 0);
            let ring = MapData::create(ring, "RING", None)
                .map_err(|error| Error::object(EbpfError::MapError(error)))?;
            let ring: RingBuf<MapData> =
                Map::from_map_data(ring).map_err(failed)?.try_into().map_err(failed)?;
            array.set(index, &ring, 0).map_err(failed)?;
            all.push(sys::watch(ring).map_err(watching)?);
        }
        Ok(Self { all, bytes: layout.bytes as usize, at: 0, taken: 0 })
    }

    /// Waits until the programs wake the reader.
    pub(crate) async fn woken(&self) -> Result<(), Error> {
        let woken = poll_fn(|context| {
            let mut woken = Poll::Pending;
            for ring in &self.all {
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

    /// Hands over up to `most` items. Breaks when each ring was emptied of all that was in it when the emptying began;
    /// else the next call goes on.
    pub(crate) fn empty(
        &mut self,
        most: usize,
        mut take: impl FnMut(Item),
    ) -> Result<ControlFlow<()>, Error> {
        for _ in 0..most {
            let Some(ring) = self.all.get_mut(self.at) else { break };
            // As much as a ring holds: what else is in it came later.
            let next = if self.taken < self.bytes { ring.get_mut().next() } else { None };
            if let Some(bytes) = next {
                self.taken += HEADER + bytes.len();
                take(item::decode(&bytes)?);
            } else {
                (self.at, self.taken) = (self.at + 1, 0);
            }
        }
        if self.at < self.all.len() {
            return Ok(ControlFlow::Continue(()));
        }
        self.at = 0;
        Ok(ControlFlow::Break(()))
    }
}

fn watching(source: std::io::Error) -> Error {
    Error::Io { what: "watch the rings".to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::Layout;

    const PAGE: u32 = 4096;

    #[test]
    fn the_rings_are_together_what_was_asked_for() {
        for (total, cpus, count) in [
            (16 << 20, 1, 1),
            (16 << 20, 2, 2),
            (16 << 20, 3, 2),
            (16 << 20, 12, 8),
            (16 << 20, 256, 16),
            (16 << 20, 0, 1),
            (PAGE, 8, 1),
            (2 * PAGE, 8, 2),
            (1 << 30, 16, 16),
        ] {
            let layout = Layout::new(total, PAGE, cpus);
            assert_eq!((layout.count, layout.bytes), (count, total / count), "{total} {cpus}");
            assert_eq!(layout.mask(), count - 1);
            assert!(layout.wake_step().is_power_of_two());
        }
    }
}
