//! System calls behind safe types. All `unsafe` of this crate is here.
//!
//! A [`Region`] owns its addresses, so no safe code can reach memory that is not its own. Touching a page whose
//! permission was taken away kills the process with SIGSEGV, which is what hardware does, and no undefined
//! behaviour.

#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod device;
pub(crate) mod mapping;
pub(crate) mod swap;
pub(crate) mod userfault;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::time::Duration;

/// The permission of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Access {
    fn bits(self) -> libc::c_int {
        match self {
            Self::ReadOnly => libc::PROT_READ,
            Self::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

/// Private anonymous memory in small pages, between two guard pages that keep its area from being merged with a
/// neighbour.
#[derive(Debug)]
pub(crate) struct Region {
    /// The first guard page.
    reservation: NonNull<libc::c_void>,
    /// The first page that can be used.
    start: NonNull<libc::c_void>,
    pages: usize,
    page_size: usize,
}

/// Addresses without memory behind them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hole {
    start: usize,
    pages: usize,
    page_size: usize,
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How long this thread has had a processor.
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes into `time` and nowhere else. Every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes of a page.
pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf only reads; every Linux knows the size of its pages, so the answer is positive.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Address space for `bytes` that cannot be touched.
fn reserve(bytes: usize) -> io::Result<NonNull<libc::c_void>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: without MAP_FIXED the kernel picks addresses that nothing uses.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address).ok_or_else(|| io::Error::other("the kernel mapped address 0"))
}

impl Region {
    /// Maps pages that can be read and written; none is populated.
    pub(crate) fn map(pages: usize) -> io::Result<Self> {
        let region = Self::map_as_is(pages)?;
        // Huge pages would make one entry of many. A kernel without them answers EINVAL.
        match region.advise(libc::MADV_NOHUGEPAGE) {
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => Err(error),
            _ => Ok(region),
        }
    }

    /// The same, and the kernel may use huge pages where they fit. It answers EINVAL if it has none.
    pub(crate) fn map_huge(pages: usize) -> io::Result<Self> {
        let region = Self::map_as_is(pages)?;
        region.advise(libc::MADV_HUGEPAGE)?;
        Ok(region)
    }

    fn map_as_is(pages: usize) -> io::Result<Self> {
        let page_size = page_size();
        let reservation = reserve((pages + 2) * page_size)?;
        // SAFETY: one page into a reservation of `pages` + 2 pages.
        let start = unsafe { reservation.byte_add(page_size) };
        let region = Self { reservation, start, pages, page_size };
        region.protect(Access::ReadWrite)?;
        Ok(region)
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pages * self.page_size
    }

    pub(crate) fn address(&self) -> usize {
        self.start.as_ptr() as usize
    }

    fn page(&self, page: usize) -> *mut u64 {
        assert!(page < self.pages, "page {page} of {}", self.pages);
        // SAFETY: the page is inside the region, as was just checked.
        let address = unsafe { self.start.as_ptr().byte_add(page * self.page_size) };
        // A page's address is aligned for everything.
        address.cast()
    }

    /// Writes the first word of a page.
    pub(crate) fn write(&mut self, page: usize, value: u64) {
        // SAFETY: the address is aligned and inside the region, which this value owns. Volatile, because the
        // access itself matters, even if nobody reads the value.
        unsafe { self.page(page).write_volatile(value) }
    }

    /// Reads the first word of a page.
    pub(crate) fn read(&self, page: usize) -> u64 {
        // SAFETY: as in `write`; an anonymous page reads as zero until it is written.
        unsafe { self.page(page).read_volatile() }
    }

    /// Changes the permission of all pages.
    pub(crate) fn protect(&self, access: Access) -> io::Result<()> {
        self.protect_pages(0..self.pages, access)
    }

    /// Changes the permission of some pages.
    pub(crate) fn protect_pages(&self, pages: Range<usize>, access: Access) -> io::Result<()> {
        let (start, bytes) = self.part(pages);
        // SAFETY: the pages belong to this region, and no reference into them exists.
        check(unsafe { libc::mprotect(start, bytes, access.bits()) })
    }

    /// madvise(2) on all pages. The contents may be lost, which `read` allows for.
    pub(crate) fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        self.advise_pages(0..self.pages, advice)
    }

    /// madvise(2) on some pages.
    pub(crate) fn advise_pages(&self, pages: Range<usize>, advice: libc::c_int) -> io::Result<()> {
        let (start, bytes) = self.part(pages);
        // SAFETY: the pages belong to this region; whatever the advice does, they stay mapped.
        check(unsafe { libc::madvise(start, bytes, advice) })
    }

    /// Address and bytes of some pages.
    fn part(&self, pages: Range<usize>) -> (*mut libc::c_void, usize) {
        assert!(pages.end <= self.pages, "pages {pages:?} of {}", self.pages);
        (self.page(pages.start).cast(), pages.len() * self.page_size)
    }

    /// Lets the kernel write one byte to a page, as read(2) does: an error instead of a signal if the page cannot
    /// be written.
    pub(crate) fn receive(&mut self, page: usize, from: &File) -> io::Result<()> {
        // SAFETY: one byte at an address inside the region, which is borrowed exclusively.
        let read = unsafe { libc::read(from.as_raw_fd(), self.page(page).cast(), 1) };
        match read {
            1 => Ok(()),
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Moves the pages to other addresses and returns the old ones. The new start is not congruent to the old one
    /// modulo any table's reach, so the kernel cannot move a whole table but must move each entry
    /// (mm/mremap.c, `move_page_tables`, 6.12 and 7.2).
    pub(crate) fn relocate(self) -> io::Result<(Self, Hole)> {
        let (pages, page_size, bytes) = (self.pages, self.page_size, self.bytes());
        let reservation = reserve((pages + 3) * page_size)?;
        // SAFETY: one page into a reservation of `pages` + 3 pages.
        let mut target = unsafe { reservation.byte_add(page_size) };
        // The reach of a table is a power of two of pages: an odd difference is no multiple of it.
        let distance = (target.as_ptr() as usize).abs_diff(self.address()) / page_size;
        if distance.is_multiple_of(2) {
            // SAFETY: two pages into it, which leaves `pages` + 1.
            target = unsafe { target.byte_add(page_size) };
        }
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: the old pages are this region's, which is consumed here; the target is inside the reservation.
        let moved = unsafe { libc::mremap(self.start.as_ptr(), bytes, bytes, flags, target.as_ptr()) };
        if moved == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let hole = Hole { start: self.address(), pages, page_size };
        // What is left of the old reservation is its two guard pages; the addresses between them are free, and
        // must not be unmapped later when something else may be there.
        std::mem::forget(self);
        Ok((Self { reservation, start: target, pages, page_size }, hole))
    }

    /// Unmaps the pages and returns the addresses they had.
    pub(crate) fn unmap(self) -> io::Result<Hole> {
        let hole = Hole { start: self.address(), pages: self.pages, page_size: self.page_size };
        // SAFETY: the pages are this region's, which is consumed here.
        check(unsafe { libc::munmap(self.start.as_ptr(), self.bytes()) })?;
        // As in `relocate`: the guard pages stay.
        std::mem::forget(self);
        Ok(hole)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let pages = self.start.as_ptr() as usize - self.reservation.as_ptr() as usize + self.bytes();
        // SAFETY: the guard before the pages and the pages belong to this region alone, and nobody can use them
        // after it. The guard behind them stays behind: it costs an area of the address space and no memory.
        unsafe { libc::munmap(self.reservation.as_ptr(), pages) };
    }
}

impl Hole {
    /// How many of the pages are mapped again or still.
    pub(crate) fn mapped_pages(self) -> usize {
        let mapped = |page: &usize| {
            let mut resident = 0u8;
            let address = (self.start + page * self.page_size) as *mut libc::c_void;
            // SAFETY: mincore looks at an address without using what is there, and writes one byte for one page.
            unsafe { libc::mincore(address, self.page_size, &raw mut resident) == 0 }
        };
        (0..self.pages).filter(mapped).count()
    }
}

/// Runs `work` in a child process and waits for it; whether it returned true. The child must not take locks that
/// another thread may hold, so it should neither allocate nor print.
pub(crate) fn in_child(work: impl FnOnce() -> bool) -> io::Result<bool> {
    // SAFETY: the child runs only `work`, on its own copy of this process's memory, and then leaves by `_exit`.
    // With other threads around it could wait for a lock for ever, which is the caller's concern and no
    // undefined behaviour.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let guard = ExitOnDrop;
            let done = work();
            std::mem::forget(guard);
            // SAFETY: leaves without running anything of the parent's.
            unsafe { libc::_exit(libc::c_int::from(!done)) }
        }
        child => wait_for(child),
    }
}

/// A panic in the child must not unwind into the parent's code.
struct ExitOnDrop;

impl Drop for ExitOnDrop {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::_exit(101) }
    }
}

fn wait_for(child: libc::pid_t) -> io::Result<bool> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a place for the status.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            return Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A pipe's two ends: reading, writing.
pub(crate) fn pipe() -> io::Result<(File, File)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both descriptors are new and belong to nobody else.
    Ok(unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) })
}
