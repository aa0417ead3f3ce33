//! `replay`: a recorded trace, judged as if it happened now.

use std::io::{Read, Seek};

use anyhow::Result;
use lazymmu_trace::{ReadError, Reader};

use crate::cli::{Color, ReplayArgs};
use crate::session::{self, Output};
use crate::{ExitStatus, Failure};

/// Recorded by `cargo xtask vm --series 7 --out DIR -- record -o /out/fork-exclusive.lmt -- workload run
/// fork-exclusive`.
const SAMPLE: &[u8] = include_bytes!("../../sample/fork-exclusive.lmt");

pub(super) fn run(args: &ReplayArgs, color: Color) -> Result<ExitStatus> {
    let output = Output::new(args.report.format, color);
    if let Some(path) = &args.trace {
        return judge(Reader::open(path).map_err(unreadable)?, output);
    }
    let reader = Reader::from_bytes(SAMPLE).map_err(unreadable)?;
    eprintln!(
        "lazymmu: no trace given; this is the embedded sample, workload fork-exclusive on Linux {}",
        reader.about.header.kernel.release
    );
    judge(reader, output)
}

fn judge<R: Read + Seek>(mut reader: Reader<R>, output: Output) -> Result<ExitStatus> {
    let mut engine = session::engine(&reader.about.header);
    while let Some(batch) = reader.next_batch().map_err(unreadable)? {
        engine.process_all(batch);
    }
    let damage = reader.damage();
    if let Some(damage) = damage {
        eprintln!("lazymmu: the trace is damaged: {damage}");
    }
    output.report(&reader.about.header, &reader.about.symbols, &engine.finish(), damage)
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn unreadable(error: ReadError) -> Failure {
    Failure::to(ExitStatus::Usage, error)
}
