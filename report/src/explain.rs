//! What `lazymmu explain` prints: the text that each rule says of itself, and what each profile defers.

use std::fmt::Write as _;

use lazymmu_hazard::profile::{
    Does, FlushOn, Happening, Ops, PROFILES, Profile, ProfileId, QueueOf, Row, Source,
};
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
        let name = style.paint(Role::Name, &format!("{:<19}", rule.info.name));
        let _ = writeln!(text, "{name} {}", rule.info.title);
    }
    text
}

/// The tables of all profiles, with their sources.
#[must_use]
pub fn list_profiles(style: Style) -> String {
    PROFILES.iter().map(|profile| profile_text(profile, style)).collect::<Vec<_>>().join("\n")
}

/// The table of one profile; `None` if there is none of that name.
#[must_use]
pub fn explain_profile(name: &str, style: Style) -> Option<String> {
    let found = ProfileId::ALL.into_iter().map(ProfileId::profile).find(|profile| profile.name == name)?;
    Some(profile_text(found, style))
}

/// The names of the profiles.
#[must_use]
pub fn profile_names() -> Vec<&'static str> {
    PROFILES.iter().map(|profile| profile.name).collect()
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
        let _ = writeln!(text, "  flushed by itself: {}", flush_on(flush.on));
        for line in wrap(&source(flush.source), 4) {
            let _ = writeln!(text, "{line}");
        }
    }
    let _ = writeln!(text, "  {}", queue_of(profile.queue.of));
    for line in wrap(profile.queue.why, 4).into_iter().chain(wrap(&source(profile.queue.source), 4)) {
        let _ = writeln!(text, "{line}");
    }
    for event in profile.events {
        let breaks = if event.breaks { "breaks" } else { "does no harm" };
        let _ = writeln!(text, "  {}: {breaks}", style.paint(Role::Name, happening(event.on)));
        for line in wrap(event.why, 4).into_iter().chain(wrap(&source(event.source), 4)) {
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
        Does::Nothing => "nothing",
    }
}

fn flush_on(on: FlushOn) -> String {
    match on {
        FlushOn::ContextSwitch => "at a context switch".to_owned(),
        FlushOn::BatchFull => "when the batch is full".to_owned(),
        FlushOn::InterruptWrite(ops) => {
            let ops: Vec<_> = ops.iter().map(|op| op.name()).collect();
            format!("before these from an interrupt: {}", ops.join(", "))
        }
    }
}

fn queue_of(of: QueueOf) -> &'static str {
    match of {
        QueueOf::Unspecified => "whose the queue is, is not said",
        QueueOf::Cpu => "each CPU has a queue",
        QueueOf::Task => "each task has a queue",
    }
}

fn happening(on: Happening) -> &'static str {
    match on {
        Happening::InnerLeave => "a section inside another ends (before 7.0)",
        Happening::WrongOnCpu => "the mode of a CPU is not that of its task",
        Happening::Sleep => "a task blocks",
        Happening::InterruptCall => "an interrupt calls the mode (before 7.0)",
        Happening::InterruptWrite => "an interrupt writes an entry (before 7.0)",
        Happening::Use => "a mapping is used whose entry is pending",
        Happening::TlbFlush => "the TLB is flushed for a pending entry",
        Happening::Unpaired => "enters and leaves do not pair",
        Happening::Off => "the mode is off inside a section",
        Happening::Waste => "a section has nothing to batch",
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
