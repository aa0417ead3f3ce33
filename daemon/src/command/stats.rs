//! `stats`: how large batches are, by the function that opened the section.

use std::io::{Read, Seek};
use std::ops::ControlFlow;

use anyhow::Result;
use lazymmu_abi::Record;
use lazymmu_report::batches::{BatchReport, Observer};
use lazymmu_trace::Reader;

use crate::ExitStatus;
use crate::cli::{Color, FigureFormat, StatsArgs};
use crate::input::{Input, unreadable};
use crate::session::{self, Output};

pub(super) fn run(args: &StatsArgs, color: Color) -> Result<ExitStatus> {
    let mut reader = Input::open(args.trace.as_deref())?.reader;
    let mut engine = session::engine(&reader.about.header);
    let mut observer = Observer::default();
    let work = |batch: &[Record]| {
        for record in batch {
            observer.process(&mut engine, record);
        }
        ControlFlow::<()>::Continue(())
    };
    let _ = reader.records.read_ahead(work).map_err(unreadable)?;
    let report = BatchReport::new(&observer, &reader.about.symbols);
    Output::print(&match args.report.format {
        FigureFormat::Human => report.text(Output::style(color)),
        FigureFormat::Json => report.json(),
    })?;
    Ok(whole(&reader))
}

/// The status for what counts and does not judge: of a damaged trace it counts only what is left.
pub(super) fn whole<R: Read + Seek>(reader: &Reader<R>) -> ExitStatus {
    match reader.damage() {
        None => ExitStatus::Clean,
        Some(damage) => {
            eprintln!("lazymmu: the trace is damaged: {damage}");
            ExitStatus::Inconclusive
        }
    }
}
