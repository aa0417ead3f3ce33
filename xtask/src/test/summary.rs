//! Counts what passed, failed and was skipped, and reads the counts of test runners.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::Result;

use crate::sh;

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    /// From what `cargo nextest run` prints: `Summary [   0.1s] 3 tests run: 2 passed, 1 failed, 1 skipped`. `None`
    /// without such a line.
    pub(super) fn of_nextest(lines: &[String]) -> Option<Self> {
        let line = lines.iter().rev().find(|line| line.trim_start().starts_with("Summary ["))?;
        let (_, counts) = line.split_once("run: ")?;
        let mut this = Self::default();
        // "2 passed (1 slow, 1 leaky)": what is in brackets is part of the count before it.
        for part in without_brackets(counts).split(',') {
            let (count, what) = part.trim().split_once(' ')?;
            let count: usize = count.parse().ok()?;
            match what.trim() {
                "passed" => this.passed += count,
                "failed" | "timed out" | "exec failed" => this.failed += count,
                "skipped" => this.skipped += count,
                _ => {}
            }
        }
        Some(this)
    }

    /// From what `cargo test` prints, once for each binary: `test result: ok. 2 passed; 0 failed; 1 ignored; ...`.
    /// `None` if no binary said so.
    pub(super) fn of_libtest(lines: &[String]) -> Option<Self> {
        let mut sum = None;
        for line in lines {
            let Some(counts) = line.strip_prefix("test result: ") else { continue };
            let this: &mut Self = sum.get_or_insert_default();
            let counts = counts.split_once(". ").map_or("", |(_, counts)| counts);
            for part in counts.split(';') {
                let Some((count, what)) = part.trim().split_once(' ') else { continue };
                let Ok(count) = count.parse::<usize>() else { continue };
                match what {
                    "passed" => this.passed += count,
                    "failed" => this.failed += count,
                    "ignored" => this.skipped += count,
                    _ => {}
                }
            }
        }
        sum
    }
}

fn without_brackets(text: &str) -> String {
    let mut depth = 0_usize;
    text.chars()
        .filter(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => return depth == 0,
            }
            false
        })
        .collect()
}

/// The sum of a whole run.
#[derive(Default)]
pub(super) struct Tally {
    counts: Counts,
    failures: Vec<String>,
    skips: Vec<String>,
}

impl Tally {
    /// Does one thing that either works or does not, and says how long it took. Gives what came of it.
    pub(super) fn check<T>(&mut self, name: &str, attempt: impl FnOnce() -> Result<T>) -> Option<T> {
        eprintln!("\n==> {name}");
        let start = Instant::now();
        let result = attempt();
        eprintln!("    {name}: {} s", start.elapsed().as_secs());
        match result {
            Ok(made) => {
                self.counts.passed += 1;
                Some(made)
            }
            Err(error) => {
                self.fail(format!("{name}: {error:#}"));
                None
            }
        }
    }

    /// Runs tests and adds what they count.
    pub(super) fn tests(&mut self, name: &str, command: &mut Command, read: fn(&[String]) -> Option<Counts>) {
        eprintln!("\n==> {name}: {}", sh::shown(command));
        let start = Instant::now();
        match sh::run_and_read(command) {
            Err(error) => self.fail(format!("{name}: {error:#}")),
            Ok((status, lines)) => {
                let counts = read(&lines);
                self.add(name, counts.unwrap_or_default());
                // What does not compile has no counts, and is a failure all the same.
                if !status.success() && counts.is_none_or(|counts| counts.failed == 0) {
                    self.fail(format!("{name}: `{}` ended with {status}", sh::shown(command)));
                } else if counts.is_none() {
                    self.fail(format!("{name}: `{}` counted nothing", sh::shown(command)));
                }
            }
        }
        eprintln!("    {name}: {} s", start.elapsed().as_secs());
    }

    fn add(&mut self, name: &str, counts: Counts) {
        self.counts.passed += counts.passed;
        self.counts.failed += counts.failed;
        if counts.failed > 0 {
            self.failures.push(format!("{name}: {} tests; their messages are above", counts.failed));
        }
        self.skip(counts.skipped, name, "marked to be ignored in the source");
    }

    /// Counts what was not run.
    pub(super) fn skip(&mut self, count: usize, what: &str, reason: &str) {
        if count > 0 {
            self.counts.skipped += count;
            self.skips.push(format!("{what}: {count}: {reason}"));
        }
    }

    fn fail(&mut self, what: String) {
        eprintln!("error: {what}");
        self.counts.failed += 1;
        self.failures.push(what);
    }

    /// Says all that matters once more, and the counts as the last line.
    pub(super) fn finish(self) -> ExitCode {
        eprintln!();
        self.skips.iter().for_each(|skip| eprintln!("skipped: {skip}"));
        self.failures.iter().for_each(|failure| eprintln!("failed: {failure}"));
        println!("{}", self.line());
        if self.counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn line(&self) -> String {
        let Counts { passed, failed, skipped } = self.counts;
        format!("lazymmu: {passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_summary_of_nextest() {
        let read = |text| Counts::of_nextest(&lines(text));
        assert_eq!(
            read("  PASS x\n     Summary [   0.1s] 26 tests run: 26 passed, 0 skipped\n"),
            Some(Counts { passed: 26, failed: 0, skipped: 0 })
        );
        assert_eq!(
            read(
                "     Summary [   3.1s] 9/10 tests run: 5 passed (1 slow, 2 leaky), 3 failed, 1 timed out, 2 skipped"
            ),
            Some(Counts { passed: 5, failed: 4, skipped: 2 })
        );
        assert_eq!(read("error: could not compile"), None);
    }

    #[test]
    fn the_summaries_of_cargo_test_are_added() {
        let text = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s\n\
                    running 2 tests\n\
                    test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0s\n";
        assert_eq!(Counts::of_libtest(&lines(text)), Some(Counts { passed: 6, failed: 2, skipped: 1 }));
        assert_eq!(Counts::of_libtest(&lines("running 2 tests\n")), None);
    }

    #[test]
    fn everything_counts() {
        let mut tally = Tally::default();
        assert_eq!(tally.check("good", || Ok(7)), Some(7));
        assert_eq!(tally.check::<()>("bad", || bail!("no")), None);
        tally.skip(3, "some", "no reason");
        let mut shell = |script: &str, read| tally.tests("t", Command::new("sh").args(["-c", script]), read);
        shell("echo 'test result: ok. 5 passed; 0 failed; 1 ignored'", Counts::of_libtest);
        shell("echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 101", Counts::of_libtest);
        // It did not compile, it died after its summary, it ran nothing: each is one failure.
        shell("exit 101", Counts::of_libtest);
        shell("echo 'test result: ok. 1 passed; 0 failed; 0 ignored'; exit 101", Counts::of_libtest);
        shell("true", Counts::of_nextest);
        assert_eq!(tally.line(), "lazymmu: 8 passed, 6 failed, 4 skipped");
        assert_eq!(tally.failures.len(), 5);
    }
}
