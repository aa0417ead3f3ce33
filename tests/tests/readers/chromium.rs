//! The HTML page in a browser without a window.

use std::process::Command;

use crate::{report, variable};

/// The page after the browser has read it.
fn shown() -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.html");
    assert_eq!(report(&["--format", "html"], &file), Some(1));
    let profile = directory.path().join("profile");
    let output = Command::new(variable("LAZYMMU_CHROMIUM"))
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_page_shows_the_finding_both_stacks_and_the_timeline() {
    let page = shown();
    for part in [
        "2 hazards, seen 128 times",
        "<h2>read-pending in <code>copy_pte_range</code></h2>",
        "<ol class=\"stack access\">",
        "<ol class=\"stack write\">",
        "<b>restore_exclusive_pte</b>",
        "mm/memory.c:1309",
        "<svg class=\"timeline\"",
        "<circle class=\"ring\"",
        "<svg class=\"histogram\"",
        "<h2>Coverage</h2>",
    ] {
        assert!(page.contains(part), "{part} is not in the page");
    }
    // What the browser had to mend would move to other places, or end the body early.
    let (body, rest) = page.split_once("<footer>").unwrap();
    assert!(body.contains("</main>") && rest.trim_end().ends_with("</html>"));
}
