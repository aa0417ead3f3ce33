//! Filters, reduced traces and suppressions through the built binary, over the embedded sample.
//!
//! `LAZYMMU_BLESS=1 cargo test -p lazymmu` writes the files in `golden/` anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn lazymmu(args: &[&str]) -> Output {
    // From here, so that the names of files are the same on every machine.
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    Command::new(env!("CARGO_BIN_EXE_lazymmu")).args(args).current_dir(data).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The exit status and the document.
fn json(args: &[&str]) -> (i32, Value) {
    let output = lazymmu(&[&["replay", "--format", "json"], args].concat());
    let document = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), document.unwrap_or_else(|error| panic!("{error}: {output:?}")))
}

/// What a reduced trace must not change.
fn verdict(document: &Value) -> Vec<Value> {
    let parts = ["verdict", "reasons", "losses", "findings", "suppressed", "damage"];
    parts.iter().map(|part| document.get(part).cloned().unwrap_or_default()).collect()
}

fn check(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("LAZYMMU_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    assert_eq!(
        actual,
        std::fs::read_to_string(&path).unwrap_or_default(),
        "{name} differs; see the top of this file"
    );
}

#[test]
fn a_reduced_trace_has_the_findings_of_the_filter_on_the_whole_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut sizes = Vec::new();
    for (number, filter) in [
        "rule=read-pending",
        "rule=rmw-pending and function=copy_present_ptes",
        "not rule=read-pending",
        "function=copy_page_range",
        "function=zap_pte_range",
        "comm=lazymmu and cpu=0 and level=pte",
        "tid!=0",
        "pid=1",
        "time=..10ms",
        "time=20ms..",
        "level=pmd or (time=1ms..1s and not function=exit_mmap)",
    ]
    .into_iter()
    .enumerate()
    {
        let reduced = directory.path().join(format!("{number}.lmt"));
        let reduced = reduced.to_str().unwrap();
        let whole = json(&["--filter", filter]);
        let kept = json(&["--keep", filter, "-o", reduced]);
        assert_eq!(whole, kept, "{filter}: --keep reports as --filter does");
        let (status, document) = json(&[reduced]);
        assert_eq!((status, verdict(&document)), (whole.0, verdict(&whole.1)), "{filter}");
        assert_eq!(document["filter"]["trace"], document["filter"]["expression"], "{filter}");
        let total = |document: &Value| document["records"]["total"].as_u64().unwrap();
        assert!(total(&document) <= total(&whole.1), "{filter}");
        sizes.push(total(&document));
    }
    let (_, sample) = json(&[]);
    let all = sample["records"]["total"].as_u64().unwrap();
    assert!(sizes[0] < all / 10, "the hazards are in few sections: {} of {all}", sizes[0]);
    assert!(sizes[7] > 0 && sizes[7] < all, "mode calls are always there: {sizes:?}");
}

#[test]
fn a_reduced_trace_can_be_reduced_again() {
    let directory = tempfile::tempdir().unwrap();
    let [once, twice] = ["once.lmt", "twice.lmt"].map(|name| directory.path().join(name));
    let [once, twice] = [once.to_str().unwrap(), twice.to_str().unwrap()];
    json(&["--keep", "function=copy_page_range", "-o", once]);
    json(&[once, "--keep", "rule=rmw-pending", "-o", twice]);
    let (status, document) = json(&[twice]);
    let both = "function=copy_page_range and rule=rmw-pending";
    assert_eq!(document["filter"]["expression"], both);
    let (expected, whole) = json(&["--filter", both]);
    assert_eq!((status, verdict(&document)), (expected, verdict(&whole)));
    assert_eq!(status, 1);
}

#[test]
fn options_are_short_for_an_expression() {
    let options = ["--pid", "42,43", "--comm", "lazy*", "--rule", "rmw-pending", "--level", "pte"];
    let (_, by_options) = json(&[&options[..], &["--function", "dup_mmap"]].concat());
    let expression = "pid=42,43 and comm=lazy* and function=dup_mmap and rule=rmw-pending and level=pte";
    assert_eq!(by_options["filter"]["expression"], expression);
    assert_eq!(by_options, json(&["--filter", expression]).1);
}

#[test]
fn a_filter_that_selects_nothing_leaves_a_clean_verdict() {
    let (status, document) = json(&["--filter", "pid=999999"]);
    assert_eq!((status, &document["verdict"]), (0, &Value::from("clean")));
    assert_eq!(document["findings"], Value::Array(Vec::new()));
}

#[test]
fn the_text_of_a_filtered_report() {
    let args =
        ["replay", "--filter", "pid!=42", "--suppressions", "suppressions.toml", "--today", "2026-10-01"];
    let output = lazymmu(&args);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    check("filtered.txt", text(&output.stdout));
}

#[test]
fn suppressed_findings_do_not_count_but_are_told() {
    let args = ["--suppressions", "suppressions.toml", "--rule", "read-pending", "--rule", "rmw-pending"];
    let (status, document) = json(&[&args[..], &["--today", "2026-11-20"]].concat());
    assert_eq!((status, &document["verdict"]), (0, &Value::from("clean")), "{document:#}");
    assert_eq!(document["suppressed"].as_array().unwrap().len(), 2);
    assert_eq!(document["suppressed"][0]["by"][0]["file"], "suppressions.toml");
    assert_eq!(document["suppressed"][0]["by"][0]["line"], 2);
    assert_eq!(
        document["suppressions"]["unused"],
        Value::Array(Vec::new()),
        "a filter hides what they may match"
    );

    let whole = lazymmu(&["replay", "--suppressions", "suppressions.toml", "--today", "2026-11-20"]);
    check("suppressed.txt", text(&whole.stdout));
}

#[test]
fn what_day_it_is_decides_what_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.toml");
    std::fs::write(&file, "[[suppress]]\nrule = \"*\"\nreason = \"r\"\nexpires = 2027-01-01\n").unwrap();
    let on = |today: &str| json(&["--suppressions", file.to_str().unwrap(), "--today", today]).0;
    assert_eq!((on("2026-12-31"), on("2027-01-01")), (0, 1));
}

#[test]
fn errors_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("broken.toml");
    std::fs::write(&broken, "[[suppress]]\nrule = \"read-pending\"\n").unwrap();
    let broken = broken.to_str().unwrap();
    let trace = directory.path().join("t.lmt");
    let trace = trace.to_str().unwrap();
    assert_eq!(json(&["--keep", "pid=1", "-o", trace]).0, 0);
    for (args, message) in [
        (
            &["--rule", "nope"][..],
            "failed to filter by the rule nope: there is none; `lazymmu explain` lists them",
        ),
        (&["--filter", "pid"], "failed to understand the filter at character 4: expected `=` or `!=`"),
        (&["--today", "2026-02-30"], "there is no 2026-02-30 in the calendar"),
        (
            &["-o", "x.lmt"],
            "failed to write a reduced trace: nothing says what to keep; give --keep or another filter",
        ),
        (&["--keep", "pid=1"], "--output <TRACE>"),
        (&[trace, "--keep", "pid=1", "-o", trace], "it is the one that is read"),
        (&["--suppressions", "no-such.toml"], "failed to read the suppressions no-such.toml: No such file"),
        (&["--suppressions", broken], "line 1: `reason` is missing: each entry says why this is no hazard"),
    ] {
        let output = lazymmu(&[&["replay"], args].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?}: {stderr}");
    }
    assert_eq!(json(&[trace]).0, 0, "the trace was left alone");
}

#[test]
fn a_rule_that_does_not_exist_is_a_warning_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.toml");
    std::fs::write(&file, "\n[[suppress]]\nrule = \"of-tomorrow\"\nreason = \"r\"\n").unwrap();
    let output = lazymmu(&["replay", "--suppressions", file.to_str().unwrap()]);
    let warning = format!("lazymmu: {}:2: this version has no rule of-tomorrow,", file.display());
    assert!(text(&output.stderr).contains(&warning), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_trace_reduced_by_a_filter_of_another_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t.lmt");
    let mut header = lazymmu_trace::Header::default();
    header.capture.filter = Some("moon=full".to_owned());
    lazymmu_trace::Writer::create(&file, &header).unwrap().finish().unwrap();
    let output = lazymmu(&["replay", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let expected =
        "it was reduced by the filter moon=full, which this version of lazymmu does not understand";
    assert!(text(&output.stderr).contains(expected), "{output:?}");
}
