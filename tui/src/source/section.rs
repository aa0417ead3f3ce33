//! The course of one section, read from the trace when somebody wants to see it.

use std::collections::BTreeMap;

use lazymmu_hazard::{Class, Nanos, TaskId};
use lazymmu_report::{Collector, Finding, Mark, PteLayout, Room, SectionTimeline};

use super::machine::function;
use super::walk::Walk;
use super::{Section, engine};

/// So many steps are kept. What waits after each of them is kept as well, so that they cost their square.
const ROOM: Room = Room { head: 16, before: 600, after: 240 };

/// So many records after the one that is looked for are read at most, those of all CPUs together.
const LONGEST: u64 = 100_000;

/// Where the search for the beginning starts: so many spans before, then again further back.
const BACK: [usize; 3] = [1, 16, usize::MAX];

/// The course of a finding's section.
pub(super) fn of_finding(walk: &mut Walk, class: &Class, finding: &Finding) -> Result<Section, String> {
    let mark = Mark::of(class);
    let since = class.example.write.map_or(mark.time, |write| write.time.min(mark.time));
    let mut timeline = course(walk, mark, since)?;
    timeline.mark(finding);
    Ok(finish(walk, timeline, Some(finding.fingerprint.clone())))
}

/// The course of the section that a record is in.
pub(super) fn of_record(walk: &mut Walk, number: u64) -> Result<Section, String> {
    let found = walk.record(number)?;
    let (_, record) = found.ok_or_else(|| "there is no such record".to_owned())?;
    let task = TaskId::of(&record);
    let time = Nanos(record.time).since(Nanos(walk.start));
    let timeline = course(walk, Mark { owner: task, task, time, cpu: record.cpu }, time)?;
    Ok(finish(walk, timeline, None))
}

fn finish(walk: &Walk, timeline: SectionTimeline, finding: Option<String>) -> Section {
    let symbols = &walk.reader.about.symbols;
    let stacks = timeline.steps.iter().flat_map(|step| &step.waiting).map(|write| write.stack);
    let mut writers = BTreeMap::new();
    for stack in stacks {
        writers.entry(stack.0).or_insert_with(|| function(symbols, stack).unwrap_or_default());
    }
    Section { finding, timeline, writers }
}

fn course(walk: &mut Walk, mark: Mark, since: Nanos) -> Result<SectionTimeline, String> {
    let span = walk.span_at(walk.start.saturating_add(since.0));
    let mut best = None;
    for back in BACK {
        let from = span.saturating_sub(back);
        let found = attempt(walk, mark, from)?;
        let whole = from == 0 || found.as_ref().is_some_and(|timeline| timeline.entered);
        best = found.or(best);
        if whole {
            break;
        }
    }
    best.ok_or_else(|| "this record is in no section that could be found".to_owned())
}

fn attempt(walk: &mut Walk, mark: Mark, from: usize) -> Result<Option<SectionTimeline>, String> {
    let header = walk.reader.about.header.clone();
    let mut engine = engine(&header);
    let mut collector = Collector::of([mark]).with_room(ROOM).starting_at(Nanos(walk.start));
    let end = walk.start.saturating_add(mark.time.0);
    let mut after = 0;
    walk.read(from, |_, record| {
        after += u64::from(record.time > end);
        collector.before(&engine, record);
        engine.process(record);
        collector.after(&engine, record);
        after == 0 || after < LONGEST && !collector.is_done()
    })?;
    let layout = PteLayout::from_name(&header.kernel.pte_layout);
    Ok(collector.timelines(&walk.reader.about.symbols, layout).pop().flatten())
}
