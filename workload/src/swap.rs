//! `swap`: pages go to swap space, and fork, mprotect, mremap, advice and unmap meet the entries that stand for them.
//!
//! If the machine has no swap space, it gets some in compressed memory (zram) for as long as this takes.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::error::{Attempt, Error};
use crate::fork::{check_both, filled, wrong_page};
use crate::procfs;
use crate::sys::{self, Access, Region};
use crate::{ENOUGH, Outcome, PAGES};

pub(crate) fn run() -> Result<Outcome, Error> {
    with_space(swap_out)
}

/// Does something that needs swap space.
pub(crate) fn with_space(work: impl FnOnce() -> Result<Outcome, Error>) -> Result<Outcome, Error> {
    let space = if procfs::has_swap() { None } else { Some(Zram::add()?) };
    let result = work();
    // The first failure is the one to tell.
    let removed = space.map_or(Ok(()), Zram::remove);
    let outcome = result?;
    removed?;
    Ok(outcome)
}

fn swap_out() -> Result<Outcome, Error> {
    let mut region = filled(PAGES)?;
    page_out(&region)?;
    // The child reads each page, and then the parent, which brings them back.
    check_both(&mut region)?;

    page_out(&region)?;
    region.protect(Access::ReadOnly).attempt(|| format!("make {PAGES} pages read-only"))?;
    region.protect(Access::ReadWrite).attempt(|| format!("make {PAGES} pages writable"))?;
    let (region, _) = region.relocate().attempt(|| format!("move {PAGES} pages"))?;
    still_out(&region, "protecting and moving them")?;
    if let Some(page) = wrong_page(&region) {
        return Err(Error::no_effect(
            "bring pages back from swap space",
            format!("page {page} lost its data"),
        ));
    }

    page_out(&region)?;
    region.advise(libc::MADV_FREE).attempt(|| format!("advise MADV_FREE on {PAGES} pages"))?;
    let left = procfs::mapped(&region)?.swapped;
    if left > PAGES - ENOUGH {
        return Err(Error::no_effect(
            format!("advise MADV_FREE on {PAGES} pages"),
            format!("{left} are still in swap space"),
        ));
    }

    let region = filled(PAGES)?;
    page_out(&region)?;
    let hole = region.unmap().attempt(|| format!("unmap {PAGES} pages"))?;
    match hole.mapped_pages() {
        0 => Ok(Outcome::new(format!(
            "{PAGES} pages swapped out, then forked, protected, moved, made free and unmapped there, and their data \
             checked"
        ))),
        left => Err(Error::no_effect(format!("unmap {PAGES} pages"), format!("{left} are still mapped"))),
    }
}

fn page_out(region: &Region) -> Result<(), Error> {
    let attempt = || format!("swap out {PAGES} pages");
    // What was in a CPU's list of new pages the first time is not the second.
    for _ in 0..3 {
        region.advise(libc::MADV_PAGEOUT).attempt(attempt)?;
        if procfs::mapped(region)?.swapped >= ENOUGH {
            return Ok(());
        }
    }
    let out = procfs::mapped(region)?.swapped;
    Err(Error::no_effect(attempt(), format!("only {out} went out; is the swap space full?")))
}

fn still_out(region: &Region, after: &str) -> Result<(), Error> {
    let out = procfs::mapped(region)?.swapped;
    if out >= ENOUGH {
        return Ok(());
    }
    Err(Error::no_effect(
        format!("keep {PAGES} pages in swap space"),
        format!("{out} were there after {after}"),
    ))
}

/// Swap space in compressed memory, in a device of its own.
#[derive(Debug)]
struct Zram {
    number: u32,
    device: PathBuf,
}

const CONTROL: &str = "/sys/class/zram-control";

impl Zram {
    /// Makes a device and has the kernel swap to it.
    fn add() -> Result<Self, Error> {
        let path = format!("{CONTROL}/hot_add");
        let attempt = || format!("make a zram device by {path}");
        // Reading it makes one and gives its number.
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing {
                attempt: attempt(),
                lacking:
                    "there is no swap space, and the kernel cannot make any in memory; it must be built with \
                          CONFIG_SWAP=y and CONFIG_ZRAM=y (or its module zram be loaded)"
                        .to_owned(),
            },
            _ => Error::System { attempt: attempt(), source },
        })?;
        let number = text.trim().parse().map_err(io::Error::other).attempt(attempt)?;
        let zram = Self { number, device: format!("/dev/zram{number}").into() };
        match zram.start() {
            Ok(()) => Ok(zram),
            Err(error) => {
                // The failure to tell is the one that was first.
                let _ = zram.remove_device();
                Err(error)
            }
        }
    }

    fn start(&self) -> Result<(), Error> {
        let bytes = 4 * PAGES * sys::page_size();
        let path = format!("/sys/block/zram{}/disksize", self.number);
        fs::write(&path, bytes.to_string()).attempt(|| format!("write {bytes} to {path}"))?;
        let device = self.device.display();
        let attempt = || format!("make swap space of {device}");
        let mut file = OpenOptions::new().write(true).open(&self.device).attempt(attempt)?;
        // Not at the start, where a boot loader may be.
        file.seek(SeekFrom::Start(1024)).attempt(attempt)?;
        file.write_all(&header(sys::page_size(), bytes)).attempt(attempt)?;
        file.sync_all().attempt(attempt)?;
        drop(file);
        sys::swap::on(&self.path(attempt)?).attempt(attempt)
    }

    fn path(&self, attempt: impl FnOnce() -> String) -> Result<CString, Error> {
        CString::new(self.device.to_string_lossy().as_bytes()).map_err(io::Error::from).attempt(attempt)
    }

    /// Ends swapping to it and takes the device away.
    fn remove(self) -> Result<(), Error> {
        let attempt = || format!("stop swapping to {}", self.device.display());
        sys::swap::off(&self.path(attempt)?).attempt(attempt)?;
        self.remove_device()
    }

    fn remove_device(&self) -> Result<(), Error> {
        let path = format!("{CONTROL}/hot_remove");
        fs::write(&path, self.number.to_string()).attempt(|| format!("write {} to {path}", self.number))
    }
}

/// `union swap_header` of include/linux/swap.h (6.12 and 7.2), from byte 1024 to the end of the page.
fn header(page_size: usize, bytes: usize) -> Vec<u8> {
    let last_page = u32::try_from(bytes / page_size - 1).unwrap_or(u32::MAX);
    let mut header = vec![0u8; page_size - 1024];
    let version: u32 = 1;
    header.splice(0..4, version.to_ne_bytes());
    header.splice(4..8, last_page.to_ne_bytes());
    let magic = b"SWAPSPACE2";
    header.splice(page_size - 1024 - magic.len().., *magic);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_mkswap_writes() {
        let header = header(4096, 64 * 4096);
        assert_eq!(header.len(), 4096 - 1024);
        assert_eq!(header[..12], [1, 0, 0, 0, 63, 0, 0, 0, 0, 0, 0, 0]);
        assert!(header.ends_with(b"SWAPSPACE2"));
    }
}
