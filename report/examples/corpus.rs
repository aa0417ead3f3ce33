//! The table of `cargo xtask corpus`: what each scenario of the corpus gives on each profile. Exits with 1 if anything is
//! not as the scenario expects it.

#![allow(clippy::unwrap_used, reason = "an error ends the program, and its message says enough")]

#[path = "../tests/corpus_support/mod.rs"]
mod corpus;

use std::process::ExitCode;

use corpus::{Judged, TWIN};
use lazymmu_hazard::profile::{PROFILES, ProfileId};
use lazymmu_hazard::rules::Severity;
use lazymmu_report::expectation::Met;
use lazymmu_trace::scenario::Expected;

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
    for judged in &all {
        for complaint in judged.checked.complaints() {
            println!("{}.scn: {complaint}", judged.name);
        }
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `found`, `accepted` for what is reported and no bug, or `silent`.
fn cell(judged: &Judged, profile: ProfileId) -> &'static str {
    let breaks = |occurrence: &&lazymmu_hazard::Occurrence| {
        occurrence.breaks.has(profile) && occurrence.place.rule.info().severity == Severity::Error
    };
    if !judged.outcome.occurrences.iter().any(|occurrence| breaks(&occurrence)) {
        return "silent";
    }
    let accepted = judged
        .scenario
        .expectations
        .iter()
        .any(|expectation| matches!(&expectation.what, Expected::Finding(finding) if finding.accepted));
    if accepted { "accepted" } else { "found" }
}
