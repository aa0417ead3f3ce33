//! What serves clients, over a real socket: fed with the records of the embedded sample, as a capture would.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod rig;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use lazymmu::serving::CLIENTS;
use lazymmu_protocol::{Client, Error, Hello, MAX_LINE, Message, Request, Snapshot, Version, Wanted, Why};
use rig::Rig;

/// The next message of a kind, as its part of the pattern.
macro_rules! next {
    ($client:expr, $kind:path) => {
        loop {
            match $client.next().unwrap() {
                Some($kind(body)) => break body,
                Some(_) => {}
                None => panic!("the daemon closed the connection"),
            }
        }
    };
}

fn ask_snapshot(client: &mut Client) -> Snapshot {
    client.send(&Request::Snapshot {}).unwrap();
    *next!(client, Message::Snapshot)
}

fn counts(snapshot: &Snapshot) -> Vec<(String, u64)> {
    let mut counts: Vec<_> = snapshot.findings.iter().map(|class| (class.id.clone(), class.count)).collect();
    counts.sort();
    counts
}

fn error(text: &str) -> (Why, String) {
    for line in text.lines() {
        if let Message::Error(refusal) = Message::parse(line).unwrap() {
            return (refusal.kind, refusal.text);
        }
    }
    panic!("no error in: {text}")
}

/// Says something, says no more, and hears everything.
fn talk(rig: &Rig, said: &[u8]) -> String {
    let mut stream = rig.raw();
    // It may refuse before it has heard all.
    let _ = stream.write_all(said);
    let _ = stream.shutdown(Shutdown::Write);
    let mut heard = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut part) {
        heard.extend_from_slice(&part[..read]);
    }
    String::from_utf8(heard).unwrap()
}

#[test]
fn clients_see_what_a_replay_says() {
    let mut rig = Rig::new();
    let mut client = rig.subscriber();
    rig.name();
    rig.play();
    rig.settle();
    let update = next!(client, Message::Update);
    assert!(!update.findings.is_empty());
    let mut other = rig.client();
    // The hub may still be at it.
    let report = rig.report();
    let mut expected: Vec<_> =
        report.findings.iter().map(|finding| (finding.fingerprint.clone(), finding.count)).collect();
    expected.sort();
    let deadline = Instant::now() + Duration::from_mins(1);
    let snapshot = loop {
        let snapshot = ask_snapshot(&mut other);
        if counts(&snapshot) == expected {
            break snapshot;
        }
        assert!(Instant::now() < deadline, "{:?} is not {expected:?}", counts(&snapshot));
    };
    assert_eq!(snapshot.status.verdict, "hazards");
    assert_eq!(snapshot.status.records, report.records);
    assert_eq!(snapshot.status.sections, report.sections);
    assert_eq!(snapshot.status.batches, rig.observer.total());
    assert_eq!(snapshot.hooks, report.hooks);
    for finding in &report.findings {
        let id = finding.fingerprint.clone();
        other.send(&Request::Finding(Wanted { id: id.clone() })).unwrap();
        let detail = *next!(other, Message::Finding);
        assert_eq!((&detail.finding.rule, &detail.class.id), (&finding.rule, &id));
        assert_eq!(detail.finding.access.stack.len(), finding.access.stack.len());
        if other.hello().addresses == Some(lazymmu_protocol::Addresses::Shown) {
            assert_eq!(&detail.finding, finding);
        }
        other.send(&Request::Timeline(Wanted { id })).unwrap();
        let timeline = *next!(other, Message::Timeline);
        let section = timeline.section.expect("the records are still there");
        let hazard = &section.steps[section.hazard];
        assert_eq!((&hazard.op, hazard.time_ns), (&finding.access.op, finding.example.time_ns));
    }
    other.send(&Request::Finding(Wanted { id: "none".to_owned() })).unwrap();
    assert_eq!(next!(other, Message::Error).kind, Why::UnknownFinding);
    rig.end();
    let end = next!(client, Message::End);
    assert_eq!(end.verdict, "hazards");
    assert!(client.next().unwrap().is_none(), "nothing follows the end");
}

#[test]
fn metrics_are_well_formed() {
    let mut rig = Rig::new();
    rig.name();
    rig.play();
    rig.settle();
    let mut client = rig.subscriber();
    // A status comes only after the beat was taken in.
    next!(client, Message::Status);
    client.send(&Request::Metrics {}).unwrap();
    let text = next!(client, Message::Metrics).text;
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut families = Vec::new();
    let mut sums = std::collections::BTreeMap::<String, u64>::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, kind) = about.split_once(' ').unwrap();
            assert!(!families.contains(&name.to_owned()), "{name} is there twice");
            assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
            families.push(name.to_owned());
        } else if !line.starts_with("# HELP ") {
            let family = families.last().unwrap();
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(sample.starts_with(family.as_str()), "{line} is not of {family}");
            *sums.entry(family.clone()).or_default() += value.parse::<u64>().unwrap();
        }
    }
    let report = rig.report();
    assert_eq!(sums["lazymmu_records"], report.records.total);
    assert_eq!(sums["lazymmu_sections"], report.sections.entered);
    assert_eq!(sums["lazymmu_hazards"], report.findings.iter().map(|finding| finding.count).sum::<u64>());
    assert_eq!(sums["lazymmu_findings"], report.findings.len() as u64);
}

#[test]
fn one_of_twenty_who_never_reads_holds_up_nobody() {
    const ROUNDS: usize = 600;
    let mut rig = Rig::new();
    let mut idle = rig.raw();
    idle.write_all(Request::Subscribe {}.line().as_bytes()).unwrap();
    let readers: Vec<_> = (0..19)
        .map(|_| {
            let mut client = rig.subscriber();
            std::thread::spawn(move || {
                let (mut updates, mut dropped) = (0, 0);
                loop {
                    match client.next().unwrap() {
                        Some(Message::Update(_)) => updates += 1,
                        Some(Message::Dropped(missed)) => dropped += missed.count,
                        Some(Message::End(end)) => return (updates, dropped, end.verdict),
                        Some(_) => {}
                        None => panic!("closed before the end"),
                    }
                }
            })
        })
        .collect();
    rig.name();
    rig.play();
    let first = rig.engine.occurrences()[0].first.time.0 + rig.records[0].time;
    let hazard = rig.records.iter().position(|record| record.time == first).unwrap();
    let part = rig.records[hazard.saturating_sub(200)..=hazard + 20].to_vec();
    // The same again and again: more hazards at each beat, and so a line for each client.
    for _ in 0..ROUNDS {
        for record in &part {
            rig.observer.process(&mut rig.engine, record);
        }
        rig.settle();
    }
    let mut other = rig.client();
    other.send(&Request::Metrics {}).unwrap();
    let text = next!(other, Message::Metrics).text;
    let dropped = text.lines().find_map(|line| line.strip_prefix("lazymmu_dropped_lines_total ")).unwrap();
    assert_ne!(dropped, "0", "the one who never reads misses something");
    rig.end();
    for reader in readers {
        let (updates, _, verdict) = reader.join().unwrap();
        assert!(updates > 0, "every reader sees updates");
        assert_eq!(verdict, "hazards", "and the end");
    }
    drop(idle);
}

#[test]
fn clients_that_die_leave_nothing_behind() {
    let mut rig = Rig::new();
    let mut watcher = rig.subscriber();
    for round in 0..30 {
        let mut stream = rig.raw();
        match round % 3 {
            0 => {}
            1 => stream.write_all(b"{\"subscribe\":{}}\n{\"find").unwrap(),
            _ => {
                stream.write_all(b"{\"subscribe\":{}}\n{\"snapshot\":{}}\n").unwrap();
                stream.read_exact(&mut [0; 10]).unwrap();
            }
        }
    }
    rig.name();
    rig.play();
    let deadline = Instant::now() + Duration::from_mins(1);
    while next!(watcher, Message::Status).clients != 1 {
        assert!(Instant::now() < deadline, "the dead are still served");
    }
    rig.end();
}

#[test]
fn garbage_is_answered_and_the_client_goes_on() {
    let rig = Rig::new();
    let said =
        b"\xff\xfe\x00garbage\n\n   \n{}\n[1,2]\n{\"weather\":{}}\n{\"finding\":{}}\n{\"status\":{}}\n";
    let heard = talk(&rig, said);
    let messages: Vec<_> = heard.lines().map(|line| Message::parse(line).unwrap()).collect();
    let kinds: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            Message::Error(refusal) => Some(refusal.kind),
            _ => None,
        })
        .collect();
    let bad = Why::BadRequest;
    assert_eq!(kinds, [bad, bad, bad, Why::UnknownRequest, bad]);
    assert!(matches!(messages.first(), Some(Message::Hello(_))));
    assert!(matches!(messages.last(), Some(Message::Status(_))), "{heard}");
}

#[test]
fn half_a_hello_is_refused_and_waits_for_nobody() {
    let rig = Rig::new();
    let mut half = rig.raw();
    half.write_all(b"{\"hello\":{\"protocol\":").unwrap();
    // It is still at it, and others are served.
    ask_snapshot(&mut rig.client());
    half.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    half.read_to_string(&mut heard).unwrap();
    assert_eq!(error(&heard).0, Why::BadRequest);
}

#[test]
fn a_client_of_another_major_version_is_told_so() {
    let rig = Rig::new();
    let hello = |major, minor| {
        let hello = Hello { protocol: Version { major, minor }, ..Hello::client() };
        Request::Hello(hello).line() + &Request::Status {}.line()
    };
    let heard = talk(&rig, hello(2, 7).as_bytes());
    let (kind, text) = error(&heard);
    assert_eq!(kind, Why::Version);
    assert!(text.contains("2.7") && text.contains("1.0"), "{text}");
    assert!(!heard.contains("\"status\""), "nothing is done for it");
    let heard = talk(&rig, hello(1, 99).as_bytes());
    assert!(heard.contains("{\"status\":"), "{heard}");
}

#[test]
fn a_line_that_is_too_long_is_not_kept() {
    let rig = Rig::new();
    let mut line = vec![b'x'; MAX_LINE + 1];
    line.push(b'\n');
    line.extend_from_slice(Request::Status {}.line().as_bytes());
    let heard = talk(&rig, &line);
    assert_eq!(error(&heard).0, Why::TooLong);
    assert!(!heard.contains("{\"status\":"), "the connection ends there");
    // The longest that may be.
    let mut line = b"{\"status\":{},\"x\":\"".to_vec();
    line.resize(MAX_LINE - 2, b'y');
    line.extend_from_slice(b"\"}\n");
    assert!(talk(&rig, &line).contains("{\"status\":"));
}

#[test]
fn there_may_not_be_more_clients_than_can_be_served() {
    let rig = Rig::new();
    let clients: Vec<_> = (0..CLIENTS).map(|_| rig.client()).collect();
    let refused = Client::connect(&rig.path).unwrap_err();
    let Error::Refused(refusal) = refused else { panic!("{refused}") };
    assert_eq!(refusal.kind, Why::TooManyClients);
    drop(clients);
    let deadline = Instant::now() + Duration::from_mins(1);
    while Client::connect(&rig.path).is_err() {
        assert!(Instant::now() < deadline, "the places are not given back");
    }
}
