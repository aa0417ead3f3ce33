//! What no daemon of ours does: one that goes away without a word, one of a later version, and who is no daemon. How a real
//! one is shown is compared with its trace in `daemon/tests/view.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use lazymmu_protocol as protocol;
use lazymmu_report::batches::Batches;
use lazymmu_report::{Hooks, Losses, Records, Sections};
use lazymmu_tui::source::{ConnectSource, Source};
use lazymmu_tui::{Dump, Look, Theme, dump, script};
use tempfile::TempDir;

/// Who listens at a socket and says these lines, one after each request.
struct StandIn {
    _folder: TempDir,
    socket: PathBuf,
    heard: Receiver<String>,
    said: thread::JoinHandle<UnixStream>,
}

fn stand_in(lines: &[String]) -> StandIn {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let (told, heard) = channel();
    let lines = lines.to_vec();
    let said = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut lines = lines.into_iter();
        stream.write_all(lines.next().unwrap().as_bytes()).unwrap();
        let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
        for line in lines {
            let _ = told.send(requests.next().unwrap().unwrap());
            stream.write_all(line.as_bytes()).unwrap();
        }
        stream
    });
    StandIn { _folder: folder, socket, heard, said }
}

fn hello() -> String {
    protocol::Message::Hello(protocol::Hello::client()).line()
}

/// A snapshot as a daemon says it that has found one thing, and is a little ahead of us.
fn snapshot() -> String {
    let class = concat!(
        r#"{"id":"0123456789abcdef","rule":"read-someday","severity":"error","title":"something new","#,
        r#""what":"which this version does not know","state":"latent","count":3,"proven":0,"paths":1,"level":"pte","#,
        r#""breaks":["strict","later"],"per_second":2.0,"first_ns":5,"last_ns":7,"colour":"blue","#,
        r#""write":{"function":"do_write","op":"set_pte"},"access":{"function":"do_read","op":"ptep_get"}}"#
    );
    let status = protocol::Status {
        time_ns: 9,
        verdict: "worse-than-ever".into(),
        reasons: Vec::new(),
        rate: protocol::Rate::default(),
        records: Records::default(),
        sections: Sections::default(),
        losses: Losses::default(),
        batches: Batches::default(),
        flushed_by: BTreeMap::default(),
        cpus: Vec::new(),
        tasks: Vec::new(),
        more_tasks: 0,
        suppressed: 0,
        unnamed: 0,
        clients: 1,
    };
    let empty =
        protocol::Snapshot { hooks: Hooks::default(), status, findings: Vec::new(), history: Vec::new() };
    let mut line: serde_json::Value =
        serde_json::from_str(&protocol::Message::Snapshot(Box::new(empty)).line()).unwrap();
    line["snapshot"]["findings"] = serde_json::Value::Array(vec![serde_json::from_str(class).unwrap()]);
    format!("{line}\n")
}

fn frame(source: &mut dyn Source, keys: &str) -> String {
    let look = Look { theme: Theme::Mono, ..Look::default() };
    let keys = script(keys).unwrap();
    dump(source, look, None, &Dump { size: (120, 40), keys: &keys, colour: false }).unwrap()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_mins(1), "waited for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn open(socket: &Path) -> ConnectSource {
    ConnectSource::open(socket).unwrap()
}

#[test]
fn who_is_no_daemon_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    assert!(ConnectSource::open(&socket).err().unwrap().contains("connect to the daemon"));
    let other = stand_in(&["HTTP/1.1 400 Bad Request\r\n\r\n".to_owned()]);
    assert!(ConnectSource::open(&other.socket).is_err());
}

#[test]
fn a_daemon_that_goes_away_is_missed() {
    // It is asked for what there is to say of the finding, and says no more.
    let daemon = stand_in(&[hello(), String::new(), snapshot(), String::new()]);
    let mut source = open(&daemon.socket);
    assert!(daemon.heard.recv().unwrap().starts_with(r#"{"hello""#));
    assert_eq!(daemon.heard.recv().unwrap(), r#"{"subscribe":{}}"#);
    assert!(daemon.heard.recv().unwrap().starts_with(r#"{"finding""#));
    assert!(!source.snapshot().done);
    daemon.said.join().unwrap().shutdown(std::net::Shutdown::Both).unwrap();
    until("the end", || source.snapshot().done);
    let shown = frame(&mut source, "");
    assert!(shown.contains("the daemon is gone") && shown.contains("do_write -> do_read"), "{shown}");
}

#[test]
fn what_a_later_version_says_is_shown_as_far_as_it_is_known() {
    let dropped = protocol::Message::Dropped(protocol::Dropped { count: 12 }).line();
    let more = format!("{{\"weather\":{{\"sun\":1}}}}\n{dropped}");
    let daemon = stand_in(&[hello(), String::new(), snapshot(), more]);
    let mut source = open(&daemon.socket);
    until("the lines that were missed", || source.snapshot().note.is_some());
    let shown = frame(&mut source, "");
    assert!(shown.contains("read-someday") && shown.contains("12 lines"), "{shown}");
    let hooks = frame(&mut source, "5");
    assert!(hooks.contains("Verdict so far: inconclusive"), "{hooks}");
    let finding = frame(&mut source, "<Enter>");
    assert!(finding.contains("something new"), "{finding}");
}
