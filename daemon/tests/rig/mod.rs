//! What serves clients, without a kernel: it is fed with the records of the embedded sample, as a capture would.

#![allow(dead_code, reason = "each test needs a part of it")]

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lazymmu::serving::{About, Feed, Serving, Socket};
use lazymmu_abi::Record;
use lazymmu_hazard::{Arch, Config, Engine};
use lazymmu_protocol::{Client, Message, Request};
use lazymmu_report::batches::Observer;
use lazymmu_report::{Date, Report, Session, Suppressions};
use lazymmu_trace::Reader;
use tempfile::TempDir;

/// The embedded sample.
pub(crate) const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sample/fork-exclusive.lmt");

/// A daemon without a kernel, and the history that it is fed with.
pub(crate) struct Rig {
    _folder: TempDir,
    pub(crate) path: PathBuf,
    _socket: Socket,
    pub(crate) serving: Option<Serving>,
    pub(crate) feed: Option<Feed>,
    pub(crate) engine: Engine,
    pub(crate) observer: Observer,
    pub(crate) about: lazymmu_trace::About,
    pub(crate) records: Vec<Record>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let mut reader = Reader::open(SAMPLE).unwrap();
        let mut records = Vec::new();
        while let Some(batch) = reader.next_batch().unwrap() {
            records.extend_from_slice(batch);
        }
        let about = reader.about.clone();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.sock");
        let socket = Socket::bind(&path, None).unwrap();
        let today: Date = "2026-11-21".parse().unwrap();
        let told = About { header: about.header.clone(), suppressions: Suppressions::none(), today };
        let (feed, serving) = Serving::start(&socket, told, || ()).unwrap();
        let arch = Arch::from_machine(&about.header.kernel.architecture);
        Self {
            _folder: folder,
            path,
            _socket: socket,
            serving: Some(serving),
            feed: Some(feed),
            engine: Engine::new(Config { arch, ..Config::default() }),
            observer: Observer::default(),
            about,
            records,
        }
    }

    pub(crate) fn client(&self) -> Client {
        let client = Client::connect(&self.path).unwrap();
        client.set_patience(Some(Duration::from_mins(1))).unwrap();
        client
    }

    pub(crate) fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream
    }

    pub(crate) fn subscriber(&self) -> Client {
        let mut client = self.client();
        client.send(&Request::Subscribe {}).unwrap();
        assert!(matches!(client.next().unwrap(), Some(Message::Snapshot(_))), "the snapshot comes first");
        client
    }

    pub(crate) fn name(&mut self) {
        let feed = self.feed.as_mut().unwrap();
        for (id, addresses) in self.about.symbols.stacks() {
            feed.stack(id, addresses);
            for address in addresses {
                feed.names(*address, self.about.symbols.frames_at(*address));
            }
        }
    }

    /// The whole history, with a beat after each part.
    pub(crate) fn play(&mut self) {
        for part in self.records.clone().chunks(4096) {
            for record in part {
                self.observer.process(&mut self.engine, record);
            }
            self.feed.as_mut().unwrap().records(part);
            self.beat();
        }
    }

    pub(crate) fn beat(&mut self) -> bool {
        self.feed.as_mut().unwrap().beat(&self.engine, &self.observer, None)
    }

    /// Until the hub has everything.
    pub(crate) fn settle(&mut self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.beat() {
            assert!(Instant::now() < deadline, "the hub takes nothing any more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn end(mut self) {
        self.engine.end();
        self.feed.take().unwrap().finish(self.engine.outcome());
        self.serving.take().unwrap().join();
    }

    /// What a replay says.
    pub(crate) fn report(&self) -> Report {
        let outcome = self.engine.outcome();
        let (header, symbols) = (&self.about.header, &self.about.symbols);
        Report::new(&Session { header, symbols, outcome: &outcome, damage: None })
    }
}
