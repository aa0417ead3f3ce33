//! `fork-exclusive`: the known hazard. A device takes exclusive access to pages, which replaces their entries by
//! marks. fork then meets the marks: `copy_nonpresent_pte` restores the parent's entry by `set_pte_at` and
//! `copy_pte_range` reads it again in the same section (mm/memory.c, 6.12 and 7.2).
//!
//! The device is the kernel's own test of such devices (lib/test_hmm.c).

use std::fs::File;

use crate::Outcome;
use crate::device::{self, DEVICE};
use crate::error::{Attempt, Error};
use crate::fork::{check_both, filled};
use crate::procfs::{self, Mapped};
use crate::sys::device::{Request, dmirror};
use crate::sys::{self, Region};

/// Fewer than the 64 that one call of 6.12 takes at a time (lib/test_hmm.c, `dmirror_exclusive`).
const PAGES: usize = 32;
/// Another CPU's list of new pages may hold a page for a moment, and the kernel then says that it is busy.
const ATTEMPTS: u32 = 10;

pub(crate) fn run() -> Result<Outcome, Error> {
    let device = device::open()?;
    let mut region = filled(PAGES)?;
    make_exclusive(&device, &region)?;
    let marks = procfs::mapped(&region)?;
    if marks != (Mapped { present: 0, swapped: PAGES }) {
        return Err(Error::no_effect(
            format!("give {DEVICE} exclusive access to {PAGES} pages"),
            format!("{} of them are still mapped", marks.present),
        ));
    }
    // Nobody touches the pages before the fork, so it is the fork that restores them.
    let attempt = || format!("fork while {DEVICE} has exclusive access to {PAGES} pages");
    sys::in_child(|| true).attempt(attempt)?;
    let restored = procfs::mapped(&region)?;
    if restored != (Mapped { present: PAGES, swapped: 0 }) {
        return Err(Error::no_effect(
            attempt(),
            format!("the fork restored {} of the parent's entries", restored.present),
        ));
    }
    make_exclusive(&device, &region)?;
    check_both(&mut region)?;
    Ok(Outcome::new(format!(
        "{PAGES} pages taken by {DEVICE}, restored by two forks, and checked in all processes"
    )))
}

fn make_exclusive(device: &File, region: &Region) -> Result<(), Error> {
    let attempt = || format!("give {DEVICE} exclusive access to {PAGES} pages");
    let mut tries = 1..=ATTEMPTS;
    loop {
        let last = tries.next().is_none();
        match dmirror(device, Request::Exclusive, region) {
            Ok(pages) if pages == PAGES as u64 => return Ok(()),
            Ok(pages) => return Err(Error::no_effect(attempt(), format!("it got {pages}"))),
            Err(error) if !last && error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(source) => return Err(Error::System { attempt: attempt(), source }),
        }
    }
}
