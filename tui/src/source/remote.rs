//! What a daemon said so far, as a snapshot. The list of findings comes in short; what else there is to say of each is
//! asked for when it is first seen, and again when it is proven.

use std::collections::{BTreeMap, BTreeSet};

use lazymmu_abi::{Level, Op, Record};
use lazymmu_hazard::{EntryAddr, Nanos, StackId, TaskId, Verdict, Waiting};
use lazymmu_protocol::{Class, Message, Mode, Party, Status, Timeline};
use lazymmu_report::{
    Example, Finding, Hooks, ProfileLine, Report, SectionTimeline, Site, Step, Target, profile_names,
};
use lazymmu_trace::{Header, Kernel};

use super::{Cpu, Machine, Section, Seen, Snapshot, Task, Told};

/// What a daemon said so far.
pub(super) struct Remote {
    target: Target,
    hooks: Option<Hooks>,
    status: Option<Status>,
    classes: BTreeMap<String, Class>,
    details: BTreeMap<String, Finding>,
    /// Those that were asked for.
    asked: BTreeSet<(String, bool)>,
    pub(super) note: Option<String>,
    done: bool,
}

/// A kernel of which nothing is known.
pub(super) fn no_target() -> Target {
    Target {
        release: String::new(),
        version: String::new(),
        build_id: None,
        architecture: String::new(),
        page_size: 4096,
    }
}

impl Remote {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            hooks: None,
            status: None,
            classes: BTreeMap::new(),
            details: BTreeMap::new(),
            asked: BTreeSet::new(),
            note: None,
            done: false,
        }
    }

    /// What a trace's header would say.
    pub(super) fn header(&self) -> Header {
        let Target { release, version, build_id, architecture, page_size } = self.target.clone();
        let pte_layout = architecture.clone();
        let kernel =
            Kernel { release, version, build_id, architecture, page_size, pte_layout, ..Kernel::default() };
        Header { kernel, ..Header::default() }
    }

    /// Takes in a message. Returns whether anything is new.
    pub(super) fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Snapshot(snapshot) => {
                self.hooks = Some(snapshot.hooks);
                self.status = Some(snapshot.status);
                self.classes = snapshot.findings.into_iter().map(|class| (class.id.clone(), class)).collect();
            }
            Message::Update(update) => {
                for id in &update.gone {
                    self.classes.remove(id);
                    self.details.remove(id);
                }
                self.classes.extend(update.findings.into_iter().map(|class| (class.id.clone(), class)));
            }
            Message::Status(status) => self.status = Some(*status),
            Message::Finding(detail) => {
                self.details.insert(detail.class.id.clone(), detail.finding);
            }
            Message::Dropped(dropped) => {
                self.note = Some(format!("{} lines of the daemon were missed", dropped.count));
            }
            Message::End(end) => {
                if let Some(status) = &mut self.status {
                    (status.verdict, status.reasons) = (end.verdict, end.reasons);
                }
                self.done = true;
            }
            _ => return false,
        }
        true
    }

    /// The findings to ask for.
    pub(super) fn wanted(&mut self) -> Vec<String> {
        let all = self.classes.values().map(|class| (class.id.clone(), class.proven > 0));
        let new: Vec<_> = all.filter(|wanted| !self.asked.contains(wanted)).collect();
        self.asked.extend(new.iter().cloned());
        new.into_iter().map(|(id, _)| id).collect()
    }

    /// The daemon is gone.
    pub(super) fn ended(&mut self, why: Option<String>) {
        if !self.done {
            let why = why.map_or_else(String::new, |why| format!(": failed to {why}"));
            self.note = Some(format!("the daemon is gone{why}"));
        }
        self.done = true;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let findings = self.classes.values().map(|class| self.finding(class)).collect();
        let status = self.status.as_ref();
        let seen = self.classes.values().map(|class| {
            (class.id.clone(), Seen { last_ns: class.last_ns, per_second: Some(class.per_second) })
        });
        let records = status.map(|status| status.records.clone()).unwrap_or_default();
        Snapshot {
            seen: seen.collect(),
            records: records.total,
            total: None,
            length_ns: status.map_or(0, |status| status.time_ns),
            #[allow(clippy::cast_precision_loss, reason = "it is shown with three digits")]
            rate_now: status.map(|status| status.rate.records as f64),
            done: self.done,
            batches: status.map(|status| status.batches.clone()).unwrap_or_default(),
            causes: status.map(|status| status.flushed_by.clone()).unwrap_or_default(),
            machine: status.map(machine).unwrap_or_default(),
            note: self.note.clone(),
            report: Report {
                schema: Report::SCHEMA,
                verdict: verdict(status),
                reasons: status.map(|status| status.reasons.clone()).unwrap_or_default(),
                target: self.target.clone(),
                hooks: self.hooks.clone().unwrap_or_default(),
                records,
                sections: status.map(|status| status.sections.clone()).unwrap_or_default(),
                losses: status.map(|status| status.losses.clone()).unwrap_or_default(),
                damage: None,
                filter: None,
                findings,
                suppressed: Vec::new(),
                suppressions: None,
                baseline: None,
                batches: None,
            },
        }
    }

    /// A finding with all that is known of it, and the counts as they are now.
    fn finding(&self, class: &Class) -> Finding {
        let short = || in_short(class);
        let finding = self.details.get(&class.id).cloned().unwrap_or_else(short);
        Finding {
            count: class.count,
            proven: class.proven,
            paths: class.paths,
            state: class.state.clone(),
            ..finding
        }
    }
}

/// One of our words for the verdict; what a later version may say is none that can be relied on.
fn verdict(status: Option<&Status>) -> &'static str {
    let all = [Verdict::Clean, Verdict::Hazards, Verdict::Inconclusive].map(Verdict::name);
    let said = |name: &&&str| status.is_some_and(|status| status.verdict == **name);
    all.iter().find(said).copied().unwrap_or(Verdict::Inconclusive.name())
}

fn in_short(class: &Class) -> Finding {
    let site =
        |party: &Party| Site { function: party.function.clone(), op: party.op.clone(), stack: Vec::new() };
    let profile = |name: &'static str| ProfileLine {
        name: name.into(),
        breaks: class.breaks.iter().any(|breaks| breaks == name),
        why: String::new(),
        verified: true,
    };
    Finding {
        rule: class.rule.clone(),
        severity: class.severity.clone(),
        title: class.title.clone(),
        fingerprint: class.id.clone(),
        what: class.what.clone(),
        state: class.state.clone(),
        count: class.count,
        proven: class.proven,
        paths: class.paths,
        level: class.level.clone(),
        profiles: profile_names().into_iter().map(profile).collect(),
        write: class.write.as_ref().map(site),
        access: site(&class.access),
        opener: class.opener.as_ref().map(site),
        example: Example {
            time_ns: class.first_ns,
            write_time_ns: None,
            cpu: 0,
            write_cpu: None,
            context: "task".into(),
            tid: 0,
            task: None,
            write_tid: None,
            write_task: None,
            entry: None,
            pending: None,
            seen: None,
            memory: None,
            comparison: "not compared".into(),
        },
        baseline: None,
        timeline: None,
    }
}

fn machine(status: &Status) -> Machine {
    let mode = |mode: Mode| match mode {
        Mode::On => "on",
        Mode::Paused => "paused",
        Mode::Off => "off",
        Mode::Unknown => "-",
    };
    let cpus = status.cpus.iter().map(|cpu| {
        let told = Told { mode: mode(cpu.mode), depth: cpu.nesting, pending: cpu.pending, lost: cpu.lost };
        (cpu.cpu, Cpu { told: Some(told), ..Cpu::default() })
    });
    let tasks = status.tasks.iter().map(|task| Task {
        task: TaskId::of(&Record { tid: task.tid, cpu: task.cpu, ..Record::default() }),
        name: task.task.clone(),
        cpu: task.cpu,
        on: task.mode == Mode::On,
        depth: task.nesting,
        pauses: task.paused,
        waiting: usize::try_from(task.pending).unwrap_or(usize::MAX),
        opener: task.opener.clone().unwrap_or_default(),
    });
    Machine { cpus: cpus.collect(), tasks: tasks.collect() }
}

/// The course of a section, with what waits after each step worked out again: a line of JSON has only how many.
pub(super) fn section(timeline: Timeline) -> Result<Section, String> {
    let Timeline { id, section } = timeline;
    let mut timeline: SectionTimeline = section.ok_or("the daemon has not kept this section")?;
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut writers = BTreeMap::new();
    let mut entries = 0;
    for (number, step) in timeline.steps.iter_mut().enumerate() {
        if matches!(&*step.kind, "read" | "write" | "rmw") {
            step.address = step.entry.as_deref().and_then(hexadecimal);
        }
        if step.waiting_entries < entries {
            waiting.clear();
        }
        if step.waiting_entries > 0
            && matches!(&*step.kind, "write" | "rmw")
            && let Some(address) = step.address
        {
            let stack = StackId(number as u64 + 1);
            writers.insert(stack.0, step.function.clone().unwrap_or_default());
            waiting.push(write(step, address, stack));
        }
        entries = step.waiting_entries;
        step.waiting.clone_from(&waiting);
    }
    Ok(Section { finding: Some(id), timeline, writers })
}

fn write(step: &Step, address: u64, stack: StackId) -> Waiting {
    let value = step.value.as_ref().and_then(|value| hexadecimal(&value.raw));
    Waiting {
        first: EntryAddr(address),
        count: step.entries.max(1),
        op: Op::ALL.iter().find(|op| op.name() == step.op).map_or(0, |op| *op as u8),
        level: Level::Pte as u8,
        // That of a read-modify-write is the one that it replaced.
        value: value.filter(|_| step.kind == "write"),
        time: Nanos(step.time_ns),
        stack,
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
