//! The statements of a scenario, one per line.

use std::ops::Range;

use lazymmu_abi::{Context, Kind, Level, Op};

use super::build::{Access, Actor, Builder, Entries, Task};
use super::error::{Fault, ScenarioError};
use super::expect::{self, Expectation};
use super::line::{Line, number, small};
use super::mode::Counters;
use super::path::{self, Path};
use super::{FIRST_WORD, Scenario};
use crate::{Capture, Header};

/// The longest line and text, in bytes: no person writes more, and nothing below needs to care.
const MAX_TEXT: usize = 1 << 20;

pub(super) fn scenario(name: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let mut reader = Reader::new();
    let mut last = 1;
    let result = reader.all(text, &mut last);
    let Fault { column, what: fault } = match result {
        Ok(()) => return Ok(reader.finish()),
        Err(fault) => fault,
    };
    Err(ScenarioError::Syntax { name: name.to_owned(), line: last, column, fault })
}

struct Reader {
    title: Option<String>,
    header: Header,
    builder: Builder,
    expectations: Vec<Expectation>,
}

/// What may follow where a statement begins.
const STATEMENTS: &str = "a statement: `kernel`, `machine`, `value`, `entry`, `task`, `interrupt`, `switch`, `lost`, `expect`, \
                          or a step: `enter`, `leave`, `flush`, `pause`, `resume`, `arch_enter`, `arch_leave`, `read`, `write`, `rmw`, `tlb-flush`, \
                          `fault`, `exit`";

impl Reader {
    fn new() -> Self {
        let level = "all".to_owned();
        let capture = Capture { level, ..Capture::default() };
        let header = Header { capture, ..Header::default() };
        Self { title: None, header, builder: Builder::new(), expectations: Vec::new() }
    }

    /// Reads every line; `at` is the one that was read last.
    fn all(&mut self, text: &str, at: &mut usize) -> Result<(), Fault> {
        if text.len() > MAX_TEXT {
            return Err(Fault { column: 1, what: format!("the text is longer than {MAX_TEXT} bytes") });
        }
        for (index, text) in text.lines().enumerate() {
            *at = index + 1;
            let mut line = Line::new(text);
            if !line.is_empty() {
                self.statement(&mut line, *at)?;
            }
        }
        match self.title {
            Some(_) => Ok(()),
            None => Err(Fault { column: 1, what: "the text has no `scenario TITLE`".to_owned() }),
        }
    }

    fn finish(self) -> Scenario {
        let Self { title, mut header, builder, expectations } = self;
        header.kernel.cpus = builder.cpus();
        Scenario {
            title: title.unwrap_or_default(),
            header,
            symbols: builder.stacks.symbols,
            records: builder.records,
            expectations,
        }
    }

    fn statement(&mut self, line: &mut Line<'_>, number: usize) -> Result<(), Fault> {
        if self.title.is_none() {
            line.need(FIRST_WORD)?;
            self.title = Some(line.rest("what the scenario is about")?);
            return Ok(());
        }
        if self.step(line)? {
            return Ok(());
        }
        match line.word(STATEMENTS)? {
            "kernel" => self.kernel(line)?,
            "machine" => self.machine(line)?,
            "value" => self.value_name(line)?,
            "entry" => self.entry_name(line)?,
            "task" => self.task(line)?,
            "interrupt" => self.interrupt(line)?,
            "switch" => self.switch(line)?,
            "lost" => self.lost(line)?,
            "expect" => {
                let what = expect::expected(line)?;
                self.expectations.push(Expectation { line: number, what });
            }
            other => return Err(line.wrong(format_args!("expected {STATEMENTS}; found `{other}`"))),
        }
        line.end("the end of the line")
    }

    fn kernel(&mut self, line: &mut Line<'_>) -> Result<(), Fault> {
        self.before_the_first_step(line)?;
        let major = |text: &str| text.split(['.', '-']).next().and_then(number);
        let release = line.word("a release, such as 7.2 or 6.12.117")?;
        let Some(major) = major(release) else {
            return Err(line.wrong(format_args!("`{release}` is no release such as 7.2 or 6.12.117")));
        };
        // struct lazy_mmu_state came with 7.0 (include/linux/mm_types_task.h).
        self.builder.counters = major >= 7;
        release.clone_into(&mut self.header.kernel.release);
        Ok(())
    }

    fn machine(&mut self, line: &mut Line<'_>) -> Result<(), Fault> {
        self.before_the_first_step(line)?;
        let kernel = &mut self.header.kernel;
        line.word("a machine as uname -m has it, such as x86_64 or s390x")?
            .clone_into(&mut kernel.architecture);
        kernel.pte_layout.clone_from(&kernel.architecture);
        Ok(())
    }

    fn before_the_first_step(&self, line: &Line<'_>) -> Result<(), Fault> {
        if self.builder.records.is_empty() {
            return Ok(());
        }
        Err(line.wrong("this must stand before the first step"))
    }

    fn value_name(&mut self, line: &mut Line<'_>) -> Result<(), Fault> {
        let name = new_name(line, "a name for the value", |name| self.builder.values.contains_key(name))?;
        line.need("=")?;
        let value = self.value(line)?;
        self.builder.values.insert(name, value);
        Ok(())
    }

    fn entry_name(&mut self, line: &mut Line<'_>) -> Result<(), Fault> {
        let name = new_name(line, "a name for the entry", |name| self.builder.entries.contains_key(name))?;
        let level = line.read("a level: `pte`, `pmd`, `pud`, `p4d` or `pgd`", |text| {
            Level::ALL.iter().find(|level| level.name() == text).copied()
        })?;
        let count = times(line)?;
        if line.take("at") {
            let aligned = |text: &str| number(text).filter(|address| address % 8 == 0);
            let first = line.read("an address that can be divided by 8", aligned)?;
            self.builder.add_entries(name, Entries { first, level, count });
            return Ok(());
        }
        let index = if line.take("for") { index(level, line.read("an address", number)?) } else { 0 };
        if index > 0 && index + u64::from(count) > TABLE {
            return Err(
                line.wrong(format_args!("{count} entries from the one for it on are not in one table"))
            );
        }
        self.builder.place_entries(name, level, count, index);
        Ok(())
    }

    /// `task NAME [of LEADER] on cpu N [in PATH]`
    fn task(&mut self, line: &mut Line<'_>) -> Result<(), Fault> {
        let name = line.read("the name of a task", name)?;
        let leader = if line.take("of") { Some(self.known_task(line)?) } else { None };
        line.need("on")?;
        let cpu = cpu(line)?;
        let path = if line.take("in") { path::path(line)? } else { Path::new() };
        let task = self.builder.task(name, leader);
        self.builder.act(Actor { task, cpu, context: Context::Task, path });
        Ok(())
    }

    /// `interrupt CONTEXT on cpu N [in PATH]`
    fn interrupt(&mut self, line: &mut Line<'_>) -> Result<(), Fault> {
        let context = line.read("`softirq`, `hardirq` or `nmi`", |text| match text {
            "softirq" => Some(Context::Softirq),
            "hardirq" => Some(Context::Hardirq),
            "nmi" => Some(Context::Nmi),
            _ => None,
        })?;
        line.need("on")?;
        let cpu = cpu(line)?;
        let Some(task) = self.builder.running(cpu) else {
            return Err(line.wrong(format_args!("no task has run on cpu {cpu} so far")));
        };
        let path = if line.take("in") { path::path(line)? } else { Path::new() };
        self.builder.act(Actor { task, cpu, context, path });
        Ok(())
    }

    /// `switch cpu N from TASK to TASK blocked|preempted`
    fn switch(&mut self, line: &mut Line<'_>) -> Result<(), Fault> {
        let cpu = cpu(line)?;
        line.need("from")?;
        let from = self.known_task(line)?;
        if self.builder.running(cpu).is_some_and(|running| running != from) {
            return Err(line.wrong(format_args!("another task runs on cpu {cpu}")));
        }
        line.need("to")?;
        let to = line.read("the name of a task, or `idle`", name)?;
        let to = self.builder.task(to, None);
        let op = line.read("`blocked` or `preempted`", |text| {
            [Op::Blocked, Op::Preempted].into_iter().find(|op| op.name() == text)
        })?;
        self.builder.switch(cpu, from, to, op);
        Ok(())
    }

    /// `lost N|some KIND|records on cpu N|on any cpu`
    fn lost(&mut self, line: &mut Line<'_>) -> Result<(), Fault> {
        let many = |text: &str| if text == "some" { Some(0) } else { number(text).filter(|n| *n > 0) };
        let count = line.read("how many, or `some`", many)?;
        let kind = line.read("a kind, such as `section` or `write`, or `records`", |text| match text {
            "records" => Some(None),
            _ => Kind::ALL.iter().find(|kind| kind.name() == text).map(|kind| Some(*kind)),
        })?;
        line.need("on")?;
        let cpu = if line.take("any") { line.need("cpu").map(|()| None)? } else { Some(cpu(line)?) };
        self.builder.lost(cpu, kind, count);
        Ok(())
    }

    /// A step of the task or interrupt that was named last. False if the line is none.
    fn step(&mut self, line: &mut Line<'_>) -> Result<bool, Fault> {
        let word = line.peek().unwrap_or_default();
        let mode = Op::ALL.iter().find(|op| op.info().kind == Kind::Section && op.name() == word).copied();
        let step = match (mode, word) {
            (Some(op), _) => Step::Mode(op),
            (None, "read") => Step::Access(Kind::Read),
            (None, "write") => Step::Access(Kind::Write),
            (None, "rmw") => Step::Access(Kind::Rmw),
            (None, "tlb-flush") => Step::TlbFlush,
            (None, "fault") => Step::Fault,
            (None, "exit") => Step::Exit,
            _ => return Ok(false),
        };
        let Some(actor) = self.builder.actor.clone() else {
            return Err(line.expected("a `task` or `interrupt` line before the first step on a CPU"));
        };
        line.word("a step")?;
        match step {
            Step::Mode(op) => {
                let given = if line.take("counters") { Some(counters(line)?) } else { None };
                let actor = placed(actor, line)?;
                self.builder.mode(&actor, op, given);
            }
            Step::Access(kind) => {
                let access = self.access(kind, line)?;
                let actor = placed(actor, line)?;
                self.builder.access(&actor, access);
            }
            Step::TlbFlush => {
                let range = line.read("a range of addresses, such as 0x1000..0x3000", range)?;
                let actor = placed(actor, line)?;
                self.builder.tlb_flush(&actor, &range);
            }
            Step::Fault => {
                let address = line.read("the address that faulted", number)?;
                let code = if line.take("=") { line.read("the error code", number)? } else { 0 };
                let actor = placed(actor, line)?;
                self.builder.fault(&actor, address, code);
            }
            Step::Exit => {
                let actor = placed(actor, line)?;
                self.builder.exit(&actor);
            }
        }
        line.end("`in PATH`, `at FILE:LINE` or the end of the line")?;
        Ok(true)
    }

    /// `ENTRY [x N] [= VALUE] [memory VALUE] [by OPERATION]`, the last three in any order.
    fn access(&self, kind: Kind, line: &mut Line<'_>) -> Result<Access, Fault> {
        let (entry, level, room) = self.entry(line)?;
        let count = times(line)?;
        if count > room {
            return Err(line.wrong(format_args!("there are only {room} entries from there on")));
        }
        let (mut value, mut memory, mut op) = (None, None, None);
        loop {
            if value.is_none() && line.take("=") {
                value = Some(self.value(line)?);
            } else if memory.is_none() && line.take("memory") {
                memory = Some(self.value(line)?);
            } else if op.is_none() && line.take("by") {
                op = Some(operation(kind, level, line)?);
            } else {
                break;
            }
        }
        let Some(op) = op.or_else(|| usual(kind, level)) else {
            return Err(line.expected(format_args!("`by` and an operation of kind {}", kind.name())));
        };
        // A reader gets what memory holds, if nothing else is said.
        let memory = memory.or(value.filter(|_| kind == Kind::Read));
        Ok(Access { kind, op, level, entry, count, value, memory })
    }

    /// `NAME` or `NAME[INDEX]`: its address, its level, and how many entries there are from there on.
    fn entry(&self, line: &mut Line<'_>) -> Result<(u64, Level, u16), Fault> {
        let text = line.word("the name of an entry")?;
        let (name, index) = match text.split_once('[') {
            Some((name, index)) => (name, index.strip_suffix(']').and_then(small::<u16>)),
            None => (text, Some(0)),
        };
        let Some(entries) = self.builder.entries.get(name) else {
            return Err(line.wrong(format_args!("there is no `entry {name}`")));
        };
        match index {
            Some(index) if index < entries.count => {
                let address = entries.first.wrapping_add(8 * u64::from(index));
                Ok((address, entries.level, entries.count - index))
            }
            _ => Err(line.wrong(format_args!("`{name}` has entries 0 to {}", entries.count - 1))),
        }
    }

    fn value(&self, line: &mut Line<'_>) -> Result<u64, Fault> {
        let known = |text: &str| number(text).or_else(|| self.builder.values.get(text).copied());
        line.read("a number or a name that a `value` line gave", known)
    }

    fn known_task(&self, line: &mut Line<'_>) -> Result<Task, Fault> {
        line.read("the name of a task that was on a `task` line before", |text| match text {
            "idle" => Some(Task::Idle),
            _ => self.builder.known_task(text),
        })
    }
}

#[derive(Clone, Copy)]
enum Step {
    Mode(Op),
    Access(Kind),
    TlbFlush,
    Fault,
    Exit,
}

/// `[in PATH] [at FILE:LINE]`: where in the path of the task or interrupt the step is done.
fn placed(mut actor: Actor, line: &mut Line<'_>) -> Result<Actor, Fault> {
    if line.take("in") {
        actor.path = path::inside(path::path(line)?, &actor.path);
    }
    if line.take("at") {
        let (file, number) = line.read("a source line, such as mm/memory.c:905", path::place)?;
        let Some(innermost) = actor.path.first_mut() else {
            return Err(line.wrong("there is no function that this line could be in: say it by `in`"));
        };
        (innermost.file, innermost.line) = (Some(file), Some(number));
    }
    Ok(actor)
}

/// The accessor that is meant if none is given.
fn usual(kind: Kind, level: Level) -> Option<Op> {
    match (kind, level) {
        (Kind::Read, Level::Pte) => Some(Op::PtepGet),
        (Kind::Read, Level::Pmd) => Some(Op::PmdpGet),
        (Kind::Read, Level::Pud) => Some(Op::PudpGet),
        (Kind::Write, Level::Pte) => Some(Op::SetPtes),
        (Kind::Write, Level::Pmd) => Some(Op::SetPmdAt),
        (Kind::Write, Level::Pud) => Some(Op::SetPudAt),
        _ => None,
    }
}

fn operation(kind: Kind, level: Level, line: &mut Line<'_>) -> Result<Op, Fault> {
    let text = line.word("the name of an operation")?;
    let Some(op) = Op::ALL.iter().find(|op| op.name() == text).copied() else {
        return Err(line.wrong(format_args!("there is no operation `{text}`")));
    };
    let info = op.info();
    if info.kind != kind {
        return Err(line.wrong(format_args!("`{text}` is no {} but a {}", kind.name(), info.kind.name())));
    }
    match info.level {
        Some(other) if other != level => Err(line.wrong(format_args!(
            "`{text}` works on a {}, and the entry is a {}",
            other.name(),
            level.name()
        ))),
        _ => Ok(op),
    }
}

/// Entries of a table on x86-64, and their index for an address (arch/x86/include/asm/pgtable_64_types.h, 7.2.13).
const TABLE: u64 = 512;

fn index(level: Level, address: u64) -> u64 {
    (address >> (12 + 9 * (level as u64 - 1))) % TABLE
}

/// `cpu N`
fn cpu(line: &mut Line<'_>) -> Result<u16, Fault> {
    line.need("cpu")?;
    // The highest number means any CPU.
    line.read("the number of a CPU", |text| small(text).filter(|cpu| *cpu < 4096))
}

/// `[x N]`
fn times(line: &mut Line<'_>) -> Result<u16, Fault> {
    if !line.take("x") {
        return Ok(1);
    }
    line.read("how many entries, from 1 to 65535", |text| small(text).filter(|count| *count > 0))
}

/// `ENABLE PAUSE`
fn counters(line: &mut Line<'_>) -> Result<Counters, Fault> {
    let enable = line.read("the enable count, from 0 to 255", small)?;
    let pause = line.read("the pause count, from 0 to 255", small)?;
    Ok(Counters { enable, pause })
}

fn range(text: &str) -> Option<Range<u64>> {
    let (start, end) = text.split_once("..")?;
    let range = number(start)?..number(end)?;
    (!range.is_empty()).then_some(range)
}

fn name(text: &str) -> Option<&str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    (text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(legal)).then_some(text)
}

fn new_name(line: &mut Line<'_>, expected: &str, taken: impl Fn(&str) -> bool) -> Result<String, Fault> {
    let name = line.read(expected, name)?;
    if taken(name) {
        return Err(line.wrong(format_args!("`{name}` was named before")));
    }
    Ok(name.to_owned())
}
