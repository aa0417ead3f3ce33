//! What is counted over many programs, and how it is printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lazymmu_hazard::profile::ProfileId;

use crate::differ::Exception;

/// Counts over programs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) programs: u64,
    pub(crate) events: u64,
    /// Verdicts on one access, one write and one profile on which both agree.
    pub(crate) agreed: BTreeMap<(&'static str, ProfileId), u64>,
    /// Accesses on which both are silent.
    pub(crate) silent: u64,
    /// Differences that have a name, by profile.
    pub(crate) exceptions: BTreeMap<(Exception, ProfileId), u64>,
    /// Wrong accesses that no rule is about.
    pub(crate) no_rule: BTreeMap<&'static str, u64>,
    /// What the engine said of values: same, different, not compared.
    pub(crate) proofs: [u64; 3],
    /// Runs with losses, and findings in them.
    pub(crate) lossy: [u64; 2],
    /// See [`Machine::shadowed`] and [`Machine::races`].
    pub(crate) shadowed: u64,
    pub(crate) races: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.programs += other.programs;
        self.events += other.events;
        self.silent += other.silent;
        self.shadowed += other.shadowed;
        self.races += other.races;
        for (sum, more) in
            self.proofs.iter_mut().zip(other.proofs).chain(self.lossy.iter_mut().zip(other.lossy))
        {
            *sum += more;
        }
        sum(&mut self.agreed, &other.agreed);
        sum(&mut self.exceptions, &other.exceptions);
        sum(&mut self.no_rule, &other.no_rule);
    }

    /// All verdicts on which both agree that something is wrong, by rule.
    #[allow(dead_code, reason = "the bench only prints")]
    pub(crate) fn agreed_on(&self, rule: &str) -> u64 {
        self.agreed.iter().filter(|((name, _), _)| *name == rule).map(|(_, count)| count).sum()
    }

    /// For people.
    pub(crate) fn shown(&self) -> String {
        let mut text = String::new();
        let [same, different, unknown] = self.proofs;
        let _ = writeln!(
            text,
            "{} programs, {} events, {} accesses without a word",
            self.programs, self.events, self.silent
        );
        let _ = writeln!(text, "\nagreed that it is wrong:");
        for ((rule, profile), count) in &self.agreed {
            let _ = writeln!(text, "{count:>12}  {rule} on {}", profile.profile().name);
        }
        let _ = writeln!(
            text,
            "\nvalues as the machine had them: {same} the same, {different} different, {unknown} not compared"
        );
        let _ = writeln!(text, "\ndifferences, all with a name:");
        for ((exception, profile), count) in &self.exceptions {
            let _ = writeln!(text, "{count:>12}  {} ({})", exception.name(), profile.profile().name);
        }
        let _ = writeln!(text, "\nwrong, and no rule is about it:");
        for (what, count) in &self.no_rule {
            let _ = writeln!(text, "{count:>12}  {what}");
        }
        let _ = writeln!(
            text,
            "{:>12}  a look into the cache of s390 behind a change that went by it",
            self.shadowed
        );
        let _ = writeln!(text, "{:>12}  a queued store over a newer one of another queue", self.races);
        let [runs, findings] = self.lossy;
        let _ = writeln!(
            text,
            "\nwith losses: {runs} runs, {findings} findings, none of them new, none called clean"
        );
        text
    }
}

fn sum<K: Ord + Copy>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(*key).or_default() += count;
    }
}
