//! Looks into a trace on demand: a thread that reads the parts that somebody wants to see.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use lazymmu_abi::{Kind, Record};
use lazymmu_hazard::{Nanos, StackId, TaskId};
use lazymmu_trace::Symbols;

use super::hazards;
use super::machine::{Tracker, operation};
use super::walk::{Numbered, Walk, enters};
use super::{Answer, Event, Goal, Moment, Open, Request, Shared, engine, section};

/// So many records before and after a moment are shown.
const AROUND: usize = 60;

/// The engine has seen so many records before a moment, so that it knows the sections that are open.
const WARM_UP: u64 = 100_000;

/// Answers requests until nobody asks any more.
pub(super) fn run(
    open: &Open,
    shared: &Mutex<Shared>,
    requests: &Receiver<Request>,
    answers: &Sender<Answer>,
    pending: &AtomicUsize,
) {
    let mut looker: Option<Result<Looker, String>> = None;
    while let Ok(mut request) = requests.recv() {
        let mut taken = 1;
        // Only the latest is of interest to who asks; the one for a section is kept beside one for a moment.
        while let Ok(newer) = requests.try_recv() {
            if matches!(request, Request::Moment(_)) != matches!(newer, Request::Moment(_)) {
                let answer = answer(looker.get_or_insert_with(|| Looker::new(open)), shared, &request);
                if answers.send(answer).is_err() {
                    return;
                }
            }
            request = newer;
            taken += 1;
        }
        let answer = answer(looker.get_or_insert_with(|| Looker::new(open)), shared, &request);
        if answers.send(answer).is_err() {
            return;
        }
        pending.fetch_sub(taken, Ordering::AcqRel);
    }
}

fn answer(looker: &mut Result<Looker, String>, shared: &Mutex<Shared>, request: &Request) -> Answer {
    let looker = looker.as_mut().map_err(|error| error.clone());
    match request {
        Request::Section(fingerprint) => Answer::Section(looker.and_then(|looker| {
            let (snapshot, classes) = {
                let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                (Arc::clone(&shared.latest), Arc::clone(&shared.classes))
            };
            let mut both = snapshot.report.findings.iter().zip(classes.iter());
            let both = both.find(|(finding, _)| finding.fingerprint == *fingerprint);
            let (finding, class) = both.ok_or("this finding is no more")?;
            section::of_finding(&mut looker.walk, class, finding).map(Arc::new)
        })),
        Request::SectionAt(record) => Answer::Section(
            looker.and_then(|looker| section::of_record(&mut looker.walk, *record).map(Arc::new)),
        ),
        Request::Moment(goal) => Answer::Moment(looker.and_then(|looker| {
            let moments = || {
                let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(&shared.moments)
            };
            looker.moment(*goal, moments).map(Arc::new)
        })),
    }
}

struct Looker {
    walk: Walk,
}

impl Looker {
    fn new(open: &Open) -> Result<Self, String> {
        Ok(Self { walk: Walk::new(open()?)? })
    }

    fn moment(&mut self, goal: Goal, moments: impl Fn() -> Arc<hazards::Moments>) -> Result<Moment, String> {
        if self.walk.total == 0 {
            return Err("the trace has no records".to_owned());
        }
        let last = self.walk.total - 1;
        let start = self.walk.start;
        let found = match goal {
            Goal::Record(number) => self.walk.record(number.min(last))?,
            Goal::Time(time) => match self.walk.at(start.saturating_add(time), |_| true)? {
                None => self.walk.record(last)?,
                found => found,
            },
            Goal::NextSection(from) => {
                let found = self.walk.next(from, enters)?;
                Some(found.ok_or("no section is entered after this")?)
            }
            Goal::PreviousSection(from) => {
                let found = self.walk.previous(from, enters)?;
                Some(found.ok_or("no section is entered before this")?)
            }
            Goal::NextHazard(from) => Some(self.hazard(from, &moments(), true)?),
            Goal::PreviousHazard(from) => Some(self.hazard(from, &moments(), false)?),
        };
        let (number, _) = found.ok_or("there is no such record")?;
        self.state(number)
    }

    /// The hazard next to a record.
    fn hazard(&mut self, from: u64, moments: &hazards::Moments, next: bool) -> Result<Numbered, String> {
        let (_, record) = self.walk.record(from)?.ok_or("there is no such record")?;
        let now = Nanos(record.time).since(Nanos(self.walk.start));
        let found = moments.next_to(now, next)?;
        let time = self.walk.start.saturating_add(found.time.0);
        let at = self.walk.at(time, |record| record.cpu == found.cpu)?;
        at.ok_or_else(|| "the trace has no such record".to_owned())
    }

    /// What there is at a record.
    fn state(&mut self, wanted: u64) -> Result<Moment, String> {
        let from = self.walk.span_of(wanted.saturating_sub(WARM_UP));
        let header = self.walk.reader.about.header.clone();
        let mut engine = engine(&header);
        engine.watch_possible();
        let mut tracker = Tracker::default();
        let mut before: VecDeque<(u64, Record, Vec<&'static str>)> = VecDeque::new();
        let mut names = VecDeque::new();
        let mut machine = None;
        let start = self.walk.start;
        // The names come with the records, while the reader is borrowed.
        let symbols = self.walk.reader.about.symbols.clone();
        self.walk.read(from, |number, record| {
            engine.process(record);
            tracker.take(record);
            let hazards = engine.take_hazards();
            if number + AROUND as u64 >= wanted {
                let rules = hazards.iter().map(|hazard| hazard.place.rule.info().name).collect();
                before.push_back((number, *record, rules));
                names.push_back(engine.name_of(TaskId::of(record)).map(|name| name.to_string()));
            }
            if number == wanted {
                machine = Some(tracker.machine(&engine, &symbols, start));
            }
            number < wanted + AROUND as u64
        })?;
        let events = before.iter().zip(&names).map(|((number, record, rules), name)| {
            let mut event = event(*number, record, start, &symbols);
            (event.breaks, event.name) = (rules.clone(), name.clone());
            event
        });
        let events: Vec<_> = events.collect();
        let now = events.iter().find(|event| event.record == wanted);
        let time_ns = now.map(|event| event.time_ns).ok_or("there is no such record")?;
        Ok(Moment { record: wanted, time_ns, events, machine: machine.unwrap_or_default() })
    }
}

fn event(number: u64, record: &Record, start: u64, symbols: &Symbols) -> Event {
    let kind = Kind::try_from(record.kind);
    let access = matches!(kind, Ok(Kind::Read | Kind::Write | Kind::Rmw));
    let about = access || matches!(kind, Ok(Kind::TlbFlush | Kind::Fault));
    let frame = symbols.frames(StackId(record.stack).0).next();
    let place = frame.map_or_else(String::new, |frame| match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{} ({file}:{line})", frame.function),
        _ => frame.function.clone(),
    });
    Event {
        record: number,
        time_ns: record.time.saturating_sub(start),
        cpu: record.cpu,
        task: TaskId::of(record),
        name: None,
        kind: kind.map_or("unknown", Kind::name),
        op: operation(record.kind, record.op),
        entry: about.then_some(record.entry),
        count: record.count,
        value: record.known_value().filter(|_| access),
        place: place.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
        breaks: Vec::new(),
    }
}
