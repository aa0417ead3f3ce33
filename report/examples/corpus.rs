//! The table of `cargo xtask corpus`: what each scenario of the corpus gives on each profile. Exits with 1 if anything is
//! not as the scenario expects it.

#![allow(clippy::unwrap_used, reason = "an error ends the program, and its message says enough")]

#[path = "../tests/corpus_support/mod.rs"]
mod corpus;

use std::process::ExitCode;

use corpus::{Judged, TWIN};
use lazymmu_hazard::profile::{PROFILES, ProfileId};
use lazymmu_hazard::rules::{RuleId, Severity};
use lazymmu_report::Names;
use lazymmu_report::expectation::Met;
use lazymmu_trace::scenario::{Expected, ExpectedFinding};

fn main() -> ExitCode {
    let all = corpus::all().unwrap();
    let width = all.iter().map(|judged| judged.name.len()).max().unwrap_or(0);
    print!("{:width$}", "scenario");
    for profile in &PROFILES {
        print!("  {:12}", profile.name);
    }
    println!("  as expected");
    let (mut wrong, mut open) = (0, 0);
    for judged in &all {
        print!("{:width$}", judged.name);
        for id in ProfileId::ALL {
            print!("  {:12}", cell(judged, id));
        }
        let no_rule = judged.checked.expectations.iter().filter(|checked| checked.result == Met::NoRule);
        let no_rule = no_rule.count();
        open += no_rule;
        wrong += usize::from(!judged.checked.holds());
        let verdict = match (judged.checked.holds(), no_rule) {
            (false, _) => "NO",
            (true, 0) => "yes",
            (true, _) => "no rule yet",
        };
        println!("  {verdict}");
    }
    let twins = all.iter().filter(|judged| judged.name.ends_with(TWIN)).count();
    println!();
    println!(
        "{} scenarios, {twins} of them correct twins: {wrong} not as expected, {open} findings without a rule yet",
        all.len()
    );
    println!(
        "\nfound: the code is wrong there. accepted: so by the contract, but there is a reason. advice: nothing is wrong.\n\
         The profiles describe Linux 7.2 and 6.12 with every fix, whatever kernel a scenario names. Silent on the\n\
         architecture of the scenario itself:"
    );
    for line in all.iter().flat_map(silent_at_home) {
        println!("  {line}");
    }
    for judged in &all {
        for complaint in judged.checked.complaints() {
            println!("{}.scn: {complaint}", judged.name);
        }
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `found`, `accepted` for what is reported and no bug, `advice` for what is no error, or `silent`.
fn cell(judged: &Judged, profile: ProfileId) -> &'static str {
    let advice = |finding: &ExpectedFinding| {
        RuleId::by_name(&finding.rule).is_some_and(|rule| rule.info().severity == Severity::Advice)
    };
    let breaks = |occurrence: &&lazymmu_hazard::Occurrence| {
        occurrence.breaks.has(profile) && occurrence.place.rule.info().severity == Severity::Error
    };
    if !judged.outcome.occurrences.iter().any(|occurrence| breaks(&occurrence)) {
        return if expects(judged, advice) { "advice" } else { "silent" };
    }
    if expects(judged, |finding| finding.accepted) { "accepted" } else { "found" }
}

fn expects(judged: &Judged, which: impl Fn(&ExpectedFinding) -> bool) -> bool {
    let mut expectations = judged.scenario.expectations.iter();
    expectations.any(|expectation| matches!(&expectation.what, Expected::Finding(finding) if which(finding)))
}

/// Where a bug of an architecture is silent on that architecture: the table's own reason, which names the fix if there
/// was one. The profiles are those of kernels that have every fix, whatever kernel a scenario names.
fn silent_at_home(judged: &Judged) -> Vec<String> {
    let home = match judged.scenario.header.kernel.architecture.as_str() {
        "x86_64" => ProfileId::XenPv,
        "s390x" => ProfileId::S390,
        "ppc64le" => ProfileId::PowerpcHash,
        "sparc64" => ProfileId::Sparc64,
        "aarch64" => ProfileId::Arm64,
        _ => return Vec::new(),
    };
    if cell(judged, home) != "silent" {
        return Vec::new();
    }
    let classes = judged.outcome.classes(&Names(&judged.scenario.symbols));
    let errors = classes.iter().filter(|class| class.rule.info().severity == Severity::Error);
    let silent = errors.filter_map(|class| {
        let line = class.profiles.iter().find(|line| line.profile == home && !line.breaks)?;
        let (rule, profile) = (class.rule.info().name, home.profile().name);
        Some(format!("{}: {rule} is silent on {profile}: {}", judged.name, line.why))
    });
    silent.collect()
}
