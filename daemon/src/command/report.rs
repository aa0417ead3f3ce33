//! `report`: any form of the report, made from a recorded trace.

use std::ops::ControlFlow::{self, Break, Continue};
use std::path::Path;

use anyhow::Result;
use lazymmu_abi::Record;
use lazymmu_hazard::Outcome;
use lazymmu_report::batches::Observer;
use lazymmu_report::{Collector, Names, Session};

use crate::cli::{Color, Format, MakeReportArgs};
use crate::input::{Input, unreadable};
use crate::policy::{self, Judge, Policy};
use crate::session::{self, Judged, Output};
use crate::{ExitStatus, whole_file};

pub(super) fn run(args: &MakeReportArgs, color: Color) -> Result<ExitStatus> {
    // A file gets no colour but by demand.
    let color = if args.output.is_some() && color == Color::Auto { Color::Never } else { color };
    if let Some(trace) = &args.trace {
        super::replay::refuse_same(trace, args.output.as_deref(), "")?;
    }
    let output = Output::new(args.report.format, color);
    let policy =
        Policy::new(policy::filter(&args.filter, None)?, &args.suppress)?.with_baseline(&args.baseline)?;
    let judged = judge(args.trace.as_deref(), policy, Detail::of(args.report.format))?;
    let text = output.render(&judged.report)?;
    match &args.output {
        None => Output::print(&text)?,
        Some(path) => whole_file::write(path, &text)?,
    }
    Ok(judged.status)
}

pub(super) fn judge(path: Option<&Path>, policy: Policy, detail: Detail) -> Result<Judged> {
    detailed(path, policy, detail, &|_| ())
}

/// The same of what is selected of the outcome.
pub(super) fn detailed(
    path: Option<&Path>,
    policy: Policy,
    detail: Detail,
    select: &dyn Fn(&mut Outcome),
) -> Result<Judged> {
    let mut reader = Input::open(path)?.reader;
    let policy = policy.within(&reader.about.header)?;
    let mut judge = Judge::new(&reader.about.header, policy.filter.as_ref());
    let work = |batch: &[Record]| {
        judge.process(batch);
        ControlFlow::<()>::Continue(())
    };
    let _ = reader.records.read_ahead(work).map_err(unreadable)?;
    let damage = reader.damage();
    if let Some(damage) = damage {
        eprintln!("lazymmu: the trace is damaged: {damage}");
    }
    let (header, symbols) = (&reader.about.header, &reader.about.symbols);
    let mut outcome = judge.finish(symbols);
    select(&mut outcome);
    let mut judged = Judged::new(&policy, header, symbols, outcome, damage)?;
    if detail != Detail::None {
        add(path, detail, &mut judged)?;
    }
    Ok(judged)
}

/// What a form shows that is not known before the trace is read a second time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    None,
    /// The course of each finding's section.
    Timelines,
    /// And the sizes of the batches.
    All,
}

impl Detail {
    fn of(format: Format) -> Self {
        match format {
            Format::Human => Self::Timelines,
            Format::Json | Format::Jsonl | Format::Html => Self::All,
            Format::Sarif | Format::Junit | Format::Ktap | Format::Github => Self::None,
        }
    }
}

/// Reads the trace again for what only shows once it is known which hazards there are.
fn add(path: Option<&Path>, detail: Detail, judged: &mut Judged) -> Result<()> {
    let mut reader = Input::reopen(path)?.reader;
    let mut engine = session::engine(&reader.about.header);
    let mut collector = Collector::new(&judged.outcome.classes(&Names(&reader.about.symbols)));
    let mut observer = Observer::default();
    let work = |batch: &[Record]| {
        for record in batch {
            collector.before(&engine, record);
            observer.process(&mut engine, record);
            collector.after(&engine, record);
        }
        if detail == Detail::All || !collector.is_done() { Continue(()) } else { Break(()) }
    };
    let _ = reader.records.read_ahead(work).map_err(unreadable)?;
    let (header, symbols) = (&reader.about.header, &reader.about.symbols);
    let session = Session { header, symbols, outcome: &judged.outcome, damage: None };
    judged.report.add_timelines(collector, &session);
    if detail == Detail::All {
        judged.report.add_batches(&observer, symbols);
    }
    Ok(())
}
