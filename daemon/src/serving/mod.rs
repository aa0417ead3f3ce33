//! Serves clients what a capture finds, while it goes on: docs/protocol.md, docs/daemon.md.
//!
//! [`Serving`] is a thread of its own with all that serves: what is known ([`state`]), who wants to know ([`hub`]), and a
//! task for each client. The capture gives it what it has by [`Feed`], which never waits. Nothing here knows where the
//! records come from.

mod client;
mod feed;
mod hide;
mod hub;
mod metrics;
mod peer;
mod socket;
mod state;

pub use feed::{Feed, HISTORY};
pub use hub::QUEUE;
pub use socket::Socket;

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lazymmu_protocol::Why;
use lazymmu_report::{Date, Suppressions};
use lazymmu_trace::Header;
use rustix::process::Gid;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::client::lock;
use self::feed::Beat;
use self::hub::Hub;
use self::state::State;

/// So many clients are served at one time.
pub const CLIENTS: usize = 64;
/// How long clients have at the end to read what is left for them.
const FAREWELL: Duration = Duration::from_secs(1);
/// So many beats may wait for the hub; more are put together.
const BEATS: usize = 2;

/// What is served.
#[derive(Clone, Debug)]
pub struct About {
    /// The kernel, and what is captured of it.
    pub header: Header,
    /// What does not count.
    pub suppressions: Suppressions,
    /// The day by which suppressions expire.
    pub today: Date,
}

/// The thread that serves.
#[derive(Debug)]
pub struct Serving {
    thread: JoinHandle<()>,
}

impl Serving {
    /// Starts it. `prepare` is done on the thread before anything else.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread, or to watch the socket.
    pub fn start(
        socket: &Socket,
        about: About,
        prepare: impl FnOnce() + Send + 'static,
    ) -> io::Result<(Feed, Self)> {
        let (listener, group) = (socket.listener()?, socket.group());
        let (beats, told) = mpsc::channel(BEATS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _guard = runtime.enter();
            UnixListener::from_std(listener)?
        };
        let state = State::new(about.header, about.suppressions, about.today);
        let thread = thread::Builder::new().name("serving".to_owned()).spawn(move || {
            prepare();
            runtime.block_on(run(listener, group, Hub::new(state), told));
        })?;
        Ok((Feed::new(beats), Self { thread }))
    }

    /// Waits until the clients got what is left for them, or did not take it. The feed must be finished or dropped.
    pub fn join(self) {
        // It has said why on stderr.
        let _ = self.thread.join();
    }
}

async fn run(listener: UnixListener, group: Option<Gid>, hub: Hub, mut told: mpsc::Receiver<Beat>) {
    let hub = Arc::new(Mutex::new(hub));
    let (over, is_over) = watch::channel(false);
    let mut clients = JoinSet::new();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            beat = told.recv() => {
                let Some(beat) = beat else { break };
                let last = beat.end.is_some();
                lock(&hub).take(beat);
                if last {
                    break;
                }
            }
            _ = second.tick() => lock(&hub).second(),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    clients.spawn(welcome(stream, group, Arc::clone(&hub), is_over.clone()));
                }
                Err(error) => {
                    // Such as too many open files: some may be closed soon.
                    log::warn!("failed to accept a client: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = clients.join_next() => {}
        }
    }
    let _ = over.send(true);
    let rest = async { while clients.join_next().await.is_some() {} };
    let _ = timeout(FAREWELL, rest).await;
}

/// Lets a client in, if it may come in.
async fn welcome(
    mut stream: UnixStream,
    group: Option<Gid>,
    hub: Arc<Mutex<Hub>>,
    is_over: watch::Receiver<bool>,
) {
    let refusal = match stream.peer_cred() {
        Ok(peer) if peer::may_talk(peer, group) => {
            if lock(&hub).clients() < CLIENTS {
                client::serve(stream, &hub, peer::sees(peer), is_over).await;
                return;
            }
            hub::refusal(Why::TooManyClients, format!("serve you: there are {CLIENTS} clients already"))
        }
        _ => hub::refusal(
            Why::NotAllowed,
            "serve you: only root and the members of the socket's group may talk to this daemon",
        ),
    };
    // It fits into the socket's buffer, or the client is gone.
    let _ = timeout(FAREWELL, stream.write_all(refusal.line().as_bytes())).await;
}
