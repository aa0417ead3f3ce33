//! Puts flushes into a stream of records: records in, records out. The engine knows nothing of it.

use std::collections::HashMap;

use lazymmu_abi::{Context, Flags, Kind, Op, Record};
use lazymmu_hazard::TaskId;
use lazymmu_trace::Symbols;

use super::site::{Site, Sites};

/// Adds a flush before each access of a site that a task makes inside a section.
pub struct FlushBefore<'a> {
    sites: Sites<'a>,
    /// The last mode call of each task that is in a section.
    inside: HashMap<TaskId, Record>,
    /// How many accesses of the site there were, in sections or not.
    pub reached: u64,
    /// How many flushes were added.
    pub added: u64,
}

impl<'a> FlushBefore<'a> {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(site: &'a Site, symbols: &'a Symbols) -> Self {
        Self { sites: Sites::new(site, symbols), inside: HashMap::new(), reached: 0, added: 0 }
    }

    /// What stands before the record now, if anything.
    pub fn before(&mut self, record: &Record) -> Option<Record> {
        let task = TaskId::of(record);
        match Kind::try_from(record.kind) {
            Ok(Kind::Section) => self.section(task, record),
            Ok(Kind::TaskExit) => drop(self.inside.remove(&task)),
            Ok(Kind::Read | Kind::Write | Kind::Rmw) if self.sites.has(record) => {
                self.reached += 1;
                // A flush in an interrupt has no effect (include/linux/pgtable.h:217, 7.2.13).
                if record.context() == Context::Task
                    && let Some(call) = self.inside.get(&task)
                {
                    self.added += 1;
                    return Some(flush(record, call));
                }
            }
            _ => {}
        }
        None
    }

    /// Follows the mode only so far as to know whether a flush would do something; what it does is the engine's
    /// matter.
    fn section(&mut self, task: TaskId, record: &Record) {
        if record.context() != Context::Task {
            return;
        }
        let counted = record.value < u64::from(u32::MAX) && record.known_value().is_some();
        let active = match Op::try_from(record.op) {
            _ if counted => record.value > 0 && record.memory == 0,
            Ok(Op::Enter | Op::Resume) => true,
            Ok(Op::Leave | Op::Pause) => false,
            _ => return,
        };
        if active {
            self.inside.insert(task, *record);
        } else {
            self.inside.remove(&task);
        }
    }
}

/// A flush by the same task, in the same function, at the same time; the counters are as after the last call.
fn flush(at: &Record, call: &Record) -> Record {
    Record {
        kind: Kind::Section as u8,
        op: Op::Flush as u8,
        level: 0,
        entry: 0,
        count: 0,
        value: call.value,
        memory: call.memory,
        flags: (at.flags & Flags::CONTEXT) | (call.flags & !Flags::CONTEXT),
        ..*at
    }
}
