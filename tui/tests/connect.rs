//! A daemon as a source: what is shown of it is what is shown of the trace that it saw.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod sample;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lazymmu_protocol as protocol;
use lazymmu_report::{Finding, SectionTimeline};
use lazymmu_tui::source::{Answer, ConnectSource, Request, Snapshot, Source};
use lazymmu_tui::{Dump, Look, Theme, dump, script};

/// All that the daemon has seen.
#[derive(Clone)]
struct Seen {
    snapshot: Arc<Snapshot>,
    timelines: BTreeMap<String, SectionTimeline>,
}

fn seen() -> Seen {
    let mut source = sample::source();
    while !source.snapshot().done {
        thread::sleep(Duration::from_millis(1));
    }
    let snapshot = source.snapshot();
    let mut timelines = BTreeMap::new();
    for finding in &snapshot.report.findings {
        source.request(Request::Section(finding.fingerprint.clone()));
        let section = loop {
            if let Some(Answer::Section(section)) = source.answers().pop() {
                break section.unwrap();
            }
            thread::sleep(Duration::from_millis(1));
        };
        timelines.insert(finding.fingerprint.clone(), section.timeline.clone());
    }
    Seen { snapshot, timelines }
}

fn class(seen: &Seen, finding: &Finding) -> protocol::Class {
    let last_ns = seen.snapshot.seen[&finding.fingerprint].last_ns;
    protocol::Class::of(finding, 2.0, finding.example.time_ns, last_ns)
}

fn snapshot(seen: &Seen) -> protocol::Snapshot {
    let report = &seen.snapshot.report;
    let status = protocol::Status {
        time_ns: seen.snapshot.length_ns,
        verdict: report.verdict.into(),
        reasons: report.reasons.clone(),
        rate: protocol::Rate { records: 4139, ..protocol::Rate::default() },
        records: report.records.clone(),
        sections: report.sections.clone(),
        losses: report.losses.clone(),
        batches: seen.snapshot.batches.clone(),
        flushed_by: seen.snapshot.causes.clone(),
        cpus: vec![protocol::Cpu {
            cpu: 0,
            mode: protocol::Mode::On,
            nesting: 1,
            tasks: 1,
            pending: 3,
            lost: 0,
        }],
        tasks: vec![protocol::Task {
            tid: 42,
            task: Some("lazymmu".to_owned()),
            cpu: 0,
            mode: protocol::Mode::On,
            nesting: 1,
            paused: 0,
            pending: 3,
            opener: Some("copy_pte_range".to_owned()),
        }],
        more_tasks: 0,
        suppressed: 0,
        unnamed: 0,
        clients: 1,
    };
    let findings = report.findings.iter().map(|finding| class(seen, finding)).collect();
    protocol::Snapshot { hooks: report.hooks.clone(), status, findings, history: Vec::new() }
}

/// Answers one client as a daemon does.
fn serve(stream: UnixStream, seen: &Seen) {
    let mut writer = stream.try_clone().unwrap();
    let target = Some(seen.snapshot.report.target.clone());
    let hello =
        protocol::Hello { target, addresses: Some(protocol::Addresses::Shown), ..protocol::Hello::client() };
    let mut say = |message: protocol::Message| writer.write_all(message.line().as_bytes()).is_ok();
    assert!(say(protocol::Message::Hello(hello)));
    for line in BufReader::new(stream).lines() {
        let finding = |id: &String| {
            seen.snapshot.report.findings.iter().find(|finding| finding.fingerprint == *id).cloned()
        };
        let Ok(line) = line else { return };
        let going_on = match protocol::Request::parse(&line).unwrap() {
            protocol::Request::Subscribe {} => say(protocol::Message::Snapshot(Box::new(snapshot(seen)))),
            protocol::Request::Finding(wanted) => {
                let finding = finding(&wanted.id).unwrap();
                let class = class(seen, &finding);
                say(protocol::Message::Finding(Box::new(protocol::Detail { class, finding })))
            }
            protocol::Request::Timeline(wanted) => {
                let section = seen.timelines.get(&wanted.id).cloned();
                say(protocol::Message::Timeline(Box::new(protocol::Timeline { id: wanted.id, section })))
            }
            _ => true,
        };
        if !going_on {
            return;
        }
    }
}

fn listen(socket: &Path, seen: Seen) {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap(), &seen);
        }
    });
}

/// The frame once the details of all findings have come.
fn of_daemon(socket: &Path, keys: &str) -> String {
    let mut source = ConnectSource::open(socket).unwrap();
    while source.snapshot().report.findings.iter().any(|finding| finding.access.stack.is_empty()) {
        thread::sleep(Duration::from_millis(1));
    }
    frame(&mut source, keys)
}

fn frame(source: &mut dyn Source, keys: &str) -> String {
    let look = Look { theme: Theme::Mono, ..Look::default() };
    let keys = script(keys).unwrap();
    dump(source, look, None, &Dump { size: (120, 40), keys: &keys, colour: false }).unwrap()
}

/// Without the two lines that say where it comes from.
fn below_the_header(frame: &str) -> Vec<&str> {
    frame.lines().skip(2).collect()
}

#[test]
fn a_finding_and_its_section_look_as_in_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    listen(&socket, seen());
    for keys in ["<Enter>", "j<Enter>", "3", "j3jjj"] {
        let (daemon, trace) = (of_daemon(&socket, keys), frame(&mut sample::source(), keys));
        assert_eq!(below_the_header(&daemon), below_the_header(&trace), "{keys}:\n{daemon}\n{trace}");
        assert!(daemon.lines().next().unwrap().ends_with("live"), "{daemon}");
    }
    let findings = of_daemon(&socket, "");
    assert!(
        findings.contains("rmw-pending") && findings.contains("2/s") && findings.contains("4.1k/s"),
        "{findings}"
    );
    let cpus = of_daemon(&socket, "4");
    assert!(cpus.contains("nothing lost") && cpus.contains("lazymmu/42"), "{cpus}");
    let hooks = of_daemon(&socket, "5");
    assert!(hooks.contains("Hooks: 9 of 9 attached") && hooks.contains("dev"), "{hooks}");
    let moment = of_daemon(&socket, "}");
    assert!(moment.contains("no past"), "{moment}");
    let filter = of_daemon(&socket, "fcpu=0<Enter>");
    assert!(filter.contains("a daemon selects"), "{filter}");
}

#[test]
fn who_is_no_daemon_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    assert!(ConnectSource::open(&socket).err().unwrap().contains("connect to the daemon"));
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        listener.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    assert!(ConnectSource::open(&socket).is_err());
}

#[test]
fn a_daemon_that_goes_away_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let seen = seen();
    thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        let end = stream.try_clone().unwrap();
        thread::spawn(move || serve(stream, &seen));
        thread::sleep(Duration::from_millis(300));
        end.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let mut source = ConnectSource::open(&socket).unwrap();
    while !source.snapshot().done {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(frame(&mut source, "").contains("the daemon is gone"));
}
