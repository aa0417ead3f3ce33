//! What a test does with daemons inside a guest, where nothing else could talk to them: `serve` lets clients see what a
//! workload does, `live` leaves the views of sessions, `kill N` kills daemons at random moments, `lookups COMMAND` runs a
//! command beside a task that keeps the kernel from running programs at kprobes, `serial WORKLOAD...` looks at one over a serial
//! line, `crowd N` measures what twenty clients cost, `service WORKLOAD...` has systemd start one. Each prints a line of JSON
//! with what it saw; that it is as it should be is for the test to say.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod crowd;
mod serial;
mod service;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lazymmu_protocol::{Client, Message, Request, Wanted};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::{Value, json};

const LAZYMMU: &str = "/bin/lazymmu";
const SOCKET: &str = "/run/lazymmu/daemon.sock";
const NOTIFY: &str = "/run/notify";
/// The group that may connect, and a user in it.
const MEMBER: u32 = 1000;
/// A user who is in no group that may.
const STRANGER: u32 = 2000;
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_mins(2);

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let seen = match arguments[..] {
        ["serve"] => serve(),
        ["look"] => look(),
        ["live"] => live(),
        ["kill", times] => kill(times.parse().unwrap()),
        ["lookups", program, ref arguments @ ..] => lookups(program, arguments),
        ["crowd", turns] => crowd::crowd(turns.parse().unwrap()),
        ["service", ref workloads @ ..] => service::service(workloads),
        ["serial", ref workload @ ..] => serial::serial(workload),
        _ => panic!("serve, look, live, kill N, lookups COMMAND, crowd N, or service or serial WORKLOAD..."),
    };
    println!("{seen}");
}

/// How many words a value has that is looked up: to copy it takes most of what a look-up takes.
const WORDS: usize = 1 << 14;

/// Runs a command beside a task that looks a value of a map up again and again. While the kernel copies it, it runs no
/// programs at kprobes on that CPU (`bpf_disable_instrumentation` in kernel/bpf/syscall.c, 6.1 to 7.2): for whoever comes in
/// between, neither.
fn lookups(program: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(program).args(arguments).stdout(Stdio::null()).spawn().unwrap();
    let map = aya::maps::Array::<aya::maps::MapData, [u64; WORDS]>::create(1, 0).unwrap();
    let mut times = 0_u64;
    let status = loop {
        map.get(&0, 0).unwrap();
        times += 1;
        if let Some(status) = command.try_wait().unwrap() {
            break status;
        }
    };
    json!({ "lookups": times, "status": status.code() })
}

/// A daemon and its service manager.
struct Daemon {
    child: Child,
    manager: UnixDatagram,
}

impl Daemon {
    /// With all that root may.
    fn start(trace: &str) -> Self {
        Self::spawn(Command::new(LAZYMMU).args(["daemon", "--record", trace]))
    }

    /// As packaging/lazymmu.service has it: with few privileges, and the group that may connect as its own.
    fn start_confined(words: &'static [&'static str]) -> Self {
        let left =
            CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::SYSLOG | CapabilitySet::SETPCAP;
        let confined = thread::spawn(move || {
            // What a program may have at most is a matter of the thread that starts it.
            for capability in CapabilitySet::all().difference(left).iter() {
                let _ = remove_capability_from_bounding_set(capability);
            }
            Self::spawn(Command::new(LAZYMMU).arg("daemon").args(words).gid(MEMBER))
        });
        confined.join().unwrap()
    }

    fn spawn(command: &mut Command) -> Self {
        let _ = fs::remove_file(NOTIFY);
        let manager = UnixDatagram::bind(NOTIFY).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let command = command.env("NOTIFY_SOCKET", NOTIFY).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        Self { child, manager }
    }

    fn told(&self) -> String {
        let mut bytes = [0; 512];
        let read = self.manager.recv(&mut bytes).expect("the daemon tells its manager");
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // It may be gone already.
        let _ = kill_process(pid, signal);
    }

    /// What each of its threads may do.
    fn threads(&self) -> Vec<Value> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let field = |status: &str, name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        tasks
            .map(|task| {
                let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
                let names = ["Name:", "CapPrm:", "CapEff:", "CapBnd:", "CapInh:", "CapAmb:", "NoNewPrivs:"];
                json!(names.map(|name| field(&status, name)))
            })
            .collect()
    }

    fn end(mut self) -> Value {
        let status = self.child.wait().unwrap();
        json!({ "code": status.code(), "signal": status.signal() })
    }
}

fn connect() -> Client {
    let client = Client::connect(Path::new(SOCKET)).unwrap();
    client.set_patience(Some(PATIENCE)).unwrap();
    client
}

fn workload(name: &str) -> Command {
    workload_with(&[name])
}

/// A workload with what it takes besides.
fn workload_with(words: &[&str]) -> Command {
    let mut command = Command::new(LAZYMMU);
    command.args(["workload", "run"]).args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

/// A client of each kind sees what a workload does; then the daemon is asked to end.
fn serve() -> Value {
    let daemon = Daemon::start_confined(&["--record", "/out/served.lmt"]);
    let ready = daemon.told();
    let mut client = connect();
    client.send(&Request::Subscribe {}).unwrap();
    assert!(matches!(client.next().unwrap(), Some(Message::Snapshot(_))));
    let waiting = thread::spawn(move || {
        let (mut first, mut statuses) = (None, 0);
        loop {
            match client.next().unwrap() {
                Some(Message::Update(update)) => {
                    let found = update.findings.iter().find(|class| class.rule == "read-pending");
                    if let Some(class) = found {
                        first.get_or_insert_with(|| (Instant::now(), class.clone()));
                    }
                }
                Some(Message::Status(_)) => statuses += 1,
                Some(Message::End(end)) => return (first, statuses, end, client.next().unwrap().is_none()),
                Some(_) => {}
                None => panic!("closed before the end"),
            }
        }
    });
    let done = workload("fork-exclusive").status().unwrap();
    let worked = Instant::now();
    // Another client: what it sees now, it saw within the time since the workload has ended.
    let mut other = connect();
    let seen = loop {
        other.send(&Request::Snapshot {}).unwrap();
        let Some(Message::Snapshot(snapshot)) = other.next().unwrap() else { panic!("no snapshot") };
        if let Some(class) = snapshot.findings.iter().find(|class| class.rule == "read-pending") {
            break class.clone();
        }
        assert!(worked.elapsed() < PATIENCE, "no client sees the finding");
        thread::sleep(Duration::from_millis(20));
    };
    let after = worked.elapsed();
    other.send(&Request::Timeline(Wanted { id: seen.id.clone() })).unwrap();
    let Some(Message::Timeline(timeline)) = other.next().unwrap() else { panic!("no timeline") };
    let metrics = ask(&["metrics"]);
    let frame = frame();
    let threads = daemon.threads();
    let (root, member, stranger) = (look(), look_as(MEMBER), look_as(STRANGER));
    daemon.signal(Signal::TERM);
    let stopping = daemon.told();
    let (first, statuses, end, closed) = waiting.join().unwrap();
    let ended = daemon.end();
    json!({
        "ready": ready, "stopping": stopping, "workload": done.code(), "seen": seen,
        "after_ms": u64::try_from(after.as_millis()).unwrap(), "updated": first.map(|(_, class)| class),
        "statuses": statuses, "end": end, "closed": closed, "timeline": timeline, "metrics": metrics,
        "frame": frame, "threads": threads, "root": root, "member": member, "stranger": stranger, "ended": ended,
        "socket": Path::new(SOCKET).exists(), "bpf": bpf(),
    })
}

fn ask(what: &[&str]) -> String {
    let said = Command::new(LAZYMMU).arg("ask").args(what).output().unwrap();
    String::from_utf8(said.stdout).unwrap()
}

/// What the view shows of the daemon.
fn frame() -> Value {
    let arguments = ["tui", "--connect", SOCKET, "--dump-frame", "120x40"];
    let said = Command::new(LAZYMMU).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    json!({ "code": said.status.code(), "shown": text(said.stdout), "said": text(said.stderr) })
}

/// Sessions with their view on a terminal: one is left while its command goes on, one after the end of its command, and one
/// is asked to end by a signal.
fn live() -> Value {
    fs::create_dir_all("/dev/pts").unwrap();
    mount("devpts", "/dev/pts", "devpts", MountFlags::empty(), None).unwrap();
    let once = [LAZYMMU, "workload", "run", "fork-exclusive"];
    let again = [&["/init", "repeat"], &once[..]].concat();
    let going = on_terminal(&[], &again, &["read-pending"], None);
    let look = ["--ascii", "--no-mouse", "--keys", "5"];
    let ended = on_terminal(&look, &once, &["ended", "attached"], None);
    let told = on_terminal(&[], &again, &["read-pending"], Some(Signal::TERM));
    json!({ "going": going, "ended": ended, "told": told, "bpf": bpf() })
}

/// A session that is left, by a key or by a signal, as soon as these words have been on its screen.
fn on_terminal(look: &[&str], command: &[&str], words: &[&str], signal: Option<Signal>) -> Value {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
    let device = fs::File::options().read(true).write(true).open(name).unwrap();
    tcsetwinsize(&device, Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let end = || Stdio::from(device.try_clone().unwrap());
    let mut session = Command::new(LAZYMMU)
        .args(["live", "--tui", "--color", "never"])
        .args(look)
        .arg("--")
        .args(command)
        .env("TERM", "xterm-256color")
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    drop(device);
    let mut controller = fs::File::from(controller);
    let (mut shown, mut bytes, mut seen) = (Vec::new(), [0; 4096], false);
    // Reading ends with an error when nobody has the terminal open any more.
    while let Ok(count @ 1..) = controller.read(&mut bytes) {
        shown.extend_from_slice(&bytes[..count]);
        let has = |word: &&str| shown.windows(word.len()).any(|window| window == word.as_bytes());
        if !seen && words.iter().all(has) {
            seen = true;
            match signal {
                Some(signal) => kill_process(Pid::from_child(&session), signal).unwrap(),
                None => controller.write_all(b"q").unwrap(),
            }
        }
    }
    let code = session.wait().unwrap().code();
    let text = String::from_utf8_lossy(&shown);
    // The screen is taken by one sequence of xterm's and given back by another.
    let (before, rest) = text.split_once("\x1b[?1049h").unwrap_or((&text, ""));
    let (screen, after) = rest.rsplit_once("\x1b[?1049l").unwrap_or((rest, ""));
    json!({ "code": code, "before": before, "screen": screen, "after": after })
}

/// What this user gets to see.
fn look() -> Value {
    let mut client = match Client::connect(Path::new(SOCKET)) {
        Ok(client) => client,
        Err(error) => return json!({ "refused": error.to_string() }),
    };
    client.send(&Request::Snapshot {}).unwrap();
    let Some(Message::Snapshot(snapshot)) = client.next().unwrap() else { panic!("no snapshot") };
    let id = snapshot.findings.iter().find(|class| class.rule == "read-pending").unwrap().id.clone();
    client.send(&Request::Finding(Wanted { id })).unwrap();
    let Some(Message::Finding(detail)) = client.next().unwrap() else { panic!("no finding") };
    json!({ "addresses": client.hello().addresses, "example": detail.finding.example })
}

fn look_as(user: u32) -> Value {
    let own = std::env::current_exe().unwrap();
    let said = Command::new(own).arg("look").uid(user).gid(user).output().unwrap();
    serde_json::from_slice(&said.stdout).unwrap_or_else(|error| json!(format!("{error}: {said:?}")))
}

/// How many programs of BPF there are that trace, and how many links. Those of a process that ended go when the kernel finds
/// the time. systemd has programs of its own, which do not trace.
fn bpf() -> Value {
    /// Kprobes, tracepoints, raw ones, and what is attached by BTF (`enum bpf_prog_type`, include/uapi/linux/bpf.h).
    const TRACE: [u32; 4] = [2, 5, 17, 26];
    let programs = || aya::programs::loaded_programs().filter_map(Result::ok);
    let tracing = || programs().filter(|program| TRACE.contains(&(program.program_type() as u32)));
    let count = || (tracing().count(), aya::programs::loaded_links().count());
    let begun = Instant::now();
    while count() != (0, 0) && begun.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(50));
    }
    json!({ "programs": count().0, "links": count().1 })
}

/// Kills daemons, some before they are ready; each finds what the one before has left.
fn kill(times: u32) -> Value {
    let mut random = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    random.retain(|c| c.is_ascii_hexdigit());
    let mut random = u64::from_str_radix(&random[..15], 16).unwrap() | 1;
    let mut working = Command::new("/init");
    working
        .args(["repeat", LAZYMMU, "workload", "run", "munmap"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut working = working.spawn().unwrap();
    let mut rounds = Vec::new();
    for _ in 0..times {
        let trace = "/out/killed.lmt";
        let _ = fs::remove_file(trace);
        let daemon = Daemon::start(trace);
        // xorshift64
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let delay = Duration::from_millis(random % 2500);
        let waits = !random.is_multiple_of(3);
        if waits {
            daemon.told();
        }
        thread::sleep(delay);
        daemon.signal(Signal::KILL);
        let ended = daemon.end();
        let size = fs::metadata(trace).map_or(0, |about| about.len());
        let replayed = Command::new(LAZYMMU).args(["replay", "--format", "json", trace]).output().unwrap();
        let said = String::from_utf8_lossy(&replayed.stderr).into_owned();
        rounds.push(json!({
            "delay_ms": u64::try_from(delay.as_millis()).unwrap(), "waited": waits, "ended": ended,
            "size": size, "replayed": replayed.status.code(), "said": said, "bpf": bpf(),
        }));
    }
    let _ = working.kill();
    let _ = working.wait();
    let last = Daemon::start("/out/last.lmt");
    let ready = last.told();
    last.signal(Signal::TERM);
    let ended = last.end();
    let left: Vec<_> = fs::read_dir("/run/lazymmu")
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    json!({ "rounds": rounds, "ready": ready, "ended": ended, "left": left, "bpf": bpf() })
}
