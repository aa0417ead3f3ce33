//! Help and palette, which lie on top of a view.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Widget};

use super::text::{self, cell, cut, span, wrap};
use crate::action::Group;
use crate::state::{Overlay, State};
use crate::theme::Role;

/// The widest that they get.
const WIDEST: u16 = 100;

/// Columns of the keys and of the names.
const KEYS: usize = 15;
const NAMES: usize = 17;

pub(super) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    match &state.overlay {
        None | Some(Overlay::Prompt { .. }) => {}
        Some(Overlay::Help { query, scroll }) => {
            let lines = help(state, query);
            let inner = window(state, area, area.height, "help", query, buffer);
            let first = (*scroll).min(lines.len().saturating_sub(usize::from(inner.height)));
            for (line, y) in lines.iter().skip(first).zip(inner.y..inner.bottom()) {
                text::line(buffer, inner.x, y, line, inner.width);
            }
        }
        Some(Overlay::Palette { query, cursor }) => {
            let fitting = state.fitting(query);
            let inner = window(state, area, area.height * 2 / 3, "do", query, buffer);
            let first = super::first(*cursor, fitting.len(), usize::from(inner.height));
            let shown = fitting.iter().enumerate().skip(first);
            for ((number, info), y) in shown.zip(inner.y..inner.bottom()) {
                let chosen = number == (*cursor).min(fitting.len().saturating_sub(1));
                let line = Line::from(vec![
                    Span::raw(if chosen { ">" } else { " " }),
                    span(state, Role::Name, cell(info.name, NAMES)),
                    span(state, Role::Key, cell(&state.look.keymap.shown(info.action), KEYS)),
                    Span::raw(info.text),
                ]);
                text::line(buffer, inner.x, y, &line, inner.width);
                if chosen {
                    buffer.set_style(Rect { y, height: 1, ..inner }, state.look.theme.style(Role::Cursor));
                }
            }
            if fitting.is_empty() {
                buffer.set_string(
                    inner.x + 1,
                    inner.y,
                    "Nothing is called so.",
                    state.look.theme.style(Role::Quiet),
                );
            }
        }
    }
}

/// A box with a line to type in; what is left inside is returned.
fn window(state: &State, area: Rect, height: u16, title: &str, query: &str, buffer: &mut Buffer) -> Rect {
    let width = area.width.saturating_sub(4).min(WIDEST);
    let height = height.saturating_sub(4).max(5).min(area.height);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + 2, width, height };
    Clear.render(place, buffer);
    let block = Block::bordered()
        .border_set(state.look.glyphs.border())
        .title(Line::styled(format!(" {title} "), state.look.theme.style(Role::Title)));
    let inner = block.inner(place);
    block.render(place, buffer);
    let typed = Line::from(vec![
        span(state, Role::Key, "> "),
        Span::raw(cut(query, usize::from(inner.width).saturating_sub(4))),
        span(state, Role::Cursor, " "),
    ]);
    buffer.set_line(inner.x, inner.y, &typed, inner.width);
    Rect { y: inner.y + 1, height: inner.height - 1, ..inner }
}

fn help(state: &State, query: &str) -> Vec<Line<'static>> {
    let fitting = state.fitting(query);
    let width = usize::from(state.size.0.saturating_sub(4).min(WIDEST)).saturating_sub(KEYS + NAMES + 6);
    let mut lines = Vec::new();
    for group in Group::ALL {
        let mut of_group: Vec<_> = fitting.iter().filter(|info| info.group == group).collect();
        of_group.sort_by_key(|info| info.action);
        if of_group.is_empty() {
            continue;
        }
        lines.push(Line::from(span(state, Role::Title, format!(" {}", group.title()))));
        for info in of_group {
            for (number, text) in wrap(info.text, width.max(20)).into_iter().enumerate() {
                let (keys, name) = if number == 0 {
                    (state.look.keymap.shown(info.action), info.name)
                } else {
                    (String::new(), "")
                };
                lines.push(Line::from(vec![
                    span(state, Role::Key, format!("  {}", cell(&keys, KEYS))),
                    span(state, Role::Name, cell(name, NAMES)),
                    Span::raw(text),
                ]));
            }
        }
    }
    if lines.is_empty() {
        lines.push(Line::from(span(state, Role::Quiet, " Nothing fits.")));
    }
    lines
}

/// How many lines the help has.
pub(crate) fn help_length(state: &State, query: &str) -> usize {
    help(state, query).len()
}
