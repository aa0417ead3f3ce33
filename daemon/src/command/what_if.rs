//! `what-if`: what a flush before a place in the kernel would mend, and what it would cost.

use std::ops::ControlFlow;

use anyhow::Result;
use lazymmu_abi::Record;
use lazymmu_report::what_if::WhatIf;

use crate::ExitStatus;
use crate::cli::{Color, FigureFormat, WhatIfArgs};
use crate::input::{Input, unreadable};
use crate::session::Output;

pub(super) fn run(args: &WhatIfArgs, color: Color) -> Result<ExitStatus> {
    let mut reader = Input::open(args.trace.as_deref())?.reader;
    let mut what_if = WhatIf::new(&args.flush_before, &reader.about.header, &reader.about.symbols);
    let work = |batch: &[Record]| {
        what_if.process(batch);
        ControlFlow::<()>::Continue(())
    };
    let _ = reader.records.read_ahead(work).map_err(unreadable)?;
    let answer = what_if.finish();
    Output::print(&match args.report.format {
        FigureFormat::Human => answer.text(Output::style(color)),
        FigureFormat::Json => answer.json(),
    })?;
    Ok(super::stats::whole(&reader))
}
