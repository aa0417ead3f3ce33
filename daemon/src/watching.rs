//! A session with a view of it on the terminal: it is served on a socket of its own, as a daemon does it, and the view is
//! the only client. The screen is the view's alone: what is written to stderr meanwhile is shown after it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lazymmu_report::Filter;
use lazymmu_tui::source::{About, Answer, ConnectSource, Request, Snapshot, Source};
use lazymmu_tui::{Key, Look, RunError};
use rustix::stdio::dup2_stderr;
use tokio::sync::Notify;

use crate::capturing::{self, Ended};
use crate::cli::CaptureArgs;
use crate::policy::Policy;
use crate::purpose::{Audience, Purpose};
use crate::serving::Socket;
use crate::{ExitStatus, Failure};

/// How often, and for how long each time, is waited until the last findings can be handed over.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// How the session is looked at.
pub(crate) struct View<'a> {
    pub(crate) look: Look,
    /// What is typed first.
    pub(crate) keys: &'a [Key],
    /// The kernel's sources.
    pub(crate) sources: Option<&'a Path>,
}

/// Captures until its end or until the user leaves, and shows it until the user leaves. What went wrong with the view
/// alone is returned beside what was captured.
pub(crate) fn run(
    args: &CaptureArgs,
    purpose: Purpose<'_>,
    policy: &Policy,
    view: View<'_>,
) -> Result<(Ended, Result<()>)> {
    // Nobody else may enter it.
    let folder = tempfile::tempdir().context("failed to make a folder for the view's socket")?;
    let path = folder.path().join("socket");
    let (left, over) = (Notify::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        let socket = Socket::bind(&path, None)?;
        let showing = thread::Builder::new().name("view".to_owned()).spawn_scoped(scope, || {
            let _leaving = Leaving(&left);
            show(&path, &over, view)
        });
        let showing = showing.context("failed to start a thread")?;
        let audience = Audience::View(&socket, &left);
        let mut ended = capturing::run(args, Purpose { audience, ..purpose }, policy);
        // A view that was not let in by now will not be.
        drop(socket);
        if let Ok(ended) = &mut ended {
            hand_over(ended);
        }
        over.store(true, Ordering::Release);
        let shown = showing.join().unwrap_or_else(|panic| resume_unwind(panic));
        let mut ended = ended?;
        if let Some((feed, serving)) = ended.serving.take() {
            drop(feed);
            serving.join();
        }
        Ok((ended, shown))
    })
}

/// Lets the view have what came last.
fn hand_over(ended: &mut Ended) {
    let (Some(judge), Some((feed, _))) = (&ended.judge, &mut ended.serving) else { return };
    for _ in 0..TRIES {
        if judge.beat(feed, &ended.symbols) {
            break;
        }
        thread::sleep(PAUSE);
    }
}

/// Ends the capture when the view ends, in whatever way.
struct Leaving<'a>(&'a Notify);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn show(socket: &Path, over: &AtomicBool, View { look, keys, sources }: View<'_>) -> Result<()> {
    let failed = |error: String| Failure::new(ExitStatus::Bug, format!("failed to {error}"));
    let source = ConnectSource::open(socket).map_err(failed)?;
    if over.load(Ordering::Acquire) {
        return Ok(());
    }
    let about = About { name: "this session".to_owned(), ..source.about().clone() };
    let mut session = Session { about, source, over, last: None };
    let held = Held::new().context("failed to hold back what is written to stderr")?;
    let end = lazymmu_tui::run(&mut session, look, sources, keys);
    drop(held);
    match end {
        // By a signal or by a key: the report follows.
        Ok(_) => Ok(()),
        Err(error @ RunError::Failed) => Err(Failure::to(ExitStatus::Bug, error).into()),
        Err(error) => Err(Failure::to(ExitStatus::Usage, error).into()),
    }
}

/// What is served, as a source. When the capture is over it is still served, so that sections can be looked at.
struct Session<'a> {
    about: About,
    source: ConnectSource,
    over: &'a AtomicBool,
    /// A snapshot after the end, and what is shown of it.
    last: Option<(Arc<Snapshot>, Arc<Snapshot>)>,
}

impl Source for Session<'_> {
    fn about(&self) -> &About {
        &self.about
    }

    fn snapshot(&mut self) -> Arc<Snapshot> {
        let over = self.over.load(Ordering::Acquire);
        let latest = self.source.snapshot();
        if !over {
            return latest;
        }
        if let Some((last, shown)) = &self.last
            && Arc::ptr_eq(last, &latest)
        {
            return Arc::clone(shown);
        }
        let mut shown = Snapshot { done: true, ..Snapshot::clone(&latest) };
        if latest.done {
            // Nobody serves any more, before the view was left.
            shown.note = Some("the capture has failed: leave to see why".to_owned());
        }
        let shown = Arc::new(shown);
        self.last = Some((latest, Arc::clone(&shown)));
        shown
    }

    fn request(&mut self, request: Request) {
        self.source.request(request);
    }

    fn answers(&mut self) -> Vec<Answer> {
        self.source.answers()
    }

    fn select(&mut self, filter: Option<Filter>) -> Result<(), String> {
        match filter {
            None => Ok(()),
            Some(_) => Err("a session selects by the filter that it was started with".to_owned()),
        }
    }

    fn is_busy(&self) -> bool {
        self.source.is_busy()
    }

    fn has_failed(&self) -> bool {
        self.source.has_failed()
    }
}

/// Holds back what is written to stderr, and shows it when it is dropped.
struct Held {
    terminal: OwnedFd,
    file: File,
}

impl Held {
    /// Nothing is held back if stderr is not on the terminal.
    fn new() -> io::Result<Option<Self>> {
        let stderr = io::stderr();
        if !stderr.is_terminal() {
            return Ok(None);
        }
        let terminal = stderr.as_fd().try_clone_to_owned()?;
        let file = tempfile::tempfile()?;
        dup2_stderr(&file)?;
        Ok(Some(Self { terminal, file }))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What fails here cannot be said anywhere.
        let _ = dup2_stderr(&self.terminal);
        let _ = self.file.rewind().and_then(|()| io::copy(&mut self.file, &mut io::stderr()));
    }
}
