//! `migrate-device`: pages go into a device's memory and come back, by request and by a CPU's access. Each way goes
//! through `migrate_vma_collect_pmd` (mm/migrate_device.c, 6.12 and 7.2); fork and unmap then meet the entries that
//! stand for the device's memory.

use crate::device::{self, DEVICE};
use crate::error::{Attempt, Error};
use crate::fork::{check_both, filled, wrong_page};
use crate::procfs;
use crate::sys::Region;
use crate::sys::device::{Request, dmirror};
use crate::{ENOUGH, Outcome, PAGES};

pub(crate) fn run() -> Result<Outcome, Error> {
    let device = device::open()?;
    let mut region = filled(PAGES)?;

    to_device(&device, &region)?;
    dmirror(&device, Request::MigrateToSystem, &region)
        .attempt(|| format!("give {PAGES} pages back from {DEVICE}"))?;
    let away = procfs::mapped(&region)?.swapped;
    if away != 0 {
        return Err(Error::no_effect(
            format!("give {PAGES} pages back from {DEVICE}"),
            format!("{away} are still there"),
        ));
    }
    check(&region, "after they came back by request")?;

    to_device(&device, &region)?;
    // The child and then the parent touch each page, which brings it back.
    check_both(&mut region)?;

    let moved = to_device(&device, &region)?;
    let hole = region.unmap().attempt(|| format!("unmap {PAGES} pages that {DEVICE} holds"))?;
    match hole.mapped_pages() {
        0 => Ok(Outcome::new(format!(
            "{PAGES} pages moved to {DEVICE} ({moved} the last time), brought back by request and by access, forked \
             and unmapped there, and their data checked"
        ))),
        left => Err(Error::no_effect(
            format!("unmap {PAGES} pages that {DEVICE} holds"),
            format!("{left} stayed"),
        )),
    }
}

/// How many pages the device has taken.
fn to_device(device: &std::fs::File, region: &Region) -> Result<usize, Error> {
    let attempt = || format!("move {PAGES} pages to {DEVICE}");
    dmirror(device, Request::MigrateToDevice, region).attempt(attempt)?;
    let away = procfs::mapped(region)?.swapped;
    if away < ENOUGH {
        return Err(Error::no_effect(attempt(), format!("only {away} went there")));
    }
    Ok(away)
}

fn check(region: &Region, when: &str) -> Result<(), Error> {
    match wrong_page(region) {
        None => Ok(()),
        Some(page) => Err(Error::no_effect(
            format!("move {PAGES} pages to {DEVICE} and back"),
            format!("page {page} has other data {when}"),
        )),
    }
}
