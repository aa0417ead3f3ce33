//! What the daemon knows: put together from what the capture tells, and kept as far as it is bounded.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::mem;

use lazymmu_abi::Record;
use lazymmu_hazard::{
    Class as HazardClass, Nanos, Occurrence, Outcome, StackId, StackNames, without_suffixes,
};
use lazymmu_protocol::{
    Class, Cpu, Detail, End, Mode, Rate, Second, Snapshot, Status, Task, Timeline, Update,
};
use lazymmu_report::{Collector, Date, Finding, Names, Report, SectionTimeline, Session, Suppressions};
use lazymmu_trace::{Header, Symbols};

use super::feed::{Beat, HISTORY, Look, OpenSection};
use crate::session;

/// So many seconds are remembered.
const SECONDS: usize = 300;
/// The rate of a finding is the mean of so many.
const RATE_SECONDS: usize = 10;
/// The courses of so many sections are kept, each at most some 300 steps.
const TIMELINES: usize = 256;

/// What is known.
pub(super) struct State {
    pub(super) header: Header,
    suppressions: Suppressions,
    today: Date,
    symbols: Symbols,
    /// Every hazard so far.
    occurrences: Vec<Occurrence>,
    /// Of those, how many wait for the names of their stacks.
    unnamed: usize,
    suppressed: usize,
    pub(super) look: Look,
    pub(super) known: BTreeMap<String, Known>,
    /// What was found since the courses of sections were last looked for.
    fresh: Vec<HazardClass>,
    timelines: BTreeMap<String, SectionTimeline>,
    records: VecDeque<Record>,
    start: Option<Nanos>,
    cpus: BTreeSet<u16>,
    seconds: VecDeque<Second>,
    /// The counts at the end of the last second.
    before: Rate,
    end: Option<End>,
}

/// A finding.
pub(super) struct Known {
    pub(super) class: Class,
    finding: Finding,
    /// The counts at the ends of the last seconds.
    counts: VecDeque<u64>,
}

impl State {
    pub(super) fn new(header: Header, suppressions: Suppressions, today: Date) -> Self {
        Self {
            header,
            suppressions,
            today,
            symbols: Symbols::default(),
            occurrences: Vec::new(),
            unnamed: 0,
            suppressed: 0,
            look: Look::default(),
            known: BTreeMap::new(),
            fresh: Vec::new(),
            timelines: BTreeMap::new(),
            records: VecDeque::new(),
            start: None,
            cpus: BTreeSet::new(),
            seconds: VecDeque::new(),
            before: Rate::default(),
            end: None,
        }
    }

    /// Takes in what came, and says what it changed.
    pub(super) fn take(&mut self, beat: Beat) -> Option<Update> {
        let Beat { stacks, names, records, cut, start, look, end } = beat;
        self.start = self.start.or(start);
        let mut changed = !names.is_empty() && self.unnamed > 0;
        for (id, addresses) in stacks {
            self.symbols.insert_stack(id, addresses);
        }
        for (address, frames) in names {
            self.symbols.insert_frames(address, frames);
        }
        self.remember(&records, cut);
        // After the records that came next, so that it is seen how a section went on.
        self.follow();
        if let Some(mut look) = look {
            if let Some(occurrences) = look.occurrences.take() {
                (self.occurrences, changed) = (occurrences, true);
            }
            self.look = look;
        }
        let last = end.is_some();
        if let Some(outcome) = end {
            let Outcome { occurrences, statistics, losses, gaps } = *outcome;
            self.occurrences = occurrences;
            self.look = Look { statistics, losses, gaps, ..mem::take(&mut self.look) };
            self.look.sections.clear();
        }
        let update = (changed || last).then(|| self.judge(last)).flatten();
        if last {
            self.follow();
            let status = self.status(0);
            self.end = Some(End { verdict: status.verdict, reasons: status.reasons });
        }
        update
    }

    fn remember(&mut self, records: &[Record], cut: bool) {
        if cut {
            self.records.clear();
        }
        self.cpus.extend(records.iter().map(|record| record.cpu).filter(|cpu| *cpu != Record::ANY_CPU));
        let over = (self.records.len() + records.len()).saturating_sub(HISTORY);
        self.records.drain(..over.min(self.records.len()));
        self.records.extend(records);
    }

    /// Puts the hazards into classes. Those whose stacks have no names yet wait, unless no more will come.
    fn judge(&mut self, last: bool) -> Option<Update> {
        let named = |stack: StackId| {
            let addresses = self.symbols.addresses(stack.0);
            addresses.is_none_or(|addresses| addresses.iter().all(|at| self.symbols.is_known(*at)))
        };
        let ready = |occurrence: &&Occurrence| {
            let place = &occurrence.place;
            last || [place.write, Some(place.access), place.opener].into_iter().flatten().all(named)
        };
        let ready: Vec<_> = self.occurrences.iter().filter(ready).cloned().collect();
        self.unnamed = self.occurrences.len() - ready.len();
        let mut outcome = self.outcome(ready);
        let applied = self.suppressions.apply(&mut outcome, &self.symbols, self.today);
        let session =
            Session { header: &self.header, symbols: &self.symbols, outcome: &outcome, damage: None };
        let report = Report::new(&session).with_suppressed(&self.suppressions, &applied, &session);
        self.suppressed = report.suppressed.len();
        let classes = outcome.classes(&Names(&self.symbols));
        let mut gone: HashSet<String> = self.known.keys().cloned().collect();
        let mut findings = Vec::new();
        for (finding, class) in report.findings.into_iter().zip(classes) {
            gone.remove(&finding.fingerprint);
            if let Some(changed) = self.note(finding, class) {
                findings.push(changed);
            }
        }
        let mut gone: Vec<_> = gone.into_iter().collect();
        gone.sort_unstable();
        for id in &gone {
            self.known.remove(id);
            self.timelines.remove(id);
        }
        (!findings.is_empty() || !gone.is_empty()).then_some(Update { findings, gone })
    }

    /// Takes note of a finding. Returns it if it is new or has changed.
    fn note(&mut self, finding: Finding, hazard: HazardClass) -> Option<Class> {
        let id = finding.fingerprint.clone();
        let now = self.look.time.0.max(finding.example.time_ns);
        if let Some(known) = self.known.get_mut(&id) {
            let (before, after) = (&known.finding, &finding);
            if (before.count, before.proven, before.paths) == (after.count, after.proven, after.paths) {
                return None;
            }
            let last_ns = if after.count > before.count { now } else { known.class.last_ns };
            let Class { first_ns, per_second, .. } = known.class;
            known.class = Class::of(&finding, per_second, first_ns, last_ns);
            known.finding = finding;
            return Some(known.class.clone());
        }
        self.fresh.push(hazard);
        let class = Class::of(&finding, 0.0, finding.example.time_ns, now);
        self.known.insert(id, Known { class: class.clone(), finding, counts: VecDeque::from([0]) });
        Some(class)
    }

    /// Looks for the courses of the sections of what is fresh, in the records that are kept.
    fn follow(&mut self) {
        let room = TIMELINES.saturating_sub(self.timelines.len());
        let mut fresh = mem::take(&mut self.fresh);
        fresh.truncate(room);
        let Some(start) = self.start.filter(|_| !fresh.is_empty()) else { return };
        let mut collector = Collector::new(&fresh).starting_at(start);
        let mut engine = session::engine(&self.header);
        for record in &self.records {
            collector.before(&engine, record);
            engine.process(record);
            collector.after(&engine, record);
            if collector.is_done() {
                break;
            }
        }
        let outcome = self.outcome(Vec::new());
        let session =
            Session { header: &self.header, symbols: &self.symbols, outcome: &outcome, damage: None };
        let mut report = Report::new(&session);
        let finding = |class: &HazardClass| {
            self.known.get(&format!("{:016x}", class.fingerprint)).map(|known| known.finding.clone())
        };
        report.findings = fresh.iter().filter_map(finding).collect();
        if report.findings.len() != fresh.len() {
            return;
        }
        report.add_timelines(collector, &session);
        for finding in report.findings {
            if let Some(mut timeline) = finding.timeline {
                for step in &mut timeline.steps {
                    // Much memory, for who draws what waits entry by entry; no message has it.
                    step.waiting = Vec::new();
                }
                self.timelines.insert(finding.fingerprint, timeline);
            }
        }
    }

    /// A second is over. Returns the findings of which the rate has changed.
    pub(super) fn second(&mut self) -> Option<Update> {
        let now = self.counts();
        let rate = Rate {
            records: now.records - self.before.records,
            lost: now.lost - self.before.lost,
            hazards: now.hazards.saturating_sub(self.before.hazards),
            sections: now.sections - self.before.sections,
        };
        self.before = now;
        self.seconds.push_back(Second { time_ns: self.look.time.0, rate });
        if self.seconds.len() > SECONDS {
            self.seconds.pop_front();
        }
        let mut findings = Vec::new();
        for known in self.known.values_mut() {
            known.counts.push_back(known.class.count);
            if known.counts.len() > RATE_SECONDS + 1 {
                known.counts.pop_front();
            }
            let oldest = known.counts.front().copied().unwrap_or_default();
            let tenths = known.class.count.saturating_sub(oldest);
            #[allow(clippy::cast_precision_loss, reason = "a rate is no count")]
            let per_second = tenths as f64 / RATE_SECONDS as f64;
            // Both were computed in this way: the same counts give the same number.
            if per_second.total_cmp(&known.class.per_second).is_ne() {
                known.class.per_second = per_second;
                findings.push(known.class.clone());
            }
        }
        (!findings.is_empty()).then_some(Update { findings, gone: Vec::new() })
    }

    fn counts(&self) -> Rate {
        Rate {
            records: self.look.statistics.records,
            lost: self.look.losses.total(),
            hazards: self.occurrences.iter().map(|occurrence| occurrence.count).sum(),
            sections: self.look.statistics.sections,
        }
    }

    fn outcome(&self, occurrences: Vec<Occurrence>) -> Outcome {
        let Look { statistics, losses, gaps, .. } = &self.look;
        Outcome { occurrences, statistics: statistics.clone(), losses: losses.clone(), gaps: gaps.clone() }
    }

    /// How the capture is doing.
    pub(super) fn status(&self, clients: usize) -> Status {
        let outcome = self.outcome(Vec::new());
        let session =
            Session { header: &self.header, symbols: &self.symbols, outcome: &outcome, damage: None };
        let Report { verdict, reasons, records, sections, losses, .. } = Report::new(&session);
        let hazards = self.known.values().any(|known| known.class.severity == "error");
        Status {
            time_ns: self.look.time.0,
            verdict: if hazards { "hazards".into() } else { verdict.into() },
            reasons,
            rate: self.seconds.back().map(|second| second.rate).unwrap_or_default(),
            records,
            sections,
            batches: self.look.batches.clone(),
            flushed_by: self.look.flushed_by.clone(),
            cpus: self.cpus(&losses),
            losses,
            tasks: self.look.sections.iter().map(|section| self.task(section)).collect(),
            more_tasks: self.look.more_sections,
            suppressed: self.suppressed,
            unnamed: self.unnamed,
            clients,
        }
    }

    fn task(&self, section: &OpenSection) -> Task {
        let OpenSection { open, name, pending } = section;
        let opener = Names(&self.symbols).innermost(open.opener);
        Task {
            tid: open.task.tid(),
            task: name.map(|name| name.to_string()),
            cpu: open.cpu.0,
            mode: match (open.on, open.depth, open.pauses) {
                (true, ..) => Mode::On,
                (false, 0, _) => Mode::Off,
                (false, _, 1..) => Mode::Paused,
                (false, ..) => Mode::Unknown,
            },
            nesting: open.depth,
            paused: open.pauses,
            pending: *pending,
            opener: opener.map(|name| without_suffixes(&name).to_owned()),
        }
    }

    fn cpus(&self, losses: &lazymmu_report::Losses) -> Vec<Cpu> {
        let on = |cpu: u16| self.look.sections.iter().filter(move |section| section.open.cpu.0 == cpu);
        let of = |cpu: &u16| {
            let told = self.look.cpus.iter().find(|mode| mode.cpu.0 == *cpu);
            Cpu {
                cpu: *cpu,
                mode: match told.and_then(|mode| mode.on) {
                    Some(true) => Mode::On,
                    Some(false) => Mode::Off,
                    None => Mode::Unknown,
                },
                nesting: told.map_or(0, |mode| mode.entered),
                tasks: on(*cpu).count(),
                pending: on(*cpu).map(|section| section.pending).sum(),
                lost: losses.by_cpu.get(&cpu.to_string()).copied().unwrap_or_default(),
            }
        };
        self.cpus.iter().map(of).collect()
    }

    /// Everything.
    pub(super) fn snapshot(&self, clients: usize) -> Snapshot {
        let session = Session {
            header: &self.header,
            symbols: &self.symbols,
            outcome: &Outcome::default(),
            damage: None,
        };
        Snapshot {
            hooks: Report::new(&session).hooks,
            status: self.status(clients),
            findings: self.known.values().map(|known| known.class.clone()).collect(),
            history: self.seconds.iter().copied().collect(),
        }
    }

    /// All about a finding.
    pub(super) fn detail(&self, id: &str) -> Option<Detail> {
        let known = self.known.get(id)?;
        Some(Detail { class: known.class.clone(), finding: known.finding.clone() })
    }

    /// The course of a finding's section, with nothing in it if it was not kept; nothing if there is no such finding.
    pub(super) fn timeline(&mut self, id: &str) -> Option<Timeline> {
        self.known.get(id)?;
        if self.fresh.iter().any(|class| format!("{:016x}", class.fingerprint) == id) {
            self.follow();
        }
        Some(Timeline { id: id.to_owned(), section: self.timelines.get(id).cloned() })
    }

    /// How it ended, once it has.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }
}
