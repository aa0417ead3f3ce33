//! The QEMU process: starts it, turns what comes out of it into events, and ends it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::console::{Console, Notice};
use crate::error::Error;
use crate::frame::{self, Frame};

/// How often the console is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How long a kernel that has panicked gets to reset the machine, and QEMU to end after the guest did.
const GRACE: Duration = Duration::from_secs(5);

/// What the guest did next.
pub(crate) enum Event {
    /// It sent a frame.
    Frame(Frame),
    /// QEMU ended, and everything that it had sent was handed out before.
    Ended(ExitStatus),
}

/// A running QEMU. It is killed when this value goes.
pub(crate) struct Process {
    child: Child,
    frames: Receiver<io::Result<Frame>>,
    stderr: Option<JoinHandle<String>>,
    console: Console,
    /// When a panic was first seen.
    dying_since: Option<Instant>,
    last_sign: Instant,
    /// Holds the kernel's log and the initramfs while QEMU runs.
    _directory: TempDir,
}

/// The time limits of one phase.
#[derive(Clone, Copy)]
pub(crate) struct Watch {
    /// What the guest is doing, for the error.
    pub(crate) phase: &'static str,
    /// When the phase must be over, and how long that is from its start.
    pub(crate) deadline: Instant,
    pub(crate) limit: Duration,
    /// How long nothing may come after the kernel has reported a stall.
    pub(crate) silence: Duration,
}

impl Process {
    /// Starts QEMU. The first serial port goes to `console` in the directory, the second one to our pipe, and a cable joins
    /// the third to the fourth.
    pub(crate) fn start(
        program: &str,
        arguments: &[String],
        directory: TempDir,
        cable: bool,
    ) -> Result<Self, Error> {
        let console_path = directory.path().join("console");
        let console = File::create_new(&console_path)
            .and_then(|_| File::open(&console_path))
            .map_err(|source| Error::Prepare { what: format!("make {}", console_path.display()), source })?;
        let mut child = Command::new(program)
            .args(arguments)
            .args(["-serial", &format!("file:{}", escape(&console_path))])
            .args(["-chardev", "stdio,id=channel,signal=off", "-serial", "chardev:channel"])
            .args(if cable { joined(&directory.path().join("cable")).to_vec() } else { Vec::new() })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => Error::QemuMissing { program: program.to_owned() },
                _ => Error::Prepare { what: format!("start {program}"), source },
            })?;
        let (sender, frames) = sync_channel(64);
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || read_frames(stdout, &sender));
        }
        let stderr = child.stderr.take().map(|mut stderr| {
            thread::spawn(move || {
                let mut text = Vec::new();
                // An error leaves what was read so far, which is all that can be told.
                let _ = stderr.read_to_end(&mut text);
                String::from_utf8_lossy(&text).trim().to_owned()
            })
        });
        Ok(Self {
            child,
            frames,
            stderr,
            console: Console::new(console),
            dying_since: None,
            last_sign: Instant::now(),
            _directory: directory,
        })
    }

    /// Waits for the next event, and judges the console while it waits.
    pub(crate) fn next(&mut self, watch: Watch) -> Result<Event, Error> {
        loop {
            match self.frames.recv_timeout(TICK) {
                Ok(Ok(frame)) => {
                    self.last_sign = Instant::now();
                    self.console.forget_stall();
                    return Ok(Event::Frame(frame));
                }
                // A frame cut by the end of QEMU is told by that end, below, once the channel is gone.
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Ok(Err(error)) => {
                    self.poll_console()?;
                    return Err(Error::Damaged { what: error.to_string(), console: self.console.excerpt() });
                }
                Err(RecvTimeoutError::Disconnected) => return self.wait_end().map(Event::Ended),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.poll_console()?;
            self.judge(watch)?;
        }
    }

    fn judge(&mut self, watch: Watch) -> Result<(), Error> {
        let now = Instant::now();
        match self.console.notice() {
            Some(Notice::Stall(line)) => {
                if now - self.last_sign >= watch.silence {
                    let (line, console) = (line.clone(), self.console.excerpt());
                    return Err(Error::Stall { line, silence: watch.silence, console });
                }
            }
            // The machine resets by itself, which ends QEMU and with it the frames. If it cannot even do that:
            Some(_) if now - *self.dying_since.get_or_insert(now) >= GRACE => return Err(self.verdict()),
            Some(_) | None => {}
        }
        if now >= watch.deadline {
            let console = self.console.excerpt();
            return Err(Error::TimeOut { phase: watch.phase, limit: watch.limit, console });
        }
        Ok(())
    }

    fn poll_console(&mut self) -> Result<(), Error> {
        let new = self.console.poll().map_err(reading_console)?;
        // The line that reports a stall must not itself count as a sign of life.
        if new && self.console.notice().is_none() {
            self.last_sign = Instant::now();
        }
        Ok(())
    }

    /// QEMU has closed its output, so it ends; if it does not, it is killed.
    fn wait_end(&mut self) -> Result<ExitStatus, Error> {
        let waiting = |source| Error::Prepare { what: "wait for qemu".to_owned(), source };
        let until = Instant::now() + GRACE;
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(waiting)? {
                break status;
            }
            if Instant::now() >= until {
                self.child.kill().map_err(waiting)?;
            }
            thread::sleep(TICK / 10);
        };
        self.console.end().map_err(reading_console)?;
        Ok(status)
    }

    /// Why the guest ended without having finished.
    pub(crate) fn verdict(&self) -> Error {
        let console = self.console.excerpt();
        match self.console.notice().cloned() {
            Some(Notice::NoInit(line)) => Error::NoInit { line, console },
            Some(Notice::InitFailed(why)) => Error::Init { why, console },
            Some(Notice::Panic(line)) => {
                let line = self.console.oops().map_or(line.clone(), |oops| format!("{oops} ({line})"));
                Error::Panic { line, console }
            }
            Some(Notice::Stall(_)) | None => Error::NoStatus { console },
        }
    }

    /// Why QEMU ended, if it says so itself, or else why the guest did.
    pub(crate) fn verdict_on(&mut self, status: ExitStatus) -> Error {
        if !status.success() {
            let message = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
            return Error::Qemu { status: status.to_string(), message };
        }
        self.verdict()
    }

    /// Lets the guest reset the machine, or ends it if that takes too long. Returns the console's lines.
    pub(crate) fn stop(mut self) -> Result<Vec<String>, Error> {
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if matches!(self.frames.recv_timeout(TICK), Err(RecvTimeoutError::Disconnected)) {
                self.wait_end()?;
                break;
            }
        }
        self.console.poll().map_err(reading_console)?;
        Ok(self.console.lines().to_vec())
    }

    /// The console so far.
    pub(crate) fn console(&self) -> &Console {
        &self.console
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or it is ours to end; there is no third case to report.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reading_console(source: io::Error) -> Error {
    Error::Prepare { what: "read the guest's console".to_owned(), source }
}

fn read_frames(stdout: ChildStdout, sender: &SyncSender<io::Result<Frame>>) {
    let mut stdout = io::BufReader::with_capacity(1 << 16, stdout);
    while let Some(frame) = frame::read(&mut stdout).transpose() {
        let last = frame.is_err();
        if sender.send(frame).is_err() || last {
            return;
        }
    }
}

/// Two serial ports that are joined by a socket.
fn joined(socket: &Path) -> [String; 8] {
    let path = escape(socket);
    let words = [
        "-chardev",
        &format!("socket,id=near,path={path},server=on,wait=off"),
        "-serial",
        "chardev:near",
        "-chardev",
        &format!("socket,id=far,path={path}"),
        "-serial",
        "chardev:far",
    ];
    words.map(str::to_owned)
}

/// A path in an option of QEMU, where a comma ends the value and two mean one.
pub(crate) fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_qemu_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let error = Process::start("qemu-system-none", &[], directory, false).err().unwrap();
        assert!(matches!(error, Error::QemuMissing { .. }), "{error}");
    }

    #[test]
    fn commas_are_doubled() {
        assert_eq!(escape(Path::new("/tmp/a,b")), "/tmp/a,,b");
    }
}
