//! Loops that do little else than change page-table entries, to measure what watching them costs.

use std::io;
use std::time::Duration;

use crate::PAGES;
use crate::error::{Attempt, Error};
use crate::fork::{filled, mark};
use crate::sys::mapping::{Mapping, Sharing, memory_file};
use crate::sys::{Access, page_size, thread_time};

/// Data that is handed over through shared memory, as often as is said: pages are filled with new data, and a checksum of each
/// is kept as it is written; they are made read-only, read in full and compared with their checksums, and let go. Gives the
/// processor time of each time.
///
/// No page is cleared or copied: an emulator that counts instructions counts thousands for that, one for each byte.
///
/// # Errors
///
/// If the system refuses, or what is read is not what was written.
pub fn handover(rounds: usize) -> Result<Vec<Duration>, Error> {
    let mut mapping = shared()?;
    let mut sums = vec![0; PAGES];
    let mut data = Data(mark(PAGES));
    repeat(rounds, || {
        for (page, sum) in sums.iter_mut().enumerate() {
            *sum = send(&mut mapping, page, &mut data);
        }
        mapping.protect(Access::ReadOnly)?;
        receive(&mapping, &sums)?;
        let_go(&mapping)
    })
}

/// The same without a reader, and with a writer that writes one word over and over. What comes with the entries takes most of the
/// time: the faults, and the books about who maps a page.
///
/// # Errors
///
/// If the system refuses.
pub fn lives(rounds: usize) -> Result<Vec<Duration>, Error> {
    let mut mapping = shared()?;
    repeat(rounds, || {
        for page in 0..PAGES {
            let word = mark(page);
            mapping.fill(page, || word);
        }
        mapping.protect(Access::ReadOnly)?;
        let_go(&mapping)
    })
}

/// Pages that are made read-only and writable again, and nothing else: as many accesses in as little time as can be had.
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

/// Pages of a file in memory.
fn shared() -> Result<Mapping, Error> {
    let file = memory_file().attempt(|| "make a file in memory".to_owned())?;
    file.set_len((PAGES * page_size()) as u64).attempt(|| format!("give it {PAGES} pages"))?;
    let mapping = Mapping::of(&file, PAGES, Access::ReadWrite, Sharing::Shared);
    mapping.attempt(|| format!("map {PAGES} shared pages"))
}

/// Lets pages that are read-only go. Who then writes to one has it anew.
fn let_go(mapping: &Mapping) -> io::Result<()> {
    mapping.advise(libc::MADV_DONTNEED)?;
    mapping.protect(Access::ReadWrite)
}

/// Words that go on and on, so that no page is ever filled with what it had before.
struct Data(u64);

impl Data {
    #[inline]
    fn word(&mut self) -> u64 {
        // Knuth's generator, of MMIX. Its low bits repeat soon, so the high ones are mixed in.
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        self.0 ^ self.0 >> 32
    }
}

/// The checksum with one more word: FNV-1a, by words instead of bytes. If one word is another one, so is the sum.
#[inline]
fn with_word(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(0x0100_0000_01b3)
}

/// Fills a page, and gives the checksum of what it wrote.
fn send(mapping: &mut Mapping, page: usize, data: &mut Data) -> u64 {
    let mut sum = 0;
    mapping.fill(page, || {
        let word = data.word();
        sum = with_word(sum, word);
        word
    });
    sum
}

/// Reads all pages, and fails at one that has not its checksum.
fn receive(mapping: &Mapping, sums: &[u64]) -> io::Result<()> {
    for (page, sum) in sums.iter().enumerate() {
        if mapping.words(page).fold(0, with_word) != *sum {
            return Err(io::Error::other(format!("page {page} has other data than were written")));
        }
    }
    Ok(())
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
        for (name, run) in [("handover", handover as fn(usize) -> _), ("lives", lives), ("dense", dense)] {
            let times = run(3).unwrap();
            assert_eq!(times.len(), 3, "{name}");
            assert!(times.iter().all(|time| *time > Duration::ZERO), "{name}: {times:?}");
        }
    }

    #[test]
    fn other_data_than_were_sent_are_noticed() {
        let _alone = crate::alone();
        let mut mapping = shared().unwrap();
        let mut data = Data(0);
        let sums: Vec<u64> = (0..PAGES).map(|page| send(&mut mapping, page, &mut data)).collect();
        receive(&mapping, &sums).unwrap();
        let first = mapping.read(7);
        mapping.write(7, first ^ 1);
        let error = receive(&mapping, &sums).unwrap_err().to_string();
        assert!(error.contains("page 7 "), "{error}");
    }
}
