//! What user space needs `unsafe` for.

pub(crate) mod kprobe;
mod mapped;
mod records;

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) use mapped::MappedArray;
pub(crate) use records::RecordRings;

/// Has the runtime watch a ring.
pub(crate) fn watch(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the descriptor is that of the map, which the ring owns, always the same one, and closes only when it
    // is dropped; the `AsyncFd` owns the ring and takes it out of the runtime before that.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(io::Error::from)
}
