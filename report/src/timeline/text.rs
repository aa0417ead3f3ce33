//! The course of a section as text: what a person needs of it.

use super::{SectionTimeline, Step};
use crate::style::Role;
use crate::text::Text;

/// So many steps are shown from the beginning,
const FIRST: usize = 3;
/// and so many up to the hazard. Those that are about its entry are shown wherever they are.
const LAST: usize = 9;

/// Writes the section up to the hazard.
pub(crate) fn write(timeline: &SectionTimeline, text: &mut Text) {
    let steps = timeline.so_far();
    let Some(first) = steps.first() else { return };
    text.line("");
    let before = if timeline.entered { "" } else { " (entered before the trace begins)" };
    text.line(&format!("Section so far{before}; the number is how many entries wait after the step:"));
    let entry = steps.last().and_then(|step| step.address);
    let mut skipped = 0;
    for (number, step) in steps.iter().enumerate() {
        let left_out = timeline.left_out.filter(|left_out| left_out.before == number);
        skipped += left_out.map_or(0, |left_out| left_out.count);
        let near = number < FIRST || number + LAST >= steps.len() || step.role.is_some();
        if !near && !entry.is_some_and(|entry| step.is_about(entry)) {
            skipped += 1;
            continue;
        }
        if skipped > 0 {
            let line = text.paint(Role::Quiet, &format!("{:16}... {skipped} more", ""));
            text.line(&line);
            skipped = 0;
        }
        let line = line(step, first.time_ns, timeline.tid, text);
        text.line(&line);
    }
}

fn line(step: &Step, start: u64, owner: u32, text: &Text) -> String {
    let time = since(step.time_ns.saturating_sub(start));
    let mark = match step.role.as_deref() {
        Some("access") => text.paint(Role::Bad, "->"),
        Some(_) => text.paint(Role::Doubt, " *"),
        None => "  ".to_owned(),
    };
    let op = if step.entries > 1 { format!("{} of {}", step.op, step.entries) } else { step.op.to_string() };
    let op = text.paint(Role::Name, &format!("{op:<16}"));
    let entry = step.entry.as_deref().unwrap_or("");
    let value = step.value.as_ref().map_or("", |value| value.raw.as_str());
    let who = if step.tid == owner { String::new() } else { format!(" by task {}", step.tid) };
    let context = if step.context == "task" { String::new() } else { format!(" in {}", step.context) };
    let (waiting, place) = (step.waiting_entries, step.place());
    let line = format!("{mark}{time:>12} {op} {entry:<18} {value:<18} {waiting:>4}  {place}{who}{context}");
    line.trim_end().to_owned()
}

/// Since the first step.
pub(crate) fn since(ns: u64) -> String {
    format!("+{}.{} us", ns / 1_000, ns % 1_000 / 100)
}
