//! Whether the engine found what a scenario expects: all of it, and nothing else.
//!
//! Advice is no hazard, so it counts only where an expectation asks for it.

use std::fmt;

use lazymmu_hazard::profile::{PROFILES, ProfileId};
use lazymmu_hazard::rules::{RuleId, Severity};
use lazymmu_hazard::{Class, Outcome, State};
use lazymmu_trace::Symbols;
use lazymmu_trace::scenario::{Expectation, Expected, ExpectedFinding, Profiles};

use crate::stack::Names;

/// What became of the expectations of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Each expectation, in the order of the text.
    pub expectations: Vec<CheckedExpectation>,
    /// What was found that no expectation names.
    pub unexpected: Vec<Seen>,
}

/// What became of one expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedExpectation {
    /// The line of the scenario, from 1.
    pub line: usize,
    /// What was expected.
    pub what: Expected,
    /// What became of it.
    pub result: Met,
}

/// What became of one expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// It holds.
    Yes,
    /// It does not hold, for this reason.
    No(String),
    /// This version has no rule of that name, so nothing can be said.
    NoRule,
}

/// A finding, as far as expectations speak of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The rule.
    pub rule: &'static str,
    /// The profiles on which it breaks.
    pub profiles: Vec<&'static str>,
    /// Whether a value was not the one written.
    pub proven: bool,
    /// The function of the access.
    pub function: String,
    /// How many hazards.
    pub times: u64,
    severity: Severity,
}

impl Checked {
    /// Compares what was found with what was expected.
    #[must_use]
    pub fn new(expectations: &[Expectation], outcome: &Outcome, symbols: &Symbols) -> Self {
        let mut left: Vec<Seen> = outcome.classes(&Names(symbols)).iter().map(Seen::new).collect();
        let silent = left.iter().all(|seen| seen.severity == Severity::Advice);
        let reasons = outcome.reasons();
        // What names a function goes first, so that none takes what only another fits.
        let names_function = |what: &Expected| matches!(what, Expected::Finding(f) if f.function.is_some());
        let mut order: Vec<&Expectation> = expectations.iter().collect();
        order.sort_by_key(|expectation| !names_function(&expectation.what));
        let checked = order.into_iter().map(|expectation| {
            let result = match &expectation.what {
                Expected::Finding(finding) if RuleId::by_name(&finding.rule).is_none() => Met::NoRule,
                Expected::Finding(finding) => take(&mut left, finding),
                Expected::Nothing | Expected::Inconclusive if !silent => {
                    Met::No("something was found".to_owned())
                }
                Expected::Nothing if reasons.is_empty() => Met::Yes,
                Expected::Inconclusive if !reasons.is_empty() => Met::Yes,
                Expected::Nothing => {
                    let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
                    Met::No(format!("something may have been missed: {}", reasons.join("; ")))
                }
                Expected::Inconclusive => Met::No("nothing was missed".to_owned()),
            };
            CheckedExpectation { line: expectation.line, what: expectation.what.clone(), result }
        });
        let mut expectations: Vec<_> = checked.collect();
        expectations.sort_by_key(|checked| checked.line);
        left.retain(|seen| seen.severity == Severity::Error);
        Self { expectations, unexpected: left }
    }

    /// Whether nothing is wrong. A rule that this version does not have leaves that open, and is no fault.
    #[must_use]
    pub fn holds(&self) -> bool {
        let failed = |checked: &CheckedExpectation| matches!(checked.result, Met::No(_));
        self.unexpected.is_empty() && !self.expectations.iter().any(failed)
    }

    /// One line for each thing that is wrong or open, without an end of line.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let expectations = self.expectations.iter().filter_map(|checked| {
            let CheckedExpectation { line, what, result } = checked;
            match result {
                Met::Yes => None,
                Met::No(why) => Some(format!("line {line}: expected {what}, but {why}")),
                Met::NoRule => Some(format!("line {line}: expected {what}, but there is no such rule yet")),
            }
        });
        let unexpected = self.unexpected.iter().map(|seen| format!("not expected: {seen}"));
        expectations.chain(unexpected).collect()
    }
}

/// Takes the finding that was expected out of those that are left.
fn take(left: &mut Vec<Seen>, expected: &ExpectedFinding) -> Met {
    if let Some(name) = unknown_profile(expected) {
        return Met::No(format!("there is no profile {name}"));
    }
    if let Some(at) = left.iter().position(|seen| seen.differs(expected).is_none()) {
        left.remove(at);
        return Met::Yes;
    }
    let why = left.iter().filter(|seen| seen.rule == expected.rule).find_map(|seen| seen.differs(expected));
    Met::No(why.unwrap_or_else(|| "it was not found".to_owned()))
}

fn unknown_profile(expected: &ExpectedFinding) -> Option<&str> {
    let Profiles::These(names) = &expected.profiles else { return None };
    let unknown = |name: &&String| PROFILES.iter().all(|profile| profile.name != name.as_str());
    names.iter().find(unknown).map(String::as_str)
}

impl Seen {
    fn new(class: &Class) -> Self {
        let info = class.rule.info();
        let breaking = class.profiles.iter().filter(|line| line.breaks);
        Self {
            rule: info.name,
            profiles: breaking.map(|line| line.profile.profile().name).collect(),
            proven: class.state == State::Proven,
            function: class.access.function.clone(),
            times: class.count,
            severity: info.severity,
        }
    }

    /// In what the finding is not the expected one; `None` if it is.
    fn differs(&self, expected: &ExpectedFinding) -> Option<String> {
        if self.rule != expected.rule {
            return Some("it was not found".to_owned());
        }
        let all = || ProfileId::ALL.iter().map(|id| id.profile().name).collect();
        let mut profiles: Vec<&str> = match &expected.profiles {
            Profiles::All => all(),
            Profiles::These(names) => names.iter().map(String::as_str).collect(),
        };
        profiles.sort_unstable();
        let mut found = self.profiles.clone();
        found.sort_unstable();
        let other_function = expected.function.as_ref().is_some_and(|name| *name != self.function);
        let other_state = expected.proven.is_some_and(|proven| proven != self.proven);
        let other_count = expected.times.is_some_and(|times| times != self.times);
        (found != profiles || other_function || other_state || other_count).then(|| format!("found: {self}"))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, profiles, proven, function, times, .. } = self;
        let state = if *proven { "proven" } else { "latent" };
        write!(f, "{rule} on {} {state} in {function} times {times}", profiles.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use lazymmu_hazard::{Arch, Config, Engine};
    use lazymmu_trace::scenario::Scenario;

    use super::*;

    fn check(steps: &str) -> Checked {
        let text = format!(
            "scenario test\nvalue OLD = 0x1067\nvalue NEW = 0x2067\nentry e pte\ntask a on cpu 0 in f\n{steps}"
        );
        let scenario = Scenario::parse("test.scn", &text).unwrap();
        let mut engine = Engine::new(Config { arch: Arch::X86_64, ..Config::default() });
        engine.process_all(&scenario.records);
        Checked::new(&scenario.expectations, &engine.finish(), &scenario.symbols)
    }

    const HAZARD: &str = "enter\nwrite e = NEW\nread e = OLD\nleave\n";

    #[test]
    fn what_was_expected_holds() {
        for steps in [
            format!("{HAZARD}expect read-pending on strict, xen-pv proven in f times 1"),
            format!("{HAZARD}expect read-pending on xen-pv, strict"),
            "enter\nwrite e\nleave\nread e\nexpect nothing".to_owned(),
            "enter\nlost 1 write on cpu 0\nleave\nexpect inconclusive".to_owned(),
        ] {
            let checked = check(&steps);
            assert!(checked.holds(), "{steps}: {:?}", checked.complaints());
        }
    }

    #[test]
    fn what_is_missing_different_or_too_much_is_told() {
        for (steps, complaint) in [
            (
                "expect read-pending on strict",
                "line 6: expected read-pending on strict, but it was not found".to_owned(),
            ),
            (
                "lost 1 write on cpu 0\nexpect nothing",
                "line 7: expected nothing, but something may have been missed: 1 record was lost".to_owned(),
            ),
            ("expect inconclusive", "line 6: expected inconclusive, but nothing was missed".to_owned()),
            (
                &format!("{HAZARD}expect nothing"),
                "line 10: expected nothing, but something was found".to_owned(),
            ),
            (
                "expect read-pending on vax",
                "line 6: expected read-pending on vax, but there is no profile vax".to_owned(),
            ),
        ] {
            let checked = check(steps);
            assert!(!checked.holds());
            assert_eq!(checked.complaints()[0], complaint);
        }
        let found = "read-pending on strict, xen-pv proven in f times 1";
        for other in
            ["strict", "all", "strict, xen-pv latent", "strict, xen-pv in g", "strict, xen-pv times 2"]
        {
            let complaints = check(&format!("{HAZARD}expect read-pending on {other}")).complaints();
            let expected = format!("line 10: expected read-pending on {other}, but found: {found}");
            assert_eq!(complaints, [expected, format!("not expected: {found}")]);
        }
    }

    #[test]
    fn two_findings_need_two_expectations() {
        let steps = "enter\nwrite e = NEW\nread e = NEW in g\nread e = NEW in h\nleave\n\
                     expect read-pending on strict, xen-pv latent\n";
        assert_eq!(check(steps).unexpected.len(), 1);
        assert!(check(&format!("{steps}expect read-pending on strict, xen-pv latent in g")).holds());
    }

    #[test]
    fn a_rule_that_does_not_exist_is_open() {
        let checked = check("expect no-such-rule on strict");
        assert!(checked.holds());
        assert_eq!(checked.expectations[0].result, Met::NoRule);
        assert!(checked.complaints()[0].contains("no such rule yet"), "{:?}", checked.complaints());
    }
}
