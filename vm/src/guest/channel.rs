//! The second serial port, as the way out for frames.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};

use crate::frame::{self, Kind, MAX_PAYLOAD};
use crate::job::{JobStatus, StepStatus};

const PORT: &str = "/dev/ttyS1";

/// What the host takes in, relative to this.
const OUT: &str = "/out";

/// The way out. Clones share the port; frames do not mix.
#[derive(Clone)]
pub(super) struct Channel {
    port: Arc<Mutex<File>>,
}

impl Channel {
    /// Opens the port and makes it carry plain bytes.
    pub(super) fn open() -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("open {PORT}: {error}");
        let port = File::options().read(true).write(true).open(PORT).map_err(|error| failed(&error))?;
        let mut mode = tcgetattr(&port).map_err(|error| failed(&error))?;
        mode.make_raw();
        mode.set_speed(115_200).map_err(|error| failed(&error))?;
        tcsetattr(&port, OptionalActions::Now, &mode).map_err(|error| failed(&error))?;
        Ok(Self { port: Arc::new(Mutex::new(port)) })
    }

    /// Says that the first process runs.
    pub(super) fn hello(&self, release: &str) -> Result<(), String> {
        self.send(Kind::Hello, release.as_bytes())
    }

    /// Passes on what a program wrote.
    pub(super) fn output(&self, kind: Kind, bytes: &[u8]) -> Result<(), String> {
        bytes.chunks(MAX_PAYLOAD).try_for_each(|chunk| self.send(kind, chunk))
    }

    /// Says how a program ended.
    pub(super) fn step_end(&self, status: StepStatus) -> Result<(), String> {
        self.send(Kind::StepEnd, status.to_string().as_bytes())
    }

    /// Sends every file below `/out`.
    pub(super) fn send_files(&self) -> Result<(), String> {
        let mut files = Vec::new();
        list(Path::new(OUT), &mut files).map_err(|error| format!("list {OUT}: {error}"))?;
        files.sort();
        files.iter().try_for_each(|path| self.send_file(path))
    }

    fn send_file(&self, path: &Path) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("send {}: {error}", path.display());
        let mut file = File::open(path).map_err(|error| failed(&error))?;
        let size = file.metadata().map_err(|error| failed(&error))?.len();
        let name = path.strip_prefix(OUT).ok().and_then(Path::to_str).ok_or_else(|| failed(&"odd name"))?;
        self.send(Kind::FileStart, &[&size.to_le_bytes(), name.as_bytes()].concat())?;
        let mut chunk = vec![0; MAX_PAYLOAD];
        loop {
            let length = file.read(&mut chunk).map_err(|error| failed(&error))?;
            if length == 0 {
                return Ok(());
            }
            self.send(Kind::FileData, &chunk[..length])?;
        }
    }

    /// Sends the status line, and waits until it is out.
    pub(super) fn finish(&self, status: &JobStatus) -> Result<(), String> {
        self.send(Kind::Status, status.to_string().as_bytes())?;
        let port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        tcdrain(&*port).map_err(|error| format!("empty {PORT}: {error}"))
    }

    fn send(&self, kind: Kind, payload: &[u8]) -> Result<(), String> {
        // A thread that died while it held the lock has left half a frame, which the checksum will tell.
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        frame::write(&mut *port, kind, payload).map_err(|error| format!("write to {PORT}: {error}"))
    }
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}
