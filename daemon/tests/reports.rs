//! `report`, baselines and `diff` through the built binary, over the embedded sample and small scenarios.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn lazymmu(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lazymmu")).args(args).output().unwrap()
}

fn status(args: &[&str]) -> i32 {
    lazymmu(args).status.code().unwrap()
}

fn stdout(args: &[&str]) -> String {
    String::from_utf8(lazymmu(args).stdout).unwrap()
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().unwrap().to_owned()
}

const FORMATS: [&str; 8] = ["human", "json", "jsonl", "sarif", "junit", "ktap", "html", "github"];

#[test]
fn the_same_trace_gives_the_same_bytes_wherever_and_however_it_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let file = path(directory.path(), format);
        assert_eq!(status(&["report", "--format", format, "-o", &file]), 1, "{format}");
        let written = fs::read(&file).unwrap();
        assert!(!written.is_empty(), "{format}");
        let elsewhere = Command::new(env!("CARGO_BIN_EXE_lazymmu"))
            .args(["report", "--format", format])
            .current_dir("/")
            .envs([("LC_ALL", "tr_TR.UTF-8"), ("LANG", "de_DE"), ("TZ", "Asia/Tokyo"), ("COLUMNS", "40")])
            .envs([
                ("TERM", "dumb"),
                ("HOME", "/nonexistent"),
                ("HOSTNAME", "other"),
                ("RAYON_NUM_THREADS", "1"),
            ])
            .output()
            .unwrap();
        assert!(elsewhere.stdout == written, "{format} differs");
    }
}

#[test]
fn replay_has_every_form_too() {
    for format in FORMATS {
        let said = lazymmu(&["replay", "--format", format]);
        assert_eq!(said.status.code(), Some(1), "{format}");
        assert!(String::from_utf8(said.stdout).unwrap().contains("copy_pte_range"), "{format}");
    }
}

#[test]
fn a_report_shows_the_section_and_replay_does_not() {
    assert!(stdout(&["report"]).contains("Section so far"));
    assert!(!stdout(&["replay"]).contains("Section so far"));
    let document: Value = serde_json::from_str(&stdout(&["report", "--format", "json"])).unwrap();
    assert!(document["findings"][0]["timeline"]["steps"].as_array().unwrap().len() > 2);
    assert!(document["batches"]["total"]["batches"].as_u64().unwrap() > 0);
}

#[test]
fn what_cannot_be_written_is_an_error_of_one_line() {
    for file in ["/dev/full", "/nonexistent/folder/report.html", "/"] {
        let said = lazymmu(&["report", "--format", "html", "-o", file]);
        assert_eq!(said.status.code(), Some(2), "{file}");
        let stderr = String::from_utf8(said.stderr).unwrap();
        let last = stderr.lines().last().unwrap();
        assert!(last.contains(&format!("failed to write {file}: ")), "{stderr}");
    }
}

#[test]
fn a_report_is_not_written_over_its_trace() {
    let directory = tempfile::tempdir().unwrap();
    let trace = path(directory.path(), "one.scn");
    fs::write(&trace, HAZARD).unwrap();
    assert_eq!(status(&["report", &trace, "-o", &trace]), 2);
    assert_eq!(fs::read_to_string(&trace).unwrap(), HAZARD);
}

const HAZARD: &str =
    "scenario x\nkernel 7.2.13\nentry e pte x 4\ntask a on cpu 0 in f\nenter\nwrite e\nread e\nleave\n";

#[test]
fn a_baseline_tells_new_from_known_and_fixed() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let name = path(directory.path(), name);
        fs::write(&name, text).unwrap();
        name
    };
    let one = file("one.scn", HAZARD);
    let more =
        file("more.scn", &format!("{HAZARD}task a on cpu 0 in g\nenter\nwrite e[1]\nread e[1]\nleave\n"));
    let clean = file("clean.scn", &HAZARD.replace("read e\n", ""));
    let known = path(directory.path(), "known.toml");

    assert_eq!(status(&["report", &one, "--baseline", &known]), 2, "there is no such file");
    assert_eq!(status(&["report", &one, "--baseline", &known, "--update-baseline"]), 0);
    let text = fs::read_to_string(&known).unwrap();
    assert!(text.contains("first-seen = \"7.2.13\"") && text.contains("rule = \"read-pending\""), "{text}");
    fs::write(&known, text.replace("note = \"\"", "note = \"under review\"")).unwrap();

    assert_eq!(status(&["report", &one, "--baseline", &known]), 0);
    assert_eq!(status(&["replay", &one, "--baseline", &known]), 0);
    assert!(
        stdout(&["report", &one, "--baseline", &known])
            .contains("Baseline: known since 7.2.13: under review.")
    );
    let ktap = stdout(&["report", &one, "--baseline", &known, "--format", "ktap"]);
    assert!(ktap.contains("# SKIP known since 7.2.13: under review") && !ktap.contains("not ok"), "{ktap}");

    assert_eq!(status(&["report", &more, "--baseline", &known]), 1);
    let document: Value =
        serde_json::from_str(&stdout(&["report", &more, "--baseline", &known, "--format", "json"])).unwrap();
    assert_eq!((&document["baseline"]["new"], &document["baseline"]["known"]), (&1.into(), &1.into()));
    let sarif: Value =
        serde_json::from_str(&stdout(&["report", &more, "--baseline", &known, "--format", "sarif"])).unwrap();
    let states: Vec<_> = sarif["runs"][0]["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| &result["baselineState"])
        .collect();
    assert!(
        states.contains(&&Value::from("new")) && states.contains(&&Value::from("unchanged")),
        "{states:?}"
    );

    assert_eq!(status(&["report", &clean, "--baseline", &known]), 0);
    let human = stdout(&["report", &clean, "--baseline", &known]);
    assert!(human.contains("0 new, 0 known, 1 fixed"), "{human}");
    let sarif = stdout(&["report", &clean, "--baseline", &known, "--format", "sarif"]);
    assert!(sarif.contains("\"baselineState\": \"absent\""));
    let filtered = stdout(&["report", &clean, "--baseline", &known, "--comm", "nobody"]);
    assert!(filtered.contains("1 not seen"), "what a filter hides is not fixed: {filtered}");

    assert_eq!(status(&["report", &more, "--baseline", &known, "--update-baseline"]), 0);
    assert!(fs::read_to_string(&known).unwrap().contains("under review"), "notes are kept");
    assert_eq!(status(&["report", &more, "--baseline", &known]), 0);
    assert_eq!(status(&["report", &clean, "--baseline", &known, "--update-baseline"]), 0);
    assert!(!fs::read_to_string(&known).unwrap().contains("[[known]]"), "what is fixed goes");
    assert_eq!(status(&["report", &one, "--baseline", &known]), 1, "and is new when it comes back");
}

#[test]
fn a_bad_baseline_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let known = path(directory.path(), "known.toml");
    let entry = "[[known]]\nfingerprint = \"1\"\nrule = \"r\"\nwhat = \"w\"\nfirst-seen = \"7\"\n";
    for (text, why) in [
        ("version = 2\n".to_owned(), "its version is 2"),
        ("version = 1\nknwon = 3\n".to_owned(), "unknown field"),
        (format!("version = 1\n{entry}{entry}"), "twice"),
    ] {
        fs::write(&known, text).unwrap();
        let said = lazymmu(&["replay", "--baseline", &known]);
        let stderr = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("known.toml") && stderr.contains(why), "{stderr}");
    }
}

#[test]
fn two_traces_or_reports_are_compared() {
    let directory = tempfile::tempdir().unwrap();
    let old = path(directory.path(), "old.scn");
    let new = path(directory.path(), "new.scn");
    fs::write(&old, format!("{HAZARD}task a on cpu 0 in g\nenter\nwrite e[1]\nread e[1]\nleave\n")).unwrap();
    fs::write(&new, format!("{HAZARD}task a on cpu 0 in f\nenter\nwrite e\nread e\nleave\ntask a on cpu 0 in h\nenter\nwrite e[1]\nread e[1]\nleave\n")).unwrap();
    let said = lazymmu(&["diff", &old, &new]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(1), "{text}");
    for part in
        ["New in B:", "ptep_get in h", "Gone in B:", "ptep_get in g", "seen 1 -> 2 times", "batches of 1"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // A report stands for its trace.
    let json = path(directory.path(), "old.json");
    lazymmu(&["report", &old, "--format", "json", "-o", &json]);
    let of = |before: &str| -> Value {
        serde_json::from_str(&stdout(&["diff", before, &new, "--format", "json"])).unwrap()
    };
    let (mut traces, mut mixed) = (of(&old), of(&json));
    for document in [&mut traces, &mut mixed] {
        document["before"]["name"] = Value::Null;
    }
    assert_eq!(traces, mixed);
    assert_eq!(status(&["diff", &old, &old]), 0);
    assert_eq!(status(&["diff", &old, "/dev/null"]), 2);
    fs::write(&json, "{\"schema\": 9}").unwrap();
    assert_eq!(status(&["diff", &json, &old]), 2);
}
