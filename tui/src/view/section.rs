//! The course of a section: its steps, what waits after each, and which entries that is about.

use lazymmu_hazard::Waiting;
use lazymmu_report::{SectionTimeline, Step};
use ratatui::text::{Line, Span};

use super::text::{cell, cell_right, count, counted, cut, span, tail};
use super::{Panel, Sheet, Side, lanes};
use crate::state::State;
use crate::theme::Role;

/// From this width on the queue is on the right.
const QUEUE_ON_THE_RIGHT: u16 = 150;

pub(super) fn sheet(state: &State) -> Sheet {
    let Some(section) = &state.section else {
        let note = if state.section_note.is_empty() { "No section is shown." } else { &state.section_note };
        return Sheet { empty: note.to_owned(), ..Sheet::default() };
    };
    let timeline = &section.timeline;
    let table = Table::of(state);
    let rows = numbers(state).into_iter().filter_map(|number| {
        let step = timeline.steps.get(number)?;
        Some(table.row(state, timeline, number, step))
    });
    let mut panels = Vec::new();
    let right = state.size.0 >= QUEUE_ON_THE_RIGHT;
    if state.size.1 >= 34 {
        panels.extend(lanes::panel(state, timeline));
    }
    let side =
        if right { Side::Right(queue_width(state)) } else { Side::Bottom(queue_height(state, timeline)) };
    panels.push(queue(state, side));
    Sheet {
        head: vec![title(state, timeline), table.head(state)],
        rows: rows.collect(),
        panels,
        empty: "No step.".to_owned(),
    }
}

fn queue_width(state: &State) -> u16 {
    (state.size.0 / 3).clamp(50, 72)
}

/// As high as the longest queue of the section wants it, so that it stays the same from step to step.
fn queue_height(state: &State, timeline: &SectionTimeline) -> u16 {
    let most = timeline.steps.iter().map(|step| step.waiting.len()).max().unwrap_or(0);
    let wanted = u16::try_from(most).unwrap_or(u16::MAX).saturating_add(3);
    wanted.clamp(5, (state.size.1 / 3).max(5))
}

/// The steps that are shown, by their numbers.
pub(crate) fn numbers(state: &State) -> Vec<usize> {
    let Some(section) = &state.section else { return Vec::new() };
    let steps = section.timeline.steps.iter().enumerate();
    let shown = |step: &Step| match state.one_entry {
        None => true,
        // What ends the waiting is about every entry.
        Some(entry) => step.is_about(entry) || step.kind == "section",
    };
    steps.filter(|(_, step)| shown(step)).map(|(number, _)| number).collect()
}

/// The number of the selected step.
pub(crate) fn selected_number(state: &State) -> Option<usize> {
    let line = state.cursors.get(&crate::state::View::Section).copied().unwrap_or_default();
    numbers(state).get(line).copied()
}

/// The selected step.
pub(crate) fn selected(state: &State) -> Option<&Step> {
    let number = selected_number(state)?;
    state.section.as_ref()?.timeline.steps.get(number)
}

fn title(state: &State, timeline: &SectionTimeline) -> Line<'static> {
    let task = timeline.task.as_ref().map_or_else(String::new, |name| format!("{name}/"));
    let mut text =
        format!(" Section of {task}{}: {} steps", timeline.tid, count(timeline.steps.len() as u64));
    if let Some(left_out) = timeline.left_out {
        text = format!("{text} and {} left out", count(left_out.count));
    }
    if !timeline.entered {
        text.push_str(", entered before what is shown");
    }
    if timeline.goes_on {
        text.push_str(", goes on after it");
    }
    if let Some(entry) = state.one_entry {
        text = format!("{text}; only entry {entry:#x}");
    }
    Line::from(span(state, Role::Title, text))
}

/// Columns of the steps.
struct Table {
    op: usize,
    entry: usize,
    value: usize,
    place: usize,
}

impl Table {
    fn of(state: &State) -> Self {
        let mut columns = usize::from(state.size.0);
        if state.size.0 >= QUEUE_ON_THE_RIGHT {
            columns -= usize::from(queue_width(state));
        }
        let wide = columns >= 100;
        let (op, entry, value) = (19, if wide { 18 } else { 8 }, if wide { 18 } else { 0 });
        let value_taken = if value > 0 { value + 1 } else { 0 };
        let place = columns.saturating_sub(1 + 3 + 12 + 4 + op + 1 + entry + 1 + value_taken + 6);
        Self { op, entry, value, place }
    }

    fn head(&self, state: &State) -> Line<'static> {
        let mut text = format!("    {}{}", cell_right("time", 11), cell("cpu", 3));
        text.push_str(&cell("operation", self.op));
        text.push_str(&cell("entry", self.entry));
        if self.value > 0 {
            text.push_str(&cell("value", self.value));
        }
        text.push_str(&cell_right("queue", 5));
        text.push_str("where");
        Line::from(span(state, Role::Quiet, text))
    }

    fn row(&self, state: &State, timeline: &SectionTimeline, number: usize, step: &Step) -> Line<'static> {
        let (mark, role) = match step.role.as_deref() {
            Some("access") => ("->", Role::Bad),
            Some(_) => (" *", Role::Doubt),
            None if timeline.left_out.is_some_and(|left_out| left_out.before == number) => {
                ("..", Role::Quiet)
            }
            None => ("  ", Role::Plain),
        };
        let start = timeline.steps.first().map_or(0, |step| step.time_ns);
        let since = step.time_ns.saturating_sub(start);
        let time = format!("+{}.{}us", since / 1_000, since % 1_000 / 100);
        let op =
            if step.entries > 1 { format!("{} x{}", step.op, step.entries) } else { step.op.to_string() };
        let op_role = match &*step.kind {
            "write" | "rmw" => Role::Name,
            "section" => Role::Title,
            _ => Role::Plain,
        };
        let entry = step.entry.as_deref().unwrap_or("");
        let entry = if self.entry >= 18 { entry.to_owned() } else { tail(entry) };
        let mut spans = vec![
            span(state, role, format!("{mark} ")),
            Span::raw(cell_right(&time, 11)),
            Span::raw(cell(&step.cpu.to_string(), 3)),
            span(state, op_role, cell(&op, self.op)),
            Span::raw(cell(&entry, self.entry)),
        ];
        if self.value > 0 {
            let value = step.value.as_ref().map_or("", |value| value.raw.as_str());
            spans.push(Span::raw(cell(value, self.value)));
        }
        let waiting =
            if step.waiting_entries == 0 { "-".to_owned() } else { step.waiting_entries.to_string() };
        spans.push(Span::raw(cell_right(&waiting, 5)));
        spans.push(span(state, Role::Quiet, cut(&place(step, timeline.tid), self.place)));
        Line::from(spans)
    }
}

fn place(step: &Step, owner: u32) -> String {
    let who = if step.tid == owner { String::new() } else { format!("[task {}] ", step.tid) };
    let context = if step.context == "task" { String::new() } else { format!("[{}] ", step.context) };
    let function = step.function.clone().unwrap_or_default();
    let at = step.file.as_ref().zip(step.line).map(|(file, line)| format!(" {file}:{line}"));
    format!("{who}{context}{function}{}", at.unwrap_or_default())
}

/// What waits after the selected step.
fn queue(state: &State, side: Side) -> Panel {
    let Some((section, step)) = state.section.as_ref().zip(selected(state)) else {
        return Panel { title: "queue".to_owned(), lines: Vec::new(), side };
    };
    let width = match side {
        Side::Right(width) => usize::from(width) - 2,
        Side::Bottom(_) => usize::from(state.size.0) - 2,
    };
    let mut lines = Vec::new();
    if let Some(value) = &step.value {
        let words = value.decoded.as_ref().map_or_else(String::new, lazymmu_report::Decoded::line);
        lines.push(Line::from(vec![span(state, Role::Name, format!("{} ", value.raw)), Span::raw(words)]));
    }
    if step.waiting.is_empty() {
        lines.push(Line::from(span(state, Role::Quiet, "Nothing waits after this step.")));
    }
    // The latest is what one looks for.
    for write in step.waiting.iter().rev() {
        let about = step.address.is_some_and(|entry| waits_at(write, entry));
        let role = if about { Role::Bad } else { Role::Plain };
        let mark = if about { "! " } else { "  " };
        let count = if write.count > 1 { format!(" x{}", write.count) } else { String::new() };
        let value = write.value.map_or_else(|| "?".to_owned(), |value| format!("{value:#018x}"));
        let text = format!("{mark}{:#x}{count} = {value} {}", write.first.0, section.writer(write));
        lines.push(Line::from(span(state, role, cut(&text, width))));
    }
    let (entries, writes) = (step.waiting_entries, step.waiting.len());
    let title = format!(
        "queue after this step: {} in {}, latest first",
        counted(entries as u64, "entry", "entries"),
        counted(writes as u64, "write", "writes")
    );
    Panel { title: cut(&title, width.saturating_sub(2)), lines, side }
}

fn waits_at(write: &Waiting, entry: u64) -> bool {
    let first = write.first.0;
    entry >= first && entry < first.saturating_add(u64::from(write.count) * 8)
}
