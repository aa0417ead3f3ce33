//! The header, which says what is seen and what is not, and the footer.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::text::{count, cut, cut_left, short, span, width};
use crate::action::Action;
use crate::source::Kind;
use crate::state::{Overlay, State, View, withheld};
use crate::theme::Role;

/// Rows of the header.
pub(super) const HEADER: u16 = 2;

const NAME: &str = " lazymmu ";

/// The names of the views with the columns at which they begin.
fn tabs(state: &State) -> Vec<(View, u16, String)> {
    let mut column = NAME.len() as u16 + 1;
    let mut tabs = Vec::new();
    for (number, view) in View::ALL.into_iter().enumerate() {
        let (open, close) = if view == state.view { ('[', ']') } else { (' ', ' ') };
        let text = format!("{open}{} {}{close}", number + 1, view.title());
        let next = column + width(&text) as u16;
        tabs.push((view, column, text));
        column = next;
    }
    tabs
}

/// The view whose name is at that column.
pub(super) fn tab_at(state: &State, column: u16) -> Option<View> {
    let mut tabs = tabs(state).into_iter();
    tabs.find(|(_, from, text)| (*from..*from + width(text) as u16).contains(&column)).map(|(view, ..)| view)
}

pub(super) fn header(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = state.look.theme;
    buffer.set_style(Rect { height: 1, ..area }, theme.style(Role::Bar));
    buffer.set_string(area.x, area.y, NAME, theme.style(Role::Bar));
    for (view, column, text) in tabs(state) {
        let style = if view == state.view { theme.style(Role::Title) } else { Style::new() };
        buffer.set_stringn(column, area.y, text, usize::from(area.right().saturating_sub(column)), style);
    }
    let mode = mode(state);
    let at = area.right().saturating_sub(width(&mode) as u16 + 1);
    let end = tabs(state).last().map_or(0, |(_, column, text)| column + width(text) as u16);
    if at > end {
        buffer.set_string(at, area.y, mode, theme.style(Role::Title));
    }
    buffer.set_line(area.x, area.y + 1, &status(state, usize::from(area.width)), area.width);
}

/// Live, frozen or a trace, in a word or two.
fn mode(state: &State) -> String {
    let shown = &state.shown;
    if state.frozen {
        return "FROZEN".to_owned();
    }
    match (state.about.kind, shown.total) {
        (Kind::Live, _) if shown.done => "ended".to_owned(),
        (Kind::Live, _) => "live".to_owned(),
        (Kind::Trace, Some(total)) if !shown.done && total > 0 => {
            format!("trace {}%", (shown.records.saturating_mul(100) / total).min(99))
        }
        (Kind::Trace, _) if !shown.done => "trace ...".to_owned(),
        (Kind::Trace, _) => "trace".to_owned(),
    }
}

/// The second line: what always has to be seen stands first if there is not room for all.
fn status(state: &State, columns: usize) -> Line<'static> {
    let report = &state.shown.report;
    let lost = match (report.losses.total, report.losses.uncounted) {
        (0, 0) => (Role::Good, "lost 0".to_owned()),
        (lost, 0) => (Role::Bad, format!("LOST {}", count(lost))),
        (lost, _) => (Role::Bad, format!("LOST {}+", count(lost))),
    };
    let (attached, wanted) = (report.hooks.attached, report.hooks.wanted);
    let whole = attached == wanted && report.hooks.sites.is_none();
    let hooks = if wanted == 0 { "no hooks told".to_owned() } else { format!("hooks {attached}/{wanted}") };
    let hooks = match &report.hooks.sites {
        Some(sites) => format!("{hooks}, {} of {} places", sites.hooked, sites.found),
        None => hooks,
    };
    let rate = state.shown.rate().map_or_else(|| "-/s".to_owned(), |rate| format!("{}/s", short(rate)));
    let mut fixed = vec![lost, (if whole { Role::Good } else { Role::Doubt }, hooks)];
    if state.frozen {
        let (records, findings) = withheld(&state.shown, &state.latest);
        fixed.push((Role::Doubt, format!("withheld {} records, {findings} findings", count(records))));
    }
    fixed.push((Role::Plain, rate));
    if let Some(filter) = &report.filter {
        fixed.push((Role::Doubt, format!("filter {}", filter.expression)));
    }
    if let Some(note) = &state.shown.note {
        fixed.push((Role::Bad, note.clone()));
    }
    let target = format!("Linux {} {}", report.target.release, report.target.architecture);
    let taken: usize = fixed.iter().map(|(_, text)| width(text) + 2).sum();
    let room = columns.saturating_sub(taken + 4);
    let target = cut(&target, room.max(20));
    let name = cut_left(&state.about.name, room.saturating_sub(width(&target)).max(12));
    let gap = Span::raw("  ");
    let mut spans = vec![Span::raw(" "), span(state, Role::Title, target), gap.clone()];
    for (role, text) in fixed {
        spans.extend([span(state, role, text), gap.clone()]);
    }
    spans.push(span(state, Role::Quiet, name));
    Line::from(spans)
}

pub(super) fn footer(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = state.look.theme;
    let y = area.bottom() - 1;
    let row = Rect { y, height: 1, ..area };
    if let Some(Overlay::Prompt { prompt, text, .. }) = &state.overlay {
        let room = usize::from(area.width).saturating_sub(width(prompt.label()) + 2);
        let spans = vec![
            Span::raw(" "),
            span(state, Role::Key, prompt.label()),
            Span::raw(cut_left(text, room)),
            span(state, Role::Cursor, " "),
        ];
        if let Some((message, _)) = &state.message {
            let blank = " ".repeat(usize::from(area.width));
            buffer.set_string(area.x, y - 1, blank, Style::new());
            buffer.set_line(
                area.x,
                y - 1,
                &Line::from(span(state, Role::Bad, format!(" ! {message}"))),
                area.width,
            );
        }
        buffer.set_line(area.x, y, &Line::from(spans), area.width);
        return;
    }
    if let Some((message, bad)) = &state.message {
        let role = if *bad { Role::Bad } else { Role::Plain };
        let mark = if *bad { " ! " } else { " " };
        buffer.set_line(
            area.x,
            y,
            &Line::from(vec![span(state, role, format!("{mark}{message}"))]),
            area.width,
        );
        return;
    }
    buffer.set_style(row, theme.style(Role::Bar));
    let mut column = area.x + 1;
    for action in offered(state.view) {
        let info = action.info();
        let Some(key) = state.look.keymap.keys(action).next().map(|key| key.to_string()) else { continue };
        let next = column + (width(&key) + width(info.short) + 3) as u16;
        if next > area.right() + 2 {
            break;
        }
        buffer.set_string(column, y, &key, theme.style(Role::Title));
        buffer.set_string(column + width(&key) as u16 + 1, y, info.short, Style::new());
        column = next;
    }
}

/// The actions that the footer names in each view.
fn offered(view: View) -> Vec<Action> {
    let own: &[Action] = match view {
        View::Findings => &[Action::Open, Action::Section, Action::Sort, Action::Filter, Action::Search],
        View::Finding => &[Action::Open, Action::Right, Action::Search],
        View::Section => &[Action::Open, Action::OneEntry, Action::Search],
        View::Cpus => {
            &[Action::NextEvent, Action::NextSection, Action::NextHazard, Action::Jump, Action::Open]
        }
        View::Hooks => &[Action::Search],
    };
    let rest = [
        Action::NextView,
        Action::Back,
        Action::Copy,
        Action::Save,
        Action::Freeze,
        Action::Palette,
        Action::Help,
        Action::Quit,
    ];
    // Help and the way out are named first, so that they are there on any screen.
    let first = [Action::Help, Action::Quit];
    let rest = rest.into_iter().filter(|action| !first.contains(action));
    first.into_iter().chain(own.iter().copied()).chain(rest).collect()
}
