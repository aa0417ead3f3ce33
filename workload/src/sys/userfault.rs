//! userfaultfd(2), and the scan of a page table for what has been written, which needs it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

use super::{Region, check, page_size};

/// Features, modes and requests of include/uapi/linux/userfaultfd.h (7.2).
const API: u64 = 0xaa;
const USER_MODE_ONLY: libc::c_int = 1;
const REGISTER: u32 = 0x00;
const MOVE: u32 = 0x05;
const HANDSHAKE: u32 = 0x3f;

/// What a userfaultfd is used for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Pages are moved to where there are none (`UFFD_FEATURE_MOVE`, from 6.8 on).
    Move,
    /// The kernel notes which pages are written (`UFFD_FEATURE_WP_ASYNC`, from 6.7 on).
    NoteWrites,
}

impl Use {
    fn feature(self) -> u64 {
        match self {
            Self::Move => 1 << 16,
            Self::NoteWrites => 1 << 15,
        }
    }

    fn mode(self) -> u64 {
        match self {
            Self::Move => 1 << 0,
            Self::NoteWrites => 1 << 1,
        }
    }
}

#[repr(C)]
#[derive(Debug, Default)]
struct Handshake {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Debug, Default)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Debug, Default)]
struct Move {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    moved: i64,
}

/// A userfaultfd that was agreed on with the kernel.
#[derive(Debug)]
pub(crate) struct Userfault {
    file: File,
    purpose: Use,
}

impl Userfault {
    /// Opens one. The kernel answers EINVAL if it does not know the feature, ENOSYS if it has no userfaultfd.
    pub(crate) fn open(purpose: Use) -> io::Result<Self> {
        // SAFETY: takes flags only.
        let descriptor = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
        // SAFETY: the descriptor is new and belongs to nobody else.
        let file = unsafe { File::from_raw_fd(descriptor) };
        let this = Self { file, purpose };
        let mut handshake = Handshake { api: API, features: purpose.feature(), ioctls: 0 };
        this.request(libc::_IOWR::<Handshake>(0xaa, HANDSHAKE), &mut handshake)?;
        Ok(this)
    }

    fn request<T>(&self, number: libc::Ioctl, argument: &mut T) -> io::Result<()> {
        let argument: *mut T = argument;
        // SAFETY: the number carries the size of the argument, which lives through the call. What the kernel then
        // does to pages, it does to those of regions that the callers here hold.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), number, argument) })
    }

    /// Puts a region under its watch, until this is dropped.
    pub(crate) fn register(&self, region: &Region) -> io::Result<()> {
        let mut register = Register {
            start: region.address() as u64,
            len: region.bytes() as u64,
            mode: self.purpose.mode(),
            ioctls: 0,
        };
        self.request(libc::_IOWR::<Register>(0xaa, REGISTER), &mut register)
    }

    /// Moves every page of a region to another one of the same size, which must have none.
    pub(crate) fn move_pages(&self, from: &mut Region, to: &mut Region) -> io::Result<()> {
        assert_eq!(from.pages(), to.pages(), "regions of the same size");
        let mut done = 0;
        while done < from.bytes() {
            let mut request = Move {
                dst: (to.address() + done) as u64,
                src: (from.address() + done) as u64,
                len: (from.bytes() - done) as u64,
                mode: 0,
                moved: 0,
            };
            let result = self.request(libc::_IOWR::<Move>(0xaa, MOVE), &mut request);
            match result {
                Err(error) if error.raw_os_error() != Some(libc::EAGAIN) => return Err(error),
                _ => done += usize::try_from(request.moved).unwrap_or(0),
            }
        }
        Ok(())
    }
}

/// `struct pm_scan_arg` and `struct page_region` of include/uapi/linux/fs.h (7.2), and the values used here.
#[repr(C)]
#[derive(Debug, Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    start: u64,
    end: u64,
    categories: u64,
}

const IS_WRITTEN: u64 = 1 << 1;
const IS_PRESENT: u64 = 1 << 3;
const PROTECT_MATCHING: u64 = 1 << 0;
const CHECK_ASYNC: u64 = 1 << 1;

/// How a scan for written pages goes about it. The kernel has a loop of its own for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanFor {
    /// Counts the written pages.
    Written,
    /// Counts them and protects each against the next write.
    WrittenAndProtect,
    /// Counts and protects those that are in memory as well.
    WrittenPresentAndProtect,
    /// Protects all and counts none.
    Protect,
}

/// Scans the entries of a region that a [`Userfault`] watches; how many pages matched. `pagemap` is
/// /proc/self/pagemap.
pub(crate) fn scan(pagemap: &File, region: &Region, what: ScanFor) -> io::Result<usize> {
    let mut found = vec![Found::default(); region.pages()];
    let mask = match what {
        ScanFor::WrittenPresentAndProtect => IS_WRITTEN | IS_PRESENT,
        _ => IS_WRITTEN,
    };
    let protect = if what == ScanFor::Written { 0 } else { PROTECT_MATCHING };
    let silent = what == ScanFor::Protect;
    let mut scan = Scan {
        size: size_of::<Scan>() as u64,
        flags: protect | CHECK_ASYNC,
        start: region.address() as u64,
        end: (region.address() + region.bytes()) as u64,
        vec: if silent { 0 } else { found.as_mut_ptr() as u64 },
        vec_len: if silent { 0 } else { found.len() as u64 },
        category_mask: mask,
        return_mask: if silent { 0 } else { mask },
        ..Scan::default()
    };
    let number = libc::_IOWR::<Scan>(u32::from(b'f'), 16);
    // SAFETY: the argument lives through the call and tells its size; the kernel writes at most `vec_len` items to
    // `vec`, and changes only how the pages are protected against being written unnoticed.
    let filled = unsafe { libc::ioctl(pagemap.as_raw_fd(), number, &raw mut scan) };
    let filled = usize::try_from(filled).map_err(|_| io::Error::last_os_error())?;
    // There is room for every page, so the scan goes to the end. `walk_end` does not say so: it keeps the place where
    // the kernel's own buffer was full the last time (fs/proc/task_mmu.c, `do_pagemap_scan`, 7.2).
    let bytes: u64 = found.iter().take(filled).map(|part| part.end - part.start).sum();
    usize::try_from(bytes).map(|bytes| bytes / page_size()).map_err(io::Error::other)
}
