//! BPF maps, by which a program makes the kernel map memory for itself.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

/// Commands of bpf(2) and a flag (include/uapi/linux/bpf.h, 6.12 and 7.2).
const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const F_MMAPABLE: u32 = 1 << 10;

/// The kinds of maps that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `BPF_MAP_TYPE_ARRAY`: one piece of kernel memory for all values.
    Array { value_size: u32 },
    /// `BPF_MAP_TYPE_ARENA`: kernel addresses that get a page at the first access from user space.
    Arena,
}

/// The part of `union bpf_attr` that creating a map needs; the kernel takes what is left out as zero.
#[repr(C)]
#[derive(Debug)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// The part that access to an element needs.
#[repr(C)]
#[derive(Debug)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A BPF map, which lives until it is dropped and nothing maps it.
#[derive(Debug)]
pub(crate) struct Map {
    file: File,
    value_size: usize,
    entries: u32,
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    let attributes: *mut T = attributes;
    // SAFETY: the attributes live through the call and their size is told; what they point to is the caller's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Map {
    pub(crate) fn create(kind: Kind, entries: u32) -> io::Result<Self> {
        let (map_type, key_size, value_size, map_flags) = match kind {
            Kind::Array { value_size } => (2, 4, value_size, 0),
            Kind::Arena => (33, 0, 0, F_MMAPABLE),
        };
        let mut create = Create { map_type, key_size, value_size, max_entries: entries, map_flags };
        let descriptor = bpf(MAP_CREATE, &mut create)?;
        let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
        // SAFETY: the descriptor is new and belongs to nobody else.
        let file = unsafe { File::from_raw_fd(descriptor) };
        // The kernel rounds the elements of an array up to this (kernel/bpf/arraymap.c, 7.2).
        let value_size = usize::try_from(value_size.next_multiple_of(8)).map_err(io::Error::other)?;
        Ok(Self { file, value_size, entries })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn entries(&self) -> u32 {
        self.entries
    }

    /// Reads or writes the first word of an array's element.
    fn element(&self, command: libc::c_long, index: u32, value: &mut [u8]) -> io::Result<()> {
        let mut element = Element {
            map: self.file.as_raw_fd().cast_unsigned(),
            padding: 0,
            key: &raw const index as u64,
            value: value.as_mut_ptr() as u64,
            flags: 0,
        };
        bpf(command, &mut element).map(drop)
    }

    /// Writes an element whose first word is this and whose rest is zero.
    pub(crate) fn write(&mut self, index: u32, word: u64) -> io::Result<()> {
        let mut value = vec![0; self.value_size];
        value.iter_mut().zip(word.to_ne_bytes()).for_each(|(to, from)| *to = from);
        self.element(MAP_UPDATE_ELEM, index, &mut value)
    }

    /// The first word of an element.
    pub(crate) fn read(&self, index: u32) -> io::Result<u64> {
        let mut value = vec![0; self.value_size];
        self.element(MAP_LOOKUP_ELEM, index, &mut value)?;
        let mut word = [0; 8];
        word.iter_mut().zip(value).for_each(|(to, from)| *to = from);
        Ok(u64::from_ne_bytes(word))
    }
}
