//! What was hooked, what could not be, and what was lost.

use ratatui::text::{Line, Span};

use super::Sheet;
use super::text::{cell, count, span, wrap};
use crate::state::State;
use crate::theme::Role;

pub(super) fn sheet(state: &State) -> Sheet {
    let columns = usize::from(state.size.0).saturating_sub(3);
    let mut rows = Vec::new();
    verdict(state, columns, &mut rows);
    losses(state, &mut rows);
    sites(state, columns, &mut rows);
    hooks(state, columns, &mut rows);
    let target = &state.shown.report.target;
    let build = target.build_id.as_deref().unwrap_or("not known");
    let text = format!(
        " {} ({}), pages of {} bytes, build id {build}",
        target.release, target.version, target.page_size
    );
    Sheet {
        head: vec![Line::from(span(state, Role::Title, text))],
        rows,
        panels: Vec::new(),
        empty: String::new(),
    }
}

fn verdict(state: &State, columns: usize, rows: &mut Vec<Line<'static>>) {
    let report = &state.shown.report;
    let role = match report.verdict {
        "clean" => Role::Good,
        "hazards" => Role::Bad,
        _ => Role::Doubt,
    };
    let so_far = if state.shown.done { "" } else { " so far" };
    rows.push(Line::from(vec![
        span(state, Role::Title, format!("Verdict{so_far}: ")),
        span(state, role, report.verdict),
    ]));
    for reason in &report.reasons {
        rows.extend(
            wrap(&reason.text, columns.saturating_sub(2))
                .into_iter()
                .map(|line| Line::from(span(state, Role::Doubt, format!("  {line}")))),
        );
    }
    if !report.suppressed.is_empty() {
        rows.push(Line::from(format!("  {} findings are suppressed", report.suppressed.len())));
    }
    rows.push(Line::default());
}

fn losses(state: &State, rows: &mut Vec<Line<'static>>) {
    let losses = &state.shown.report.losses;
    let role = if losses.total == 0 && losses.uncounted == 0 { Role::Good } else { Role::Bad };
    let uncounted = match losses.uncounted {
        0 => String::new(),
        places => format!(", and at {places} places nobody knows how many"),
    };
    rows.push(Line::from(vec![
        span(state, Role::Title, "Lost: "),
        span(state, role, format!("{}{uncounted}", count(losses.total))),
    ]));
    let cpus = losses.by_cpu.iter().map(|(cpu, lost)| (format!("CPU {cpu}"), *lost));
    let kinds = losses.by_kind.iter().map(|(kind, lost)| (kind.to_string(), *lost));
    for (name, lost) in cpus.chain(kinds) {
        rows.push(Line::from(format!("  {}{}", cell(&name, 20), count(lost))));
    }
    rows.push(Line::default());
}

fn sites(state: &State, columns: usize, rows: &mut Vec<Line<'static>>) {
    let Some(sites) = &state.shown.report.hooks.sites else { return };
    rows.push(Line::from(span(state, Role::Title, "Instructions of the plan:")));
    for (name, number) in [
        ("found", sites.found),
        ("probed", sites.hooked),
        ("told by others", sites.covered),
        ("of unknown entries", sites.unaddressed),
    ] {
        rows.push(Line::from(format!("  {}{}", cell(name, 20), count(number))));
    }
    for refused in &sites.refused {
        rows.push(Line::from(format!("  {}{} ({})", cell("refused", 20), count(refused.count), refused.why)));
    }
    for blind in &sites.blind {
        let lines = wrap(blind, columns.saturating_sub(4));
        rows.extend(lines.into_iter().map(|line| Line::from(span(state, Role::Quiet, format!("  {line}")))));
    }
    rows.push(Line::default());
}

fn hooks(state: &State, columns: usize, rows: &mut Vec<Line<'static>>) {
    let hooks = &state.about.header.plan.hooks;
    let report = &state.shown.report.hooks;
    let (attached, wanted, level) = (report.attached, report.wanted, &report.level);
    let level = if level.is_empty() { String::new() } else { format!(", capture level {level}") };
    rows.push(Line::from(span(state, Role::Title, format!("Hooks: {attached} of {wanted} attached{level}"))));
    if hooks.is_empty() {
        // A daemon says how many there are, and names those that are missing.
        for (source, number) in &report.sources {
            rows.push(Line::from(format!("  {}{number} attached", cell(source, 8))));
        }
        for missing in &report.missing {
            let text = wrap(&format!("{}: {}", missing.name, missing.why), columns.saturating_sub(12));
            rows.extend(
                text.into_iter().map(|line| Line::from(span(state, Role::Bad, format!("  missing  {line}")))),
            );
        }
        return;
    }
    // Those that are missing are what one has to know.
    let (missing, there): (Vec<_>, Vec<_>) = hooks.iter().partition(|hook| hook.missing.is_some());
    for hook in missing.into_iter().chain(there) {
        let (word, role) = match &hook.missing {
            Some(_) => ("missing", Role::Bad),
            None => ("attached", Role::Good),
        };
        let plain =
            |text: &str| text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
        rows.push(Line::from(vec![
            Span::raw("  "),
            span(state, role, cell(word, 8)),
            Span::raw(cell(&plain(&hook.source), 7)),
            span(state, Role::Name, plain(&hook.name)),
        ]));
        for line in hook.missing.iter().flat_map(|why| wrap(&plain(why), columns.saturating_sub(12))) {
            rows.push(Line::from(span(state, Role::Doubt, format!("           {line}"))));
        }
    }
}
