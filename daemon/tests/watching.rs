//! A session with a view, as far as that can be seen without a capture; the rest is tried in a virtual machine.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::process::Command;

#[test]
fn without_a_terminal_nothing_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.lmt");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lazymmu"));
    command.args(["live", "--tui", "--record"]).arg(&trace).args(["--", "true"]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(
        said,
        "lazymmu: failed to show the session: stdout is no terminal; without --tui it is reported as text\n"
    );
    assert!(output.stdout.is_empty() && !trace.exists());
}

#[test]
fn what_concerns_the_view_is_refused_without_one() {
    for words in [&["--theme", "mono"][..], &["--ascii"], &["--no-mouse"], &["--keys", "5"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lazymmu"));
        let output = command.arg("live").args(words).args(["--", "true"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("there is none without --tui"), "{said}");
    }
}
