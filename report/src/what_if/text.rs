//! The answer for people: what it mends, what it costs.

use std::fmt::Write as _;

use super::{Answer, Change, Fate};
use crate::batches::{Batches, COLUMNS, column_name, mean};
use crate::style::{Role, Style};

pub(super) fn render(answer: &Answer, style: Style) -> String {
    let Answer { flush_before, reached, flushes_added, total, by_opener, findings, .. } = answer;
    let mut text = style.paint(Role::Title, &format!("What if a flush stood before {flush_before}"));
    let _ = writeln!(text, "\nReached {reached} times, {flushes_added} of them in a section.");
    if *reached == 0 {
        text.push_str("No access of the trace was made there: look at the call paths of `lazymmu replay`.\n");
    }
    let _ = writeln!(text, "\n{}", style.paint(Role::Title, "Findings"));
    if findings.is_empty() {
        text.push_str("  none, with the flush or without\n");
    }
    for finding in findings {
        fate(&mut text, style, finding);
    }
    section(&mut text, style, "All sections", total);
    for (opener, change) in by_opener {
        section(&mut text, style, &format!("Sections opened by {opener}"), change);
    }
    text
}

fn fate(text: &mut String, style: Style, fate: &Fate) {
    let Fate { rule, fingerprint, function, now, then } = fate;
    let word = match (now, then) {
        (_, 0) => style.paint(Role::Good, "gone  "),
        (0, _) => style.paint(Role::Bad, "new   "),
        (now, then) if now == then => style.paint(Role::Bad, "stays "),
        _ => style.paint(Role::Doubt, "fewer "),
    };
    let _ = writeln!(text, "  {word} {rule} in {function}: {now} times, then {then} ({fingerprint})");
}

/// One row of the table.
type Figure = fn(&Batches) -> String;

fn section(text: &mut String, style: Style, title: &str, change: &Change) {
    let Change { now, then } = change;
    let _ = writeln!(text, "\n{}", style.paint(Role::Title, title));
    let _ = writeln!(text, "  {:<26}{:>12}{:>12}", "", "now", "then");
    let figures: [(&str, Figure); 6] = [
        ("sections", |batches| batches.sections.to_string()),
        ("entries written", |batches| batches.entries.to_string()),
        ("flushes", |batches| batches.flushes().to_string()),
        ("flushes in a section", |batches| mean(batches.flushes(), batches.sections)),
        ("entries in a batch", |batches| mean(batches.flushed, batches.batches)),
        ("entries in the largest", |batches| batches.largest.to_string()),
    ];
    for (name, figure) in figures {
        let _ = writeln!(text, "  {name:<26}{:>12}{:>12}", figure(now), figure(then));
    }
    for column in 0..COLUMNS {
        let (now, then) = (now.histogram[column], then.histogram[column]);
        if now > 0 || then > 0 {
            let name = format!("batches of {}", column_name(column));
            let _ = writeln!(text, "  {name:<26}{now:>12}{then:>12}");
        }
    }
}
