//! tools/testing/kunit/kunit_parser.py of the kernels that are tested.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{report, variable};

/// What the parser of the kernel tree makes of a report.
fn parse(tree: &Path, arguments: &[&str], expected: i32) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.ktap");
    assert_eq!(report(&[&["--format", "ktap"], arguments].concat(), &file), Some(expected));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/kunit.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(tree.join("tools/testing/kunit"))
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn sample(variable_name: &str) {
    let tree = variable(variable_name);
    let read = parse(&tree, &[], 1);
    assert_eq!(read["errors"], 0, "{read:#}");
    assert_eq!((&read["failed"], &read["skipped"], &read["crashed"]), (&2.into(), &0.into(), &0.into()));
    assert_eq!(read["status"], "FAILURE");
    let first = &read["tests"][0];
    assert_eq!((&first["name"], &first["status"]), (&"read-pending".into(), &"FAILURE".into()));
    let name = first["subtests"][0]["name"].as_str().unwrap();
    assert!(
        name.starts_with("ptep_get in copy_pte_range after set_ptes in restore_exclusive_pte ["),
        "{name}"
    );
    let last = read["tests"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["name"], &last["status"]), (&"nothing-missed".into(), &"SUCCESS".into()));
}

fn known(variable_name: &str) {
    let tree = variable(variable_name);
    let directory = tempfile::tempdir().unwrap();
    let baseline = directory.path().join("known.toml");
    let baseline = baseline.to_str().unwrap();
    assert_eq!(
        report(&["--baseline", baseline, "--update-baseline"], &directory.path().join("first")),
        Some(0)
    );
    let read = parse(&tree, &["--baseline", baseline], 0);
    assert_eq!(
        (&read["errors"], &read["failed"], &read["skipped"]),
        (&0.into(), &0.into(), &2.into()),
        "{read:#}"
    );
    assert_eq!(read["tests"][0]["subtests"][0]["status"], "SKIPPED");
}

mod series_7 {
    #[test]
    fn the_sample_is_read_without_an_error() {
        super::sample("LAZYMMU_KERNEL_SOURCE_7");
    }

    #[test]
    fn what_is_known_is_skipped() {
        super::known("LAZYMMU_KERNEL_SOURCE_7");
    }
}

mod series_6_12 {
    #[test]
    fn the_sample_is_read_without_an_error() {
        super::sample("LAZYMMU_KERNEL_SOURCE_6_12");
    }

    #[test]
    fn what_is_known_is_skipped() {
        super::known("LAZYMMU_KERNEL_SOURCE_6_12");
    }
}
