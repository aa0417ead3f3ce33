//! Geometry of the page's drawings: numbers and words for the template, which makes SVG of them.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::Word;
use crate::batches::{Batches, COLUMNS, column_name};
use crate::finding::Finding;
use crate::timeline::{SectionTimeline, Step, since};

/// Steps that are drawn, and how many of them at most before the hazard; the table has more.
const DRAWN: usize = 48;
const BEFORE: usize = 32;
/// Entries that are drawn.
const LANES: usize = 10;

const LEFT: usize = 132;
const STEP: usize = 18;
const TOP: usize = 46;
const LANE: usize = 24;
const CHART: usize = 44;

/// The section of a finding: from left to right step by step, from top to bottom entry by entry.
#[derive(Serialize)]
pub(super) struct Timeline {
    width: usize,
    height: usize,
    left: usize,
    /// Where the lanes end and the chart of what waits begins.
    lanes_end: usize,
    chart_top: usize,
    chart_bottom: usize,
    lanes: Vec<Lane>,
    calls: Vec<Call>,
    times: Vec<Call>,
    /// Where the hazard is.
    hazard: Option<usize>,
    /// The corners of the area of what waits.
    area: String,
    most: usize,
    /// Entries that have no lane.
    hidden: usize,
    /// Steps before and after those that are drawn.
    earlier: u64,
    later: usize,
    /// What it shows, for who cannot see it.
    words: String,
}

/// One entry.
#[derive(Serialize)]
struct Lane {
    y: usize,
    /// The last digits of the address.
    label: String,
    entry: String,
    /// It is the finding's.
    own: bool,
    bars: Vec<Bar>,
    marks: Vec<Mark>,
}

/// For how long it waits.
#[derive(Serialize)]
struct Bar {
    x: usize,
    width: usize,
}

/// An access.
#[derive(Serialize)]
struct Mark {
    x: usize,
    kind: Word,
    bad: bool,
    words: String,
}

/// A mode call or whatever else is about no entry, and the labels of the axis.
#[derive(Serialize)]
struct Call {
    x: usize,
    words: String,
    bad: bool,
}

fn x(index: usize) -> usize {
    LEFT + index * STEP + STEP / 2
}

impl Timeline {
    pub(super) fn new(timeline: &SectionTimeline, finding: &Finding) -> Self {
        let from = timeline.hazard.saturating_sub(BEFORE);
        let until = timeline.steps.len().min(from + DRAWN);
        let steps = timeline.steps.get(from..until).unwrap_or_default();
        let hazard = timeline.hazard - from;
        let own = finding.example.entry.as_deref().and_then(address);
        let (lanes, hidden) = lanes(steps, hazard, own);
        let lanes_end = TOP + lanes.len() * LANE;
        let (chart_top, chart_bottom) = (lanes_end + 12, lanes_end + 12 + CHART);
        let most = steps.iter().map(|step| step.waiting_entries).max().unwrap_or(0);
        let start = timeline.steps.first().map_or(0, |step| step.time_ns);
        let every = steps.len().div_ceil(5).max(1);
        let time = |(index, step): (usize, &Step)| Call {
            x: x(index),
            words: since(step.time_ns.saturating_sub(start)),
            bad: false,
        };
        let left_out = timeline.left_out.filter(|left_out| left_out.before <= from || from == 0);
        Self {
            width: LEFT + steps.len().max(24) * STEP + 40,
            height: chart_bottom + 26,
            left: LEFT,
            lanes_end,
            chart_top,
            chart_bottom,
            calls: calls(steps, hazard),
            times: steps.iter().enumerate().step_by(every).map(time).collect(),
            hazard: (hazard < steps.len()).then(|| x(hazard)),
            area: area(steps, most, chart_top, chart_bottom),
            most,
            hidden,
            earlier: from as u64 + left_out.map_or(0, |left_out| left_out.count),
            later: timeline.steps.len() - until,
            words: words(steps, hazard),
            lanes,
        }
    }
}

fn address(entry: &str) -> Option<u64> {
    u64::from_str_radix(entry.strip_prefix("0x")?, 16).ok()
}

/// The entries nearest to the hazard, by address; and how many others there are.
fn lanes(steps: &[Step], hazard: usize, own: Option<u64>) -> (Vec<Lane>, usize) {
    let mut near: Vec<u64> = own.into_iter().collect();
    let mut by_distance: Vec<_> = steps.iter().enumerate().collect();
    by_distance.sort_by_key(|(index, _)| (index.abs_diff(hazard), *index));
    for (_, step) in by_distance {
        if let Some(address) = step.address
            && !near.contains(&address)
            && !own.is_some_and(|own| step.is_about(own))
        {
            near.push(address);
        }
    }
    let hidden = near.len().saturating_sub(LANES);
    near.truncate(LANES);
    let near: BTreeSet<_> = near.into_iter().collect();
    let lane = |(number, entry): (usize, u64)| Lane {
        y: TOP + number * LANE + LANE / 2,
        label: format!("\u{2026}{:06x}", entry & 0xff_ffff),
        entry: format!("{entry:#018x}"),
        own: own == Some(entry),
        bars: bars(steps, entry),
        marks: marks(steps, hazard, entry, own),
    };
    (near.into_iter().enumerate().map(lane).collect(), hidden)
}

fn bars(steps: &[Step], entry: u64) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    let mut waited = false;
    for (index, step) in steps.iter().enumerate() {
        let waits = step.has_waiting(entry);
        match bars.last_mut() {
            Some(bar) if waits && waited => bar.width += STEP,
            _ if waits => bars.push(Bar { x: x(index), width: STEP }),
            _ => {}
        }
        waited = waits;
    }
    bars
}

fn marks(steps: &[Step], hazard: usize, entry: u64, own: Option<u64>) -> Vec<Mark> {
    let of = |(index, step): (usize, &Step)| {
        // A use or a flush of the TLB is about the finding's entry without naming it.
        let meant = index == hazard && step.address.is_none() && own == Some(entry);
        (step.is_about(entry) || meant).then(|| Mark {
            x: x(index),
            kind: step.kind.clone(),
            bad: index == hazard,
            words: title(step),
        })
    };
    steps.iter().enumerate().filter_map(of).collect()
}

fn title(step: &Step) -> String {
    let value = step.value.as_ref().map_or_else(String::new, |value| format!(" {}", value.raw));
    format!("{} at {}{value}", step.op, step.place())
}

fn calls(steps: &[Step], hazard: usize) -> Vec<Call> {
    let call = |(index, step): (usize, &Step)| Call {
        x: x(index),
        words: step.op.to_string(),
        bad: index == hazard,
    };
    steps.iter().enumerate().filter(|(_, step)| step.address.is_none()).map(call).collect()
}

fn area(steps: &[Step], most: usize, top: usize, bottom: usize) -> String {
    let mut points = vec![format!("{},{bottom}", x(0))];
    let mut last = bottom;
    for (index, step) in steps.iter().enumerate() {
        let y = bottom - (step.waiting_entries * (bottom - top)).checked_div(most).unwrap_or(0);
        points.push(format!("{},{last}", x(index)));
        points.push(format!("{},{y}", x(index)));
        last = y;
    }
    let end = x(steps.len().saturating_sub(1)) + STEP;
    points.push(format!("{end},{last}"));
    points.push(format!("{end},{bottom}"));
    points.join(" ")
}

fn words(steps: &[Step], hazard: usize) -> String {
    let Some(step) = steps.get(hazard) else { return String::new() };
    format!(
        "{} steps of the section; the hazard is {}, with {} entries waiting",
        steps.len(),
        title(step),
        step.waiting_entries
    )
}

/// How many batches there are of each size.
#[derive(Serialize)]
pub(super) struct Histogram {
    width: usize,
    height: usize,
    base: usize,
    columns: Vec<Column>,
}

#[derive(Serialize)]
struct Column {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    middle: usize,
    name: String,
    count: u64,
}

impl Histogram {
    pub(super) fn new(batches: &Batches) -> Self {
        const WIDTH: usize = 52;
        const HEIGHT: usize = 140;
        const BASE: usize = HEIGHT + 22;
        let last = (0..COLUMNS).rev().find(|column| batches.histogram[*column] > 0).unwrap_or(0);
        let most = batches.histogram.iter().copied().max().unwrap_or(0).max(1);
        let column = |number: usize| {
            let count = batches.histogram[number];
            // What is there is seen, however little it is.
            let share = count as usize * HEIGHT / most as usize;
            let height = if count == 0 { 0 } else { share.max(2) };
            let x = number * WIDTH + 8;
            let (y, middle) = (BASE - height, x + (WIDTH - 12) / 2);
            Column { x, y, width: WIDTH - 12, height, middle, name: column_name(number), count }
        };
        let columns: Vec<_> = (0..=last).map(column).collect();
        Self { width: columns.len() * WIDTH + 12, height: BASE + 26, base: BASE, columns }
    }
}
