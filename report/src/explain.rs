//! What `lazymmu explain` prints: the text that each rule says of itself, and what each profile defers.

use std::fmt::Write as _;

use lazymmu_hazard::profile::{Does, Ops, PROFILES, Profile, Row, Source};
use lazymmu_hazard::rules::{RULES, RuleId};

use crate::style::{Role, Style};
use crate::wrap::wrap;

/// The text of one rule.
#[must_use]
pub fn explain(rule: RuleId, style: Style) -> String {
    let info = rule.info();
    let mut text =
        format!("{} ({}): {}\n", style.paint(Role::Title, info.name), info.severity.name(), info.title);
    part(&mut text, style, "What it catches", info.explanation);
    part(&mut text, style, "Contract", &format!("\"{}\"\n{}", info.contract, info.contract_source));
    part(&mut text, style, "Example", info.example);
    part(&mut text, style, "Architectures", info.profiles);
    part(&mut text, style, "What it cannot see", info.blind_spots);
    text
}

/// One line per rule.
#[must_use]
pub fn list_rules(style: Style) -> String {
    let mut text = String::new();
    for rule in &RULES {
        let name = style.paint(Role::Name, &format!("{:<14}", rule.info.name));
        let _ = writeln!(text, "{name} {}", rule.info.title);
    }
    text
}

/// The tables of all profiles, with their sources.
#[must_use]
pub fn list_profiles(style: Style) -> String {
    PROFILES.iter().map(|profile| profile_text(profile, style)).collect::<Vec<_>>().join("\n")
}

fn profile_text(profile: &Profile, style: Style) -> String {
    let mut text =
        format!("{} ({}): {}\n", style.paint(Role::Title, profile.name), profile.title, profile.summary);
    for row in profile.rows {
        let _ = writeln!(text, "  {}: {}", style.paint(Role::Name, &ops(row)), does(row.does));
        for line in wrap(row.why, 4).into_iter().chain(wrap(&source(row.source), 4)) {
            let _ = writeln!(text, "{line}");
        }
    }
    for flush in profile.flushes {
        let _ = writeln!(text, "  flushed by itself ({:?})", flush.on);
        for line in wrap(&source(flush.source), 4) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

fn ops(row: &Row) -> String {
    match row.ops {
        Ops::These(ops) => ops.iter().map(|op| op.name()).collect::<Vec<_>>().join(", "),
        Ops::Rest(kind) => format!("every other {}", kind.name()),
    }
}

fn does(does: Does) -> &'static str {
    match does {
        Does::Queues => "queued",
        Does::AtOnce => "at once",
        Does::FlushesFirst => "flushes first",
        Does::ReadsMemory => "reads memory",
        Does::InOrder => "in order with the queue",
    }
}

fn source(source: Source) -> String {
    match source {
        Source::Kernel(place) => format!("[{place}]"),
        Source::Mail(id) => format!("[{id}]"),
        Source::Unverified(from) => format!("[not checked: {from}]"),
    }
}

fn part(text: &mut String, style: Style, title: &str, body: &str) {
    let _ = writeln!(text, "\n{}", style.paint(Role::Title, title));
    for line in wrap(body, 2) {
        let _ = writeln!(text, "{line}");
    }
}
