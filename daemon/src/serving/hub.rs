//! Where what is known meets who wants to know: each client has a queue of its own, and what does not fit into it is
//! counted and left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use lazymmu_protocol::{
    Addresses, Dropped, Error, Hello, Message, Metrics, Refusal, Request, Update, Wanted, Why,
};
use lazymmu_report::Report;
use tokio::sync::mpsc::Sender;

use super::feed::Beat;
use super::hide::Hider;
use super::metrics;
use super::state::State;

/// So many lines may wait for a client.
pub const QUEUE: usize = 256;
/// So many places must be free before a client that was too slow gets lines again.
const ROOM: usize = QUEUE / 2;

/// A line, shared by all whom it is for.
pub(super) type Line = Arc<str>;

/// What is known, and who wants to know it.
pub(super) struct Hub {
    pub(super) state: State,
    hider: Hider,
    clients: BTreeMap<u64, Member>,
    next: u64,
    /// Lines that were left out, in all.
    dropped: u64,
}

/// A client.
struct Member {
    queue: Sender<Line>,
    addresses: Addresses,
    subscribed: bool,
    /// Lines that it did not get since it was told.
    missed: u64,
}

/// What is to be done with an answer.
pub(super) enum Answer {
    /// Nothing is to be said, or it is in the queue.
    Silence,
    /// To say this.
    Say(Line),
    /// To say this and nothing else any more.
    Refuse(Line),
}

/// A message for all, written down once for each who sees it in another way.
struct Both<'a> {
    message: Message,
    hider: &'a Hider,
    shown: Option<Line>,
    hidden: Option<Line>,
}

impl Both<'_> {
    fn line(&mut self, addresses: Addresses) -> Line {
        let Self { message, hider, shown, hidden } = self;
        if addresses == Addresses::Shown {
            shown.get_or_insert_with(|| message.line().into()).clone()
        } else {
            hidden.get_or_insert_with(|| hider.message(message.clone()).line().into()).clone()
        }
    }
}

impl Hub {
    pub(super) fn new(state: State) -> Self {
        Self { state, hider: Hider::default(), clients: BTreeMap::new(), next: 0, dropped: 0 }
    }

    /// Takes in what the capture tells, and tells it to all who want to know.
    pub(super) fn take(&mut self, beat: Beat) {
        if let Some(update) = self.state.take(beat) {
            self.tell(Message::Update(update));
        }
        if let Some(end) = self.state.end() {
            self.tell(Message::End(end.clone()));
        }
    }

    /// A second is over.
    pub(super) fn second(&mut self) {
        if let Some(Update { findings, gone }) = self.state.second() {
            self.tell(Message::Update(Update { findings, gone }));
        }
        let status = self.state.status(self.clients.len());
        self.tell(Message::Status(Box::new(status)));
    }

    /// A client has come.
    pub(super) fn join(&mut self, queue: Sender<Line>, addresses: Addresses) -> u64 {
        let id = self.next;
        self.next += 1;
        self.clients.insert(id, Member { queue, addresses, subscribed: false, missed: 0 });
        id
    }

    /// A client is gone.
    pub(super) fn leave(&mut self, id: u64) {
        self.clients.remove(&id);
    }

    /// Whether the client gets updates.
    pub(super) fn is_subscribed(&self, id: u64) -> bool {
        self.clients.get(&id).is_some_and(|client| client.subscribed)
    }

    /// How many there are.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The first line for a client.
    pub(super) fn hello(&self, addresses: Addresses) -> Line {
        let header = &self.state.header;
        let hello = Hello {
            target: Some(Report::target_of(header)),
            addresses: Some(addresses),
            started_ns: Some(header.clock.wall_clock),
            ..Hello::client()
        };
        Message::Hello(hello).line().into()
    }

    /// Does what a client asks for.
    pub(super) fn answer(&mut self, id: u64, request: &Result<Request, Error>) -> Answer {
        let message = match request {
            Err(error) => refusal(Why::BadRequest, format!("{error}")),
            Ok(Request::Unknown(name)) => refusal(
                Why::UnknownRequest,
                format!("do what is asked for: this daemon does not know {name}"),
            ),
            Ok(Request::Hello(hello)) => match hello.check() {
                Ok(()) => return Answer::Silence,
                Err(error) => return Answer::Refuse(refusal(Why::Version, error.to_string()).line().into()),
            },
            Ok(Request::Subscribe {}) => {
                self.subscribe(id);
                return Answer::Silence;
            }
            Ok(Request::Snapshot {}) => self.snapshot(),
            Ok(Request::Status {}) => Message::Status(Box::new(self.state.status(self.clients.len()))),
            Ok(Request::Finding(Wanted { id })) => match self.state.detail(id) {
                Some(detail) => Message::Finding(Box::new(detail)),
                None => unknown(id),
            },
            Ok(Request::Timeline(Wanted { id })) => match self.state.timeline(id) {
                Some(timeline) => Message::Timeline(Box::new(timeline)),
                None => unknown(id),
            },
            Ok(Request::Metrics {}) => {
                let status = self.state.status(self.clients.len());
                let text = metrics::text(&status, &self.state, self.dropped);
                Message::Metrics(Metrics { text })
            }
        };
        let addresses = self.clients.get(&id).map_or(Addresses::Hidden, |client| client.addresses);
        Answer::Say(self.both(message).line(addresses))
    }

    fn both(&self, message: Message) -> Both<'_> {
        Both { message, hider: &self.hider, shown: None, hidden: None }
    }

    fn snapshot(&self) -> Message {
        Message::Snapshot(Box::new(self.state.snapshot(self.clients.len())))
    }

    /// From the snapshot on nothing is left out but what is counted.
    fn subscribe(&mut self, id: u64) {
        let snapshot = self.snapshot();
        let mut both = Both { message: snapshot, hider: &self.hider, shown: None, hidden: None };
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.subscribed = true;
        if client.queue.try_send(both.line(client.addresses)).is_err() {
            client.missed += 1;
        }
    }

    fn tell(&mut self, message: Message) {
        if !self.clients.values().any(|client| client.subscribed) {
            return;
        }
        let last = matches!(message, Message::End(_));
        let mut snapshot = None;
        let recovering = |client: &Member| client.missed > 0 && client.queue.capacity() >= ROOM;
        if self.clients.values().any(|client| client.subscribed && recovering(client)) {
            snapshot = Some(self.snapshot());
        }
        let mut both = Both { message, hider: &self.hider, shown: None, hidden: None };
        let mut snapshot =
            snapshot.map(|message| Both { message, hider: &self.hider, shown: None, hidden: None });
        for client in self.clients.values_mut().filter(|client| client.subscribed) {
            if client.missed > 0 {
                let Some(snapshot) = snapshot.as_mut().filter(|_| recovering(client)) else {
                    client.missed += 1;
                    self.dropped += 1;
                    continue;
                };
                let dropped = Message::Dropped(Dropped { count: client.missed }).line();
                let told = client.queue.try_send(dropped.into()).is_ok();
                if told && client.queue.try_send(snapshot.line(client.addresses)).is_ok() {
                    client.missed = 0;
                }
                if !last {
                    // It is in the snapshot.
                    continue;
                }
            }
            if client.queue.try_send(both.line(client.addresses)).is_err() {
                client.missed += 1;
                self.dropped += 1;
            }
        }
    }
}

/// A request that was not done.
pub(super) fn refusal(kind: Why, text: impl Into<String>) -> Message {
    Message::Error(Refusal { kind, text: text.into() })
}

fn unknown(id: &str) -> Message {
    let shown: String = id.chars().take(64).collect();
    refusal(Why::UnknownFinding, format!("find the finding {shown}: there is none of that id"))
}

#[cfg(test)]
mod tests {
    use lazymmu_report::{Date, Suppressions};
    use lazymmu_trace::Header;
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    fn hub() -> Hub {
        let today: Date = "2026-11-21".parse().unwrap();
        Hub::new(State::new(Header::default(), Suppressions::none(), today))
    }

    fn subscriber(hub: &mut Hub) -> Receiver<Line> {
        let (queue, lines) = channel(QUEUE);
        let id = hub.join(queue, Addresses::Shown);
        assert!(matches!(hub.answer(id, &Ok(Request::Subscribe {})), Answer::Silence));
        lines
    }

    fn read(lines: &mut Receiver<Line>) -> Option<Message> {
        lines.try_recv().ok().map(|line| Message::parse(&line).unwrap())
    }

    /// What a client got: lines that were for all, snapshots after the first, and how many it is told that it missed.
    fn got(lines: &mut Receiver<Line>) -> (u64, u64, u64) {
        let (mut told, mut snapshots, mut missed) = (0, 0, 0);
        while let Some(message) = read(lines) {
            match message {
                Message::Status(_) => told += 1,
                Message::Snapshot(_) => snapshots += 1,
                Message::Dropped(dropped) => missed += dropped.count,
                other => panic!("{other:?}"),
            }
        }
        (told, snapshots, missed)
    }

    #[test]
    fn what_a_slow_client_misses_is_counted() {
        let mut hub = hub();
        let (mut quick, mut slow) = (subscriber(&mut hub), subscriber(&mut hub));
        assert!(matches!(read(&mut quick), Some(Message::Snapshot(_))));
        let all = 3 * QUEUE as u64;
        let (mut seen, mut told) = (0, 0);
        for _ in 0..all {
            hub.second();
            told += got(&mut quick).0;
        }
        assert_eq!(told, all, "who reads misses nothing");
        assert_eq!(slow.len(), QUEUE, "what waits is bounded");
        assert!(matches!(read(&mut slow), Some(Message::Snapshot(_))));
        let first = got(&mut slow);
        assert_eq!((first.1, first.2), (0, 0), "it is told where the gap is, not before");
        seen += first.0;
        hub.second();
        let (more, snapshots, missed) = got(&mut slow);
        assert_eq!(snapshots, 1, "after a gap it is brought up to date");
        // The snapshot stands for the line of that moment.
        assert_eq!(seen + more + missed + snapshots, all + 1);
        assert_eq!(missed, hub.dropped);
        hub.second();
        assert_eq!(got(&mut slow), (1, 0, 0), "and is as the others again");
    }

    #[test]
    fn who_did_not_subscribe_hears_nothing() {
        let mut hub = hub();
        let (queue, mut lines) = channel(QUEUE);
        let id = hub.join(queue, Addresses::Hidden);
        hub.second();
        assert!(read(&mut lines).is_none());
        assert!(!hub.is_subscribed(id));
        hub.leave(id);
        assert_eq!(hub.clients(), 0);
    }
}
