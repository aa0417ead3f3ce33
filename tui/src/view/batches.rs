//! How large batches get and what ends them.

use lazymmu_report::batches::{COLUMNS, column_name};
use ratatui::text::{Line, Span};

use super::text::{cell_right, count, span};
use crate::state::State;
use crate::theme::Role;

/// The longest bar.
const BAR: u64 = 30;

pub(super) fn lines(state: &State) -> Vec<Line<'static>> {
    let batches = &state.shown.batches;
    let title = |text: String| Line::from(span(state, Role::Title, text));
    let mut lines = vec![title(format!(
        "Batches: {} in {} sections, {} entries, the largest {}; {} flushes found nothing",
        count(batches.batches),
        count(batches.sections),
        count(batches.flushed),
        count(batches.largest),
        count(batches.empty)
    ))];
    let rows: Vec<_> = (1..COLUMNS).map(|column| (column_name(column), batches.histogram[column])).collect();
    lines.extend(bars(state, "entries", &rows));
    lines.push(Line::default());
    lines.push(title("What ended them:".to_owned()));
    let mut causes: Vec<_> =
        state.shown.causes.iter().map(|(name, count)| (name.to_string(), *count)).collect();
    causes.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), name.clone()));
    lines.extend(bars(state, "", &causes));
    lines
}

fn bars(state: &State, unit: &str, rows: &[(String, u64)]) -> Vec<Line<'static>> {
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let names = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(8);
    let shown = rows.iter().filter(|(_, number)| *number > 0);
    let line = |(name, number): &(String, u64)| {
        let length = number.saturating_mul(BAR).div_ceil(most.max(1)).min(BAR);
        Line::from(vec![
            Span::raw(format!(" {}", cell_right(name, names))),
            Span::raw(cell_right(&count(*number), 12)),
            span(state, Role::Name, "█".repeat(usize::try_from(length).unwrap_or(0))),
        ])
    };
    let mut lines: Vec<_> = shown.map(line).collect();
    if lines.is_empty() {
        lines.push(Line::from(span(state, Role::Quiet, " none so far")));
    } else if !unit.is_empty() {
        let head = format!(" {}{}", cell_right(unit, names), cell_right("batches", 12));
        lines.insert(0, Line::from(span(state, Role::Quiet, head)));
    }
    lines
}
