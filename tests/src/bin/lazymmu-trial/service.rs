//! The daemon as a service of systemd, which starts it again when it was killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lazymmu_protocol::{Class, Client, Message, Request};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{PATIENCE, SOCKET, bpf, connect, workload_with};

const UNIT: &str = "lazymmu.service";
/// What is changed while instructions are probed (docs/ebpf.md).
const SETTINGS: [&str; 2] = ["/proc/sys/debug/kprobes-optimization", "/sys/kernel/rcu_expedited"];
/// What systemd is asked about the unit.
const PROPERTIES: &str = "ActiveState,SubState,MainPID,NRestarts,StatusText,Result,ExecMainStatus";

/// Does what somebody does who installs it, and what may happen to it then.
pub(crate) fn service(workloads: &[&str]) -> Value {
    let before = settings();
    // docs/daemon.md has these.
    let installed = [&["/bin/systemd-sysusers"][..], &["/bin/systemctl", "daemon-reload"]].map(run);
    // It is back as soon as the daemon has told that it captures, or has failed.
    let started = run(&["/bin/systemctl", "start", UNIT]);
    let first = properties();
    let journal = || run(&["/bin/journalctl", "--no-pager", "-o", "short-monotonic", "-u", UNIT]);
    if started["code"] != 0 {
        return json!({ "installed": installed, "started": started, "first": first, "journal": journal() });
    }
    let (client, seen) = watch(workloads);
    let during = settings();
    let pid = first["MainPID"].parse().ok().and_then(Pid::from_raw).expect("the daemon's process");
    kill_process(pid, Signal::KILL).unwrap();
    let cut = until_cut(client);
    // The socket of the one that was killed is there all the time, and nobody listens at it.
    let again = wait("the next daemon", || {
        let now = properties();
        (now["NRestarts"] == "1" && now["ActiveState"] == "active").then_some(now)
    });
    let (client, seen_again) = watch(workloads);
    let stopped = run(&["/bin/systemctl", "stop", UNIT]);
    let cut_again = until_cut(client);
    json!({
        "installed": installed, "started": started, "first": first, "seen": seen, "cut": cut, "again": again,
        "seen_again": seen_again, "stopped": stopped, "cut_again": cut_again, "last": properties(),
        "settings": [before, during, settings()], "socket": Path::new(SOCKET).exists(), "bpf": bpf(),
        "journal": journal(),
    })
}

/// Subscribes, has the workloads run, and waits until something of them is found.
fn watch(workloads: &[&str]) -> (Client, Option<Class>) {
    let mut client = connect();
    client.send(&Request::Subscribe {}).unwrap();
    let done = workload_with(workloads).status().unwrap();
    assert!(done.success(), "{workloads:?} ended with {done}");
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let found = match client.next().unwrap() {
            Some(Message::Snapshot(snapshot)) => snapshot.findings.into_iter().next(),
            Some(Message::Update(update)) => update.findings.into_iter().next(),
            Some(_) => None,
            None => panic!("closed"),
        };
        if found.is_some() {
            return (client, found);
        }
    }
    (client, None)
}

/// Listens until the daemon is gone. Returns whether it said that it would go.
fn until_cut(mut client: Client) -> bool {
    let mut end = false;
    while let Ok(Some(message)) = client.next() {
        end |= matches!(message, Message::End(_));
    }
    end
}

fn properties() -> BTreeMap<String, String> {
    let said = run(&["/bin/systemctl", "show", "-p", PROPERTIES, UNIT]);
    let lines = said["out"].as_str().unwrap_or_default().lines();
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn settings() -> Value {
    let read =
        |name| fs::read_to_string(name).map_or_else(|error| error.to_string(), |text| text.trim().to_owned());
    json!(SETTINGS.map(read))
}

fn run(words: &[&str]) -> Value {
    let said = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    json!({ "code": said.status.code(), "out": text(&said.stdout), "said": text(&said.stderr) })
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited for {what}: {:?}", properties());
        thread::sleep(Duration::from_millis(200));
    }
}
