//! `userfaultfd-move` and `pagemap-scan`: what a process does to its own page tables by way of userfaultfd(2).

use std::fs::File;
use std::io;

use crate::error::{Attempt, Error};
use crate::fork::{filled, wrong_page};
use crate::procfs::{self, Mapped};
use crate::sys::Region;
use crate::sys::userfault::{ScanFor, Use, Userfault, scan};
use crate::{Outcome, PAGES};

fn open(purpose: Use, lacking: &str) -> Result<Userfault, Error> {
    let attempt = || "open a userfaultfd".to_owned();
    Userfault::open(purpose).map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS) => {
            Error::Missing { attempt: attempt(), lacking: lacking.to_owned() }
        }
        _ => Error::System { attempt: attempt(), source },
    })
}

pub(crate) fn move_pages() -> Result<Outcome, Error> {
    let attempt = || format!("move {PAGES} pages by UFFDIO_MOVE");
    let userfault = open(
        Use::Move,
        "the kernel cannot move pages; it must be 6.8 or later and built with CONFIG_USERFAULTFD=y",
    )?;
    let mut from = filled(PAGES)?;
    let mut to = Region::map(PAGES).attempt(|| format!("map {PAGES} pages"))?;
    userfault.register(&to).attempt(|| format!("register {PAGES} pages with a userfaultfd"))?;
    userfault.move_pages(&mut from, &mut to).attempt(attempt)?;
    if procfs::mapped(&to)? != (Mapped { present: PAGES, swapped: 0 }) {
        return Err(Error::no_effect(attempt(), "not all are where they should be"));
    }
    if let Some(page) = wrong_page(&to) {
        return Err(Error::no_effect(attempt(), format!("page {page} lost its data")));
    }
    match procfs::mapped(&from)?.present {
        0 => Ok(Outcome::new(format!("{PAGES} pages moved by a userfaultfd, and both ranges checked"))),
        left => Err(Error::no_effect(attempt(), format!("{left} are still where they were"))),
    }
}

pub(crate) fn pagemap_scan() -> Result<Outcome, Error> {
    let needs = "the kernel cannot note writes; it must be 6.7 or later and built with CONFIG_USERFAULTFD=y, on an \
                 architecture with CONFIG_HAVE_ARCH_USERFAULTFD_WP";
    let userfault = open(Use::NoteWrites, needs)?;
    let mut region = filled(PAGES)?;
    userfault.register(&region).attempt(|| format!("register {PAGES} pages with a userfaultfd"))?;
    let pagemap = File::open("/proc/self/pagemap").attempt(|| "open /proc/self/pagemap".to_owned())?;
    let expect = |region: &Region, what: ScanFor, pages: usize| -> Result<(), Error> {
        let attempt = || format!("scan {PAGES} pages by PAGEMAP_SCAN ({what:?})");
        let found = scan(&pagemap, region, what).map_err(|source| missing_scan(attempt(), source))?;
        if found == pages {
            return Ok(());
        }
        Err(Error::no_effect(attempt(), format!("it found {found} written pages instead of {pages}")))
    };
    // Everything counts as written until it is protected for the first time.
    expect(&region, ScanFor::WrittenAndProtect, PAGES)?;
    expect(&region, ScanFor::Written, 0)?;
    write_even(&mut region);
    expect(&region, ScanFor::WrittenPresentAndProtect, PAGES / 2)?;
    expect(&region, ScanFor::Written, 0)?;
    write_even(&mut region);
    expect(&region, ScanFor::Written, PAGES / 2)?;
    expect(&region, ScanFor::Protect, 0)?;
    expect(&region, ScanFor::Written, 0)?;
    Ok(Outcome::new(format!(
        "{PAGES} pages scanned for writes and protected in three ways, and the counts checked"
    )))
}

fn write_even(region: &mut Region) {
    for page in (0..region.pages()).step_by(2) {
        region.write(page, 1);
    }
}

fn missing_scan(attempt: String, source: io::Error) -> Error {
    if source.raw_os_error() == Some(libc::ENOTTY) {
        let lacking = "the kernel has no PAGEMAP_SCAN; it must be 6.7 or later".to_owned();
        return Error::Missing { attempt, lacking };
    }
    Error::System { attempt, source }
}
