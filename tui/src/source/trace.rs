//! A recorded trace: one thread judges it from its beginning to its end, another looks into it on demand.

use std::ops::ControlFlow::{Break, Continue};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lazymmu_hazard::Class;
use lazymmu_report::Filter;
use lazymmu_trace::{Header, Reader};

use super::judge::Judge;
use super::{About, Answer, Bytes, Judging, Kind, Open, Request, Shared, Snapshot, Source, look};

/// How often what is known is shown while the trace is judged; less often as it gets more.
const SHOW: Duration = Duration::from_millis(100);

/// A trace as a source.
pub struct TraceSource {
    about: About,
    judging: Judging,
    shared: Arc<Mutex<Shared>>,
    /// Counts the filters; a thread that judges by an older one stops.
    generation: Arc<AtomicU64>,
    failed: Arc<AtomicBool>,
    open: Open,
    requests: Sender<Request>,
    answers: Receiver<Answer>,
    pending: Arc<AtomicUsize>,
    looking: JoinHandle<()>,
}

impl TraceSource {
    /// Opens a trace and begins to judge it.
    ///
    /// # Errors
    ///
    /// The trace cannot be read, or a thread not be started.
    pub fn open(name: String, open: Open, judging: Judging) -> Result<Self, String> {
        let reader = open()?;
        let about = About::new(name, Kind::Trace, reader.about.header.clone());
        let total = Some(reader.about.records);
        let (first, _) = Judge::new(&about.header, &judging).snapshot(&reader.about.symbols, None, total);
        let shared = Shared { latest: Arc::new(first), classes: Arc::default(), moments: Arc::default() };
        let shared = Arc::new(Mutex::new(shared));
        let (requests, asked) = channel();
        let (answer, answers) = channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let looking = {
            let (open, shared, pending) = (Arc::clone(&open), Arc::clone(&shared), Arc::clone(&pending));
            let look = move || look::run(&open, &shared, &asked, &answer, &pending);
            spawn("look", look)?
        };
        let (generation, failed) = (Arc::default(), Arc::default());
        let this =
            Self { about, judging, shared, generation, failed, open, requests, answers, pending, looking };
        this.judge(Some(reader))?;
        Ok(this)
    }

    /// Judges from the beginning.
    fn judge(&self, reader: Option<Reader<Box<dyn Bytes>>>) -> Result<(), String> {
        let pass = Pass {
            generation: self.generation.fetch_add(1, Ordering::AcqRel) + 1,
            current: Arc::clone(&self.generation),
            shared: Arc::clone(&self.shared),
        };
        let (open, failed) = (Arc::clone(&self.open), Arc::clone(&self.failed));
        let (header, judging) = (self.about.header.clone(), self.judging.clone());
        spawn("judge", move || {
            let done = Done { failed, well: false };
            if let Err(error) = pass.run(reader.map_or_else(|| open(), Ok), &header, &judging) {
                pass.publish(|latest| {
                    latest.note = Some(error);
                    latest.done = true;
                });
            }
            done.well();
        })?;
        Ok(())
    }
}

/// Says that a thread has failed if it ends before it is done.
struct Done {
    failed: Arc<AtomicBool>,
    well: bool,
}

impl Done {
    fn well(mut self) {
        self.well = true;
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        self.failed.fetch_or(!self.well, Ordering::AcqRel);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| format!("start a thread: {error}"))
}

/// One way through the trace.
struct Pass {
    generation: u64,
    current: Arc<AtomicU64>,
    shared: Arc<Mutex<Shared>>,
}

impl Pass {
    fn is_over(&self) -> bool {
        self.current.load(Ordering::Acquire) != self.generation
    }

    fn run(
        &self,
        reader: Result<Reader<Box<dyn Bytes>>, String>,
        header: &Header,
        judging: &Judging,
    ) -> Result<(), String> {
        let mut reader = reader?;
        let mut judge = Judge::new(header, judging);
        let total = Some(reader.about.records);
        let (mut shown, mut pause) = (Instant::now(), SHOW);
        let symbols = &reader.about.symbols;
        let work = |batch: &[lazymmu_abi::Record]| {
            if self.is_over() {
                return Break(());
            }
            judge.process(batch);
            if shown.elapsed() > pause {
                let began = Instant::now();
                let snapshot = judge.snapshot(symbols, None, total);
                self.show(snapshot, &judge);
                pause = SHOW.max(began.elapsed() * 10);
                shown = Instant::now();
            }
            Continue(())
        };
        let ended = reader.records.read_ahead(work).map_err(|error| error.to_string())?;
        if ended.is_continue() {
            judge.end();
            let snapshot = judge.snapshot(&reader.about.symbols, reader.damage(), total);
            let (snapshot, classes) = snapshot;
            self.show((Snapshot { done: true, ..snapshot }, classes), &judge);
        }
        Ok(())
    }

    fn show(&self, (snapshot, classes): (Snapshot, Vec<Class>), judge: &Judge) {
        // What takes time is done while nobody has to wait for the lock.
        let (latest, classes) = (Arc::new(snapshot), Arc::new(classes));
        let known = lock(&self.shared).moments.count();
        let moments = (known != judge.moments().count()).then(|| Arc::new(judge.moments().clone()));
        let mut shared = lock(&self.shared);
        if !self.is_over() {
            (shared.latest, shared.classes) = (latest, classes);
            if let Some(moments) = moments {
                shared.moments = moments;
            }
        }
    }

    fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut shared = lock(&self.shared);
        if !self.is_over() {
            change(Arc::make_mut(&mut shared.latest));
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source for TraceSource {
    fn about(&self) -> &About {
        &self.about
    }

    fn snapshot(&mut self) -> Arc<Snapshot> {
        Arc::clone(&lock(&self.shared).latest)
    }

    fn request(&mut self, request: Request) {
        self.pending.fetch_add(1, Ordering::AcqRel);
        if self.requests.send(request).is_err() {
            self.pending.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn answers(&mut self) -> Vec<Answer> {
        self.answers.try_iter().collect()
    }

    fn select(&mut self, filter: Option<Filter>) -> Result<(), String> {
        self.judging.filter = filter;
        let mut latest = Snapshot::clone(&lock(&self.shared).latest);
        latest.done = false;
        lock(&self.shared).latest = Arc::new(latest);
        self.judge(None)
    }

    fn is_busy(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire) || self.looking.is_finished()
    }
}
