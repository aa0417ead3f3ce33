//! A daemon as a source: what it says over its socket becomes snapshots. How is in `remote`.

use std::collections::VecDeque;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use lazymmu_protocol::{Addresses, Client, Error, Message, Wanted};
use lazymmu_report::Filter;

use super::remote::{Remote, section};
use super::{About, Answer, Kind, Request, Snapshot, Source};

/// A daemon as a source.
pub struct ConnectSource {
    about: About,
    shared: Arc<Shared>,
    answers: Receiver<Answer>,
    /// For what is answered here.
    own: Sender<Answer>,
}

struct Shared {
    latest: Mutex<Arc<Snapshot>>,
    /// Another handle to the socket, to write to while a thread reads.
    socket: Mutex<UnixStream>,
    /// The findings whose sections were asked for.
    asked: Mutex<VecDeque<String>>,
    failed: AtomicBool,
}

impl ConnectSource {
    /// Connects to a daemon and subscribes to what it finds.
    ///
    /// # Errors
    ///
    /// If nobody listens there, or no daemon of this version of the protocol.
    pub fn open(path: &Path) -> Result<Self, String> {
        let mut client = Client::connect(path).map_err(|error| error.to_string())?;
        let hello = client.hello().clone();
        let mut remote = Remote::new(hello.target.unwrap_or_else(super::remote::no_target));
        if hello.addresses == Some(Addresses::Hidden) {
            remote.note = Some("addresses are stand-ins: this daemon does not show them".to_owned());
        }
        client.send(&lazymmu_protocol::Request::Subscribe {}).map_err(|error| error.to_string())?;
        // The first snapshot says which hooks there are.
        loop {
            match client.next().map_err(|error| error.to_string())? {
                Some(message @ Message::Snapshot(_)) => {
                    let _ = remote.take(message);
                    break;
                }
                Some(Message::Error(refusal)) => return Err(refusal.text),
                Some(_) => {}
                None => return Err("hear from the daemon: it closed the connection".to_owned()),
            }
        }
        let about = About::new(path.display().to_string(), Kind::Live, remote.header());
        let socket = client.handle().map_err(|error| format!("use the socket: {error}"))?;
        let shared = Arc::new(Shared {
            latest: Mutex::new(Arc::new(remote.snapshot())),
            socket: Mutex::new(socket),
            asked: Mutex::new(VecDeque::new()),
            failed: AtomicBool::new(false),
        });
        let (own, answers) = channel();
        let listener = Listener { client, remote, shared: Arc::clone(&shared), answers: own.clone() };
        thread::Builder::new()
            .name("daemon".to_owned())
            .spawn(move || listener.run())
            .map_err(|error| format!("start a thread: {error}"))?;
        Ok(Self { about, shared, answers, own })
    }
}

impl Shared {
    fn send(&self, request: &lazymmu_protocol::Request) {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // That the daemon is gone is noticed by who listens.
        let _ = socket.write_all(request.line().as_bytes());
    }
}

/// Listens to the daemon until it is gone.
struct Listener {
    client: Client,
    remote: Remote,
    shared: Arc<Shared>,
    answers: Sender<Answer>,
}

impl Listener {
    fn run(mut self) {
        let _failed = Failed(Arc::clone(&self.shared));
        self.ask();
        let ended = loop {
            match self.client.next() {
                Ok(Some(message)) => self.take(message),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.remote.ended(ended.err().as_ref().map(Error::to_string));
        self.publish();
        for _ in self.asked().drain(..) {
            let _ = self.answers.send(Answer::Section(Err("the daemon is gone".to_owned())));
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Timeline(timeline) => self.answer(section(*timeline).map(Arc::new)),
            // A finding may be no more by the time that it is asked for.
            Message::Error(refusal) => {
                if !self.asked().is_empty() {
                    self.answer(Err(refusal.text));
                }
            }
            message => {
                if self.remote.take(message) {
                    self.ask();
                    self.publish();
                }
            }
        }
    }

    fn asked(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, section: Result<Arc<super::Section>, String>) {
        let _ = self.answers.send(Answer::Section(section));
        // Only now: who sees that nothing is expected any more finds the answer.
        self.asked().pop_front();
    }

    /// Asks for the details of findings that are new.
    fn ask(&mut self) {
        for id in self.remote.wanted() {
            self.shared.send(&lazymmu_protocol::Request::Finding(Wanted { id }));
        }
    }

    fn publish(&self) {
        *self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.remote.snapshot());
    }
}

/// Says that the thread has failed if it ends before it is done.
struct Failed(Arc<Shared>);

impl Drop for Failed {
    fn drop(&mut self) {
        self.0.failed.store(thread::panicking(), Ordering::Release);
    }
}

impl Drop for ConnectSource {
    fn drop(&mut self) {
        // Wakes the thread that listens.
        let _ = self.shared.socket.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both);
    }
}

impl Source for ConnectSource {
    fn about(&self) -> &About {
        &self.about
    }

    fn snapshot(&mut self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Section(id) => {
                self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push_back(id.clone());
                self.shared.send(&lazymmu_protocol::Request::Timeline(Wanted { id }));
            }
            Request::SectionAt(_) | Request::Moment(_) => {
                let why = "a live session has no past to go to: record it, and open the trace".to_owned();
                let _ = self.own.send(Answer::Moment(Err(why)));
            }
        }
    }

    fn answers(&mut self) -> Vec<Answer> {
        self.answers.try_iter().collect()
    }

    fn select(&mut self, filter: Option<Filter>) -> Result<(), String> {
        match filter {
            None => Ok(()),
            Some(_) => Err("a daemon selects by the filter that it was started with".to_owned()),
        }
    }

    fn is_busy(&self) -> bool {
        !self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }
}
