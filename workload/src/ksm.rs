//! `ksm`: the kernel finds pages with the same data and has their entries map one page, which cannot be written (mm/ksm.c,
//! 6.12 and 7.2). Fork, mprotect and unmap meet such entries inside their sections; KSM itself opens none.
//!
//! The kernel's thread for it is started through its own files. How it was set is put back at the end.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Attempt, Error};
use crate::fork::{self, mark};
use crate::sys::{Access, Region};
use crate::{ENOUGH, Outcome, PAGES, procfs};

const DIRECTORY: &str = "/sys/kernel/mm/ksm";

/// Pages of the process that are merged; from 5.19 on.
const MERGED: &str = "/proc/self/ksm_merging_pages";

/// How many different pages there are: few enough that each is there often, and no more often than one page may be shared
/// (`max_page_sharing`, 256).
const KINDS: usize = 64;

/// How often all memory may be looked at before it is given up. The first time only a checksum is taken of a page.
const SCANS: u64 = 20;

/// When it is given up even if the kernel's thread gets no processor.
const LIMIT: Duration = Duration::from_mins(3);

/// What is changed, and to what; the thread is started when all else is set.
const SETTINGS: [(&str, usize); 2] = [("pages_to_scan", 4 * PAGES), ("sleep_millisecs", 5)];

pub(crate) fn run() -> Result<Outcome, Error> {
    let before = Before::look()?;
    let changed = SETTINGS.iter().try_for_each(|(name, value)| set(name, &value.to_string()));
    let result = changed.and_then(|()| merge_and_unmerge(&before));
    // The first failure is the one to tell.
    let restored = before.restore();
    let outcome = result?;
    restored?;
    Ok(outcome)
}

fn merge_and_unmerge(before: &Before) -> Result<Outcome, Error> {
    let mut region = alike()?;
    merge(&region, before)?;
    fork::check_both_of(&mut region, data)?;
    region.protect(Access::ReadOnly).attempt(|| format!("make {PAGES} merged pages read-only"))?;
    region.protect(Access::ReadWrite).attempt(|| format!("make {PAGES} merged pages writable"))?;
    still_merged("forking and protecting them")?;

    unmerge(&region, before)?;
    check(&region, "unmerging")?;
    merge(&region, before)?;
    check(&region, "merging them again")?;
    let hole = region.unmap().attempt(|| format!("unmap {PAGES} merged pages"))?;
    match hole.mapped_pages() {
        0 => Ok(Outcome::new(format!(
            "{PAGES} pages merged into {KINDS}, forked, protected, unmerged, merged again and unmapped, and their data \
             checked"
        ))),
        left => {
            Err(Error::no_effect(format!("unmap {PAGES} merged pages"), format!("{left} are still mapped")))
        }
    }
}

/// What stands in a page.
fn data(page: usize) -> u64 {
    mark(page % KINDS)
}

fn alike() -> Result<Region, Error> {
    let mut region = Region::map(PAGES).attempt(|| format!("map {PAGES} pages"))?;
    for page in 0..PAGES {
        region.write(page, data(page));
    }
    Ok(region)
}

fn check(region: &Region, after: &str) -> Result<(), Error> {
    match fork::wrong_page_of(region, data) {
        None => Ok(()),
        Some(page) => {
            Err(Error::no_effect("merge pages", format!("page {page} has other data after {after}")))
        }
    }
}

/// Has the kernel merge the pages, and its thread rest again.
fn merge(region: &Region, before: &Before) -> Result<(), Error> {
    region.advise(libc::MADV_MERGEABLE).attempt(|| format!("advise MADV_MERGEABLE on {PAGES} pages"))?;
    set("run", "1")?;
    wait_for_merge()?;
    if before.runs() { Ok(()) } else { set("run", "0") }
}

fn wait_for_merge() -> Result<(), Error> {
    let (start, first) = (Instant::now(), number("full_scans")?);
    loop {
        let merged = merged()?;
        if merged >= ENOUGH {
            return Ok(());
        }
        let scans = number("full_scans")?.saturating_sub(first);
        if scans > SCANS || start.elapsed() > LIMIT {
            let observed = format!("only {merged} are merged after {scans} scans of all memory");
            return Err(Error::no_effect(format!("merge {PAGES} pages"), observed));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn still_merged(after: &str) -> Result<(), Error> {
    let merged = merged()?;
    if merged >= ENOUGH {
        return Ok(());
    }
    Err(Error::no_effect(format!("keep {PAGES} pages merged"), format!("{merged} are, after {after}")))
}

/// Gives each page its own memory again: all pages of the machine, unless somebody else has merged some.
fn unmerge(region: &Region, before: &Before) -> Result<(), Error> {
    if before.is_used() {
        region
            .advise(libc::MADV_UNMERGEABLE)
            .attempt(|| format!("advise MADV_UNMERGEABLE on {PAGES} pages"))?;
    } else {
        set("run", "2")?;
    }
    // What the kernel counts as merged it brings up to date when it looks at all memory next.
    match procfs::shared(region)? {
        0 => Ok(()),
        left => Err(Error::no_effect(format!("unmerge {PAGES} pages"), format!("{left} are still shared"))),
    }
}

fn merged() -> Result<usize, Error> {
    let text = fs::read_to_string(MERGED).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            attempt: format!("read {MERGED}"),
            lacking: "the kernel must be 5.19 or later, and /proc be mounted".to_owned(),
        },
        _ => Error::System { attempt: format!("read {MERGED}"), source },
    })?;
    text.trim().parse().map_err(io::Error::other).attempt(|| format!("read {MERGED}"))
}

/// How the kernel was set.
#[derive(Debug)]
struct Before {
    run: String,
    /// In the order of [`SETTINGS`].
    settings: Vec<String>,
    /// Pages that are shared by others.
    shared: u64,
}

impl Before {
    fn look() -> Result<Self, Error> {
        let settings = SETTINGS.iter().map(|(name, _)| get(name)).collect::<Result<_, _>>()?;
        Ok(Self { run: get("run")?, settings, shared: number("pages_shared")? })
    }

    /// Whether the kernel merges pages anyway.
    fn runs(&self) -> bool {
        self.run == "1"
    }

    fn is_used(&self) -> bool {
        self.runs() || self.shared > 0
    }

    fn restore(&self) -> Result<(), Error> {
        let settings = SETTINGS.iter().zip(&self.settings);
        // Each, whatever becomes of the others.
        let mut results: Vec<_> = settings.map(|((name, _), value)| set(name, value)).collect();
        if !self.is_used() {
            // Nothing of ours stays that the next one would take for somebody else's.
            results.push(set("run", "2"));
        }
        results.push(set("run", &self.run));
        results.into_iter().collect()
    }
}

fn get(name: &str) -> Result<String, Error> {
    let path = format!("{DIRECTORY}/{name}");
    let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            attempt: format!("read {path}"),
            lacking: "the kernel must be built with CONFIG_KSM=y, and /sys be mounted".to_owned(),
        },
        _ => Error::System { attempt: format!("read {path}"), source },
    })?;
    Ok(text.trim().to_owned())
}

fn number(name: &str) -> Result<u64, Error> {
    get(name)?.parse().map_err(io::Error::other).attempt(|| format!("read {DIRECTORY}/{name}"))
}

fn set(name: &str, value: &str) -> Result<(), Error> {
    let path = format!("{DIRECTORY}/{name}");
    fs::write(&path, value).attempt(|| format!("write {value} to {path}, which takes root"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_alike_and_no_page_is_shared_too_often() {
        let _alone = crate::alone();
        let mut region = alike().unwrap();
        assert_eq!(region.read(0), region.read(KINDS));
        assert_ne!(region.read(0), region.read(1));
        const { assert!(PAGES / KINDS <= 256) };
        check(&region, "nothing").unwrap();
        region.write(KINDS + 1, 0);
        let error = check(&region, "a write").unwrap_err().to_string();
        assert!(error.contains(&format!("page {} has other data after a write", KINDS + 1)), "{error}");
    }

    #[test]
    fn pages_that_nobody_merged_are_not_merged() {
        // A kernel without KSM lacks the file.
        let error = still_merged("nothing").unwrap_err();
        assert!(matches!(error, Error::NoEffect { .. } | Error::Missing { .. }), "{error}");
    }
}
