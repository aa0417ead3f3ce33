//! Loops that do little else than change page-table entries, to measure what watching them costs.

use std::io;
use std::time::Duration;

use crate::PAGES;
use crate::error::{Attempt, Error};
use crate::fork::{filled, mark};
use crate::sys::mapping::{Mapping, Sharing, memory_file};
use crate::sys::{Access, page_size, thread_time};

/// Shared memory as programs use it that hand data to each other, as often as is said: pages are written, word by word, the
/// first of which faults; made read-only; and let go. What comes with the entries takes most of the time: the data, the faults, and
/// the books about who maps a page. Gives the processor time of each time.
///
/// No page is cleared or copied: an emulator that counts instructions counts thousands for that, one for each byte.
///
/// # Errors
///
/// If the system refuses.
pub fn lives(rounds: usize) -> Result<Vec<Duration>, Error> {
    let file = memory_file().attempt(|| "make a file in memory".to_owned())?;
    file.set_len((PAGES * page_size()) as u64).attempt(|| format!("give it {PAGES} pages"))?;
    let mapping = Mapping::of(&file, PAGES, Access::ReadWrite, Sharing::Shared);
    let mut mapping = mapping.attempt(|| format!("map {PAGES} shared pages"))?;
    repeat(rounds, || {
        for page in 0..PAGES {
            mapping.fill(page, mark(page));
        }
        mapping.protect(Access::ReadOnly)?;
        mapping.advise(libc::MADV_DONTNEED)?;
        mapping.protect(Access::ReadWrite)
    })
}

/// The same where pages are made read-only and writable again, and nothing else: as many accesses in as little time as
/// can be had.
///
/// # Errors
///
/// If the system refuses.
pub fn dense(rounds: usize) -> Result<Vec<Duration>, Error> {
    let region = filled(PAGES)?;
    repeat(rounds, || {
        region.protect(Access::ReadOnly)?;
        region.protect(Access::ReadWrite)
    })
}

/// Does something as often as is said, and gives the processor time of each time. One before them is not counted: it fills
/// what caches there are, and the file.
fn repeat(rounds: usize, mut work: impl FnMut() -> io::Result<()>) -> Result<Vec<Duration>, Error> {
    let mut times = Vec::with_capacity(rounds);
    for round in 0..=rounds {
        let start = thread_time();
        work().attempt(|| format!("work on {PAGES} pages"))?;
        let time = thread_time().saturating_sub(start);
        if round > 0 {
            times.push(time);
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_its_time() {
        let _alone = crate::alone();
        for (name, run) in [("lives", lives as fn(usize) -> _), ("dense", dense)] {
            let times = run(3).unwrap();
            assert_eq!(times.len(), 3, "{name}");
            assert!(times.iter().all(|time| *time > Duration::ZERO), "{name}: {times:?}");
        }
    }
}
