//! The course of the section in which a hazard was seen: every call, read and write of it in order, and what waits
//! after each.
//!
//! First the data, [`SectionTimeline`], which whoever draws can use; [`Collector`] gets it from the records of a trace;
//! `text` and the HTML page draw it.

mod collect;
mod text;

pub use collect::{Collector, Mark, Room};
pub(crate) use text::{since, write};

use std::collections::HashSet;

use lazymmu_abi::{Context, Kind, Level, Op, Record};
use lazymmu_hazard::{Nanos, StackId, TaskId, Waiting, without_suffixes};
use lazymmu_trace::Symbols;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Value};
use crate::json::hex;
use crate::pte::PteLayout;
use crate::stack;
use crate::words::Word;
use collect::{Found, Seen};

/// The course of a section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SectionTimeline {
    /// The thread id of the task whose section it is.
    pub tid: u32,
    /// Its name.
    pub task: Option<String>,
    /// Whether the first step is the call that entered the section; else it was entered before the trace begins.
    pub entered: bool,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// How many more steps there were before the step of that number, from 0; they are not in `steps`.
    pub left_out: Option<LeftOut>,
    /// The number of the step that is the hazard.
    pub hazard: usize,
    /// Whether the section went on after the last step.
    pub goes_on: bool,
}

/// Steps that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LeftOut {
    /// They came before this step.
    pub before: usize,
    /// How many.
    pub count: u64,
}

/// One record of a section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Step {
    /// When: ns since the first record of the trace.
    pub time_ns: u64,
    /// Where it ran.
    pub cpu: u16,
    /// The thread id of the task.
    pub tid: u32,
    /// `task`, `softirq`, `hardirq` or `nmi`.
    pub context: Word,
    /// The kind of the record: `read`, `write`, `rmw`, `section` and so on.
    pub kind: Word,
    /// The accessor or mode call.
    pub op: Word,
    /// The innermost function of the call stack, without the compiler's suffixes.
    pub function: Option<String>,
    /// Its source file.
    pub file: Option<String>,
    /// The line there.
    pub line: Option<u32>,
    /// The first entry, if it is about one.
    pub entry: Option<String>,
    /// How many entries, side by side.
    pub entries: u16,
    /// What was written, or what a read got, or what a read-modify-write replaced.
    pub value: Option<Value>,
    /// What it is to the finding: `write`, `access`, or nothing.
    pub role: Option<Word>,
    /// How many entries wait after it.
    pub waiting_entries: usize,
    /// The writes that wait after it, in their order.
    #[serde(skip)]
    pub waiting: Vec<Waiting>,
    /// The first entry as a number, to look it up in what waits.
    #[serde(skip)]
    pub address: Option<u64>,
}

impl Step {
    /// Whether the entry at this address waits after the step.
    #[must_use]
    pub fn has_waiting(&self, entry: u64) -> bool {
        self.waiting.iter().any(|write| {
            entry >= write.first.0 && entry < write.first.0.saturating_add(u64::from(write.count) * 8)
        })
    }

    /// Whether it is about the entry at this address.
    #[must_use]
    pub fn is_about(&self, entry: u64) -> bool {
        let count = u64::from(self.entries.max(1));
        self.address.is_some_and(|first| entry >= first && entry < first.saturating_add(count * 8))
    }
}

impl Step {
    /// Where in the source, or in which function if that is not known.
    pub(crate) fn place(&self) -> String {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => self.function.clone().unwrap_or_default(),
        }
    }
}

impl SectionTimeline {
    /// The steps up to the hazard.
    #[must_use]
    pub fn so_far(&self) -> &[Step] {
        &self.steps[..self.steps.len().min(self.hazard + 1)]
    }

    fn new(found: &Found, symbols: &Symbols, layout: PteLayout) -> Self {
        let mut steps = Vec::new();
        let mut waiting = Vec::new();
        let before = found.head.len();
        for (number, seen) in found.head.iter().chain(&found.tail).enumerate() {
            if number == before {
                waiting.clone_from(&found.waiting);
            }
            seen.change.apply(&mut waiting);
            steps.push(step(seen, &waiting, found.start, symbols, layout));
        }
        let owner = (found.owner.tid(), found.name.map(|name| name.to_string()));
        let left_out = (found.left_out > 0).then_some(LeftOut { before, count: found.left_out });
        Self {
            tid: owner.0,
            task: owner.1,
            entered: found.entered,
            steps,
            left_out,
            hazard: found.hazard,
            goes_on: found.goes_on,
        }
    }

    /// Says which steps the finding is about.
    pub fn mark(&mut self, finding: &Finding) {
        let hazard = self.hazard;
        if let Some(step) = self.steps.get_mut(hazard) {
            step.role = Some("access".into());
        }
        let example = &finding.example;
        let write = finding.write.as_ref().map(|write| &write.op);
        let written =
            |step: &&mut Step| Some(step.time_ns) == example.write_time_ns && Some(&step.op) == write;
        if let Some(step) = self.steps.iter_mut().take(hazard).rev().find(written) {
            step.role = Some("write".into());
        }
    }
}

/// The courses of the sections, for the findings whose classes the collector was made from, in the same order.
pub(crate) fn attach(findings: &mut [Finding], collector: Collector, symbols: &Symbols, layout: PteLayout) {
    for (finding, found) in findings.iter_mut().zip(collector.finish()) {
        let timeline = found.map(|found| SectionTimeline::new(&found, symbols, layout));
        finding.timeline = timeline.map(|mut timeline| {
            timeline.mark(finding);
            timeline
        });
    }
}

impl Collector {
    /// The courses of the sections, in the order of what was looked for.
    #[must_use]
    pub fn timelines(self, symbols: &Symbols, layout: PteLayout) -> Vec<Option<SectionTimeline>> {
        let course = |found: Option<Found>| Some(SectionTimeline::new(&found?, symbols, layout));
        self.finish().map(course).collect()
    }
}

fn step(seen: &Seen, waiting: &[Waiting], start: Nanos, symbols: &Symbols, layout: PteLayout) -> Step {
    let record = &seen.record;
    let kind = Kind::try_from(record.kind);
    let access = matches!(kind, Ok(Kind::Read | Kind::Write | Kind::Rmw));
    let about = access || matches!(kind, Ok(Kind::TlbFlush | Kind::Fault));
    let frame = stack::frames(symbols, StackId(record.stack)).into_iter().next();
    let level = Level::try_from(record.level).ok();
    let value = record.known_value().filter(|_| access);
    Step {
        time_ns: Nanos(record.time).since(start).0,
        cpu: record.cpu,
        tid: TaskId::of(record).tid(),
        context: context(record).into(),
        kind: kind.map_or("unknown", Kind::name).into(),
        op: operation(record).into(),
        function: frame.as_ref().map(|frame| without_suffixes(&frame.function).to_owned()),
        file: frame.as_ref().and_then(|frame| frame.file.clone()),
        line: frame.as_ref().and_then(|frame| frame.line),
        entry: about.then(|| hex(record.entry)),
        entries: if access { record.count.max(1) } else { 0 },
        value: value.map(|raw| Value { raw: hex(raw), decoded: layout.decode(raw, level) }),
        role: None,
        waiting_entries: entries(waiting),
        waiting: waiting.to_vec(),
        address: access.then_some(record.entry),
    }
}

/// How many different entries.
fn entries(waiting: &[Waiting]) -> usize {
    let of = |write: &Waiting| {
        let first = write.first;
        (0..u64::from(write.count)).map(move |index| first.advance(index))
    };
    waiting.iter().flat_map(of).collect::<HashSet<_>>().len()
}

fn operation(record: &Record) -> &'static str {
    match Kind::try_from(record.kind) {
        Ok(kind @ (Kind::TlbFlush | Kind::Fault | Kind::TaskExit | Kind::TaskName | Kind::Lost)) => {
            kind.name()
        }
        _ => Op::try_from(record.op).map_or("unknown operation", Op::name),
    }
}

fn context(record: &Record) -> &'static str {
    match record.context() {
        Context::Task => "task",
        Context::Softirq => "softirq",
        Context::Hardirq => "hardirq",
        Context::Nmi => "nmi",
    }
}
