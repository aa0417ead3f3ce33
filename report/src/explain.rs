//! What `lazymmu explain` prints: the text that each rule says of itself.

use std::fmt::Write as _;

use lazymmu_hazard::rules::{RULES, RuleId};

use crate::style::{Role, Style};

/// The text of one rule.
#[must_use]
pub fn explain(rule: RuleId, style: Style) -> String {
    let info = rule.info();
    let mut text =
        format!("{} ({}): {}\n", style.paint(Role::Title, info.name), info.severity.name(), info.title);
    let parts = [
        ("", info.explanation),
        ("Contract", info.contract),
        ("", info.contract_source),
        ("Example", info.example),
        ("Architectures", info.profiles),
        ("What it cannot see", info.blind_spots),
    ];
    for (title, body) in parts {
        if !title.is_empty() {
            let _ = write!(text, "\n{}\n", style.paint(Role::Title, title));
        } else {
            text.push('\n');
        }
        let _ = writeln!(text, "{body}");
    }
    text
}

/// One line per rule.
#[must_use]
pub fn list_rules(style: Style) -> String {
    RULES
        .iter()
        .map(|rule| format!("{}: {}\n", style.paint(Role::Name, rule.info.name), rule.info.title))
        .collect()
}
