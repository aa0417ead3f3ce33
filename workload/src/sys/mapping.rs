//! A file's pages in this process's addresses.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;

use super::{Access, check, page_size};

/// An empty file in memory.
pub(crate) fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a C string.
    let descriptor = unsafe { libc::memfd_create(c"lazymmu".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and belongs to nobody else.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// Who sees what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Private,
    Shared,
}

/// The first pages of a file, mapped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<libc::c_void>,
    pages: usize,
    page_size: usize,
}

impl Mapping {
    /// Maps the first `pages` pages.
    pub(crate) fn of(file: &File, pages: usize, access: Access, sharing: Sharing) -> io::Result<Self> {
        let page_size = page_size();
        let flags = match sharing {
            Sharing::Private => libc::MAP_PRIVATE,
            Sharing::Shared => libc::MAP_SHARED,
        };
        let bytes = pages * page_size;
        // SAFETY: without MAP_FIXED the kernel picks addresses that nothing uses.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, access.bits(), flags, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start).ok_or_else(|| io::Error::other("the kernel mapped address 0"))?;
        Ok(Self { start, pages, page_size })
    }

    pub(crate) fn address(&self) -> usize {
        self.start.as_ptr() as usize
    }

    /// Changes the permission of all pages.
    pub(crate) fn protect(&self, access: Access) -> io::Result<()> {
        // SAFETY: the pages are this mapping's, and no reference into them exists.
        check(unsafe { libc::mprotect(self.start.as_ptr(), self.pages * self.page_size, access.bits()) })
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    fn page(&self, page: usize) -> *mut u64 {
        assert!(page < self.pages, "page {page} of {}", self.pages);
        // SAFETY: the page is inside the mapping, as was just checked.
        unsafe { self.start.as_ptr().byte_add(page * self.page_size) }.cast()
    }

    /// Reads the first word of a page. A page behind the file's end kills the process with SIGBUS.
    pub(crate) fn read(&self, page: usize) -> u64 {
        // SAFETY: the address is aligned and inside the mapping, which this value owns. Volatile, because others
        // may write to the file.
        unsafe { self.page(page).read_volatile() }
    }

    /// Writes every word of a page, one after the other; without the permission the process is killed with SIGSEGV.
    #[inline]
    pub(crate) fn fill(&mut self, page: usize, mut word: impl FnMut() -> u64) {
        let start = self.page(page);
        for index in 0..self.page_size / size_of::<u64>() {
            // SAFETY: as in `read`; the word is inside the page.
            unsafe { start.add(index).write_volatile(word()) };
        }
    }

    /// Every word of a page.
    pub(crate) fn words(&self, page: usize) -> impl Iterator<Item = u64> {
        let start = self.page(page);
        // SAFETY: as in `read`; the word is inside the page.
        (0..self.page_size / size_of::<u64>()).map(move |index| unsafe { start.add(index).read_volatile() })
    }

    /// Writes the first word of a page; without the permission the process is killed with SIGSEGV.
    pub(crate) fn write(&mut self, page: usize, value: u64) {
        // SAFETY: as in `read`.
        unsafe { self.page(page).write_volatile(value) }
    }

    /// madvise(2) on all pages.
    pub(crate) fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: the addresses are this mapping's; whatever the advice does, they stay mapped, and no reference into
        // them exists.
        check(unsafe { libc::madvise(self.start.as_ptr(), self.pages * self.page_size, advice) })
    }

    /// Unmaps it, and says if that fails.
    pub(crate) fn unmap(self) -> io::Result<()> {
        let (start, bytes) = (self.start.as_ptr(), self.pages * self.page_size);
        std::mem::forget(self);
        // SAFETY: the addresses were this mapping's, which is consumed here.
        check(unsafe { libc::munmap(start, bytes) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the addresses are this mapping's, and nobody can use them after it.
        unsafe { libc::munmap(self.start.as_ptr(), self.pages * self.page_size) };
    }
}
