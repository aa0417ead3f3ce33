//! The list of findings.

use lazymmu_report::Finding;
use ratatui::text::{Line, Span};

use super::text::{cell, cell_right, count, cut, short, span, time, wrap};
use super::{Panel, Sheet, Side};
use crate::state::State;
use crate::theme::Role;

/// A letter for each profile, for narrow screens.
const LETTERS: [(&str, char); 6] = [
    ("strict", 'S'),
    ("xen-pv", 'X'),
    ("s390", 'Z'),
    ("powerpc-hash", 'P'),
    ("sparc64", 'C'),
    ("arm64", 'A'),
];

pub(super) fn sheet(state: &State) -> Sheet {
    let columns = usize::from(state.size.0);
    let widths = Widths::of(columns);
    let findings = &state.shown.report.findings;
    let rows = state.order.iter().filter_map(|number| findings.get(*number));
    let rows: Vec<_> = rows.map(|finding| row(state, finding, &widths)).collect();
    let empty = match (state.shown.done, &state.shown.report.filter) {
        (false, _) => "No finding so far.",
        (true, Some(_)) => "No finding is selected by the filter.",
        (true, None) => "No finding.",
    };
    let panels = if state.size.1 >= 16 { preview(state).into_iter().collect() } else { Vec::new() };
    Sheet { head: vec![head(state, &widths)], rows, panels, empty: empty.to_owned() }
}

/// Columns of the table; 0 for those that have no room.
struct Widths {
    rule: usize,
    breaks: usize,
    state: usize,
    count: usize,
    rate: usize,
    last: usize,
    functions: usize,
}

impl Widths {
    fn of(columns: usize) -> Self {
        let wide = columns >= 110;
        let widest = columns >= 170;
        let mut widths = Self {
            rule: 19,
            breaks: if widest { 40 } else { 6 },
            state: if wide { 6 } else { 0 },
            count: if wide { 9 } else { 6 },
            rate: if wide { 7 } else { 0 },
            last: if wide { 11 } else { 9 },
            functions: 0,
        };
        let Self { rule, breaks, state, count, rate, last, .. } = widths;
        let shown = [6, rule, breaks, state, count, rate, last];
        let taken: usize = shown.iter().filter(|width| **width > 0).map(|width| width + 1).sum();
        widths.functions = columns.saturating_sub(taken + 1);
        widths
    }

    fn has_names(&self) -> bool {
        self.breaks > LETTERS.len()
    }
}

fn head(state: &State, widths: &Widths) -> Line<'static> {
    let letters: String = LETTERS.iter().map(|(_, letter)| *letter).collect();
    let breaks = if widths.has_names() { "breaks on" } else { &letters };
    let mut text = format!(" {}{}", cell("", 6), cell("rule", widths.rule));
    text.push_str(&cell(breaks, widths.breaks));
    if widths.state > 0 {
        text.push_str(&cell("state", widths.state));
    }
    text.push_str(&cell_right("count", widths.count));
    if widths.rate > 0 {
        text.push_str(&cell_right("rate", widths.rate));
    }
    text.push_str(&cell_right("last seen", widths.last));
    text.push_str("written by -> met by");
    Line::from(span(state, Role::Title, text))
}

fn row(state: &State, finding: &Finding, widths: &Widths) -> Line<'static> {
    let severity = if finding.is_error() { Role::Bad } else { Role::Doubt };
    let seen = state.shown.seen.get(&finding.fingerprint);
    let last = seen.map_or_else(|| time(finding.example.time_ns), |seen| time(seen.last_ns));
    let mut spans = vec![
        span(state, severity, cell(&finding.severity, 6)),
        span(state, Role::Name, cell(&finding.rule, widths.rule)),
        Span::raw(cell(&breaks(finding, widths.has_names()), widths.breaks)),
    ];
    if widths.state > 0 {
        let role = if finding.proven > 0 { Role::Bad } else { Role::Plain };
        spans.push(span(state, role, cell(&finding.state, widths.state)));
    }
    spans.push(Span::raw(cell_right(&count(finding.count), widths.count)));
    if widths.rate > 0 {
        spans.push(Span::raw(cell_right(&rate(state, finding), widths.rate)));
    }
    spans.push(Span::raw(cell_right(&last, widths.last)));
    spans.push(Span::raw(cut(&functions(finding), widths.functions)));
    Line::from(spans)
}

/// The profiles on which it breaks, by name or by letter.
fn breaks(finding: &Finding, by_name: bool) -> String {
    let on = |name: &str| finding.profiles.iter().any(|profile| profile.name == name && profile.breaks);
    if by_name {
        let names: Vec<_> = LETTERS.iter().map(|(name, _)| *name).filter(|name| on(name)).collect();
        return names.join(" ");
    }
    LETTERS.iter().map(|(name, letter)| if on(name) { *letter } else { '-' }).collect()
}

/// Hazards for each second of the kernel's time.
fn rate(state: &State, finding: &Finding) -> String {
    let seen = state.shown.seen.get(&finding.fingerprint);
    if let Some(rate) = seen.and_then(|seen| seen.per_second) {
        return format!("{}/s", short(rate));
    }
    let length = state.shown.length_ns;
    if length == 0 {
        return "-".to_owned();
    }
    #[allow(clippy::cast_precision_loss, reason = "it is shown with three digits")]
    let rate = finding.count as f64 * 1e9 / length as f64;
    format!("{}/s", short(rate))
}

fn functions(finding: &Finding) -> String {
    let access = &finding.access.function;
    match (&finding.write, &finding.opener) {
        (Some(write), _) => format!("{} -> {access}", write.function),
        // A leave mostly has no call stack; it has no name but in brackets then.
        (None, Some(opener)) if access.starts_with('[') => format!("section of {}", opener.function),
        (None, _) => access.clone(),
    }
}

/// The selected finding in a few lines.
fn preview(state: &State) -> Option<Panel> {
    let finding = state.finding()?;
    let columns = usize::from(state.size.0).saturating_sub(2);
    let label = |text: &str| span(state, Role::Quiet, cell(text, 10));
    let what = finding.what.as_ref().unwrap_or(&finding.title);
    let place = |site: &lazymmu_report::Site| {
        let frame = site.stack.iter().find(|frame| frame.file.is_some());
        let line = frame.and_then(|frame| Some(format!(" ({}:{})", frame.file.as_ref()?, frame.line?)));
        format!("{} by {}{}", site.op, site.function, line.unwrap_or_default())
    };
    let mut lines: Vec<Line<'static>> = vec![Line::from(cut(what, columns))];
    let role = if finding.proven > 0 { Role::Bad } else { Role::Doubt };
    let words = wrap(&finding.state_words(), columns);
    lines.extend(words.into_iter().take(2).map(|words| Line::from(span(state, role, words))));
    if let Some(write) = &finding.write {
        lines.push(Line::from(vec![label("written"), Span::raw(place(write))]));
    }
    lines.push(Line::from(vec![label("met"), Span::raw(place(&finding.access))]));
    if let Some(opener) = &finding.opener {
        lines.push(Line::from(vec![label("in section"), Span::raw(place(opener))]));
    }
    let names = breaks(finding, true);
    let names = if names.is_empty() { "no profile".to_owned() } else { names };
    lines.push(Line::from(vec![label("breaks on"), Span::raw(names)]));
    let side = Side::Bottom(lines.len() as u16 + 2);
    Some(Panel { title: format!("{} {}", finding.rule, finding.fingerprint), lines, side })
}
