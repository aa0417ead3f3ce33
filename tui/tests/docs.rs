//! docs/tui.md against the table of actions. With `LAZYMMU_BLESS=1` in the environment its tables are written anew.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use lazymmu_tui::{ACTIONS, Group};

const FROM: &str = "<!-- the table of actions: do not edit by hand -->\n";
const TO: &str = "<!-- end of the table -->\n";

fn table() -> String {
    let mut text = String::new();
    for group in Group::ALL {
        let _ = write!(text, "\n### {}\n\n| keys | name | what it does |\n|---|---|---|\n", group.title());
        for info in ACTIONS.iter().filter(|info| info.group == group) {
            let keys: Vec<_> = info.keys.iter().map(|key| format!("`{key}`")).collect();
            let _ = writeln!(text, "| {} | `{}` | {} |", keys.join(" "), info.name, info.text);
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_documentation_has_every_action_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tui.md");
    let text = fs::read_to_string(&path).unwrap();
    let from = text.find(FROM).unwrap() + FROM.len();
    let to = text.find(TO).unwrap();
    if std::env::var_os("LAZYMMU_BLESS").is_some() {
        fs::write(&path, format!("{}{}{}", &text[..from], table(), &text[to..])).unwrap();
        return;
    }
    assert_eq!(text[from..to], table());
}
