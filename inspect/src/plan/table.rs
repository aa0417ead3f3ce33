//! A plan as a table for people: what each source found, what will be probed, and what the kernel refuses, with the
//! reason and the functions.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use lazymmu_abi::Kind;

use super::model::{Plan, Probe, Refusal, Source, Verdict};

/// Names in a line before "and so many more".
const NAMES: usize = 6;

/// How many probes there are, and what becomes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All that were found.
    pub found: usize,
    /// To be probed.
    pub probe: usize,
    /// Told of by another probe.
    pub covered: usize,
    /// Refused by the kernel.
    pub refused: usize,
}

impl Tally {
    fn add(&mut self, verdict: &Verdict) {
        self.found += 1;
        match verdict {
            Verdict::Probe => self.probe += 1,
            Verdict::Covered { .. } => self.covered += 1,
            Verdict::Refused { .. } => self.refused += 1,
        }
    }
}

impl Plan {
    /// Counts the probes that `choose` takes.
    pub fn tally(&self, choose: impl Fn(&Probe) -> bool) -> Tally {
        let mut tally = Tally::default();
        for probe in self.all().filter(|probe| choose(probe)) {
            tally.add(&probe.verdict);
        }
        tally
    }

    /// The same without the modules.
    pub fn tally_of_kernel(&self, choose: impl Fn(&Probe) -> bool) -> Tally {
        let mut tally = Tally::default();
        for probe in self.probes.iter().filter(|probe| choose(probe)) {
            tally.add(&probe.verdict);
        }
        tally
    }

    /// Why probes are refused: each reason with the number of places and the functions they are in.
    pub fn refusals(&self) -> BTreeMap<Refusal, (usize, Vec<&str>)> {
        let mut reasons: BTreeMap<Refusal, (usize, Vec<&str>)> = BTreeMap::new();
        for probe in self.all() {
            if let Verdict::Refused { reason } = probe.verdict {
                let (count, functions) = reasons.entry(reason).or_default();
                *count += 1;
                if !functions.contains(&probe.function.as_str()) {
                    functions.push(&probe.function);
                }
            }
        }
        reasons
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, text: &mut String) -> fmt::Result {
        self.write_head(text)?;
        writeln!(text, "\n{:<12}{:>7}{:>7}{:>9}{:>9}", "source", "found", "probe", "covered", "refused")?;
        let none = |found: usize| Tally { found, probe: found, ..Tally::default() };
        let sources = [
            ("dev", none(self.tracepoints.len())),
            ("symbol", self.tally(|probe| probe.source == Source::Symbol)),
            ("site", self.tally(|probe| probe.source == Source::Site)),
            ("state", none(self.state.len())),
        ];
        for (name, tally) in sources {
            write_row(text, name, tally)?;
        }
        for module in &self.modules {
            write_row(text, module.kernel.module.as_deref().unwrap_or("?"), module.tally(|_| true))?;
        }
        writeln!(text, "\n{:<12}{:>7}{:>7}{:>9}{:>9}", "sites", "found", "probe", "covered", "refused")?;
        for kind in [Kind::Read, Kind::Write, Kind::Rmw, Kind::Section] {
            for level in lazymmu_abi::Level::ALL.iter().copied().map(Some).chain([None]) {
                let tally = self.tally(|probe| {
                    probe.source == Source::Site && probe.kind == kind && probe.level == level
                });
                if tally.found > 0 {
                    let level = level.map_or("", lazymmu_abi::Level::name);
                    write_row(text, format!("{} {level}", kind.name()).trim_end(), tally)?;
                }
            }
        }
        let refusals = self.refusals();
        if !refusals.is_empty() {
            writeln!(text, "\nrefused by the kernel")?;
        }
        for (reason, (count, functions)) in refusals {
            let more = functions.len().saturating_sub(NAMES);
            let shown = functions[..functions.len() - more].join(", ");
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            writeln!(text, "{count:>5}  {}: {shown}{more}", reason.text())?;
        }
        Ok(())
    }

    fn write_head(&self, text: &mut String) -> fmt::Result {
        let kernel = &self.kernel;
        match (&kernel.module, &kernel.release) {
            (Some(module), _) => write!(text, "Plan for the module {module}")?,
            (None, Some(release)) => write!(text, "Plan for Linux {release}")?,
            (None, None) => write!(text, "Plan for a kernel that does not tell its release")?,
        }
        writeln!(
            text,
            " ({}, build id {})",
            kernel.architecture.name(),
            kernel.build_id.as_deref().unwrap_or("unknown")
        )?;
        let made = &self.made_from;
        let debug_info = if made.debug_info {
            "with debug information"
        } else {
            "without debug information: not every read is found"
        };
        writeln!(text, "made of a {} {debug_info}", made.image)
    }
}

fn write_row(text: &mut String, name: &str, tally: Tally) -> fmt::Result {
    let Tally { found, probe, covered, refused } = tally;
    writeln!(text, "{name:<12}{found:>7}{probe:>7}{covered:>9}{refused:>9}")
}
