//! Runs one program: its output goes to the host as it comes, signals and its time limit are kept, and orphans of
//! the whole guest are reaped meanwhile, since this is the first process.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group, wait};

use super::channel::Channel;
use crate::frame::Kind;
use crate::job::{Command, SignalWhen, StepStatus};

/// How long the pipes of a program may stay open, with nothing coming out, after everybody who held them was killed. A
/// task that died inside of the kernel's own clean-up holds them for ever. What was written before may take longer to go
/// out: the port of a Xen guest is slow.
const UNKILLABLE: Duration = Duration::from_secs(10);

enum Event {
    /// The text that a signal waits for has come.
    Said,
    /// The program has ended.
    Ended(WaitStatus),
    /// The program's end cannot be learned.
    Lost(String),
}

/// Runs it to its end.
pub(super) fn run(command: &Command, output: &Channel) -> Result<StepStatus, String> {
    let mut child = spawn(command)?;
    let pid = Pid::from_child(&child);
    let (sender, events) = channel();
    let text = match command.signal_and_when() {
        Some((_, SignalWhen::Says(text, _))) => Some(text.as_bytes()),
        _ => None,
    };
    let passed_on = Arc::new(AtomicU64::new(0));
    let readers = [
        child.stdout.take().map(|pipe| forward(pipe, Kind::Stdout, output, text, &sender, &passed_on)),
        child.stderr.take().map(|pipe| forward(pipe, Kind::Stderr, output, text, &sender, &passed_on)),
    ];
    thread::spawn(move || reap_until(pid, &sender));
    let status = supervise(command, pid, &events)?;
    // Children that it has left would hold its pipes open.
    // No such group is the usual case.
    let _ = kill_process_group(pid, Signal::KILL);
    let mut last = (0, Instant::now());
    for reader in readers.into_iter().flatten() {
        while !reader.is_finished() && last.1.elapsed() < UNKILLABLE {
            thread::sleep(Duration::from_millis(5));
            let now = passed_on.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
        if !reader.is_finished() {
            eprintln!(
                "init: a child that cannot be killed holds a program's output open; going on without it"
            );
            continue;
        }
        reader.join().map_err(|_| "read a program's output: the reader died".to_owned())??;
    }
    Ok(status)
}

fn spawn(command: &Command) -> Result<Child, String> {
    let (program, arguments) = command.argv().split_first().ok_or("start a program without a name")?;
    let mut process = std::process::Command::new(program);
    process
        .args(arguments)
        .env_clear()
        .envs([("PATH", "/bin"), ("HOME", "/root"), ("TERM", "dumb")])
        .envs(command.environment())
        .current_dir("/tmp")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(id) = command.user_id() {
        process.uid(id).gid(id);
    }
    process.spawn().map_err(|error| format!("start {program}: {error}"))
}

/// Passes on what comes out of a pipe, and says once when the text was in it.
fn forward(
    mut pipe: impl Read + Send + 'static,
    kind: Kind,
    output: &Channel,
    text: Option<&[u8]>,
    said: &Sender<Event>,
    passed_on: &Arc<AtomicU64>,
) -> thread::JoinHandle<Result<(), String>> {
    let (output, said, passed_on) = (output.clone(), said.clone(), Arc::clone(passed_on));
    let mut text = text.map(<[u8]>::to_vec);
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        let mut seen = Vec::new();
        loop {
            let length =
                pipe.read(&mut chunk).map_err(|error| format!("read a program's output: {error}"))?;
            if length == 0 {
                return Ok(());
            }
            output.output(kind, &chunk[..length])?;
            passed_on.fetch_add(length as u64, Ordering::Relaxed);
            if let Some(wanted) = &text {
                seen.extend_from_slice(&chunk[..length]);
                if contains(&seen, wanted) {
                    // Nobody listens once the program has ended.
                    let _ = said.send(Event::Said);
                    text = None;
                } else {
                    // The text may be cut between two reads.
                    let keep = seen.len().min(wanted.len());
                    seen.drain(..seen.len() - keep);
                }
            }
        }
    })
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || text.windows(wanted.len()).any(|window| window == wanted)
}

/// Takes every child's end until it is that of the program.
fn reap_until(program: Pid, ended: &Sender<Event>) {
    let event = loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => break Event::Ended(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => break Event::Lost(format!("wait for a program: {error}")),
        }
    };
    // Nobody listens if the job has failed meanwhile.
    let _ = ended.send(event);
}

fn supervise(command: &Command, pid: Pid, events: &Receiver<Event>) -> Result<StepStatus, String> {
    let start = Instant::now();
    let limit = command.time_limit().map(|limit| start + limit);
    let (signal, mut signal_at) = match command.signal_and_when() {
        Some((number, when)) => {
            let signal =
                Signal::from_named_raw(*number).ok_or_else(|| format!("send the signal {number}"))?;
            let at = match when {
                SignalWhen::After(time) => Some(start + *time),
                SignalWhen::Says(..) => None,
            };
            (Some(signal), at)
        }
        None => (None, None),
    };
    let mut over = false;
    loop {
        let next = [signal_at, if over { None } else { limit }].into_iter().flatten().min();
        let event = match next {
            Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(Event::Ended(_)) if over => return Ok(StepStatus::Limit),
            Ok(Event::Ended(status)) => return Ok(step_status(status)),
            Ok(Event::Lost(why)) => return Err(why),
            Ok(Event::Said) => {
                if let Some((_, SignalWhen::Says(_, delay))) = command.signal_and_when() {
                    signal_at = Some(Instant::now() + *delay);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Err("learn how a program ended".to_owned()),
            Err(RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                if let Some(signal) = signal.filter(|_| signal_at.is_some_and(|at| at <= now)) {
                    signal_at = None;
                    // It may have ended by itself just now, which its status will say.
                    let _ = kill_process(pid, signal);
                }
                if !over && limit.is_some_and(|at| at <= now) {
                    over = true;
                    // As above.
                    let _ = kill_process_group(pid, Signal::KILL);
                }
            }
        }
    }
}

fn step_status(status: WaitStatus) -> StepStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => StepStatus::Exit(code),
        (None, Some(number)) => StepStatus::Signal(number),
        (None, None) => StepStatus::Exit(-1),
    }
}
