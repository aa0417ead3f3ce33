//! Draws the state. Nothing here changes anything: the same state gives the same screen.
//!
//! Every view is a [`Sheet`]: a heading, rows with a cursor, and panels beside them. So moving, searching, copying and
//! the mouse are the same everywhere.

mod bars;
mod batches;
mod cpus;
pub(crate) mod finding;
mod findings;
mod hooks;
mod lanes;
mod over;
pub(crate) mod section;
mod text;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, Widget};

use crate::state::{State, View};
use crate::theme::Role;

pub(crate) use over::help_length;

/// What a view shows.
#[derive(Default)]
struct Sheet {
    /// Lines above the rows.
    head: Vec<Line<'static>>,
    rows: Vec<Line<'static>>,
    panels: Vec<Panel>,
    /// What is said if there are no rows.
    empty: String,
}

/// Something beside or below the rows.
struct Panel {
    title: String,
    lines: Vec<Line<'static>>,
    side: Side,
}

enum Side {
    /// On the right, so many columns wide.
    Right(u16),
    /// At the bottom, so many rows high.
    Bottom(u16),
}

/// The least screen that makes sense.
const LEAST: (u16, u16) = (40, 10);

fn sheet(state: &State) -> Sheet {
    match state.view {
        View::Findings => findings::sheet(state),
        View::Finding => finding::sheet(state),
        View::Section => section::sheet(state),
        View::Cpus => cpus::sheet(state),
        View::Hooks => hooks::sheet(state),
    }
}

/// How many rows the view has.
pub(crate) fn row_count(state: &State) -> usize {
    match state.view {
        View::Findings => state.order.len(),
        _ => sheet(state).rows.len(),
    }
}

/// The rows of the view as text.
pub(crate) fn row_texts(state: &State) -> Vec<String> {
    sheet(state).rows.iter().map(Line::to_string).collect()
}

/// What is copied: the finding where one is selected, else the row with the cursor.
pub(crate) fn copied(state: &State) -> String {
    if let (View::Findings | View::Finding, Some(finding)) = (state.view, state.finding()) {
        return finding.text();
    }
    let rows = row_texts(state);
    rows.get(state.cursor()).map(|row| row.trim().to_owned()).unwrap_or_default()
}

/// Draws everything.
pub fn draw(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        buffer.set_string(0, 0, "The screen is too small.", Style::new());
        return;
    }
    bars::header(state, area, buffer);
    let sheet = sheet(state);
    let places = Places::of(state, &sheet, area);
    body(state, &sheet, &places, buffer);
    bars::footer(state, area, buffer);
    over::draw(state, area, buffer);
    if state.look.glyphs.ascii {
        text::plain(buffer);
    }
}

/// Where things are on the screen.
struct Places {
    head: Rect,
    rows: Rect,
    panels: Vec<Rect>,
    /// The first row that is shown.
    first: usize,
}

impl Places {
    fn of(state: &State, sheet: &Sheet, area: Rect) -> Self {
        let mut body = Rect { y: area.y + bars::HEADER, height: area.height - bars::HEADER - 1, ..area };
        let mut panels = Vec::new();
        for panel in &sheet.panels {
            let (rest, taken) = match panel.side {
                Side::Right(width) => {
                    let width = width.min(body.width / 2);
                    let rest = Rect { width: body.width - width, ..body };
                    (rest, Rect { x: rest.right(), width, ..body })
                }
                Side::Bottom(height) => {
                    let height = height.min(body.height * 2 / 3);
                    let rest = Rect { height: body.height - height, ..body };
                    (rest, Rect { y: rest.bottom(), height, ..body })
                }
            };
            body = rest;
            panels.push(taken);
        }
        let heading = (sheet.head.len() as u16).min(body.height);
        let head = Rect { height: heading, ..body };
        let rows = Rect { y: head.bottom(), height: body.height - heading, ..body };
        let first = first(state.cursor(), sheet.rows.len(), usize::from(rows.height));
        Self { head, rows, panels, first }
    }
}

/// The first row that is shown, so that the cursor is in the middle where it can be.
fn first(cursor: usize, count: usize, height: usize) -> usize {
    cursor.saturating_sub(height / 2).min(count.saturating_sub(height))
}

fn body(state: &State, sheet: &Sheet, places: &Places, buffer: &mut Buffer) {
    let theme = state.look.theme;
    for (line, y) in sheet.head.iter().zip(places.head.y..) {
        text::line(buffer, places.head.x, y, line, places.head.width);
    }
    let rows = places.rows;
    if sheet.rows.is_empty() {
        buffer.set_stringn(
            rows.x + 1,
            rows.y,
            &sheet.empty,
            usize::from(rows.width).saturating_sub(1),
            theme.style(Role::Quiet),
        );
    }
    let shown = sheet.rows.iter().enumerate().skip(places.first);
    for ((number, row), y) in shown.zip(rows.y..rows.bottom()) {
        text::line(buffer, rows.x + 1, y, row, rows.width - 1);
        mark(state, row, Rect { x: rows.x + 1, y, width: rows.width - 1, height: 1 }, buffer);
        if number == state.cursor() {
            buffer.set_string(rows.x, y, ">", Style::new());
            buffer.set_style(Rect { y, height: 1, ..rows }, theme.style(Role::Cursor));
        }
    }
    for (panel, area) in sheet.panels.iter().zip(&places.panels) {
        let block = Block::bordered()
            .border_set(state.look.glyphs.border())
            .border_style(theme.style(Role::Quiet))
            .title(Line::styled(format!(" {} ", panel.title), theme.style(Role::Title)));
        let inner = block.inner(*area);
        block.render(*area, buffer);
        for (line, y) in panel.lines.iter().zip(inner.y..inner.bottom()) {
            text::line(buffer, inner.x, y, line, inner.width);
        }
    }
}

/// Marks what was searched for.
fn mark(state: &State, row: &Line<'_>, area: Rect, buffer: &mut Buffer) {
    if state.search.is_empty() {
        return;
    }
    let (text, wanted) = (row.to_string().to_lowercase(), state.search.to_lowercase());
    for (at, found) in text.match_indices(&wanted) {
        let before = text::width(&text[..at]) as u16;
        let place = Rect { x: area.x + before, width: text::width(found) as u16, ..area };
        buffer.set_style(place.intersection(area), state.look.theme.style(Role::Found));
    }
}

/// What is at a place of the screen.
pub(crate) enum Hit {
    /// The name of a view in the header.
    View(View),
    /// A row.
    Row(usize),
}

/// What is at that column and row of the screen.
pub(crate) fn hit(state: &State, column: u16, row: u16) -> Option<Hit> {
    let area = Rect { x: 0, y: 0, width: state.size.0, height: state.size.1 };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        return None;
    }
    if row == 0 {
        return bars::tab_at(state, column).map(Hit::View);
    }
    let sheet = sheet(state);
    let places = Places::of(state, &sheet, area);
    let inside = places.rows.contains(ratatui::layout::Position { x: column, y: row });
    let line = places.first + usize::from(row.saturating_sub(places.rows.y));
    (inside && line < sheet.rows.len()).then_some(Hit::Row(line))
}
