//! `lru-gen`: reclaim by generations (MGLRU) looks for pages that were used, by their young bits. It walks whole page
//! tables to age the pages, and the neighbours of an entry when it meets a young one while it evicts (mm/vmscan.c,
//! 6.12 and 7.2).
//!
//! The kernel is told to do so through its own files. How it reclaims is set back at the end.

use std::fs;
use std::io;

use crate::error::{Attempt, Error};
use crate::fork::{filled, wrong_page};
use crate::huge;
use crate::swap::with_space;
use crate::sys::Region;
use crate::{ENOUGH, Outcome, PAGES, procfs};

const ENABLED: &str = "/sys/kernel/mm/lru_gen/enabled";
const GENERATIONS: &str = "/sys/kernel/debug/lru_gen";

/// How many generations there are at least; the others can be evicted (`MIN_NR_GENS` in include/linux/mmzone.h).
const YOUNG: u64 = 2;

/// Prefer anonymous memory. The larger 201 of newer kernels is unknown to older ones.
const SWAPPINESS: u32 = 200;

/// How many pages eviction must look at. It leaves alone those that it has just seen in use, and marks some of them as
/// used again.
const LOOKED_AT: usize = PAGES / 4;

/// How many pages are evicted at a time, and how often that is tried: what other programs have not used for longer goes
/// first.
const STEP: usize = PAGES;
const STEPS: usize = 64;

pub(crate) fn run() -> Result<Outcome, Error> {
    with_space(|| {
        let before = state()?;
        let result = age_and_evict();
        // The first failure is the one to tell.
        let restored = fs::write(ENABLED, &before).attempt(|| format!("write {before} to {ENABLED}"));
        let outcome = result?;
        restored?;
        Ok(outcome)
    })
}

/// What is switched on, as the kernel takes it back.
fn state() -> Result<String, Error> {
    let text = fs::read_to_string(ENABLED).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            attempt: format!("read {ENABLED}"),
            lacking: "the kernel must be built with CONFIG_LRU_GEN=y".to_owned(),
        },
        _ => Error::System { attempt: format!("read {ENABLED}"), source },
    })?;
    Ok(text.trim().to_owned())
}

fn switch(to: &str) -> Result<(), Error> {
    fs::write(ENABLED, to).attempt(|| format!("write {to} to {ENABLED}"))
}

fn age_and_evict() -> Result<Outcome, Error> {
    // Everything: the walk of page tables, and that of the tables above them.
    switch("y")?;
    let region = filled(PAGES)?;
    // Without huge pages the rest still works.
    let large = huge::fill().ok();
    age()?;
    let old = PAGES - young(&region)?;
    if old < ENOUGH {
        return Err(Error::no_effect(format!("age {PAGES} pages"), format!("only {old} are old")));
    }
    drop((region, large));

    // Without the walk, ageing leaves the young bits alone, for eviction to find.
    switch("1")?;
    let region = filled(PAGES)?;
    for _ in 0..=YOUNG {
        age()?;
    }
    let old = PAGES - young(&region)?;
    if old > PAGES - ENOUGH {
        return Err(Error::no_effect(format!("use {PAGES} pages"), format!("{old} are old")));
    }
    let looked_at = evict(&region)?;
    match wrong_page(&region) {
        None => Ok(Outcome::new(format!(
            "{PAGES} pages aged by a walk of their page table, and {looked_at} of {PAGES} by eviction; their data checked"
        ))),
        Some(page) => {
            Err(Error::no_effect(format!("evict {PAGES} pages"), format!("page {page} lost its data")))
        }
    }
}

/// Pages whose entries say that they were used.
fn young(region: &Region) -> Result<usize, Error> {
    procfs::smaps_pages(region, "Referenced")
}

/// Opens a new generation.
fn age() -> Result<(), Error> {
    for list in lists()? {
        let attempt =
            |force: u32| format!("+ {} {} {} {SWAPPINESS} {force}", list.group, list.node, list.newest);
        // Unless forced, older kernels refuse when there are as many generations as can be.
        if fs::write(GENERATIONS, attempt(0)).is_err() {
            let command = attempt(1);
            fs::write(GENERATIONS, &command).attempt(|| format!("write {command} to {GENERATIONS}"))?;
        }
    }
    Ok(())
}

/// Evicts what is oldest until enough of the pages' young bits were looked at; how many.
fn evict(region: &Region) -> Result<usize, Error> {
    for _ in 0..STEPS {
        for list in lists()?.iter().filter(|list| list.newest >= YOUNG) {
            let (group, node, oldest) = (list.group, list.node, list.newest - YOUNG);
            let command = format!("- {group} {node} {oldest} {SWAPPINESS} {STEP}");
            fs::write(GENERATIONS, &command).attempt(|| format!("write {command} to {GENERATIONS}"))?;
        }
        let old = PAGES - young(region)?;
        if old >= LOOKED_AT {
            return Ok(old);
        }
    }
    let left = young(region)?;
    Err(Error::no_effect("evict what was used last", format!("{left} of {PAGES} pages are still young")))
}

/// The generations of one node's pages, of one control group.
#[derive(Debug, PartialEq, Eq)]
struct List {
    group: u64,
    node: u32,
    newest: u64,
}

fn lists() -> Result<Vec<List>, Error> {
    let text = fs::read_to_string(GENERATIONS).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            attempt: format!("read {GENERATIONS}"),
            lacking: "the kernel must be built with CONFIG_DEBUG_FS=y and /sys/kernel/debug be mounted"
                .to_owned(),
        },
        _ => Error::System { attempt: format!("read {GENERATIONS}, which takes root"), source },
    })?;
    Ok(parse(&text))
}

/// `memcg ID PATH`, then `node ID` for each node, then a line for each generation that begins with its number
/// (Documentation/admin-guide/mm/multigen_lru.rst).
fn parse(text: &str) -> Vec<List> {
    let mut lists: Vec<List> = Vec::new();
    let mut group = 0;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else { continue };
        match (first, second) {
            ("memcg", Some(id)) => group = id.parse().unwrap_or_default(),
            ("node", Some(id)) => {
                lists.push(List { group, node: id.parse().unwrap_or_default(), newest: 0 });
            }
            _ => {
                // The newest comes last.
                if let (Some(list), Ok(number)) = (lists.last_mut(), first.parse()) {
                    list.newest = number;
                }
            }
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_generation_of_each_list_is_found() {
        let text = "memcg     1 /\n node     0\n          4      73860         12          0 \n          5      \
                    73240          9          7 \n node     1\n          7 1 2 3\nmemcg 9 /a\n node     0\n";
        let list = |group, node, newest| List { group, node, newest };
        assert_eq!(parse(text), [list(1, 0, 5), list(1, 1, 7), list(9, 0, 0)]);
    }
}
