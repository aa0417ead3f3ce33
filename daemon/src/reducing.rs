//! Writes the trace of what a filter selects: the records that [`Reducer`] keeps, and their call stacks alone.

use std::collections::HashSet;

use lazymmu_abi::Record;
use lazymmu_hazard::Engine;
use lazymmu_report::Filter;
use lazymmu_report::filter::Reducer;
use lazymmu_trace::{Sink, Symbols, WriteError, Writer};

/// Chooses records, and knows which stacks they need.
pub(crate) struct Reducing {
    reducer: Reducer,
    kept: Vec<Record>,
    stacks: HashSet<u64>,
    addresses: HashSet<u64>,
}

impl Reducing {
    /// The engine is that of the replay to come.
    pub(crate) fn new(filter: Filter, engine: Engine) -> Self {
        let reducer = Reducer::new(filter, engine);
        Self { reducer, kept: Vec::new(), stacks: HashSet::new(), addresses: HashSet::new() }
    }

    /// Takes a record. See [`Reducer::push`].
    pub(crate) fn push(&mut self, record: &Record, symbols: Option<&Symbols>) {
        self.reducer.push(record, symbols, &mut self.kept);
    }

    /// The end of the records.
    pub(crate) fn finish(&mut self, symbols: Option<&Symbols>) {
        self.reducer.finish(symbols, &mut self.kept);
    }

    /// The records that are kept since the last time they were written.
    pub(crate) fn kept(&self) -> &[Record] {
        &self.kept
    }

    /// Forgets the records that are kept, when they have been written.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Writes the records that are kept, with their stacks as far as those are known.
    pub(crate) fn write<S: Sink>(
        &mut self,
        writer: &mut Writer<S>,
        symbols: &Symbols,
    ) -> Result<(), WriteError> {
        for record in &self.kept {
            if record.stack != 0 && self.stacks.insert(record.stack) {
                put_stack(&mut self.addresses, writer, record.stack, symbols)?;
            }
        }
        writer.records(&self.kept)
    }

    /// Writes a stack that came later than its first record.
    pub(crate) fn late_stack<S: Sink>(
        &mut self,
        writer: &mut Writer<S>,
        stack: u64,
        symbols: &Symbols,
    ) -> Result<(), WriteError> {
        if !self.stacks.contains(&stack) {
            return Ok(());
        }
        put_stack(&mut self.addresses, writer, stack, symbols)
    }

    /// Whether the address is on a stack that was written, so that its names belong to the trace.
    pub(crate) fn has(&self, address: u64) -> bool {
        self.addresses.contains(&address)
    }
}

fn put_stack<S: Sink>(
    written: &mut HashSet<u64>,
    writer: &mut Writer<S>,
    stack: u64,
    symbols: &Symbols,
) -> Result<(), WriteError> {
    let Some(addresses) = symbols.addresses(stack) else { return Ok(()) };
    writer.stack(stack, addresses)?;
    for address in addresses {
        let frames = symbols.frames_at(*address);
        if written.insert(*address) && !frames.is_empty() {
            writer.frames(*address, frames)?;
        }
    }
    Ok(())
}
