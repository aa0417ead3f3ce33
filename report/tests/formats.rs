//! The forms that programs read, over histories that are written down here and over the embedded sample: against the
//! files in `golden/`, and read back by parsers that are not ours.
//!
//! `LAZYMMU_BLESS=1 cargo test -p lazymmu-report` writes the files anew; look at the difference before it is committed.
//! What the kernel's own parser of KTAP makes of it is tested in `tests/`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

#[cfg(test)]
#[path = "golden_support/scenario.rs"]
mod scenario;

use std::path::{Path, PathBuf};
use std::process::Command;

use lazymmu_report::{Date, Report, Session, Suppressions};
use scenario::Scenario;
use serde_json::Value;

fn report(scenario: &Scenario) -> Report {
    let Scenario { header, symbols, outcome, damage } = scenario;
    Report::new(&Session { header, symbols, outcome, damage: *damage })
}

/// One of the two hazards of the fork does not count.
fn suppressed() -> Report {
    let mut scenario = scenario::fork_exclusive();
    let mut suppressions = Suppressions::none();
    let entry = "[[suppress]]\nrule = \"rmw-pending\"\nreason = \"50% sure: it's # fine, <here>\"\n";
    suppressions.add("known.toml", entry).unwrap();
    let applied =
        suppressions.apply(&mut scenario.outcome, &scenario.symbols, Date::from_days_since_1970(20_000));
    let Scenario { header, symbols, outcome, damage } = &scenario;
    let session = Session { header, symbols, outcome, damage: *damage };
    Report::new(&session).with_suppressed(&suppressions, &applied, &session)
}

/// Every report of these tests, by name.
fn reports() -> Vec<(&'static str, Report)> {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../daemon/sample/fork-exclusive.lmt");
    vec![
        ("fork-exclusive", report(&scenario::fork_exclusive())),
        ("clean", report(&scenario::clean())),
        ("proven-lossy", report(&scenario::proven_and_lossy())),
        ("inconclusive", report(&scenario::inconclusive())),
        ("suppressed", suppressed()),
        ("sample", report(&scenario::of_trace(sample))),
        ("hostile", report(&scenario::hostile())),
    ]
}

fn check(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("LAZYMMU_BLESS").is_some() {
        assert!(std::fs::write(&path, actual).is_ok(), "{name} cannot be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{name} differs; see the top of this file");
}

#[test]
fn every_form_is_what_it_was() {
    for (name, report) in reports() {
        // The rules fill most of it, and are the same in each.
        if ["fork-exclusive", "inconclusive", "suppressed"].contains(&name) {
            check(&format!("{name}.sarif"), &report.sarif());
        }
        check(&format!("{name}.junit.xml"), &report.junit());
        check(&format!("{name}.ktap"), &report.ktap());
        check(&format!("{name}.github.txt"), &report.github());
    }
    check("suppressed.jsonl", &suppressed().jsonl());
}

/// The schema that the standard publishes, as the crate `serde-sarif` carries it.
fn published_schema() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = Command::new(cargo)
        // Only what this machine builds with, which is here.
        .args(["metadata", "--format-version", "1", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "serde-sarif").unwrap();
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    let schema = std::fs::read_to_string(manifest.with_file_name("src").join("schema.json")).unwrap();
    let mut schema: Value = serde_json::from_str(&schema).unwrap();
    // A pattern with a bracket too many, which not every engine of regular expressions takes; reports have no language.
    for definition in ["run", "toolComponent"] {
        let language = schema.pointer_mut(&format!("/definitions/{definition}/properties/language")).unwrap();
        assert!(language.as_object_mut().unwrap().remove("pattern").is_some());
    }
    assert!(schema["description"].as_str().unwrap().contains("(SARIF) Version 2.1.0"));
    schema
}

fn validator() -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(&published_schema()).unwrap()
}

#[test]
fn sarif_holds_to_the_published_schema() {
    let validator = validator();
    for (name, report) in reports() {
        let document: Value = serde_json::from_str(&report.sarif()).unwrap();
        let errors: Vec<_> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_published_schema_refuses_what_is_wrong() {
    let validator = validator();
    let good: Value = serde_json::from_str(&suppressed().sarif()).unwrap();
    let broken: [(&str, Value); 6] = [
        ("/version", "2.0.0".into()),
        ("/runs/0/results/0/level", "fatal".into()),
        ("/runs/0/results/0/occurrenceCount", 0.into()),
        ("/runs/0/results/0/locations/0/physicalLocation/region/startLine", 0.into()),
        ("/runs/0/results/0/stacks/0/frames", Value::Null),
        ("/runs/0/results/1/suppressions/0/kind", "mine".into()),
    ];
    for (place, value) in broken {
        let mut document = good.clone();
        *document.pointer_mut(place).unwrap() = value;
        assert!(!validator.is_valid(&document), "{place}");
    }
}

/// What another program's types make of it.
#[test]
fn sarif_is_read_back() {
    let read = |report: &Report| serde_json::from_str::<serde_sarif::sarif::Sarif>(&report.sarif()).unwrap();
    let log = read(&report(&scenario::fork_exclusive()));
    let results = log.runs[0].results.as_ref().unwrap();
    assert_eq!(results.len(), 2);
    let result = &results[0];
    assert_eq!(result.rule_id.as_deref(), Some("read-pending"));
    let rules = log.runs[0].tool.driver.rules.as_ref().unwrap();
    assert_eq!(rules[usize::try_from(result.rule_index.unwrap()).unwrap()].id, "read-pending");
    assert_eq!(result.occurrence_count, Some(3));
    let place = result.locations.as_ref().unwrap()[0].physical_location.as_ref().unwrap();
    assert_eq!(place.artifact_location.as_ref().unwrap().uri.as_deref(), Some("mm/memory.c"));
    assert_eq!(place.region.as_ref().unwrap().start_line, Some(1309));
    let stacks = result.stacks.as_ref().unwrap();
    assert_eq!(stacks.len(), 3, "the access, the write and the opener");
    let inlined = &stacks[1].frames[0].location.as_ref().unwrap();
    assert_eq!(inlined.logical_locations.as_ref().unwrap()[0].name.as_deref(), Some("restore_exclusive_pte"));
    assert_eq!(result.partial_fingerprints.as_ref().unwrap().len(), 1);
    assert_eq!(result.suppressions, None);

    let log = read(&suppressed());
    let results = log.runs[0].results.as_ref().unwrap();
    let suppression = &results[1].suppressions.as_ref().unwrap()[0];
    assert!(suppression.justification.as_ref().unwrap().contains("it's # fine, <here>"));

    let log = read(&report(&scenario::inconclusive()));
    let invocation = &log.runs[0].invocations.as_ref().unwrap()[0];
    assert_eq!(invocation.tool_execution_notifications.as_ref().unwrap().len(), 4);
}

/// Another crate's parser of JUnit: passed, failed, errors and skipped by what the report has.
#[test]
fn junit_is_read_back() {
    for (name, report) in reports() {
        let suites = junit_parser::from_reader(report.junit().as_bytes()).unwrap();
        let hazards = report.findings.iter().filter(|finding| finding.severity == "error").count() as u64;
        let failures: u64 = suites.suites.iter().map(|suite| suite.failures).sum();
        let errors: u64 = suites.suites.iter().map(|suite| suite.errors).sum();
        let skipped: u64 = suites.suites.iter().map(|suite| suite.skipped).sum();
        assert_eq!(failures, hazards, "{name}");
        assert_eq!(errors, report.reasons.len() as u64, "{name}");
        assert_eq!(skipped, report.suppressed.len() as u64, "{name}");
        let cases = suites.suites.iter().flat_map(|suite| &suite.cases);
        for case in cases.clone().filter(|case| case.status.is_failure()) {
            let failure = case.status.failure_as_ref();
            assert!(
                failure.text.contains("Breaks on:") || failure.text.contains("HAZARD"),
                "{name}: {}",
                failure.text
            );
        }
        assert!(cases.count() > lazymmu_hazard::rules::RULES.len(), "{name}: each rule says something");
    }
    let suites = junit_parser::from_reader(report(&scenario::fork_exclusive()).junit().as_bytes()).unwrap();
    let case = &suites.suites[0].cases[0];
    assert_eq!((case.file.as_deref(), case.line), (Some("mm/memory.c"), Some(1309)));
    assert_eq!(case.classname.as_deref(), Some("read-pending"));
    assert!(case.status.failure_as_ref().text.contains("restore_exclusive_pte (mm/memory.c:905) (inlined)"));
}

#[test]
fn every_line_of_jsonl_is_a_document_and_together_they_are_the_report() {
    let report = suppressed();
    let lines: Vec<Value> = report.jsonl().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let whole: Value = serde_json::from_str(&report.json()).unwrap();
    let of = |name: &str| lines.iter().filter_map(|line| line.get(name).cloned()).collect::<Vec<_>>();
    assert_eq!(Value::from(of("finding")), whole["findings"]);
    assert_eq!(Value::from(of("suppressed")), whole["suppressed"]);
    let mut head = whole.as_object().unwrap().clone();
    head.retain(|name, _| name != "findings" && name != "suppressed");
    assert_eq!(of("report"), [Value::from(head)]);
    assert!(lines[0].get("report").is_some());
}

#[test]
fn names_from_a_hostile_kernel_stay_where_they_are() {
    let report = report(&scenario::hostile());
    for line in report.github().lines() {
        assert!(
            line.starts_with("::error ") || line.starts_with("::warning ") || line.starts_with("::notice "),
            "{line}"
        );
    }
    for line in report.ktap().lines() {
        let known = ["KTAP version", "#", "1..", "ok ", "not ok "];
        assert!(known.iter().any(|start| line.trim_start().starts_with(start)), "{line}");
        assert!(
            line.trim_start().starts_with('#') || !line.contains("# SKIP"),
            "a name made a directive: {line}"
        );
    }
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    for ((_, once), (_, again)) in reports().into_iter().zip(reports()) {
        assert_eq!(once.sarif(), again.sarif());
        assert_eq!(once.junit(), again.junit());
        assert_eq!(once.ktap(), again.ktap());
        assert_eq!(once.github(), again.github());
        assert_eq!(once.jsonl(), again.jsonl());
    }
}
