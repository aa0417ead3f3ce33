//! What else there is to read such an amount of data with, for comparison: each a program of its own, if it is there.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lazymmu_abi::Record;
use zerocopy::IntoBytes;

use crate::measure::{Best, Result};

/// Whether a program is there to be run.
pub(crate) fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// The same records as one zstd frame, at the level of a trace's blocks.
pub(crate) struct ZstdFile {
    zstd: Child,
}

impl ZstdFile {
    pub(crate) fn create(file: File) -> Result<Self> {
        let mut command = Command::new("zstd");
        command.args(["-q", "--fast=1", "-c"]).stdin(Stdio::piped()).stdout(file);
        Ok(Self { zstd: command.spawn()? })
    }

    pub(crate) fn records(&mut self, records: &[Record]) -> Result<()> {
        let mut input = self.zstd.stdin.as_ref().ok_or("zstd has no input")?;
        Ok(input.write_all(records.as_bytes())?)
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        drop(self.zstd.stdin.take());
        let status = self.zstd.wait()?;
        if status.success() { Ok(()) } else { Err(format!("zstd ended with {status}").into()) }
    }
}

/// `zstd -d` of it.
pub(crate) fn unpack(path: &Path, best: &mut Best) -> Result<()> {
    let mut command = Command::new("zstd");
    best.time_program(command.args(["-q", "-d", "-c"]).arg(path).stdout(Stdio::null()))
}

/// `trace-cmd report` of a file of its own kind.
pub(crate) fn report(path: &Path, best: &mut Best) -> Result<()> {
    let mut command = Command::new("trace-cmd");
    best.time_program(command.args(["report", "-i"]).arg(path).stdout(Stdio::null()).stderr(Stdio::null()))
}
