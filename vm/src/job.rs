//! What the guest is to do, and how it ended. Both sides share these types.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The steps that the guest does, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What to do. A [`Step::Run`] that ends badly does not end the job; any other step that fails does.
    pub steps: Vec<Step>,
}

/// One thing to do in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Run a program until it ends.
    Run(Command),
    /// Mount a file system; the directory is made if it is missing.
    Mount {
        /// The file system's type.
        kind: String,
        /// Where to mount it.
        target: PathBuf,
        /// Its options, as in `mount -o`.
        options: String,
    },
    /// Write a text to a file that exists (a control file) or not.
    Write {
        /// The file.
        path: PathBuf,
        /// What to write into it.
        text: String,
    },
    /// Copy a file, one of procfs or tracefs as well.
    Copy {
        /// What to copy.
        from: PathBuf,
        /// Where to; below `/out` it reaches the host.
        to: PathBuf,
    },
    /// Load a module of the kernel, compressed or not.
    Module(PathBuf),
    /// Do nothing for a while.
    Sleep(Duration),
}

/// A program and how it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    user: Option<u32>,
    signal: Option<(i32, SignalWhen)>,
    limit: Option<Duration>,
}

/// When a program is sent a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignalWhen {
    /// So long after its start.
    After(Duration),
    /// As soon as it has written this text to its standard output or error, and so long after that.
    Says(String, Duration),
}

impl Command {
    /// A program by its path in the guest, and its arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { argv, env: BTreeMap::new(), user: None, signal: None, limit: None }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Runs it as this user and group instead of as root.
    #[must_use]
    pub fn user(mut self, id: u32) -> Self {
        self.user = Some(id);
        self
    }

    /// Sends it a signal. Children that it has started get none.
    #[must_use]
    pub fn signal(mut self, number: i32, when: SignalWhen) -> Self {
        self.signal = Some((number, when));
        self
    }

    /// Kills it after this time.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The program and its arguments.
    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    pub(crate) fn environment(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    pub(crate) fn user_id(&self) -> Option<u32> {
        self.user
    }

    pub(crate) fn signal_and_when(&self) -> Option<&(i32, SignalWhen)> {
        self.signal.as_ref()
    }

    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.limit
    }
}

impl From<Command> for Step {
    fn from(command: Command) -> Self {
        Step::Run(command)
    }
}

impl Job {
    /// A job of these steps.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepStatus {
    /// It exited with this status.
    Exit(i32),
    /// This signal ended it.
    Signal(i32),
    /// It was killed when its time limit was over.
    Limit,
}

impl StepStatus {
    /// As a shell would tell it: the exit status, or 128 and the number of the signal. A time limit is 124, as with
    /// timeout(1).
    pub fn code(self) -> i32 {
        match self {
            StepStatus::Exit(code) => code,
            StepStatus::Signal(number) => 128 + number,
            StepStatus::Limit => 124,
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            Some(("exit", code)) => code.parse().ok().map(StepStatus::Exit),
            Some(("signal", number)) => number.parse().ok().map(StepStatus::Signal),
            None if text == "limit" => Some(StepStatus::Limit),
            _ => None,
        }
    }
}

impl fmt::Display for StepStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepStatus::Exit(code) => write!(f, "exit {code}"),
            StepStatus::Signal(number) => write!(f, "signal {number}"),
            StepStatus::Limit => f.write_str("limit"),
        }
    }
}

/// How the whole job ended: what the first process says in its last line, `init: exit N` or `init: failed to ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Every step was done. The code is that of the first program that ended badly, 0 if none did.
    Exit(i32),
    /// A step could not be done, with the reason.
    Failed(String),
}

impl JobStatus {
    const PREFIX: &'static str = "init: ";

    /// Reads a status line; `None` if it is none.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let rest = line.trim_end().strip_prefix(Self::PREFIX)?;
        match rest.strip_prefix("exit ") {
            Some(code) => code.parse().ok().map(JobStatus::Exit),
            None => rest.strip_prefix("failed to ").map(|why| JobStatus::Failed(why.to_owned())),
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobStatus::Exit(code) => write!(f, "{}exit {code}", Self::PREFIX),
            JobStatus::Failed(why) => write!(f, "{}failed to {}", Self::PREFIX, why.replace('\n', "; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_survive_the_way() {
        for status in [StepStatus::Exit(0), StepStatus::Exit(70), StepStatus::Signal(9), StepStatus::Limit] {
            assert_eq!(StepStatus::parse(&status.to_string()), Some(status));
        }
        for status in [JobStatus::Exit(3), JobStatus::Failed("mount x: no such device".into())] {
            assert_eq!(JobStatus::parse(&status.to_string()), Some(status));
        }
    }

    #[test]
    fn other_text_is_no_status() {
        for text in ["", "exit", "exit x", "signal", "limit 3", "exit 1 2"] {
            assert_eq!(StepStatus::parse(text), None, "{text:?}");
        }
        for text in ["", "init: ", "init: exit", "init: hello", "exit 0"] {
            assert_eq!(JobStatus::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_job_survives_the_way() {
        let job = Job::new([
            Step::Sleep(Duration::from_millis(5)),
            Step::Module("/zram.ko.xz".into()),
            Command::new(["/bin/lazymmu", "record"])
                .user(1000)
                .env("A", "b")
                .limit(Duration::from_secs(9))
                .signal(2, SignalWhen::Says("recording".into(), Duration::ZERO))
                .into(),
        ]);
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
    }
}
