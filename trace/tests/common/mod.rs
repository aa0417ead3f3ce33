//! Traces for the tests: a small one as a recorder would write it, and blocks made by hand.
//!
//! The blocks are made from `docs/trace-format.md` and not with the crate's own code, which they test.

// Each test uses a part of it, as a module of its own.
#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Seek};
use std::ops::Range;

use lazymmu_abi::{Flags, Kind, Level, Op, Record};
use lazymmu_trace::{
    Counters, Damage, Frame, Header, Kernel, Losses, ReadError, Reader, Settings, Sink, Writer,
};

pub const PRELUDE: usize = 32;
pub const BLOCK_HEADER: usize = 48;

pub fn header() -> Header {
    let kernel = Kernel { release: "7.2.13-lazymmu".into(), cpus: 2, ..Kernel::default() };
    Header { kernel, ..Header::default() }
}

/// Records as a fork makes them: sections in which entries are read and written.
pub fn records(count: usize) -> Vec<Record> {
    let entry = |n: usize| 0xffff_8880_0123_4000 + (n as u64 % 512) * 8;
    let value = |n: usize| 0x8000_0000_0000_0867 | (n as u64) << 12;
    (0..count)
        .map(|n| {
            let base = Record {
                time: 1_000_000_000 + n as u64 * 137,
                caller: 0xffff_ffff_8123_0000 + (n as u64 % 4) * 0x51,
                stack: 0x1111 + n as u64 % 3,
                tid: 81,
                tgid: 81,
                cpu: (n / 64 % 2) as u16,
                ..Record::default()
            };
            let (kind, op) = match n % 32 {
                0 => (Kind::Section, Op::Enter),
                31 => (Kind::Section, Op::Leave),
                n if n % 2 == 1 => (Kind::Read, Op::PtepGet),
                _ => (Kind::Write, Op::SetPtes),
            };
            let base = Record { kind: kind as u8, op: op as u8, ..base };
            if kind == Kind::Section {
                return base;
            }
            let flags = Flags::VALUE | Flags::MEMORY;
            let level = Level::Pte as u8;
            Record { entry: entry(n), value: value(n), memory: value(n), count: 1, level, flags, ..base }
        })
        .collect()
}

pub fn stack(n: u64) -> Vec<u64> {
    (0..5).map(|depth| 0xffff_ffff_8123_0000 + (n + depth) * 0x51).collect()
}

pub fn frame(n: u64) -> Frame {
    Frame {
        function: format!("copy_pte_range_{n}"),
        offset: n,
        module: None,
        file: Some("mm/memory.c".into()),
        line: Some(1309),
        inlined: n.is_multiple_of(2),
    }
}

/// A trace in memory and where its blocks are, the prelude left out.
pub struct Sample {
    pub bytes: Vec<u8>,
    pub blocks: Vec<Range<usize>>,
    pub records: Vec<Record>,
}

/// Header, then three times stacks, frames, records and counters, then the trailer.
pub fn sample(compression: Option<i32>) -> Sample {
    let settings = Settings { block_records: 64, compression };
    let records = records(3 * 40);
    let mut writer = Writer::with_settings(Vec::new(), &header(), settings).unwrap();
    for (n, batch) in (0..).zip(records.chunks(40)) {
        write_part(&mut writer, n, batch).unwrap();
    }
    writer.finish().unwrap();
    let bytes = writer.into_sink();
    let blocks = blocks(&bytes);
    Sample { bytes, blocks, records }
}

/// One second of a recording: a stack, frames, some records, counters.
pub fn write_part<S: Sink>(
    writer: &mut Writer<S>,
    n: u64,
    batch: &[Record],
) -> Result<(), lazymmu_trace::WriteError> {
    writer.stack(0x1111 + n, &stack(n))?;
    writer.frames(stack(n)[0], &[frame(2 * n), frame(2 * n + 1)])?;
    writer.records(batch)?;
    let lost = vec![Losses { cpu: 1, kind: Kind::Read as u8, count: n }];
    writer.counters(&Counters { produced: (n + 1) * 40, lost });
    writer.flush()
}

/// The whole blocks of a trace, found by their lengths.
pub fn blocks(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let mut at = PRELUDE;
    while at < bytes.len() {
        assert_eq!(&bytes[at..at + 4], b"\xb1lmb");
        let stored = u32::from_le_bytes(bytes[at + 32..at + 36].try_into().unwrap()) as usize;
        blocks.push(at..at + BLOCK_HEADER + stored);
        at += BLOCK_HEADER + stored;
    }
    blocks
}

pub fn block_type(bytes: &[u8], block: &Range<usize>) -> u8 {
    bytes[block.start + 4]
}

/// How many records the block holds.
pub fn records_in(bytes: &[u8], block: &Range<usize>) -> usize {
    let items = u32::from_le_bytes(bytes[block.start + 24..block.start + 28].try_into().unwrap());
    if block_type(bytes, block) == 2 { items as usize } else { 0 }
}

/// A block made by hand.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    pub kind: u8,
    pub codec: u8,
    pub sequence: u64,
    pub records_before: u64,
    pub items: u32,
    pub raw_len: u32,
    pub stored_len: u32,
    pub payload: &'a [u8],
}

impl<'a> Block<'a> {
    pub fn raw(kind: u8, sequence: u64, records_before: u64, items: u32, payload: &'a [u8]) -> Self {
        let len = payload.len() as u32;
        Self { kind, codec: 0, sequence, records_before, items, raw_len: len, stored_len: len, payload }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"\xb1lmb".to_vec();
        out.extend([self.kind, self.codec, 0, 0]);
        out.extend(self.sequence.to_le_bytes());
        out.extend(self.records_before.to_le_bytes());
        out.extend(self.items.to_le_bytes());
        out.extend(self.raw_len.to_le_bytes());
        out.extend(self.stored_len.to_le_bytes());
        out.extend(crc32fast::hash(self.payload).to_le_bytes());
        out.extend([0; 4]);
        out.extend(crc32fast::hash(&out).to_le_bytes());
        out.extend(self.payload);
        out
    }
}

/// A prelude made by hand.
pub fn prelude(major: u16, minor: u16, least: &str) -> Vec<u8> {
    let mut out = b"\x89LMT\r\n\x1a\n".to_vec();
    out.extend(major.to_le_bytes());
    out.extend(minor.to_le_bytes());
    out.extend(least.as_bytes());
    out.resize(28, 0);
    out.extend(crc32fast::hash(&out).to_le_bytes());
    out
}

/// Prelude and header of a trace made by hand; `minor` is the format's minor version.
pub fn begin(minor: u16) -> Vec<u8> {
    let mut out = prelude(1, minor, "0.1.0");
    let json = serde_json::to_vec(&header()).unwrap();
    out.extend(Block::raw(1, 0, 0, 1, &json).bytes());
    out
}

/// What a reader makes of some bytes.
#[derive(Debug, PartialEq)]
pub struct Seen {
    /// All records, those that stand in for lost ones left out.
    pub records: Vec<Record>,
    /// The number of records that each stand-in tells of.
    pub lost: Vec<Option<u64>>,
    pub stacks: usize,
    pub addresses: usize,
    pub counters: Counters,
    pub damage: Option<Damage>,
    /// How many records the block headers promise.
    pub promised: u64,
}

impl Seen {
    pub fn lost_sum(&self) -> Option<u64> {
        self.lost.iter().copied().sum()
    }
}

pub fn see(bytes: &[u8]) -> Result<Seen, ReadError> {
    see_all(Reader::from_bytes(bytes)?)
}

pub fn see_all<R: Read + Seek>(mut reader: Reader<R>) -> Result<Seen, ReadError> {
    let (mut records, mut lost) = (Vec::new(), Vec::new());
    while let Some(batch) = reader.next_batch()? {
        assert!(!batch.is_empty());
        match batch {
            [stand_in] if stand_in.kind == Kind::Lost as u8 && stand_in.cpu == Record::ANY_CPU => {
                assert_eq!(stand_in.op, 0);
                lost.push(stand_in.known_value());
            }
            _ => records.extend_from_slice(batch),
        }
    }
    let damage = reader.damage();
    Ok(Seen {
        records,
        lost,
        stacks: reader.about.symbols.stacks().count(),
        addresses: reader.about.symbols.symbolized().count(),
        counters: reader.about.counters.clone(),
        damage,
        promised: reader.about.records,
    })
}

/// Does all that can be done with some bytes, and checks what must hold of any.
pub fn exercise(bytes: &[u8]) {
    let Ok(mut reader) = Reader::from_bytes(bytes) else { return };
    let mut records = 0;
    while let Some(batch) = reader.next_batch().expect("memory is always readable") {
        records += batch.len() as u64;
    }
    let damage = reader.damage();
    if let Some(damage) = damage {
        assert!(damage.at <= bytes.len() as u64 && damage.bytes <= bytes.len() as u64);
        assert!(!damage.to_string().is_empty());
    } else {
        assert_eq!(records, reader.about.records);
    }
    let spans = reader.index().expect("memory is always readable").spans().to_vec();
    for span in spans.iter().take(3) {
        reader.records.seek(span);
        let _ = reader.next_batch().expect("memory is always readable").map(<[Record]>::len);
    }
    reader.records.rewind();
    let mut again = 0;
    while let Some(batch) = reader.next_batch().expect("memory is always readable") {
        again += batch.len() as u64;
    }
    assert_eq!(again, records, "a second pass differs");
    assert_eq!(reader.damage(), damage, "a second pass finds other damage");
}

/// How many records there are, read without keeping them.
pub fn count(bytes: &[u8]) -> usize {
    let mut reader = Reader::from_bytes(bytes).unwrap();
    let mut count = 0;
    while let Some(batch) = reader.next_batch().unwrap() {
        count += batch.iter().filter(|record| record.kind != Kind::Lost as u8).count();
    }
    count
}

/// The same bytes with the right checksums in the prelude and in everything that begins as a block does.
pub fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    put_crc(&mut bytes, 0, 28);
    let mut at = PRELUDE;
    while let Some(block) = bytes.get(at..at + BLOCK_HEADER) {
        let stored = u32::from_le_bytes(block[32..36].try_into().unwrap()) as usize;
        let end = at + BLOCK_HEADER;
        if let Some(payload) = bytes.get(end..end + stored) {
            let crc = crc32fast::hash(payload).to_le_bytes();
            bytes[at + 36..at + 40].copy_from_slice(&crc);
        }
        put_crc(&mut bytes, at, 44);
        at = end + stored;
    }
    bytes
}

fn put_crc(bytes: &mut [u8], from: usize, len: usize) {
    if let Some(part) = bytes.get_mut(from..from + len + 4) {
        let crc = crc32fast::hash(&part[..len]).to_le_bytes();
        part[len..].copy_from_slice(&crc);
    }
}
