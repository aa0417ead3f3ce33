//! What each CPU and each task does, at the end of what is known or at a moment of the trace.

use lazymmu_hazard::TaskId;
use ratatui::text::{Line, Span};

use super::text::{cell, cell_right, count, cut, span, tail, time};
use super::{Panel, Sheet, Side, batches};
use crate::source::{Event, Machine, Moment, Told};
use crate::state::State;
use crate::theme::Role;

pub(super) fn sheet(state: &State) -> Sheet {
    match &state.moment {
        Some(moment) => at_moment(state, moment),
        None => at_the_end(state),
    }
}

/// The latest: everything in one sheet.
fn at_the_end(state: &State) -> Sheet {
    let shown = &state.shown;
    let mut rows = machine(state, &shown.machine);
    rows.push(Line::default());
    rows.extend(batches::lines(state));
    let text = format!(" After {} records, at {}.", count(shown.records), time(shown.length_ns));
    let head = vec![Line::from(span(state, Role::Title, text))];
    Sheet { head, rows, panels: Vec::new(), empty: "Nothing was seen so far.".to_owned() }
}

fn at_moment(state: &State, moment: &Moment) -> Sheet {
    let total = state.shown.total.unwrap_or(state.shown.records);
    let text = format!(" At {}, record #{} of {}.", time(moment.time_ns), moment.record, count(total));
    let head = vec![Line::from(span(state, Role::Title, text)), heading(state)];
    let rows = moment.events.iter().map(|event| row(state, event, event.record == moment.record)).collect();
    let lines = machine(state, &moment.machine);
    let most = state.size.1.saturating_sub(6) / 2;
    let side = Side::Bottom((lines.len() as u16 + 2).min(most));
    let panels = vec![Panel { title: "CPUs and tasks after this record".to_owned(), lines, side }];
    Sheet { head, rows, panels, empty: String::new() }
}

fn heading(state: &State) -> Line<'static> {
    let value = if is_wide(state) { cell("value", 18) } else { String::new() };
    let text = format!(
        "     {}{}{}{}{}{value}where",
        cell_right("time", 11),
        cell("cpu", 3),
        cell("task", 16),
        cell("operation", 19),
        cell("entry", entry_width(state))
    );
    Line::from(span(state, Role::Quiet, text))
}

fn is_wide(state: &State) -> bool {
    state.size.0 >= 110
}

/// Without the digits that are the same for most, where there is little room.
fn entry_width(state: &State) -> usize {
    if is_wide(state) { 18 } else { 8 }
}

fn row(state: &State, event: &Event, now: bool) -> Line<'static> {
    let mark = match (now, event.breaks.is_empty()) {
        (true, true) => "=> ",
        (true, false) => "=>!",
        (false, false) => "  !",
        (false, true) => "   ",
    };
    let op = if event.count > 1 { format!("{} x{}", event.op, event.count) } else { event.op.to_owned() };
    let entry = event.entry.map_or_else(String::new, |entry| format!("{entry:#x}"));
    let entry = if is_wide(state) { entry } else { tail(&entry) };
    let mut spans = vec![
        span(state, if event.breaks.is_empty() { Role::Title } else { Role::Bad }, format!("{mark} ")),
        Span::raw(cell_right(&time(event.time_ns), 11)),
        Span::raw(cell(&event.cpu.to_string(), 3)),
        Span::raw(cell(&who(event.task, event.name.as_deref()), 16)),
        span(state, if event.kind == "section" { Role::Title } else { Role::Name }, cell(&op, 19)),
        Span::raw(cell(&entry, entry_width(state))),
    ];
    if is_wide(state) {
        let value = event.value.map_or_else(String::new, |value| format!("{value:#x}"));
        spans.push(Span::raw(cell(&value, 18)));
    }
    if !event.breaks.is_empty() {
        spans.push(span(state, Role::Bad, format!("{} ", event.breaks.join(", "))));
    }
    spans.push(span(state, Role::Quiet, event.place.clone()));
    Line::from(spans)
}

/// The name and the thread id of a task.
fn who(task: TaskId, name: Option<&str>) -> String {
    match (name, task.tid()) {
        (_, 0) => "idle".to_owned(),
        (Some(name), tid) => format!("{name}/{tid}"),
        (None, tid) => tid.to_string(),
    }
}

/// A CPU of which is told what its mode is and no more.
fn told_of(state: &State, number: u16, told: Told) -> Line<'static> {
    let role = if told.mode == "on" { Role::Doubt } else { Role::Plain };
    let lost = if told.lost == 0 { "nothing lost".to_owned() } else { format!("LOST {}", count(told.lost)) };
    Line::from(vec![
        Span::raw(cell(&number.to_string(), 4)),
        Span::raw(cell("", 20)),
        span(state, role, cell(told.mode, 8)),
        Span::raw(cell_right(&told.depth.to_string(), 5)),
        Span::raw(cell_right(&told.pending.to_string(), 7)),
        Span::raw(cell_right("", 12)),
        span(state, if told.lost == 0 { Role::Quiet } else { Role::Bad }, lost),
    ])
}

/// CPUs, then the tasks that are in a section.
fn machine(state: &State, machine: &Machine) -> Vec<Line<'static>> {
    let title = |text: String| Line::from(span(state, Role::Title, text));
    let mut lines = vec![title(format!(
        "{}{}{}{}{}{}last operation",
        cell("CPU", 4),
        cell("task", 20),
        cell("mode", 8),
        cell_right("depth", 5),
        cell_right("pending", 7),
        cell_right("at", 12),
    ))];
    for (number, cpu) in &machine.cpus {
        if let Some(told) = cpu.told {
            lines.push(told_of(state, *number, told));
            continue;
        }
        let task = machine.tasks.iter().find(|task| Some(task.task) == cpu.task);
        let mode = match task {
            None => "off",
            Some(task) if task.on => "on",
            Some(task) if task.pauses > 0 => "paused",
            Some(_) => "unsure",
        };
        let context = if cpu.context == "task" { String::new() } else { format!(" in {}", cpu.context) };
        let role = if mode == "on" { Role::Doubt } else { Role::Plain };
        lines.push(Line::from(vec![
            Span::raw(cell(&number.to_string(), 4)),
            Span::raw(cell(&cpu.task.map_or_else(String::new, |task| who(task, cpu.name.as_deref())), 20)),
            span(state, role, cell(mode, 8)),
            Span::raw(cell_right(&task.map_or_else(|| "-".to_owned(), |task| task.depth.to_string()), 5)),
            Span::raw(cell_right(&task.map_or_else(|| "-".to_owned(), |task| task.waiting.to_string()), 7)),
            Span::raw(cell_right(&time(cpu.time_ns), 12)),
            Span::raw(format!("{}{context} ({} records)", cpu.op, count(cpu.records))),
        ]));
    }
    lines.push(Line::default());
    if machine.tasks.is_empty() {
        lines.push(Line::from(span(state, Role::Quiet, "No task is in a section.")));
        return lines;
    }
    lines.push(title(format!(
        "{}{}{}{}{}entered by",
        cell("task in a section", 25),
        cell("mode", 8),
        cell_right("depth", 5),
        cell_right("pending", 7),
        cell_right("CPU", 4)
    )));
    for task in &machine.tasks {
        let mode = if task.on {
            "on"
        } else if task.pauses > 0 {
            "paused"
        } else {
            "unsure"
        };
        lines.push(Line::from(vec![
            Span::raw(cell(&who(task.task, task.name.as_deref()), 25)),
            span(state, if task.on { Role::Doubt } else { Role::Plain }, cell(mode, 8)),
            Span::raw(cell_right(&task.depth.to_string(), 5)),
            Span::raw(cell_right(&task.waiting.to_string(), 7)),
            Span::raw(cell_right(&task.cpu.to_string(), 4)),
            span(state, Role::Name, cut(&task.opener, 40)),
        ]));
    }
    lines
}
