//! How large batches get: entries and flushes per section, by the function that opened it.
//!
//! A batch is what is flushed at one time. This module only watches the engine's own counts from record to record, so
//! that it cannot disagree with it about what a section or a flush is.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use lazymmu_abi::{Op, Record};
use lazymmu_hazard::{Engine, StackId, StackNames, TaskId, without_suffixes};
use lazymmu_trace::Symbols;
use serde::{Deserialize, Serialize};

use crate::stack::Names;
use crate::style::{Role, Style};
use crate::words::Word;

/// Columns of the histogram: 0, 1, 2 to 3, 4 to 7 and so on; the last one takes all that is larger.
pub const COLUMNS: usize = 11;

/// Counts of the sections that one function opened, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Batches {
    /// Sections, the outermost ones only.
    pub sections: u64,
    /// Entries that were written in them by operations that may wait.
    pub entries: u64,
    /// How often something was flushed, the leaves included.
    pub batches: u64,
    /// Entries that were in those batches: one that was written twice counts once.
    pub flushed: u64,
    /// How often a flush found nothing to do.
    pub empty: u64,
    /// Entries in the largest batch.
    pub largest: u64,
    /// Batches by size: 0, 1, 2 to 3, 4 to 7 and so on up to 512 and more.
    pub histogram: [u64; COLUMNS],
}

impl Batches {
    fn add(&mut self, entries: u64) {
        if entries == 0 {
            self.empty += 1;
        } else {
            self.batches += 1;
            self.flushed += entries;
            self.largest = self.largest.max(entries);
        }
        self.histogram[column(entries)] += 1;
    }
}

fn column(entries: u64) -> usize {
    entries.checked_ilog2().map_or(0, |power| (power as usize + 1).min(COLUMNS - 1))
}

/// What a column of the histogram counts.
#[must_use]
pub fn column_name(column: usize) -> String {
    match column {
        0 | 1 => column.to_string(),
        _ if column == COLUMNS - 1 => format!("{}+", 1u64 << (column - 1)),
        _ => format!("{}-{}", 1u64 << (column - 1), (1u64 << column) - 1),
    }
}

/// Watches an engine while it works.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    /// The stacks that opened the sections that are open.
    open: HashMap<TaskId, StackId>,
    by_stack: BTreeMap<StackId, Batches>,
    /// How often a record of each operation ended a batch.
    by_op: BTreeMap<u8, u64>,
}

impl Observer {
    /// Gives the engine a record, and sees what it makes of it.
    pub fn process(&mut self, engine: &mut Engine, record: &Record) {
        let task = TaskId::of(record);
        let before = engine.statistics();
        let (sections, entries, sizes) = (before.sections, before.entries_written, before.batch_sizes);
        engine.process(record);
        let after = engine.statistics();
        if after.sections > sections {
            let stack = StackId(record.stack);
            self.open.insert(task, stack);
            self.by_stack.entry(stack).or_default().sections += 1;
        }
        let written = after.entries_written - entries;
        let ended = (after.batch_sizes.batches + after.batch_sizes.empty) > (sizes.batches + sizes.empty);
        if written > 0 || ended {
            let size = after.batch_sizes.entries - sizes.entries;
            let stack = self.open.get(&task).copied().unwrap_or(StackId::NONE);
            let batches = self.by_stack.entry(stack).or_default();
            batches.entries += written;
            if ended {
                *self.by_op.entry(record.op).or_default() += 1;
                batches.add(size);
            }
        }
        if ended && !engine.in_section(task) {
            self.open.remove(&task);
        }
    }

    /// The counts by the name of the function that opened the section.
    #[must_use]
    pub fn by_opener(&self, symbols: &Symbols) -> BTreeMap<String, Batches> {
        let mut by_opener: BTreeMap<String, Batches> = BTreeMap::new();
        for (stack, batches) in &self.by_stack {
            let name = Names(symbols).innermost(*stack);
            let name = name.map_or_else(|| "[unknown]".to_owned(), |name| without_suffixes(&name).to_owned());
            by_opener.entry(name).or_default().merge(batches);
        }
        by_opener
    }

    /// How often each operation ended a batch, those that were empty included.
    #[must_use]
    pub fn by_cause(&self) -> BTreeMap<Word, u64> {
        let name = |op: u8| Op::try_from(op).map_or("unknown operation", Op::name);
        self.by_op.iter().map(|(op, count)| (name(*op).into(), *count)).collect()
    }

    /// The counts of all sections together.
    #[must_use]
    pub fn total(&self) -> Batches {
        let mut total = Batches::default();
        for batches in self.by_stack.values() {
            total.merge(batches);
        }
        total
    }
}

impl Batches {
    fn merge(&mut self, other: &Self) {
        self.sections += other.sections;
        self.entries += other.entries;
        self.batches += other.batches;
        self.flushed += other.flushed;
        self.empty += other.empty;
        self.largest = self.largest.max(other.largest);
        for (sum, count) in self.histogram.iter_mut().zip(other.histogram) {
            *sum += count;
        }
    }

    /// Every flush, those that found nothing to do included.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.batches + self.empty
    }
}

/// The batches of a trace. Its fields are the JSON document of docs/what-if.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BatchReport {
    /// The version of the document: [`BatchReport::SCHEMA`].
    pub schema: u32,
    /// All sections together.
    pub total: Batches,
    /// By the function that opened the section.
    pub by_opener: BTreeMap<String, Batches>,
}

impl BatchReport {
    /// The version of the document.
    pub const SCHEMA: u32 = 1;

    /// What was observed.
    #[must_use]
    pub fn new(observer: &Observer, symbols: &Symbols) -> Self {
        Self { schema: Self::SCHEMA, total: observer.total(), by_opener: observer.by_opener(symbols) }
    }

    /// The document as JSON, with a newline at its end.
    #[must_use]
    pub fn json(&self) -> String {
        crate::json::render(self)
    }

    /// A table for people: the openers with the most entries first.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut rows: Vec<_> =
            self.by_opener.iter().map(|(name, batches)| (name.as_str(), batches)).collect();
        rows.sort_by_key(|(name, batches)| (std::cmp::Reverse(batches.entries), *name));
        rows.push(("all", &self.total));
        let width =
            rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max("sections opened by".len());
        let used: Vec<_> = (0..COLUMNS).filter(|column| self.total.histogram[*column] > 0).collect();

        let mut title = format!("{:width$}  {:>9}{:>9}{:>9}{:>9}", "", "", "entries", "flushes", "largest");
        let mut heads = format!(
            "{:width$}  {:>9}{:>9}{:>9}{:>9}",
            "sections opened by", "sections", "each", "each", "batch"
        );
        if !used.is_empty() {
            let _ = write!(title, "  batches by entries");
        }
        for column in &used {
            let _ = write!(heads, "{:>9}", column_name(*column));
        }
        let mut text =
            format!("{}\n{}\n", style.paint(Role::Title, &title), style.paint(Role::Title, &heads));
        for (name, batches) in rows {
            let Batches { sections, entries, largest, histogram, .. } = batches;
            let (entries, flushes) = (mean(*entries, *sections), mean(batches.flushes(), *sections));
            let _ = write!(text, "{name:width$}  {sections:>9}{entries:>9}{flushes:>9}{largest:>9}");
            for column in &used {
                let _ = write!(text, "{:>9}", histogram[*column]);
            }
            text.push('\n');
        }
        text
    }
}

/// With one decimal; a dash if there is nothing to divide by.
pub(crate) fn mean(sum: u64, count: u64) -> String {
    match sum.saturating_mul(10).checked_div(count) {
        Some(tenths) => format!("{}.{}", tenths / 10, tenths % 10),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use lazymmu_hazard::Config;
    use lazymmu_trace::scenario::Scenario;

    use super::*;

    fn observe(steps: &str) -> (Batches, BTreeMap<String, Batches>, BTreeMap<Word, u64>) {
        let text = format!("scenario x\nentry e pte x 600\n{steps}");
        let scenario = Scenario::parse("x.scn", &text).unwrap();
        let mut engine = Engine::new(Config::default());
        let mut observer = Observer::default();
        for record in &scenario.records {
            observer.process(&mut engine, record);
        }
        (observer.total(), observer.by_opener(&scenario.symbols), observer.by_cause())
    }

    #[test]
    fn batches_belong_to_the_function_that_opened_the_section() {
        let (total, by_opener, by_cause) = observe(
            "task a on cpu 0 in f.isra.0
             enter
             write e x 600
             flush
             write e[0]
             write e[1]
             write e[2]
             task b on cpu 1 in g
             enter
             leave
             task a on cpu 0 in other
             leave",
        );
        let f = &by_opener["f"];
        assert_eq!((f.sections, f.entries, f.batches, f.empty, f.largest), (1, 603, 2, 0, 600));
        assert_eq!((f.histogram[2], f.histogram[10]), (1, 1));
        let g = &by_opener["g"];
        assert_eq!((g.sections, g.batches, g.empty, g.histogram[0]), (1, 0, 1, 1));
        assert_eq!((total.sections, total.flushes(), total.largest), (2, 3, 600));
        assert_eq!(by_cause, BTreeMap::from([("flush".into(), 1), ("leave".into(), 2)]));
    }

    #[test]
    fn columns_are_powers_of_two() {
        for (entries, name) in [
            (0, "0"),
            (1, "1"),
            (2, "2-3"),
            (3, "2-3"),
            (4, "4-7"),
            (511, "256-511"),
            (512, "512+"),
            (9999, "512+"),
        ] {
            assert_eq!(column_name(column(entries)), name);
        }
    }
}
