//! One finding of the report.

use lazymmu_abi::{Context, Kind, Level, Op};
use lazymmu_hazard::rules::Severity;
use lazymmu_hazard::{Class, Proof};
use lazymmu_trace::Symbols;
use serde::{Deserialize, Serialize};

use crate::baseline::BaselineState;
use crate::json::hex;
use crate::pte::{Decoded, PteLayout};
use crate::stack::{self, StackFrame};
use crate::text;
use crate::timeline::SectionTimeline;
use crate::words::Word;

/// One bug.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Finding {
    /// The rule that is broken.
    pub rule: Word,
    /// `error` or `advice`.
    pub severity: Word,
    /// What happened, in words.
    pub title: Word,
    /// The same for the same bug in every trace: 16 hexadecimal digits.
    pub fingerprint: String,
    /// What exactly is wrong, where it is no access that meets a pending write.
    pub what: Option<Word>,
    /// `latent` or `proven`.
    pub state: Word,
    /// How many hazards.
    pub count: u64,
    /// In how many of them the values differed.
    pub proven: u64,
    /// On how many different call paths.
    pub paths: usize,
    /// The level of the entry: `pte`, `pmd` and so on.
    pub level: Option<Word>,
    /// What each architecture's profile says.
    pub profiles: Vec<ProfileLine>,
    /// The write that was pending, if one was.
    pub write: Option<Site>,
    /// The access that came too early, or whatever else is wrong.
    pub access: Site,
    /// The call that entered the section; `None` if it was in none.
    pub opener: Option<Site>,
    /// One event in full.
    pub example: Example,
    /// What it is to the baseline; `None` without one, and for advice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineState>,
    /// The course of the section up to that event and some way beyond; `None` if nobody looked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<SectionTimeline>,
}

/// What one profile says of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ProfileLine {
    /// The profile's name.
    pub name: Word,
    /// Whether the code is wrong there.
    pub breaks: bool,
    /// Why.
    pub why: String,
    /// Whether that was checked against the architecture's source.
    pub verified: bool,
}

/// Who did what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Site {
    /// The function, without the compiler's suffixes.
    pub function: String,
    /// The accessor or mode call.
    pub op: Word,
    /// The call stack, innermost first; empty if it was lost.
    pub stack: Vec<StackFrame>,
}

impl Site {
    /// The innermost place of the stack whose source is known: the file and perhaps the line.
    pub(crate) fn source(&self) -> Option<(&str, Option<u32>)> {
        self.stack.iter().find_map(|frame| frame.file.as_deref().map(|file| (file, frame.line)))
    }

    /// Whether it only read.
    pub(crate) fn is_read(&self) -> bool {
        Op::ALL.iter().any(|op| op.name() == self.op && op.info().kind == Kind::Read)
    }
}

/// One event in full.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Example {
    /// When the access was: ns since the first record.
    pub time_ns: u64,
    /// When the write was, if there was one.
    pub write_time_ns: Option<u64>,
    /// The CPU of the access.
    pub cpu: u16,
    /// The CPU of the write.
    pub write_cpu: Option<u16>,
    /// `task`, `softirq`, `hardirq` or `nmi`.
    pub context: Word,
    /// The thread id.
    pub tid: u32,
    /// The task's name.
    pub task: Option<String>,
    /// The thread id of the task that wrote.
    pub write_tid: Option<u32>,
    /// Its name.
    pub write_task: Option<String>,
    /// The entry's address; `None` if it is not about one.
    pub entry: Option<String>,
    /// What the write put there.
    pub pending: Option<Value>,
    /// What the access got.
    pub seen: Option<Value>,
    /// What memory held at that instant; right after a read-modify-write.
    pub memory: Option<Value>,
    /// `same`, `different` or `not compared`.
    pub comparison: Word,
}

/// An entry's value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Value {
    /// In hexadecimal.
    pub raw: String,
    /// In words, if the layout is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoded: Option<Decoded>,
}

impl Finding {
    /// The finding alone, as the report for people has it.
    #[must_use]
    pub fn text(&self) -> String {
        text::finding(self)
    }

    /// Whether it went wrong.
    #[must_use]
    pub fn state_words(&self) -> String {
        text::state_words(self)
    }

    /// Of which entry the access was, by whom and where.
    #[must_use]
    pub fn access_words(&self) -> String {
        text::access_words(self)
    }

    /// When the write was, and by whom and where if not as the access; `None` if there was none.
    #[must_use]
    pub fn written_words(&self) -> Option<String> {
        text::written_words(self)
    }

    /// The values: what each is, in hexadecimal, in words, and whether it shows that something went wrong.
    #[must_use]
    pub fn value_rows(&self) -> Vec<(&'static str, String, String, bool)> {
        text::value_rows(self)
    }

    /// Whether something is wrong; else it is advice.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error.name()
    }

    /// What happened where, as a part of a sentence.
    pub(crate) fn in_words(&self) -> String {
        let access = format!("{} in {}", self.access.op, self.access.function);
        match (&self.what, &self.write) {
            (Some(what), _) => format!("{what} ({access})"),
            (None, Some(write)) => format!("{access} after {} in {}", write.op, write.function),
            (None, None) => access,
        }
    }

    pub(crate) fn new(class: &Class, symbols: &Symbols, layout: PteLayout) -> Self {
        let info = class.rule.info();
        let site = |site: &lazymmu_hazard::Site| Site {
            function: site.function.clone(),
            op: site.op.into(),
            stack: stack::frames(symbols, site.stack),
        };
        let profile = |line: &lazymmu_hazard::ProfileVerdict| ProfileLine {
            name: line.profile.profile().name.into(),
            breaks: line.breaks,
            why: line.why.clone(),
            verified: line.verified,
        };
        Self {
            rule: info.name.into(),
            severity: info.severity.name().into(),
            title: info.title.into(),
            fingerprint: format!("{:016x}", class.fingerprint),
            what: class.breach.map(|breach| breach.what.into()),
            state: class.state.name().into(),
            count: class.count,
            proven: class.proven,
            paths: class.paths,
            level: class.level.map(|level| level.name().into()),
            profiles: class.profiles.iter().map(profile).collect(),
            write: class.write.as_ref().map(site),
            access: site(&class.access),
            opener: class.opener.as_ref().map(site),
            example: Example::new(&class.example, layout, class.level),
            baseline: None,
            timeline: None,
        }
    }
}

impl Example {
    fn new(example: &lazymmu_hazard::Example, layout: PteLayout, level: Option<Level>) -> Self {
        let value =
            |value: Option<u64>| value.map(|raw| Value { raw: hex(raw), decoded: layout.decode(raw, level) });
        Self {
            time_ns: example.time.0,
            write_time_ns: example.write.map(|write| write.time.0),
            cpu: example.cpu.0,
            write_cpu: example.write.map(|write| write.cpu.0),
            context: match example.context {
                Context::Task => "task",
                Context::Softirq => "softirq",
                Context::Hardirq => "hardirq",
                Context::Nmi => "nmi",
            }
            .into(),
            tid: example.task.tid(),
            task: example.name.map(|name| name.to_string()),
            write_tid: example.write.map(|write| write.task.tid()),
            write_task: example.write.and_then(|write| write.name).map(|name| name.to_string()),
            entry: example.entry.map(|entry| hex(entry.0)),
            pending: value(example.pending),
            seen: value(example.seen),
            memory: value(example.memory),
            comparison: match example.proof {
                Proof::Same => "same",
                Proof::Different => "different",
                Proof::NotCompared => "not compared",
            }
            .into(),
        }
    }
}
