//! Reads any part of a trace, by the numbers and the times of its records.

use lazymmu_abi::{Kind, Op, Record};
use lazymmu_trace::{Reader, Span};

use super::Bytes;

/// A record and its number.
pub(super) type Numbered = (u64, Record);

/// A trace that can be read from anywhere.
pub(super) struct Walk {
    pub(super) reader: Reader<Box<dyn Bytes>>,
    /// The spans of the index, each with the number of its first record.
    spans: Vec<(Span, u64)>,
    /// The time of the first record.
    pub(super) start: u64,
    /// How many records there are.
    pub(super) total: u64,
}

impl Walk {
    pub(super) fn new(mut reader: Reader<Box<dyn Bytes>>) -> Result<Self, String> {
        let index = reader.index().map_err(|error| error.to_string())?;
        let mut total = 0;
        let mut numbered = |span: &Span| {
            let first = total;
            total += span.records;
            (*span, first)
        };
        let spans: Vec<_> = index.spans().iter().map(&mut numbered).collect();
        reader.records.rewind();
        let first = reader.next_batch().map_err(|error| error.to_string())?;
        let start = first.and_then(|batch| batch.first()).map_or(0, |record| record.time);
        Ok(Self { reader, spans, start, total })
    }

    /// The span with that record.
    pub(super) fn span_of(&self, record: u64) -> usize {
        self.spans.partition_point(|(_, first)| *first <= record).saturating_sub(1)
    }

    /// The span to begin at for records from this time on.
    pub(super) fn span_at(&self, time: u64) -> usize {
        let found = self.spans.iter().position(|(span, _)| span.last >= time);
        found.unwrap_or(self.spans.len().saturating_sub(1))
    }

    /// The number of the first record of a span.
    pub(super) fn first_of(&self, span: usize) -> u64 {
        self.spans.get(span).map_or(0, |(_, first)| *first)
    }

    /// Hands on every record from a span on, until `take` says that it has enough.
    pub(super) fn read(
        &mut self,
        from: usize,
        mut take: impl FnMut(u64, &Record) -> bool,
    ) -> Result<(), String> {
        let mut number = match self.spans.get(from) {
            Some((span, first)) if from > 0 => {
                self.reader.records.seek(span);
                *first
            }
            _ => {
                self.reader.records.rewind();
                0
            }
        };
        while let Some(batch) = self.reader.records.next_batch().map_err(|error| error.to_string())? {
            for record in batch {
                if !take(number, record) {
                    return Ok(());
                }
                number += 1;
            }
        }
        Ok(())
    }

    /// The first record after that number for which `wanted` holds.
    pub(super) fn next(
        &mut self,
        after: u64,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Option<Numbered>, String> {
        let mut found = None;
        self.read(self.span_of(after), |number, record| {
            if number > after && wanted(record) {
                found = Some((number, *record));
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// The last record before that number for which `wanted` holds.
    pub(super) fn previous(
        &mut self,
        before: u64,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Option<Numbered>, String> {
        let mut span = self.span_of(before.saturating_sub(1));
        let mut end = before;
        loop {
            let mut found = None;
            self.read(span, |number, record| {
                if number < end && wanted(record) {
                    found = Some((number, *record));
                }
                number < end
            })?;
            if found.is_some() || span == 0 {
                return Ok(found);
            }
            end = self.first_of(span);
            span -= 1;
        }
    }

    /// The record with that number.
    pub(super) fn record(&mut self, wanted: u64) -> Result<Option<Numbered>, String> {
        let mut found = None;
        self.read(self.span_of(wanted), |number, record| {
            if number == wanted {
                found = Some((number, *record));
            }
            number < wanted
        })?;
        Ok(found)
    }

    /// The first record from that time on.
    pub(super) fn at(
        &mut self,
        time: u64,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Option<Numbered>, String> {
        let mut found = None;
        self.read(self.span_at(time), |number, record| {
            if record.time >= time && wanted(record) {
                found = Some((number, *record));
            }
            found.is_none()
        })?;
        Ok(found)
    }
}

/// Whether the record enters a section, as far as it alone tells.
pub(super) fn enters(record: &Record) -> bool {
    // From 7.0 on the record has the depth after the call.
    let inner = record.known_value().is_some_and(|depth| (2..=0xff).contains(&depth));
    record.kind == Kind::Section as u8 && record.op == Op::Enter as u8 && !inner
}
