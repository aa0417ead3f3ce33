//! The last part of the text: which kernel, what was counted, what is missing, and the verdict.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::style::Role;
use crate::text::Text;
use crate::wrap::wrap;
use crate::{FilterNote, Report};

/// Where the second column begins.
const COLUMN: usize = 10;

pub(crate) fn write(report: &Report, text: &mut Text) {
    row(text, "Kernel", &kernel(report));
    row(text, "Hooks", &hooks(report));
    for missing in &report.hooks.missing {
        row(text, "", &format!("{} is missing: {}", missing.name, missing.why));
    }
    if let Some(sites) = &report.hooks.sites {
        row(text, "Plan", &sites.words());
        for blind in &sites.blind {
            row(text, "", &format!("blind for {blind}"));
        }
    }
    if let Some(filter) = &report.filter {
        row(text, "Filter", &filter_words(filter));
    }
    row(text, "Records", &records(report));
    row(text, "Sections", &sections(report));
    row(text, "Lost", &lost(report));
    if let Some(damage) = &report.damage {
        row(text, "Damage", &damage.text);
    }
    if let Some(baseline) = &report.baseline {
        row(text, "Baseline", &baseline.words());
        for gone in &baseline.gone {
            row(text, "", &format!("{}: {}: {}", baseline.gone_word(), gone.rule, gone.what));
        }
    }
    text.line("");
    verdict(report, text);
}

fn row(text: &mut Text, name: &str, value: &str) {
    let lines = wrap(value, COLUMN);
    let name = text.paint(Role::Title, &format!("{name:<COLUMN$}"));
    for (number, line) in lines.iter().enumerate() {
        if number == 0 {
            text.line(format!("{name}{}", line.trim_start()).trim_end());
        } else {
            text.line(line);
        }
    }
}

fn kernel(report: &Report) -> String {
    let target = &report.target;
    let build_id = target.build_id.as_ref().map_or_else(String::new, |id| format!(", build id {id}"));
    format!("{} {} on {}{build_id}", target.release, target.version, target.architecture)
}

fn hooks(report: &Report) -> String {
    let hooks = &report.hooks;
    let sources =
        if hooks.sources.is_empty() { String::new() } else { format!(": {}", counts(&hooks.sources)) };
    let level = match hooks.level.as_str() {
        "" => String::new(),
        level => format!("; recorded: {level}"),
    };
    format!("{} of {} attached{sources}{level}", hooks.attached, hooks.wanted)
}

fn filter_words(filter: &FilterNote) -> String {
    match &filter.trace {
        None => filter.expression.clone(),
        Some(trace) if *trace == filter.expression => {
            format!("{trace}; the trace holds only the sections that this selects")
        }
        Some(trace) => {
            format!("{}; the trace holds only the sections that {trace} selects", filter.expression)
        }
    }
}

fn records(report: &Report) -> String {
    let records = &report.records;
    let mut line = records.total.to_string();
    if records.total > 0 {
        line = format!("{line}: {}", counts(&records.by_kind));
    }
    line = format!("{line}; {} in sections", plural(records.in_sections, "access", "accesses"));
    if records.in_interrupts > 0 {
        line = format!("{line}, {} in interrupts", records.in_interrupts);
    }
    if records.unknown > 0 {
        line = format!("{line}, {} not understood", records.unknown);
    }
    line
}

/// How many sections there were, and what was written in them.
pub(crate) fn sections(report: &Report) -> String {
    let sections = &report.sections;
    let mut line = sections.entered.to_string();
    if sections.nested > 0 {
        line = format!("{line} and {} inside others, {} deep at most", sections.nested, sections.deepest);
    }
    if sections.pauses > 0 {
        line = format!("{line}; {}", plural(sections.pauses, "pause", "pauses"));
    }
    if sections.flushes > 0 {
        line = format!("{line}; {}", plural(sections.flushes, "flush", "flushes"));
    }
    line = format!("{line}; {} written", plural(sections.entries_written, "entry", "entries"));
    if let Some(mean) = sections.entries_flushed.saturating_mul(10).checked_div(sections.batches) {
        line = format!(
            "{line}, in {} of {}.{} on average and {} at most",
            plural(sections.batches, "batch", "batches"),
            mean / 10,
            mean % 10,
            sections.largest_batch
        );
    }
    line
}

fn lost(report: &Report) -> String {
    let losses = &report.losses;
    let places = match losses.uncounted {
        0 => String::new(),
        1 => "; at one place nobody knows how many".to_owned(),
        places => format!("; at {places} places nobody knows how many"),
    };
    match losses.total {
        0 if losses.uncounted == 0 => "nothing".to_owned(),
        0 => places.trim_start_matches("; ").to_owned(),
        total => format!("{total}: {} ({}){places}", counts(&losses.by_kind), by_cpu(&losses.by_cpu)),
    }
}

fn by_cpu(losses: &BTreeMap<String, u64>) -> String {
    losses.iter().map(|(cpu, count)| format!("CPU {cpu}: {count}")).collect::<Vec<_>>().join(", ")
}

fn verdict(report: &Report, text: &mut Text) {
    let role = match report.verdict {
        "clean" => Role::Good,
        "hazards" => Role::Bad,
        _ => Role::Doubt,
    };
    let words = headline(report);
    let words = text.paint(role, &words);
    text.line(&format!("Verdict: {words}"));
    if report.verdict == "hazards" && !report.reasons.is_empty() {
        text.line("         There may be more:");
    }
    for reason in &report.reasons {
        text.line(&format!("         {}", reason.text));
    }
}

/// The verdict in words.
pub(crate) fn headline(report: &Report) -> String {
    let errors: Vec<_> = report.findings.iter().filter(|finding| finding.is_error()).collect();
    let total: u64 = errors.iter().map(|finding| finding.count).sum();
    let selected = if report.filter.is_some() { " that the filter selects" } else { "" };
    let suppressed = match report.suppressed.len() {
        0 => String::new(),
        count => format!("; {count} suppressed"),
    };
    match report.verdict {
        "clean" => format!("clean: no hazard{selected}{suppressed}"),
        "hazards" => {
            let classes = plural(errors.len() as u64, "hazard", "hazards");
            let new = match &report.baseline {
                None => String::new(),
                Some(baseline) => format!("; {} new", baseline.new),
            };
            format!("{classes}, seen {}{new}{suppressed}", times(total))
        }
        other => format!("{other}: no hazard{selected} was seen, but not everything was{suppressed}"),
    }
}

fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `once`, or how many times.
pub(crate) fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn counts<K: Display, V: Display>(counts: &BTreeMap<K, V>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}
