//! `cargo xtask mutants`: breaks the rules, the profile tables and the engine on purpose, one place at a time, and asks
//! the tests of the engine whether they notice.
//!
//! Works on a copy of the crates that judge, under the target directory, so the checkout is never touched. All breaks are
//! in one build, and a variable says which is on. What was learned is kept by the content of what was built, so a run that
//! was ended goes on where it was. It is no part of `cargo xtask test`.

mod copy;
mod explained;
mod killers;
mod places;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use copy::Copy;
use explained::EXPLAINED;
use killers::Killers;
use places::Mutant;

/// What `cargo xtask mutants` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only mutants whose name has this in it
    #[arg(long)]
    only: Option<String>,
    /// List them, and test none
    #[arg(long)]
    list: bool,
    /// How many are tested at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Test those again of which a run on the same sources told already
    #[arg(long)]
    again: bool,
}

/// Tests each mutant. Fails if one is missed and not explained.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    let copy = Copy::make()?;
    let killers = Killers::new(copy.build()?, copy.directory())?;
    let mut all = killers.of_tables()?;
    all.extend(copy.mutants.iter().cloned());
    let stale = EXPLAINED.iter().filter(|(part, _)| !all.iter().any(|mutant| mutant.name.contains(part)));
    let stale = stale
        .inspect(|(part, _)| println!("STALE there is a reason for `{part}`, but no such mutant"))
        .count();
    let wanted = |mutant: &Mutant| args.only.as_ref().is_none_or(|only| mutant.name.contains(only.as_str()));
    let mutants: Vec<Mutant> = all.into_iter().filter(wanted).collect();
    if args.list {
        for mutant in &mutants {
            println!("{}{}", mutant.name, at(mutant));
        }
        println!("{} mutants", mutants.len());
        return Ok(ExitCode::SUCCESS);
    }
    let built = start.elapsed().as_secs();
    let path = killers::results(&copy.key)?;
    let known = if args.again { BTreeMap::new() } else { read(&path) };
    if known.is_empty()
        && let Some(test) = killers.ask(0, false)?
    {
        bail!("failed to test the engine as it is ({test}): mend `cargo test -p lazymmu-hazard` first");
    }
    let results = test_all(args, &killers, &mutants, &known, &path)?;
    let end = conclude(&mutants, &results, known.len(), (built, start.elapsed().as_secs()));
    Ok(if stale == 0 { end } else { ExitCode::FAILURE })
}

/// Who noticed, by the mutant's number; nothing where nobody did.
type Results = BTreeMap<usize, Option<String>>;

/// Asks the quick tests of all mutants first, and of those that are left the random programs.
fn test_all(
    args: &Args,
    killers: &Killers,
    mutants: &[Mutant],
    known: &BTreeMap<String, Option<String>>,
    path: &Path,
) -> Result<Results> {
    let log = OpenOptions::new().create(true).append(true).open(path);
    let log = Mutex::new(log.with_context(|| format!("failed to open {}", path.display()))?);
    let results: Results =
        mutants.iter().filter_map(|mutant| Some((mutant.id, known.get(&mutant.name)?.clone()))).collect();
    let results = Mutex::new(results);
    let tell = |mutant: &Mutant, end: Option<String>| -> Result<()> {
        println!("{}{}: {}", mutant.name, at(mutant), word(mutant, end.as_ref()));
        if let Ok(mut log) = log.lock() {
            writeln!(log, "{}\t{}", mutant.name, end.as_deref().unwrap_or_default())
                .with_context(|| format!("failed to write {}", path.display()))?;
        }
        if let Ok(mut results) = results.lock() {
            results.insert(mutant.id, end);
        }
        Ok(())
    };
    for random in [false, true] {
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                if results.lock().is_ok_and(|results| results.contains_key(&mutant.id)) {
                    continue;
                }
                // Of what is explained the quick tests are asked, so that a reason that is wrong can show.
                let end =
                    if random && reason(mutant).is_some() { None } else { killers.ask(mutant.id, random)? };
                if end.is_some() || random {
                    tell(mutant, end)?;
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().unwrap_or_else(|_| bail!("a thread that tested mutants panicked: see above"))
            })
        })?;
    }
    results.into_inner().map_err(|_| anyhow::anyhow!("a thread that tested mutants panicked: see above"))
}

fn conclude(mutants: &[Mutant], results: &Results, known: usize, (built, all): (u64, u64)) -> ExitCode {
    let mut by: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut caught, mut explained, mut missed) = (0, 0, Vec::new());
    for mutant in mutants {
        match results.get(&mutant.id).and_then(Option::as_ref) {
            Some(who) => {
                caught += 1;
                *by.entry(who.split(':').next().unwrap_or(who)).or_default() += 1;
            }
            None if reason(mutant).is_some() => explained += 1,
            None => missed.push(mutant),
        }
    }
    println!();
    for (who, count) in by {
        println!("{count:6} caught first by {who}");
    }
    for mutant in &missed {
        println!("MISSED {}{}", mutant.name, at(mutant));
    }
    println!(
        "{} mutants in {all} s ({built} s to build, {known} known before): {caught} caught, {explained} explained, {} missed",
        mutants.len(),
        missed.len()
    );
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn word(mutant: &Mutant, end: Option<&String>) -> String {
    match (end, reason(mutant)) {
        (Some(who), _) => format!("caught by {who}"),
        (None, Some(why)) => format!("explained: {why}"),
        (None, None) => "MISSED".to_owned(),
    }
}

fn reason(mutant: &Mutant) -> Option<&'static str> {
    EXPLAINED.iter().find(|(part, _)| mutant.name.contains(part)).map(|(_, why)| *why)
}

fn at(mutant: &Mutant) -> String {
    if mutant.line > 0 { format!(" (line {})", mutant.line) } else { String::new() }
}

/// What an earlier run learned of the same sources. A line that was cut is not there.
fn read(path: &Path) -> BTreeMap<String, Option<String>> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.split_once('\t'));
    lines.map(|(name, who)| (name.to_owned(), (!who.is_empty()).then(|| who.to_owned()))).collect()
}
