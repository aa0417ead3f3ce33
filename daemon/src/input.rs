//! What is judged after the event: a trace file, a scenario, or the sample inside this binary.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Result;
use lazymmu_report::expectation::{Checked, Met};
use lazymmu_trace::scenario::Scenario;
use lazymmu_trace::{ReadError, Reader};

use crate::{ExitStatus, Failure, session};

/// Recorded by `cargo xtask vm --series 7 --out DIR -- live --record /out/fork-exclusive.lmt -- workload run
/// fork-exclusive`, on the dev kernel of 7.2.13 that its header names.
const SAMPLE: &[u8] = include_bytes!("../sample/fork-exclusive.lmt");

/// So many bytes of a file say whether it is a scenario.
const HEAD: u64 = 64 << 10;

/// Something to judge.
pub(crate) struct Input {
    pub(crate) reader: Reader<Source>,
    /// The scenario that it is, if it is one.
    pub(crate) scenario: Option<Scenario>,
}

/// Where the bytes of a trace are.
pub(crate) enum Source {
    File(File),
    Scenario(Cursor<Vec<u8>>),
    Sample(Cursor<&'static [u8]>),
}

impl Input {
    /// Opens a file; without a path, the sample, which is said on stderr.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let input = Self::reopen(path)?;
        if path.is_none() {
            eprintln!(
                "lazymmu: no trace given; this is the embedded sample, workload fork-exclusive on Linux {}",
                input.reader.about.header.kernel.release
            );
        }
        Ok(input)
    }

    /// The same, for a second look at what was opened before.
    pub(crate) fn reopen(path: Option<&Path>) -> Result<Self> {
        let Bytes { name, source, scenario } = Bytes::open(path)?;
        Ok(Self { reader: Reader::new(name, source).map_err(unreadable)?, scenario })
    }
}

/// The bytes of a trace, and what they are called in messages.
pub(crate) struct Bytes {
    pub(crate) name: String,
    pub(crate) source: Source,
    scenario: Option<Scenario>,
}

impl Bytes {
    /// Of a file; without a path, those of the sample.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            let source = Source::Sample(Cursor::new(SAMPLE));
            return Ok(Self { name: "the embedded sample".to_owned(), source, scenario: None });
        };
        let name = path.display().to_string();
        let open = |source| ReadError::Open { name: name.clone(), source };
        let mut file = File::open(path).map_err(open).map_err(unreadable)?;
        if is_scenario(path, &mut file).map_err(open).map_err(unreadable)? {
            let scenario = Scenario::open(path).map_err(|error| Failure::to(ExitStatus::Usage, error))?;
            let trace = scenario.to_trace().map_err(|error| Failure::to(ExitStatus::Bug, error))?;
            let source = Source::Scenario(Cursor::new(trace));
            return Ok(Self { name, source, scenario: Some(scenario) });
        }
        Ok(Self { name, source: Source::File(file), scenario: None })
    }
}

/// By its name, or by what it begins with. The file is at its beginning again afterwards.
fn is_scenario(path: &Path, file: &mut File) -> io::Result<bool> {
    if path.extension().is_some_and(|extension| extension == Scenario::EXTENSION) {
        return Ok(true);
    }
    // Of what cannot be sought in, the reader of traces says so.
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(Scenario::is_at_start_of(&head))
}

/// Whether what a scenario expects was found, filters and suppressions left aside: lines for stderr.
pub(crate) fn expectations(scenario: &Scenario) -> Vec<String> {
    if scenario.expectations.is_empty() {
        return Vec::new();
    }
    let mut engine = session::engine(&scenario.header);
    engine.process_all(&scenario.records);
    let checked = Checked::new(&scenario.expectations, &engine.finish(), &scenario.symbols);
    let mut lines = checked.complaints();
    let met = checked.expectations.iter().filter(|expectation| expectation.result == Met::Yes);
    lines.push(format!("{} of {} expectations hold", met.count(), scenario.expectations.len()));
    lines
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
pub(crate) fn unreadable(error: ReadError) -> Failure {
    Failure::to(ExitStatus::Usage, error)
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Scenario(bytes) => bytes.read(buffer),
            Self::Sample(bytes) => bytes.read(buffer),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Scenario(bytes) => bytes.seek(to),
            Self::Sample(bytes) => bytes.seek(to),
        }
    }
}
