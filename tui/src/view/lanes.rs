//! The entries of a section as lanes: a row for each, a column for each step, and when its write waits.

use lazymmu_report::{SectionTimeline, Step};
use ratatui::text::{Line, Span};

use super::text::{cell, span};
use super::{Panel, Side, section};
use crate::state::State;
use crate::theme::Role;

/// So many entries at most.
const LANES: usize = 6;

/// Columns before the lanes.
const NAMES: usize = 19;

pub(super) fn panel(state: &State, timeline: &SectionTimeline) -> Option<Panel> {
    let at = section::selected_number(state)?;
    let room = usize::from(state.size.0).saturating_sub(NAMES + 3);
    let first = at.saturating_sub(room / 2).min(timeline.steps.len().saturating_sub(room));
    let steps: Vec<_> = timeline.steps.iter().enumerate().skip(first).take(room).collect();
    let entries = entries(timeline, &steps, at);
    let mut lines = vec![Line::from(format!("{}{}v", " ".repeat(NAMES), " ".repeat(at - first)))];
    for entry in &entries {
        let mut spans = vec![span(state, Role::Name, cell(&format!("{entry:#x}"), NAMES - 1))];
        spans.extend(steps.iter().map(|(_, step)| sign(state, step, *entry)));
        lines.push(Line::from(spans));
    }
    let title = "entries by step: W written, R read, X changed at once, = waits, | mode call".to_owned();
    let side = Side::Bottom(lines.len() as u16 + 2);
    Some(Panel { title, lines, side })
}

/// The entries that matter most: those of the selected step and of the finding, then by how near they are.
fn entries(timeline: &SectionTimeline, steps: &[(usize, &Step)], at: usize) -> Vec<u64> {
    let told = timeline.steps.iter().filter(|step| step.role.is_some());
    let mut near: Vec<_> = steps.iter().collect();
    near.sort_by_key(|(number, _)| number.abs_diff(at));
    let all = timeline.steps.get(at).into_iter().chain(told).chain(near.into_iter().map(|(_, step)| *step));
    let mut entries = Vec::new();
    for entry in all.filter_map(|step| step.address) {
        if !entries.contains(&entry) {
            entries.push(entry);
        }
        if entries.len() == LANES {
            break;
        }
    }
    entries.sort_unstable();
    entries
}

fn sign(state: &State, step: &Step, entry: u64) -> Span<'static> {
    let about = step.is_about(entry);
    let (sign, role) = match (about, &*step.kind) {
        (true, "write") => ("W", Role::Name),
        (true, "read") if step.role.as_deref() == Some("access") => ("R", Role::Bad),
        (true, "read") => ("R", Role::Plain),
        (true, "rmw") => ("X", Role::Name),
        (_, "section") => ("|", Role::Quiet),
        _ if step.has_waiting(entry) => ("=", Role::Doubt),
        _ => ("·", Role::Quiet),
    };
    span(state, role, sign)
}
