//! One comparison of a filter, and of what it can be true.

use std::fmt;

use lazymmu_abi::{Kind, Level, Record};
use lazymmu_hazard::{Hazard, Nanos, Place, StackId, TaskName, Written, without_suffixes};
use lazymmu_trace::Symbols;

use crate::glob::Glob;

/// A term: a key and the values of which one must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// The process (thread group).
    Pid(Vec<u32>),
    /// The task.
    Tid(Vec<u32>),
    /// The task's name.
    Comm(Vec<Glob>),
    /// The CPU.
    Cpu(Vec<u16>),
    /// When, in nanoseconds since the first record.
    Time(TimeRange),
    /// The rule that is broken.
    Rule(Vec<Glob>),
    /// A function on one of the call stacks.
    Function(Vec<Glob>),
    /// The level of the entry.
    Level(Vec<Level>),
}

/// From a moment on, to before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// The first moment.
    pub from: Nanos,
    /// The first moment that is too late; `None` for no end.
    pub to: Option<Nanos>,
}

impl TimeRange {
    fn has(self, time: Nanos) -> bool {
        time >= self.from && self.to.is_none_or(|to| time < to)
    }
}

/// What is known of the task of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) record: &'a Record,
    /// Since the first record.
    pub(super) time: Nanos,
    pub(super) name: Option<TaskName>,
}

impl Term {
    /// Whether it holds of a hazard, as far as the event itself says: of a rule, a function or a level it is
    /// [`Term::of_place`] that knows.
    pub(super) fn of_event(&self, hazard: &Hazard) -> bool {
        let event = &hazard.example;
        let of_write = |has: &dyn Fn(Written) -> bool| event.write.is_some_and(has);
        match self {
            Self::Pid(pids) => {
                pids.contains(&event.process.0) || of_write(&|write| pids.contains(&write.process.0))
            }
            Self::Tid(tids) => {
                tids.contains(&event.task.tid()) || of_write(&|write| tids.contains(&write.task.tid()))
            }
            Self::Comm(globs) => names(globs, event.name) || of_write(&|write| names(globs, write.name)),
            Self::Cpu(cpus) => cpus.contains(&event.cpu.0) || of_write(&|write| cpus.contains(&write.cpu.0)),
            Self::Time(range) => range.has(event.time),
            Self::Rule(_) | Self::Function(_) | Self::Level(_) => false,
        }
    }

    /// Whether it holds of all hazards at a place; `None` if the place does not say.
    pub(super) fn of_place(&self, place: &Place, symbols: Option<&Symbols>) -> Option<bool> {
        match self {
            Self::Rule(globs) => {
                let name = place.rule.info().name;
                Some(globs.iter().any(|glob| glob.matches(name)))
            }
            Self::Level(levels) => Some(levels.iter().any(|level| *level as u8 == place.level)),
            Self::Function(globs) => {
                let stacks = [place.write, Some(place.access), place.opener];
                symbols.map(|symbols| stacks.iter().flatten().any(|stack| on_stack(globs, *stack, symbols)))
            }
            Self::Pid(_) | Self::Tid(_) | Self::Comm(_) | Self::Cpu(_) | Self::Time(_) => None,
        }
    }

    /// Whether the event says if it holds, and not the place.
    pub(super) fn is_of_event(&self) -> bool {
        !matches!(self, Self::Rule(_) | Self::Function(_) | Self::Level(_))
    }

    /// Whether the names on a stack say if it holds.
    pub(super) fn is_of_stack(&self) -> bool {
        matches!(self, Self::Function(_))
    }

    /// Whether the rule says if it holds.
    pub(super) fn is_of_rule(&self) -> bool {
        matches!(self, Self::Rule(_))
    }

    /// Whether it holds of a section because of one of its records. Of a rule it is the hazards that tell.
    pub(super) fn of_record(&self, seen: Seen<'_>, symbols: Option<&Symbols>) -> bool {
        let Seen { record, time, name } = seen;
        match self {
            Self::Pid(pids) => pids.contains(&record.tgid),
            Self::Tid(tids) => tids.contains(&record.tid),
            Self::Comm(globs) => names(globs, name),
            Self::Cpu(cpus) => cpus.contains(&record.cpu),
            Self::Time(range) => range.has(time),
            Self::Level(levels) => {
                let access = matches!(Kind::try_from(record.kind), Ok(Kind::Read | Kind::Write | Kind::Rmw));
                access && levels.iter().any(|level| *level as u8 == record.level)
            }
            Self::Function(globs) => {
                symbols.is_some_and(|symbols| on_stack(globs, StackId(record.stack), symbols))
            }
            Self::Rule(_) => false,
        }
    }
}

fn names(globs: &[Glob], name: Option<TaskName>) -> bool {
    name.is_some_and(|name| {
        let name = name.to_string();
        globs.iter().any(|glob| glob.matches(&name))
    })
}

/// Whether one of the patterns fits a function of the stack, with or without the suffixes of the compiler.
pub(crate) fn on_stack(globs: &[Glob], stack: StackId, symbols: &Symbols) -> bool {
    symbols.frames(stack.0).any(|frame| {
        let plain = without_suffixes(&frame.function);
        globs.iter().any(|glob| glob.matches(plain) || glob.matches(&frame.function))
    })
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(values) => list(f, "pid", values),
            Self::Tid(values) => list(f, "tid", values),
            Self::Cpu(values) => list(f, "cpu", values),
            Self::Comm(globs) => list(f, "comm", &globs.iter().map(quoted).collect::<Vec<_>>()),
            Self::Rule(globs) => list(f, "rule", &globs.iter().map(quoted).collect::<Vec<_>>()),
            Self::Function(globs) => list(f, "function", &globs.iter().map(quoted).collect::<Vec<_>>()),
            Self::Level(levels) => {
                list(f, "level", &levels.iter().map(|level| level.name()).collect::<Vec<_>>())
            }
            Self::Time(TimeRange { from, to }) => {
                // One end at least is named: nothing but `..` would not be a range.
                let left_out = from.0 == 0 && to.is_some();
                let from = if left_out { String::new() } else { duration(*from) };
                write!(f, "time={from}..{}", to.map_or_else(String::new, duration))
            }
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, key: &str, values: &[impl fmt::Display]) -> fmt::Result {
    write!(f, "{key}=")?;
    for (number, value) in values.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(f, "{comma}{value}")?;
    }
    Ok(())
}

fn quoted(glob: &Glob) -> String {
    let text = glob.as_str();
    if !text.is_empty() && text.chars().all(super::parse::is_bare) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn duration(time: Nanos) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let unit = units.into_iter().find(|(size, _)| time.0.is_multiple_of(*size));
    let (size, name) = unit.unwrap_or((1, "ns"));
    format!("{}{name}", time.0 / size)
}
