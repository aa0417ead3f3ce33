//! `replay`: recorded traces, judged as if they happened now. What is about more than one is in `several`.

mod several;

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::ControlFlow::{Break, Continue};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Result, bail};
use lazymmu_abi::Record;
use lazymmu_trace::{About, Reader, Symbols, WriteError, Writer};

use crate::cli::{Color, ReplayArgs};
use crate::input::{self, Input, unreadable};
use crate::policy::{self, Judge, Policy};
use crate::reducing::Reducing;
use crate::session::{self, Output};
use crate::{ExitStatus, Failure};

pub(super) fn run(args: &ReplayArgs, color: Color) -> Result<ExitStatus> {
    let filter = policy::filter(&args.filter, args.keep.as_ref())?;
    if args.output.is_some() && filter.is_none() {
        let what =
            "failed to write a reduced trace: nothing says what to keep; give --keep or another filter";
        return Err(Failure::new(ExitStatus::Usage, what).into());
    }
    let policy = Policy::new(filter, &args.suppress)?.with_baseline(&args.baseline)?;
    let output = Output::new(args.report.format, color);
    let reduced = args.output.as_deref();
    let trace = match args.traces.as_slice() {
        [] => None,
        [trace] => Some(trace.as_path()),
        traces => return several::run(traces, args.jobs, reduced, &policy, output),
    };
    if let Some(trace) = trace {
        refuse_same(trace, reduced, "the reduced trace ")?;
    }
    let judged = judge_input(trace, policy, reduced, output)?;
    for note in &judged.notes {
        eprintln!("lazymmu: {note}");
    }
    Output::print(&judged.report)?;
    Ok(judged.status)
}

/// What there is to say of one trace.
struct Judged {
    report: String,
    status: ExitStatus,
    /// Lines for stderr.
    notes: Vec<String>,
}

fn judge_input(
    trace: Option<&Path>,
    policy: Policy,
    reduced: Option<&Path>,
    output: Output,
) -> Result<Judged> {
    let Input { reader, scenario } = Input::open(trace)?;
    let mut judged = judge(reader, policy, reduced, output)?;
    if let Some(scenario) = scenario {
        judged.notes.extend(input::expectations(&scenario));
    }
    Ok(judged)
}

fn judge<R: Read + Seek + Send>(
    mut reader: Reader<R>,
    policy: Policy,
    reduced: Option<&Path>,
    output: Output,
) -> Result<Judged> {
    let policy = policy.within(&reader.about.header)?;
    let mut judge = Judge::new(&reader.about.header, policy.filter.as_ref());
    let mut reduced = reduced.map(|path| Reduced::create(path, &reader.about, &policy)).transpose()?;
    let symbols = &reader.about.symbols;
    let work = |batch: &[Record]| {
        judge.process(batch);
        match reduced.as_mut().map(|reduced| reduced.take(batch, symbols)) {
            Some(Err(error)) => Break(error),
            _ => Continue(()),
        }
    };
    if let Break(error) = reader.records.read_ahead(work).map_err(unreadable)? {
        return Err(error);
    }
    let damage = reader.damage();
    let mut notes = Vec::new();
    notes.extend(damage.map(|damage| format!("the trace is damaged: {damage}")));
    if let Some(reduced) = reduced {
        notes.push(reduced.finish(&reader.about)?);
    }
    let outcome = judge.finish(&reader.about.symbols);
    let (header, symbols) = (&reader.about.header, &reader.about.symbols);
    let judged = session::Judged::new(&policy, header, symbols, outcome, damage)?;
    Ok(Judged { report: output.render(&judged.report)?, status: judged.status, notes })
}

/// The trace of what is selected, while it is written.
struct Reduced<'a> {
    path: &'a Path,
    writer: Writer<File>,
    reducing: Reducing,
}

impl<'a> Reduced<'a> {
    fn create(path: &'a Path, about: &About, policy: &Policy) -> Result<Self> {
        let mut header = about.header.clone();
        // `run` has made sure that there is one.
        let Some(filter) = policy.filter.clone() else {
            bail!("failed to write a reduced trace without a filter")
        };
        header.capture.filter = Some(filter.to_string());
        let writer = Writer::create(path, &header).map_err(|error| failed(path, &error))?;
        Ok(Self { path, writer, reducing: Reducing::new(filter, session::engine(&header)) })
    }

    fn take(&mut self, batch: &[Record], symbols: &Symbols) -> Result<()> {
        for record in batch {
            self.reducing.push(record, Some(symbols));
        }
        self.write(symbols)
    }

    fn write(&mut self, symbols: &Symbols) -> Result<()> {
        self.reducing.write(&mut self.writer, symbols).map_err(|error| failed(self.path, &error))?;
        self.reducing.clear();
        Ok(())
    }

    /// Says what was written.
    fn finish(mut self, about: &About) -> Result<String> {
        self.reducing.finish(Some(&about.symbols));
        self.write(&about.symbols)?;
        self.writer.counters(&about.counters);
        let written = self.writer.finish().map_err(|error| failed(self.path, &error))?;
        Ok(format!(
            "wrote {}: {} of {} records, {} stacks, {} bytes",
            self.path.display(),
            written.records,
            about.records,
            written.stacks,
            written.bytes
        ))
    }
}

fn failed(path: &Path, error: &WriteError) -> anyhow::Error {
    let what = format!("failed to write the reduced trace {}: {error}", path.display());
    Failure::new(ExitStatus::Usage, what).into()
}

/// To write over the trace that is read would destroy it.
pub(super) fn refuse_same(trace: &Path, written: Option<&Path>, what: &str) -> Result<()> {
    let of = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let Some(written) = written else { return Ok(()) };
    if of(written).is_some_and(|file| Some(file) == of(trace)) {
        let what = format!("failed to write {what}{}: it is the one that is read", written.display());
        return Err(Failure::new(ExitStatus::Usage, what).into());
    }
    Ok(())
}
