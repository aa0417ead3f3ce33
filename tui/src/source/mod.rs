//! Where what is shown comes from. The screen knows [`Source`] and cannot tell a trace from a live session.
//!
//! A source works by itself, on threads of its own: it is asked for the latest [`Snapshot`], and what takes time is
//! requested and answered later.

mod causes;
mod connect;
mod hazards;
mod judge;
mod look;
mod machine;
mod remote;
mod section;
mod trace;
mod walk;

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::sync::Arc;

use lazymmu_hazard::{Arch, Class, Config, Engine, Gap, TaskId, Waiting};
use lazymmu_report::batches::Batches;
use lazymmu_report::{Date, Filter, PteLayout, Report, SectionTimeline, Suppressions, Word};
use lazymmu_trace::{Header, Reader};

pub use connect::ConnectSource;
pub use machine::{Cpu, Machine, Task, Told};
pub use trace::TraceSource;

/// What kind of source it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A recorded trace: it can be gone through, back and forth.
    Trace,
    /// A session that goes on.
    Live,
}

/// What is known of a source from the start.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name: a file, a socket, a session.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Which kernel, which hooks.
    pub header: Header,
    /// How the bits of its entries are laid out.
    pub layout: PteLayout,
}

impl About {
    /// From a trace's header, or a session's.
    #[must_use]
    pub fn new(name: String, kind: Kind, header: Header) -> Self {
        let layout = PteLayout::from_name(&header.kernel.pte_layout);
        Self { name, kind, header, layout }
    }
}

/// All that is known at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The report as it would be now.
    pub report: Report,
    /// When each finding was last seen, and how often of late; by fingerprint.
    pub seen: BTreeMap<String, Seen>,
    /// Records so far.
    pub records: u64,
    /// Records that there are in all, if that is known.
    pub total: Option<u64>,
    /// From the first record to the last so far, in ns.
    pub length_ns: u64,
    /// Records in the last second, where it is known; else [`Snapshot::rate`] is the mean.
    pub rate_now: Option<f64>,
    /// Whether nothing more will come.
    pub done: bool,
    /// The sizes of the batches, all together.
    pub batches: Batches,
    /// What ended the batches, with how often.
    pub causes: BTreeMap<Word, u64>,
    /// CPUs and tasks after the last record.
    pub machine: Machine,
    /// What the source has to say of itself, such as damage.
    pub note: Option<String>,
}

impl Snapshot {
    /// Records for each second of the kernel's time.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        if self.rate_now.is_some() {
            return self.rate_now;
        }
        #[allow(clippy::cast_precision_loss, reason = "it is shown with three digits")]
        (self.length_ns > 0).then(|| self.records as f64 * 1e9 / self.length_ns as f64)
    }
}

/// When hazards of a class were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// The last one: ns since the first record.
    pub last_ns: u64,
    /// In each of the last seconds, where it is known.
    pub per_second: Option<f64>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// The course of the section of a finding, by its fingerprint.
    Section(String),
    /// The course of the section at a moment: of the task of the record with this number.
    SectionAt(u64),
    /// A moment.
    Moment(Goal),
}

/// Which moment is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The record with this number, or the last.
    Record(u64),
    /// The first record from this time on: ns since the first record.
    Time(u64),
    /// The next record that enters a section, after that with this number.
    NextSection(u64),
    /// The one before.
    PreviousSection(u64),
    /// The next record that is a hazard.
    NextHazard(u64),
    /// The one before.
    PreviousHazard(u64),
}

/// What was asked for.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A section, or why there is none.
    Section(Result<Arc<Section>, String>),
    /// A moment, or why there is none.
    Moment(Result<Arc<Moment>, String>),
}

/// The course of a section.
#[derive(Clone, Debug)]
pub struct Section {
    /// What it is of: the fingerprint of a finding, or nothing.
    pub finding: Option<String>,
    /// The steps.
    pub timeline: SectionTimeline,
    /// The functions that made the writes that wait, by stack.
    pub writers: BTreeMap<u64, String>,
}

impl Section {
    /// The function that made a write.
    #[must_use]
    pub fn writer(&self, write: &Waiting) -> &str {
        self.writers.get(&write.stack.0).map_or("", String::as_str)
    }
}

/// A moment of a trace.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The number of its record.
    pub record: u64,
    /// When: ns since the first record.
    pub time_ns: u64,
    /// The records around it, itself among them.
    pub events: Vec<Event>,
    /// CPUs and tasks after it.
    pub machine: Machine,
}

/// A record in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number in the trace.
    pub record: u64,
    /// When: ns since the first record.
    pub time_ns: u64,
    /// Where.
    pub cpu: u16,
    /// Which task.
    pub task: TaskId,
    /// The task's name.
    pub name: Option<String>,
    /// The kind of the record.
    pub kind: &'static str,
    /// The operation.
    pub op: &'static str,
    /// The entry, if it is about one.
    pub entry: Option<u64>,
    /// How many entries.
    pub count: u16,
    /// The value, if it is known.
    pub value: Option<u64>,
    /// The function, and the source line if it is known.
    pub place: String,
    /// The rules that it breaks.
    pub breaks: Vec<&'static str>,
}

/// Where what is shown comes from.
pub trait Source {
    /// What was known from the start.
    fn about(&self) -> &About;

    /// The latest of what is known. Cheap: nothing is made for it.
    fn snapshot(&mut self) -> Arc<Snapshot>;

    /// Asks for something. At most one request is worked on at a time; a newer one of the same kind takes its place.
    fn request(&mut self, request: Request);

    /// What came of the requests since the last call.
    fn answers(&mut self) -> Vec<Answer>;

    /// Selects hazards by a filter, or all of them again. The snapshots that follow have been judged by it.
    ///
    /// # Errors
    ///
    /// Says why that cannot be done.
    fn select(&mut self, filter: Option<Filter>) -> Result<(), String>;

    /// Whether requests are still worked on.
    fn is_busy(&self) -> bool;

    /// Whether a thread of it has failed, and what is shown will stay as it is.
    fn has_failed(&self) -> bool {
        false
    }
}

/// What findings do not count.
#[derive(Clone, Debug)]
pub struct Judging {
    /// Those that somebody gave a reason for.
    pub suppressions: Suppressions,
    /// The day by which these expire.
    pub today: Date,
    /// What is selected.
    pub filter: Option<Filter>,
}

/// What the threads of a source have in common.
struct Shared {
    latest: Arc<Snapshot>,
    /// What its findings were made of, in the same order.
    classes: Arc<Vec<Class>>,
    /// Where the hazards were, as far as it was judged.
    moments: Arc<hazards::Moments>,
}

/// The bytes of a trace.
pub trait Bytes: Read + Seek + Send {}

impl<T: Read + Seek + Send> Bytes for T {}

/// Opens the same trace again and again, for each thread that reads it.
pub type Open = Arc<dyn Fn() -> Result<Reader<Box<dyn Bytes>>, String> + Send + Sync>;

/// An engine for the kernel that the header describes.
fn engine(header: &Header) -> Engine {
    let mut engine =
        Engine::new(Config { arch: Arch::from_machine(&header.kernel.architecture), ..Config::default() });
    // What a plan names is never all that there is.
    if header.plan.sites.is_some() {
        engine.gap(Gap::Coverage);
    }
    engine
}
