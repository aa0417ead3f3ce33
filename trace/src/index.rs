//! Which part of the file holds which time and which CPUs.
//!
//! The index has a bounded size: when it is full, each two neighbours become one, and from then on a span covers twice
//! as many blocks. A trace of any length is so divided into at most [`MAX_SPANS`] parts.

use lazymmu_abi::Record;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The most spans of an index; even.
pub(crate) const MAX_SPANS: usize = 4096;

/// A run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The byte of the file at which its first block of records begins.
    pub at: u64,
    /// The earliest time of a record in it, in ns.
    pub first: u64,
    /// The latest time of a record in it, in ns.
    pub last: u64,
    /// How many records it holds.
    pub records: u64,
    /// Bit `n` is set if CPU `n`, or another whose number leaves the same remainder by 64, has records in it.
    pub cpus: u64,
}

impl Span {
    /// Whether it may hold records of a CPU.
    pub fn may_have_cpu(&self, cpu: u16) -> bool {
        self.cpus & cpu_bit(cpu) != 0
    }

    fn join(&mut self, next: &Span) {
        self.first = self.first.min(next.first);
        self.last = self.last.max(next.last);
        self.records = self.records.saturating_add(next.records);
        self.cpus |= next.cpus;
    }
}

fn cpu_bit(cpu: u16) -> u64 {
    1 << (cpu % 64)
}

/// The parts of a trace by time and CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    spans: Vec<Span>,
    /// How many blocks of records a span covers; the last one may cover fewer.
    blocks_per_span: u64,
    /// How many the last one covers.
    blocks_in_last: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self { spans: Vec::new(), blocks_per_span: 1, blocks_in_last: 0 }
    }
}

impl Index {
    /// The spans, in the order of the file. Their times may overlap.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The span to begin reading at in order to see everything from `time` (in ns) on; `None` if all is earlier.
    pub fn from_time(&self, time: u64) -> Option<&Span> {
        self.spans.iter().find(|span| span.last >= time)
    }

    /// Adds a block of records.
    pub(crate) fn add(&mut self, at: u64, records: &[Record]) {
        let Some(head) = records.first() else { return };
        let block = Span { at, first: head.time, last: head.time, records: 0, cpus: 0 };
        let block = records.iter().fold(block, |mut span, record| {
            span.first = span.first.min(record.time);
            span.last = span.last.max(record.time);
            span.records += 1;
            span.cpus |= cpu_bit(record.cpu);
            span
        });
        match self.spans.last_mut() {
            Some(last) if self.blocks_in_last < self.blocks_per_span => {
                last.join(&block);
                self.blocks_in_last += 1;
            }
            _ => {
                if self.spans.len() == MAX_SPANS {
                    self.halve();
                }
                self.spans.push(block);
                self.blocks_in_last = 1;
            }
        }
    }

    /// Joins each two neighbours. Only called when every span is full and their number even.
    fn halve(&mut self) {
        let joined = self.spans.chunks(2).filter_map(|pair| {
            let (head, tail) = pair.split_first()?;
            let mut span = *head;
            for next in tail {
                span.join(next);
            }
            Some(span)
        });
        self.spans = joined.collect();
        self.blocks_per_span = self.blocks_per_span.saturating_mul(2);
    }
}

/// The first bytes of the payload. `span_len` lets a newer minor version append to each span.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct IndexHead {
    blocks_per_span: U64,
    blocks_in_last: U64,
    span_len: U32,
    reserved: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SpanLayout {
    at: U64,
    first: U64,
    last: U64,
    records: U64,
    cpus: U64,
}

impl Index {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let head = IndexHead {
            blocks_per_span: self.blocks_per_span.into(),
            blocks_in_last: self.blocks_in_last.into(),
            span_len: (size_of::<SpanLayout>() as u32).into(),
            reserved: 0.into(),
        };
        let mut out = head.as_bytes().to_vec();
        for span in &self.spans {
            let layout = SpanLayout {
                at: span.at.into(),
                first: span.first.into(),
                last: span.last.into(),
                records: span.records.into(),
                cpus: span.cpus.into(),
            };
            out.extend_from_slice(layout.as_bytes());
        }
        out
    }

    /// Reads a payload that should hold `count` spans.
    pub(crate) fn from_bytes(payload: &[u8], count: u32) -> Option<Self> {
        let (head, rest) = IndexHead::read_from_prefix(payload).ok()?;
        let span_len = head.span_len.get() as usize;
        if span_len < size_of::<SpanLayout>() || rest.len() % span_len != 0 {
            return None;
        }
        if u32::try_from(rest.len() / span_len) != Ok(count) {
            return None;
        }
        let spans = rest.chunks_exact(span_len).filter_map(|bytes| {
            let (layout, _) = SpanLayout::read_from_prefix(bytes).ok()?;
            Some(Span {
                at: layout.at.get(),
                first: layout.first.get(),
                last: layout.last.get(),
                records: layout.records.get(),
                cpus: layout.cpus.get(),
            })
        });
        Some(Self {
            spans: spans.collect(),
            blocks_per_span: head.blocks_per_span.get(),
            blocks_in_last: head.blocks_in_last.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(time: u64, cpu: u16) -> [Record; 2] {
        [Record { time, cpu, ..Record::default() }, Record { time: time + 5, cpu, ..Record::default() }]
    }

    #[test]
    fn an_index_stays_bounded_and_covers_every_record() {
        let mut index = Index::default();
        let blocks = 3 * MAX_SPANS as u64 + 17;
        for n in 0..blocks {
            index.add(n * 100, &block(n * 10, (n % 3) as u16));
        }
        assert!(index.spans().len() <= MAX_SPANS && index.spans().len() > MAX_SPANS / 2);
        assert_eq!(index.spans().iter().map(|span| span.records).sum::<u64>(), 2 * blocks);
        for pair in index.spans().windows(2) {
            assert!(pair[0].at < pair[1].at && pair[0].last < pair[1].first);
        }
        let span = index.from_time(10_000).unwrap();
        assert!(span.first <= 10_000 && span.last >= 10_000);
        assert!(span.may_have_cpu(2) && !span.may_have_cpu(3));
        assert_eq!(index.from_time(u64::MAX), None);
    }

    #[test]
    fn an_index_is_read_back_and_may_have_longer_spans_one_day() {
        let mut index = Index::default();
        index.add(80, &block(1, 0));
        index.add(90, &block(7, 65));
        let bytes = index.to_bytes();
        assert_eq!(Index::from_bytes(&bytes, 2), Some(index.clone()));
        assert_eq!(Index::from_bytes(&bytes, 3), None);
        assert_eq!(Index::from_bytes(&bytes[..bytes.len() - 1], 2), None);

        let mut longer = bytes[..24].to_vec();
        longer[16] += 8;
        for span in bytes[24..].chunks(40) {
            longer.extend_from_slice(span);
            longer.extend_from_slice(&[0xee; 8]);
        }
        assert_eq!(Index::from_bytes(&longer, 2), Some(index));
    }
}
