//! One finding: both call paths, side by side where there is room, the values, the rule, the profiles.

use lazymmu_hazard::rules::RuleId;
use lazymmu_report::{Finding, Site, StackFrame};
use ratatui::text::{Line, Span};

use super::text::{cell, count, cut, span, width, wrap};
use super::{Panel, Sheet, Side};
use crate::state::{State, View};
use crate::theme::Role;

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file, relative to the kernel's tree.
    pub(crate) file: String,
    /// The line.
    pub(crate) line: usize,
}

/// A row, and the places in the source that its left and right half name.
struct Row {
    line: Line<'static>,
    places: [Option<Place>; 2],
}

impl From<Line<'static>> for Row {
    fn from(line: Line<'static>) -> Self {
        Self { line, places: [None, None] }
    }
}

/// From this width on the call paths are side by side.
const SIDE_BY_SIDE: usize = 100;
/// Between two call paths, and where the right one has the cursor.
const BETWEEN: &str = " │ ";
const BETWEEN_CURSOR: &str = " │>";
/// From this width on the source is on the right.
const SOURCE_ON_THE_RIGHT: u16 = 160;

pub(super) fn sheet(state: &State) -> Sheet {
    let Some(finding) = state.finding() else {
        return Sheet { empty: "No finding is selected.".to_owned(), ..Sheet::default() };
    };
    let mut rows = rows(state, finding);
    // Which of the two call paths has the cursor.
    if let Some(row) = rows.get_mut(state.cursor()).filter(|row| state.on_right && row.places[1].is_some()) {
        for span in row.line.spans.iter_mut().filter(|span| span.content == BETWEEN) {
            span.content = BETWEEN_CURSOR.into();
        }
    }
    let panels = source(state, &rows).into_iter().collect();
    let kind = if finding.is_error() { "HAZARD" } else { "ADVICE" };
    let head = vec![Line::from(vec![
        Span::raw(" "),
        span(state, if finding.is_error() { Role::Bad } else { Role::Doubt }, kind),
        Span::raw(" "),
        span(state, Role::Name, finding.rule.to_string()),
        span(state, Role::Title, format!(" in {}: {}", finding.access.function, finding.title)),
    ])];
    Sheet { head, rows: rows.into_iter().map(|row| row.line).collect(), panels, empty: String::new() }
}

/// The place in the source under the cursor.
pub(crate) fn place(state: &State) -> Option<Place> {
    let finding = state.finding().filter(|_| state.view == View::Finding)?;
    place_in(state, &rows(state, finding))
}

fn place_in(state: &State, rows: &[Row]) -> Option<Place> {
    let [left, right] = &rows.get(state.cursor())?.places;
    let (first, second) = if state.on_right { (right, left) } else { (left, right) };
    first.as_ref().or(second.as_ref()).cloned()
}

/// Columns for the rows.
fn columns(state: &State) -> usize {
    let all = state.size.0;
    let right = state.look.has_sources && all >= SOURCE_ON_THE_RIGHT;
    usize::from(if right { all - all / 2 } else { all }).saturating_sub(2)
}

fn rows(state: &State, finding: &Finding) -> Vec<Row> {
    let columns = columns(state);
    let mut rows: Vec<Row> = Vec::new();
    let mut say = |role, text: String| {
        rows.extend(wrap(&text, columns).into_iter().map(|line| Line::from(span(state, role, line)).into()));
    };
    if let Some(what) = &finding.what {
        say(Role::Plain, format!("What was seen: {what}."));
    }
    say(if finding.proven > 0 { Role::Bad } else { Role::Doubt }, finding.state_words());
    let paths = match finding.paths {
        1 => String::new(),
        paths => format!(" on {paths} call paths, of which one is shown"),
    };
    let times =
        if finding.count == 1 { "once".to_owned() } else { format!("{} times", count(finding.count)) };
    say(Role::Plain, format!("Seen {times}{paths}. Fingerprint {}.", finding.fingerprint));
    rows.push(Line::default().into());
    paths_of(state, finding, columns, &mut rows);
    if let Some(opener) = &finding.opener {
        rows.push(Line::default().into());
        rows.extend(path(state, "In the section entered by:", opener, columns));
    }
    values(state, finding, columns, &mut rows);
    profiles(state, finding, columns, &mut rows);
    rule(state, finding, columns, &mut rows);
    rows
}

/// Write and access, side by side or one after the other.
fn paths_of(state: &State, finding: &Finding, columns: usize, rows: &mut Vec<Row>) {
    let access_title = format!("{}{}:", finding.access.op, finding.access_words());
    let Some(write) = &finding.write else {
        rows.extend(path(state, &access_title, &finding.access, columns));
        return;
    };
    let written = finding.written_words().unwrap_or_else(|| "Written".to_owned());
    let write_title = format!("{written} with {}:", write.op);
    if columns < SIDE_BY_SIDE {
        rows.extend(path(state, &write_title, write, columns));
        rows.push(Line::default().into());
        rows.extend(path(state, &access_title, &finding.access, columns));
        return;
    }
    let half = (columns - 3) / 2;
    let mut left = path(state, &write_title, write, half);
    let mut right = path(state, &access_title, &finding.access, half);
    let titles = |rows: &[Row]| rows.iter().take_while(|row| row.places == [None, None]).count();
    // The frames begin on the same row, however long the titles are.
    while titles(&left) < titles(&right) && !left.is_empty() {
        left.insert(titles(&left).min(left.len()), Line::default().into());
    }
    while titles(&right) < titles(&left) && !right.is_empty() {
        right.insert(titles(&right).min(right.len()), Line::default().into());
    }
    let height = left.len().max(right.len());
    let mut right = right.into_iter();
    let mut left = left.into_iter();
    for _ in 0..height {
        rows.push(beside(state, left.next(), right.next(), half));
    }
}

fn beside(state: &State, left: Option<Row>, right: Option<Row>, half: usize) -> Row {
    let empty = || Row::from(Line::default());
    let (left, right) = (left.unwrap_or_else(empty), right.unwrap_or_else(empty));
    let fill = half.saturating_sub(left.line.width());
    let mut spans = left.line.spans;
    spans.push(Span::raw(" ".repeat(fill)));
    spans.push(span(state, Role::Quiet, BETWEEN));
    spans.extend(right.line.spans);
    let [from_left, _] = left.places;
    let [from_right, _] = right.places;
    Row { line: Line::from(spans), places: [from_left, from_right] }
}

/// A call path with its title.
fn path(state: &State, title: &str, site: &Site, columns: usize) -> Vec<Row> {
    let title = wrap(title, columns).into_iter();
    let mut rows: Vec<Row> = title.map(|line| Line::from(span(state, Role::Title, line)).into()).collect();
    if site.stack.is_empty() {
        rows.push(Line::from(span(state, Role::Quiet, " (the call stack is not known)")).into());
    }
    rows.extend(site.stack.iter().map(|frame| self::frame(state, frame, columns)));
    rows
}

fn frame(state: &State, frame: &StackFrame, columns: usize) -> Row {
    let name = match (&frame.module, frame.offset) {
        (None, 0) => frame.function.clone(),
        (None, offset) => format!("{}+{offset:#x}", frame.function),
        (Some(module), offset) => format!("{}+{offset:#x} [{module}]", frame.function),
    };
    let place = frame.file.clone().zip(frame.line).map(|(file, line)| Place { file, line: line as usize });
    let at = match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!(" ({file}:{line})"),
        (Some(file), None) => format!(" ({file})"),
        _ => String::new(),
    };
    let inlined = if frame.inlined { " inlined" } else { "" };
    // What the compiler inlined stands a little to the right, and says so.
    let indent = if frame.inlined { "  " } else { " " };
    let room = columns.saturating_sub(width(indent) + width(inlined));
    let name = cut(&name, room);
    let at = cut(&at, room.saturating_sub(width(&name)));
    let spans = vec![
        Span::raw(indent),
        span(state, Role::Name, name),
        Span::raw(at),
        span(state, Role::Quiet, inlined),
    ];
    Row { line: Line::from(spans), places: [place, None] }
}

fn values(state: &State, finding: &Finding, columns: usize, rows: &mut Vec<Row>) {
    let values = finding.value_rows();
    if values.is_empty() {
        return;
    }
    rows.push(Line::default().into());
    let comparison = match &*finding.example.comparison {
        "different" => "Values (they differ: the write was not there yet):",
        "same" => "Values (the same: nothing was deferred here):",
        _ => "Values (not compared):",
    };
    rows.push(Line::from(span(state, Role::Title, comparison)).into());
    for (name, raw, words, bad) in values {
        let mark = if bad { "!" } else { " " };
        let head = [
            span(state, Role::Bad, mark),
            Span::raw(cell(name, 9)),
            span(state, Role::Name, cell(&raw, 18)),
            Span::raw(" "),
        ];
        let room = columns.saturating_sub(31).max(16);
        for (number, words) in wrap(&words, room).into_iter().enumerate() {
            let words = span(state, if bad { Role::Bad } else { Role::Plain }, words);
            let spans = if number == 0 {
                head.iter().cloned().chain([words]).collect()
            } else {
                vec![Span::raw(" ".repeat(31)), words]
            };
            rows.push(Line::from(spans).into());
        }
    }
}

fn profiles(state: &State, finding: &Finding, columns: usize, rows: &mut Vec<Row>) {
    let titles = [(true, "Breaks on:", Role::Bad), (false, "Does not break on:", Role::Good)];
    for (breaks, title, role) in titles {
        let profiles: Vec<_> = finding.profiles.iter().filter(|profile| profile.breaks == breaks).collect();
        if profiles.is_empty() {
            continue;
        }
        rows.push(Line::default().into());
        rows.push(Line::from(span(state, Role::Title, title)).into());
        for profile in profiles {
            let doubt = if profile.verified { "" } else { " (not checked against its source)" };
            let why = wrap(&format!("{}{doubt}", profile.why), columns.saturating_sub(15).max(20));
            for (number, why) in why.into_iter().enumerate() {
                let name = cell(if number == 0 { &profile.name } else { "" }, 12);
                let name = span(state, role, format!(" {name} "));
                rows.push(Line::from(vec![name, Span::raw(why)]).into());
            }
        }
    }
}

fn rule(state: &State, finding: &Finding, columns: usize, rows: &mut Vec<Row>) {
    let Some(rule) = RuleId::by_name(&finding.rule) else { return };
    let text = lazymmu_report::explain(rule, lazymmu_report::Style::Plain);
    rows.push(Line::default().into());
    rows.push(Line::from(span(state, Role::Title, "The rule:")).into());
    // The text is wrapped for a report; here it gets the width of the screen.
    for line in text.lines().flat_map(|line| wrap(line, columns)) {
        rows.push(Line::from(format!(" {line}")).into());
    }
}

/// The code around the place under the cursor.
fn source(state: &State, rows: &[Row]) -> Option<Panel> {
    if !state.look.has_sources {
        return None;
    }
    let wide = state.size.0 >= SOURCE_ON_THE_RIGHT;
    let side = if wide { Side::Right(state.size.0 / 2) } else { Side::Bottom((state.size.1 / 3).max(7)) };
    let height = match side {
        Side::Right(_) => usize::from(state.size.1).saturating_sub(5),
        Side::Bottom(height) => usize::from(height).saturating_sub(2),
    };
    let Some(place) = place_in(state, rows) else {
        let lines =
            vec![Line::from(span(state, Role::Quiet, "Go to a line with a source file to see its code."))];
        return Some(Panel { title: "source".to_owned(), lines, side });
    };
    let title = format!("{}:{}", place.file, place.line);
    let lines = match state.files.get(&place.file) {
        None => vec![Line::from(span(state, Role::Quiet, "reading the file ..."))],
        Some(Err(error)) => vec![Line::from(span(state, Role::Bad, error.clone()))],
        Some(Ok(text)) => {
            let first = place.line.saturating_sub(height / 2).max(1);
            let shown = text.iter().enumerate().skip(first - 1).take(height);
            let line = |(number, text): (usize, &String)| {
                let here = number + 1 == place.line;
                let role = if here { Role::Bad } else { Role::Plain };
                let mark = if here { ">" } else { " " };
                Line::from(span(state, role, format!("{mark}{:>5}  {text}", number + 1)))
            };
            shown.map(line).collect()
        }
    };
    Some(Panel { title, lines, side })
}
