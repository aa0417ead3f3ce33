//! What a daemon's clients cost: the same is done again and again, in turn without a client and with twenty of which one
//! never reads.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use lazymmu_protocol::{Message, Request, Status};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Daemon, LAZYMMU, SOCKET, connect};

const READERS: usize = 19;
/// What is measured, which prints the processor time of each of its rounds.
const LOOP: [&str; 3] = ["/bin/lazymmu-loop", "dense", "4"];

/// What was seen in the turns of one kind.
#[derive(Default)]
struct Seen {
    /// The processor time of each round of the loop, in nanoseconds.
    rounds: Vec<u64>,
    /// That of each thread of the daemon, in ticks.
    threads: BTreeMap<String, u64>,
    records: u64,
    lost: u64,
}

/// Those who are connected, until it is dropped.
struct Crowd {
    streams: Vec<UnixStream>,
    readers: Vec<thread::JoinHandle<usize>>,
}

impl Crowd {
    fn gather() -> Self {
        let streams: Vec<_> = (0..=READERS)
            .map(|_| {
                let mut stream = UnixStream::connect(SOCKET).unwrap();
                stream.write_all(Request::Subscribe {}.line().as_bytes()).unwrap();
                stream
            })
            .collect();
        // All but the first read.
        let readers = streams[1..].iter().map(|stream| {
            let mut stream = stream.try_clone().unwrap();
            thread::spawn(move || {
                let (mut bytes, mut lines) = ([0; 8192], 0);
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    lines += bytes[..count].split(|byte| *byte == b'\n').count() - 1;
                }
                lines
            })
        });
        let readers = readers.collect();
        Self { streams, readers }
    }

    /// How many lines the one got that got fewest.
    fn leave(self) -> usize {
        for stream in &self.streams {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
        self.readers.into_iter().map(|reader| reader.join().unwrap()).min().unwrap()
    }
}

pub(crate) fn crowd(turns: usize) -> Value {
    let daemon = Daemon::start_confined(&["--ring-size", "64M"]);
    daemon.told();
    // So that there is something to tell all the time.
    let mut hazards = Command::new("/init");
    hazards.args(["repeat", LAZYMMU, "workload", "run", "fork-exclusive"]);
    let mut hazards = hazards.stdout(Stdio::null()).spawn().unwrap();
    let (mut alone, mut crowded, mut fewest) = (Seen::default(), Seen::default(), usize::MAX);
    for _ in 0..turns {
        turn(&daemon, &mut alone);
        let crowd = Crowd::gather();
        while status().clients < 1 + crowd.streams.len() {
            thread::sleep(Duration::from_millis(20));
        }
        turn(&daemon, &mut crowded);
        fewest = fewest.min(crowd.leave());
        while status().clients > 1 {
            thread::sleep(Duration::from_millis(20));
        }
    }
    hazards.kill().unwrap();
    hazards.wait().unwrap();
    daemon.signal(Signal::TERM);
    json!({ "alone": alone.told(), "crowded": crowded.told(), "fewest": fewest, "ended": daemon.end() })
}

fn turn(daemon: &Daemon, seen: &mut Seen) {
    let (before, threads) = (settled(), ticks(daemon));
    let said = Command::new(LOOP[0]).args(&LOOP[1..]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let said = String::from_utf8(said.stdout).unwrap();
    let rounds = said.trim().strip_prefix("rounds: ").unwrap().split(' ');
    seen.rounds.extend(rounds.map(|time| time.parse::<u64>().unwrap()));
    let (after, later) = (settled(), ticks(daemon));
    seen.records += after.records.total - before.records.total;
    seen.lost += after.losses.total - before.losses.total;
    for (name, ticks) in later {
        *seen.threads.entry(name.clone()).or_default() += ticks - threads.get(&name).unwrap_or(&0);
    }
}

impl Seen {
    fn told(mut self) -> Value {
        self.rounds.sort_unstable();
        let median = self.rounds[self.rounds.len() / 2];
        json!({ "median_ns": median, "threads": self.threads, "records": self.records, "lost": self.lost })
    }
}

fn status() -> Box<Status> {
    let mut client = connect();
    client.send(&Request::Status {}).unwrap();
    loop {
        match client.next().unwrap() {
            Some(Message::Status(status)) => return status,
            Some(_) => {}
            None => panic!("closed before the status"),
        }
    }
}

/// The status once it has all that was produced before now; it is told ten times a second.
fn settled() -> Box<Status> {
    thread::sleep(Duration::from_millis(500));
    status()
}

/// The processor time of each thread of the daemon, in ticks: proc(5), the fields 14 and 15 of `stat`.
fn ticks(daemon: &Daemon) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap();
    let times = tasks.map(|task| {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (before, after) = stat.rsplit_once(')').unwrap();
        let name = before.split_once('(').unwrap().1.to_owned();
        let fields: Vec<u64> =
            after.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap()).collect();
        (name, fields[0] + fields[1])
    });
    times.collect()
}
