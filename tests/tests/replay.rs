//! `lazymmu replay` of the sample inside the binary, of what is left of damaged copies of it, and of what is no trace.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::path::Path;

use lazymmu_tests::{Report, Said, lazymmu};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../daemon/sample/fork-exclusive.lmt");

fn sample() -> Vec<u8> {
    std::fs::read(SAMPLE).unwrap()
}

/// Replays these bytes.
fn replay(bytes: &[u8]) -> Said {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    replay_file(file.path())
}

fn replay_file(path: &Path) -> Said {
    lazymmu(["replay".as_ref(), path.as_os_str(), "--format".as_ref(), "json".as_ref()]).unwrap()
}

#[test]
fn the_sample_has_the_known_hazard() {
    let said = lazymmu(["replay", "--format", "json"]).unwrap();
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("embedded sample"), "{}", said.stderr);
    let report = said.report().unwrap();

    let reads = report.findings("read-pending");
    let read = reads.iter().find(|finding| {
        Report::functions(finding, "write").contains(&"restore_exclusive_pte")
            && Report::functions(finding, "access").contains(&"copy_pte_range")
    });
    let read = read.unwrap_or_else(|| panic!("no such read in {:#}", report.0["findings"]));
    let frames = read["access"]["stack"].as_array().unwrap();
    assert!(frames.iter().any(|frame| frame["inlined"] == true), "no inlined frame in {frames:#?}");

    let changes = report.findings("rmw-pending");
    let change = changes.iter().find(|finding| finding["access"]["op"] == "wrprotect_ptes");
    let change = change.unwrap_or_else(|| panic!("no such change in {:#}", report.0["findings"]));

    for finding in [read, change] {
        assert_eq!(Report::breaks(finding, "xen-pv"), Some(true), "{finding:#}");
        assert_eq!(Report::breaks(finding, "arm64"), Some(false), "{finding:#}");
    }
}

#[test]
fn the_sample_is_small_and_the_same_from_a_file() {
    assert!(sample().len() < 512 * 1024);
    let embedded = lazymmu(["replay", "--format", "json"]).unwrap();
    let from_file = replay_file(Path::new(SAMPLE));
    assert_eq!(from_file.code, embedded.code);
    assert!(from_file.stdout == embedded.stdout, "the sample's file gives another report");
}

/// `trace` cuts at every byte; this looks at what the command makes of some of them.
#[test]
fn a_cut_trace_replays_up_to_the_cut() {
    let whole = sample();
    for parts in [1, 9, 25, 50, 75, 95, 99] {
        let said = replay(&whole[..whole.len() * parts / 100]);
        match said.code {
            Some(1 | 3) => {
                let report = said.report().unwrap();
                assert!(!report.0["damage"].is_null(), "cut to {parts} %: the damage is not told");
                assert!(said.stderr.contains("damaged"), "cut to {parts} %: {}", said.stderr);
            }
            Some(2) => assert!(parts < 25 && said.stdout.is_empty(), "cut to {parts} %: {}", said.stderr),
            other => panic!("cut to {parts} %: {other:?}: {}", said.stderr),
        }
    }
}

#[test]
fn a_flipped_byte_is_told() {
    let whole = sample();
    for position in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[position] ^= 0x5a;
        let said = replay(&bytes);
        assert!(matches!(said.code, Some(1..=3)), "byte {position}: {:?}: {}", said.code, said.stderr);
        assert!(!said.stderr.trim().is_empty(), "byte {position}: nothing was said");
        assert!(!said.stderr.contains("panicked"), "byte {position}: {}", said.stderr);
    }
}

#[test]
fn what_is_no_trace_is_refused() {
    let mut newer = sample();
    // docs/trace-format.md: the major version stands after the eight bytes of the magic.
    newer[8] = newer[8].wrapping_add(1);
    for (what, bytes) in [
        ("an empty file", Vec::new()),
        ("a text", b"Section headers:\n".repeat(100)),
        ("a newer major version", newer),
    ] {
        let said = replay(&bytes);
        assert_eq!(said.code, Some(2), "{what}: {}", said.stderr);
        assert!(said.stdout.is_empty(), "{what}: {}", String::from_utf8_lossy(&said.stdout));
        assert_eq!(said.stderr.trim_end().lines().count(), 1, "{what}: not one message: {}", said.stderr);
    }
    let missing = replay_file(Path::new("/nowhere/trace.lmt"));
    assert_eq!(missing.code, Some(2), "{}", missing.stderr);
    assert!(missing.stderr.contains("/nowhere/trace.lmt"), "{}", missing.stderr);
}
