//! `page-frames`: where the kernel itself says that the pages are whose entries a trace shows.

use std::fmt::Write as _;

use crate::error::{Attempt, Error};
use crate::procfs;
use crate::sys::{self, Access, Region};
use crate::{Outcome, PAGES};

/// A page is touched, and then some are not, so that no two that are belong to one folio, and their entries have all sorts
/// of places in several tables.
const STRIDE: usize = 33;

pub(crate) fn run() -> Result<Outcome, Error> {
    let mut region = Region::map(PAGES).attempt(|| format!("map {PAGES} pages"))?;
    let touched: Vec<usize> = (0..PAGES).step_by(STRIDE).collect();
    for &page in &touched {
        region.write(page, page as u64);
    }
    let before = frames(&region, &touched)?;
    region.protect(Access::ReadOnly).attempt(|| format!("make {PAGES} pages read-only"))?;
    let after = frames(&region, &touched)?;
    if before != after {
        let attempt = "make pages read-only where they are".to_owned();
        return Err(Error::no_effect(attempt, "they are in other page frames now".to_owned()));
    }
    let mut summary = format!("{} pages made read-only, in these frames:", touched.len());
    for (address, frame) in after {
        let _ = write!(summary, " {address:x}={frame:x}");
    }
    Ok(Outcome::new(summary))
}

/// The address and the page frame of each of these pages.
fn frames(region: &Region, pages: &[usize]) -> Result<Vec<(usize, u64)>, Error> {
    let size = sys::page_size();
    pages
        .iter()
        .map(|page| region.address() + page * size)
        .map(|address| procfs::frame_at(address).map(|frame| (address, frame)))
        .collect()
}
