//! What a session that captures runs and waits for besides the capture: its command, signals, the end of its time.

use std::ffi::OsString;
use std::process::{ExitStatus as ProcessStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal as Kill, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};

use crate::purpose::CommandOutput;

/// How long a command may take to end when the session ends before it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why capturing stopped.
pub(crate) enum Stop {
    CommandEnded(std::io::Result<ProcessStatus>),
    Signal,
    /// The user left the view.
    Left,
    TimeOver,
    TraceFailed,
}

/// Starts the command, if there is one.
pub(crate) fn spawn(command: &[OsString], output: CommandOutput) -> Result<Option<Child>> {
    let Some((program, rest)) = command.split_first() else { return Ok(None) };
    let shown = program.to_string_lossy();
    let mut spawned = if program == "workload" {
        let own = std::env::current_exe().context("failed to find lazymmu's own binary to run a workload")?;
        let mut spawned = Command::new(own);
        spawned.arg("workload");
        spawned
    } else {
        Command::new(program)
    };
    spawned.args(rest);
    match output {
        CommandOutput::Ours => {}
        CommandOutput::Stderr => {
            spawned.stdout(Stdio::from(std::io::stderr()));
        }
        CommandOutput::StderrOnly => {
            spawned.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr()));
        }
        CommandOutput::Nowhere => {
            spawned.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
    }
    spawned.spawn().map(Some).with_context(|| format!("failed to start the command {shown}"))
}

/// When the command ends; never, if there is none.
pub(crate) async fn ended(child: &mut Option<Child>) -> std::io::Result<ProcessStatus> {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

/// Asks the command to end, and kills it if it does not.
pub(crate) async fn end_command(child: &mut Child) {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        // It may have ended by itself in between.
        let _ = kill_process(pid, Kill::TERM);
    }
    if timeout(PATIENCE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// At that time; never, if none is given.
pub(crate) async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Ticks that come later if one was late.
pub(crate) fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The signals that end a session in order.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self> {
        let catch = |kind| signal(kind).context("failed to catch signals");
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
