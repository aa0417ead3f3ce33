//! The view of a daemon: what is shown of what it serves is what is shown of the trace that it has seen.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod rig;

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lazymmu_protocol::Addresses;
use lazymmu_report::Suppressions;
use lazymmu_trace::Reader;
use lazymmu_tui::source::{Bytes, ConnectSource, Judging, Open, Snapshot, Source, TraceSource};
use lazymmu_tui::{Dump, Look, Theme, dump, script};
use rig::Rig;

const PATIENCE: Duration = Duration::from_mins(1);

/// The trace that the daemon is fed with.
fn trace() -> TraceSource {
    let open = || {
        let file = std::fs::File::open(rig::SAMPLE).map_err(|error| error.to_string())?;
        let bytes: Box<dyn Bytes> = Box::new(file);
        Reader::new("the sample", bytes).map_err(|error| error.to_string())
    };
    let open: Open = Arc::new(open);
    let judging =
        Judging { suppressions: Suppressions::none(), today: "2026-11-21".parse().unwrap(), filter: None };
    TraceSource::open("the sample".to_owned(), open, judging).unwrap()
}

/// One that has been told everything of everything that the daemon has.
fn connected(socket: &Path, wanted: &Snapshot) -> ConnectSource {
    let mut source = ConnectSource::open(socket).unwrap();
    let begun = Instant::now();
    loop {
        let findings = &source.snapshot().report.findings;
        let counts =
            |findings: &[lazymmu_report::Finding]| findings.iter().map(|finding| finding.count).sum::<u64>();
        let told = findings.iter().all(|finding| !finding.access.stack.is_empty());
        if told && counts(findings) == counts(&wanted.report.findings) {
            return source;
        }
        assert!(begun.elapsed() < PATIENCE, "the daemon does not tell all");
        thread::sleep(Duration::from_millis(5));
    }
}

fn frame(source: &mut dyn Source, keys: &str) -> String {
    let look = Look { theme: Theme::Mono, ..Look::default() };
    let keys = script(keys).unwrap();
    dump(source, look, None, &Dump { size: (120, 40), keys: &keys, colour: false }).unwrap()
}

fn judged() -> Arc<Snapshot> {
    let mut trace = trace();
    while !trace.snapshot().done {
        thread::sleep(Duration::from_millis(1));
    }
    trace.snapshot()
}

/// A daemon that has seen the whole trace.
fn fed() -> Rig {
    let mut rig = Rig::new();
    rig.name();
    rig.play();
    rig.settle();
    rig
}

/// Without the two lines that say where it comes from, and without those with addresses if they are not shown.
fn below_the_header<'a>(frame: &'a str, trace: &str, shown: bool) -> Vec<&'a str> {
    let lines = frame.lines().zip(trace.lines()).skip(2);
    lines.filter(|(_, trace)| shown || !trace.contains("0x")).map(|(line, _)| line).collect()
}

#[test]
fn a_finding_and_its_section_look_as_in_a_trace() {
    let rig = fed();
    let shown = rig.client().hello().addresses == Some(Addresses::Shown);
    let judged = judged();
    for keys in ["<Enter>", "j<Enter>", "3", "j3jjj", "3e"] {
        let daemon = frame(&mut connected(&rig.path, &judged), keys);
        let trace = frame(&mut trace(), keys);
        assert_eq!(daemon.lines().count(), trace.lines().count());
        let [of_daemon, of_trace] = [&daemon, &trace].map(|frame| below_the_header(frame, &trace, shown));
        assert!(of_trace.len() > 20, "{trace}");
        assert_eq!(of_daemon, of_trace, "{keys}:\n{daemon}\n{trace}");
        assert!(daemon.lines().next().unwrap().ends_with("live"), "{daemon}");
    }
    rig.end();
}

#[test]
fn what_a_daemon_knows_is_shown_and_what_it_does_not_is_said() {
    let rig = fed();
    let judged = judged();
    let of = |keys: &str| frame(&mut connected(&rig.path, &judged), keys);
    let findings = of("");
    assert!(findings.contains("rmw-pending") && findings.contains("read-pending"), "{findings}");
    let batches = of("4");
    assert!(batches.contains("nothing lost") && batches.contains("Batches"), "{batches}");
    let hooks = of("5");
    assert!(hooks.contains("Hooks: 9 of 9 attached") && hooks.contains("dev"), "{hooks}");
    let moment = of("}");
    assert!(moment.contains("no past"), "{moment}");
    let filter = of("fcpu=0<Enter>");
    assert!(filter.contains("a daemon selects"), "{filter}");
    rig.end();
}

#[test]
fn when_the_daemon_ends_what_it_found_can_still_be_looked_at() {
    let rig = fed();
    let mut source = connected(&rig.path, &judged());
    rig.end();
    let begun = Instant::now();
    while !source.snapshot().done {
        assert!(begun.elapsed() < PATIENCE, "the end is not told");
        thread::sleep(Duration::from_millis(5));
    }
    let shown = frame(&mut source, "<Enter>");
    assert!(shown.lines().next().unwrap().ends_with("ended"), "{shown}");
    assert!(shown.contains("restore_exclusive_pte"), "{shown}");
    assert!(!shown.contains("is gone"), "it has said farewell: {shown}");
}
