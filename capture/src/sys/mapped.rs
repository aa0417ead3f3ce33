//! An array map of the programs' in our own memory.
//!
//! To ask the kernel for a value instead would cost hits: while it copies one (`bpf_map_copy_value` in
//! kernel/bpf/syscall.c, 7.2), no program on a kprobe runs on that CPU (`trace_call_bpf` in kernel/trace/bpf_trace.c), and a
//! task that is preempted there leaves it so for as long as others run.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd as _;
use std::ptr::{self, NonNull};

use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags};
use zerocopy::{FromBytes, IntoBytes};

/// All values of an array map that was made with `BPF_F_MMAPABLE`.
pub(crate) struct MappedArray<T> {
    values: NonNull<T>,
    count: usize,
    bytes: usize,
    /// The map stays while it is mapped, but its descriptor shows it to others.
    _map: Option<MapData>,
    _values: PhantomData<T>,
}

// SAFETY: it is memory that is read and written a word at a time; nothing is bound to a thread.
unsafe impl<T: Send> Send for MappedArray<T> {}

impl<T: FromBytes + IntoBytes> MappedArray<T> {
    /// Maps it to be read. The values of the map must be `T`s.
    pub(crate) fn to_read(map: MapData) -> io::Result<Self> {
        Self::new(map, ProtFlags::READ)
    }

    /// Maps it to be read and written.
    pub(crate) fn to_write(map: MapData) -> io::Result<Self> {
        Self::new(map, ProtFlags::READ | ProtFlags::WRITE)
    }

    fn new(map: MapData, access: ProtFlags) -> io::Result<Self> {
        // An array keeps its values in whole words, one after the other (kernel/bpf/arraymap.c).
        const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
        let info = map.info().map_err(io::Error::other)?;
        if info.value_size() as usize != size_of::<T>() {
            return Err(io::Error::other("its values are not of the size that they should have"));
        }
        let count = info.max_entries() as usize;
        let bytes = count * size_of::<T>();
        // SAFETY: the kernel chooses where, so that nothing of ours is there.
        let values = unsafe {
            rustix::mm::mmap(ptr::null_mut(), bytes, access, MapFlags::SHARED, map.fd().as_fd(), 0)
        }?;
        let values = NonNull::new(values.cast()).ok_or_else(|| io::Error::other("it was mapped at zero"))?;
        Ok(Self { values, count, bytes, _map: Some(map), _values: PhantomData })
    }

    /// So many values of zero, of no map.
    #[cfg(test)]
    pub(super) fn zeroed(count: usize) -> io::Result<Self> {
        let bytes = count * size_of::<T>();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses where, so that nothing of ours is there.
        let values =
            unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, access, MapFlags::PRIVATE) }?;
        let values = NonNull::new(values.cast()).ok_or_else(|| io::Error::other("it was mapped at zero"))?;
        Ok(Self { values, count, bytes, _map: None, _values: PhantomData })
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Where a value is, as long as this lives; `None` if there is none of that number.
    pub(super) fn place(&self, index: usize) -> Option<NonNull<T>> {
        // SAFETY: `values` is mapped for `count` values.
        (index < self.count).then(|| unsafe { self.values.add(index) })
    }

    /// All values, each word of them read once and in order.
    pub(crate) fn read(&self) -> Vec<T> {
        (0..self.count).map(|index| self.value(index)).collect()
    }

    fn value(&self, index: usize) -> T {
        let mut value = T::new_zeroed();
        let words = size_of::<T>() / 8;
        // SAFETY: `values` is mapped for `count` values as long as this lives, `index` is below that, and both are
        // aligned to words. Volatile, as the programs write there meanwhile. Any words are a `T`.
        unsafe {
            let from = self.values.add(index).cast::<u64>();
            let to = ptr::from_mut(&mut value).cast::<u64>();
            for word in 0..words {
                to.add(word).write(from.add(word).read_volatile());
            }
        }
        value
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: what was mapped, as it was, and nobody keeps a pointer into it. It fails only for a range that cannot be.
        let _ = unsafe { rustix::mm::munmap(self.values.as_ptr().cast(), self.bytes) };
    }
}
