//! The report as one page that needs nothing else: no script, no font, no picture from anywhere.
//!
//! The template and its style are the files beside this one. Everything that comes from the kernel is escaped by the
//! template engine; the page's own policy forbids scripts and requests besides.

mod draw;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use crate::finding::{Finding, ProfileLine, Site};
use crate::timeline::{Step, since};
use crate::{Report, figures};
use draw::{Histogram, Timeline};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

/// The page could not be made: a fault in its template.
#[derive(Debug, thiserror::Error)]
#[error("make the page: {0}")]
pub struct PageError(#[from] minijinja::Error);

/// Makes the page.
pub(crate) fn render(report: &Report) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    let syntax =
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()?;
    environment.set_syntax(syntax);
    environment.add_filter("grouped", |number: u64| grouped(number));
    environment.add_filter("hex", |number: u64| format!("{number:#x}"));
    environment.add_filter("times", figures::times);
    environment.add_template("page", TEMPLATE)?;
    environment.get_template("page")?.render(Serde(Page::new(report)))
}

/// What the template shows.
#[derive(Serialize)]
struct Page<'a> {
    style: &'static str,
    version: &'static str,
    report: &'a Report,
    headline: String,
    sections: String,
    hazards: Vec<View<'a>>,
    advice: Vec<View<'a>>,
    suppressed: Vec<SuppressedView<'a>>,
    histogram: Option<Histogram>,
    openers: Vec<Opener<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    finding: &'a Finding,
    sentence: String,
    state: String,
    who: String,
    write_who: Option<String>,
    breaks: Vec<&'a ProfileLine>,
    holds: Vec<&'a ProfileLine>,
    place: Option<String>,
    baseline: Option<String>,
    values: Vec<Row>,
    timeline: Option<Timeline>,
    steps: Vec<StepRow<'a>>,
}

#[derive(Serialize)]
struct SuppressedView<'a> {
    view: View<'a>,
    by: &'a [crate::suppress::EntryNote],
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    raw: String,
    words: String,
    bad: bool,
}

#[derive(Serialize)]
struct StepRow<'a> {
    step: &'a Step,
    since: String,
    place: String,
    /// Steps that are left out before this one.
    left_out: u64,
    after: bool,
}

#[derive(Serialize)]
struct Opener<'a> {
    name: &'a str,
    batches: &'a crate::batches::Batches,
    entries_each: String,
    flushes_each: String,
}

impl<'a> Page<'a> {
    fn new(report: &'a Report) -> Self {
        let of = |errors: bool| {
            report.findings.iter().filter(move |finding| finding.is_error() == errors).map(View::new)
        };
        let suppressed = report
            .suppressed
            .iter()
            .map(|entry| SuppressedView { view: View::new(&entry.finding), by: &entry.by });
        Self {
            style: STYLE,
            version: env!("CARGO_PKG_VERSION"),
            report,
            headline: figures::headline(report),
            sections: figures::sections(report),
            hazards: of(true).collect(),
            advice: of(false).collect(),
            suppressed: suppressed.collect(),
            histogram: report.batches.as_ref().map(|batches| Histogram::new(&batches.total)),
            openers: openers(report),
        }
    }
}

fn openers(report: &Report) -> Vec<Opener<'_>> {
    let Some(batches) = &report.batches else { return Vec::new() };
    let mut openers: Vec<_> = batches.by_opener.iter().collect();
    openers.sort_by_key(|(name, batches)| (std::cmp::Reverse(batches.entries), name.as_str()));
    let row = openers.into_iter().map(|(name, batches)| Opener {
        name,
        batches,
        entries_each: crate::batches::mean(batches.entries, batches.sections),
        flushes_each: crate::batches::mean(batches.flushes(), batches.sections),
    });
    row.collect()
}

impl<'a> View<'a> {
    fn new(finding: &'a Finding) -> Self {
        let profiles =
            |breaks: bool| finding.profiles.iter().filter(move |line| line.breaks == breaks).collect();
        let place = |site: &Site| {
            let (file, line) = site.source()?;
            Some(line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}")))
        };
        Self {
            finding,
            sentence: finding.in_words(),
            state: crate::text::state_words(finding),
            who: crate::text::access_words(finding),
            write_who: crate::text::written_words(finding),
            breaks: profiles(true),
            holds: profiles(false),
            place: place(&finding.access),
            baseline: finding.baseline.as_ref().map(crate::baseline::BaselineState::words),
            values: values(finding),
            timeline: finding.timeline.as_ref().map(|timeline| Timeline::new(timeline, finding)),
            steps: steps(finding),
        }
    }
}

fn values(finding: &Finding) -> Vec<Row> {
    let rows = crate::text::value_rows(finding);
    rows.into_iter().map(|(name, raw, words, bad)| Row { name, raw, words, bad }).collect()
}

fn steps(finding: &Finding) -> Vec<StepRow<'_>> {
    let Some(timeline) = &finding.timeline else { return Vec::new() };
    let start = timeline.steps.first().map_or(0, |step| step.time_ns);
    let left_out = |number| timeline.left_out.filter(|left_out| left_out.before == number);
    let steps = timeline.steps.iter().enumerate();
    let rows = steps.map(|(number, step)| StepRow {
        step,
        since: since(step.time_ns.saturating_sub(start)),
        place: step.place(),
        left_out: left_out(number).map_or(0, |left_out| left_out.count),
        after: number > timeline.hazard,
    });
    rows.collect()
}

/// With a comma at each thousand.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
