//! Histories: eight bytes stand for one record, so that what the fuzzer changes is the history and never the file.
//!
//! They are few tasks on few CPUs that work on few entries, so that they meet. The history is written as a trace, read
//! back, which must give the same records, and judged.

use lazymmu_abi::{Flags, Kind, Level, Op, Record};
use lazymmu_trace::{Header, Reader, Settings, Writer};
use zerocopy::IntoBytes;

use super::judging;

/// Takes the first byte for settings and the rest for a history.
pub fn check(bytes: &[u8]) {
    let Some((settings, rest)) = bytes.split_first() else { return };
    let records = history(rest);
    let settings = Settings {
        block_records: 1 + usize::from(settings >> 4) * 16,
        compression: (settings & 1 == 0).then_some(1),
    };
    let trace = written(&records, settings);
    let mut reader = Reader::from_bytes(&trace).expect("what was written reads");
    let mut read = 0;
    while let Some(batch) = reader.next_batch().expect("memory is always readable") {
        let before = &records[read..read + batch.len()];
        assert!(batch.as_bytes() == before.as_bytes(), "records {read} and later differ");
        read += batch.len();
    }
    assert_eq!(read, records.len());
    assert!(reader.damage().is_none());
    reader.records.rewind();
    judging::judge(&mut reader);
}

/// The records that the bytes stand for; what is left over stands for nothing.
pub fn history(bytes: &[u8]) -> Vec<Record> {
    let mut time = 1_000_000;
    bytes
        .chunks_exact(8)
        .map(|chunk| {
            let chunk: [u8; 8] = chunk.try_into().expect("a chunk of eight");
            time += u64::from(chunk[7]);
            record(chunk, time)
        })
        .collect()
}

/// Two sections of two tasks with what breaks rules in them: for checks that need hazards and do not look for new ones.
#[rustfmt::skip]
pub const SAMPLE: &[[u8; 8]] = &[
    //  what                     who page entry count value stack time
    [Op::Enter as u8,             0,   0,   0,    0,    1,    1,   9],
    [Op::SetPtes as u8,           0,   1,   0,    4, 0x55,    2,   9],
    [Op::PtepGet as u8,           0,   1,   1,    1, 0x55,    3,   9],
    [Op::PtepGet as u8,           5,   1,   2,    1, 0x35,    4,   9],
    [Op::WrprotectPtes as u8,     0,   1,   3,    1, 0x35,    5,   9],
    [Op::Enter as u8,             5,   0,   0,    0,    1,    6,   9],
    [Op::SetPmd as u8,            5,0x92,   0,    1, 0x55,    7,   9],
    [Op::PmdpGet as u8,           5,0x92,   0,    1, 0x55,    1,   9],
    [Op::PtepGetAndClear as u8,   5,   1,   1,    1, 0x11,    2,   9],
    [Op::Blocked as u8,           0,   0,   0,    0,    0,    3,   9],
    [Op::Leave as u8,             5,   0,   0,    0,    0,    4,   9],
    [Op::Leave as u8,             0,   0,   0,    0,    0,    5,   9],
];

/// Kind and operation are a pair that belongs together if the first byte is an operation's; else they are anything.
fn record([what, who, page, entry, count, value, stack, _]: [u8; 8], time: u64) -> Record {
    let (kind, op) = match Op::try_from(what) {
        Ok(op) => (op.info().kind as u8, op as u8),
        Err(_) => (what & 0x0f, value),
    };
    let tid = 1 + u32::from(who & 3);
    // Without the high bits, which tell the context and what is not known, a record is of a task and tells all.
    let flags = (entry >> 6 | stack >> 4) ^ (Flags::VALUE | Flags::MEMORY);
    let section = kind == Kind::Section as u8;
    let (value, memory) = match value {
        // The counters of a task: small, and sometimes those of a kernel that has none.
        value if section => (u64::from(value & 3), u64::from(value >> 2 & 3)),
        value => (u64::from(value & 0x0f) << 12 | 0x67, u64::from(value >> 4) << 12 | 0x67),
    };
    Record {
        time,
        entry: 0xffff_8880_0000_0000 + (u64::from(page & 7) << 12) + u64::from(entry & 0x3f) * 8,
        value,
        memory,
        caller: 0xffff_ffff_8100_0000 + u64::from(stack & 0x0f),
        stack: u64::from(stack & 0x0f),
        tid,
        tgid: tid & 2,
        count: if count & 0x80 == 0 { u16::from(count & 7) } else { u16::from(count) * 257 },
        cpu: u16::from(who >> 2 & 3),
        kind,
        op,
        level: if page & 0x80 == 0 { Level::Pte as u8 } else { page >> 3 & 7 },
        flags: flags & (Flags::CONTEXT | Flags::VALUE | Flags::MEMORY),
    }
}

fn written(records: &[Record], settings: Settings) -> Vec<u8> {
    let mut writer =
        Writer::with_settings(Vec::new(), &Header::default(), settings).expect("memory takes every trace");
    for stack in 1..8 {
        writer.stack(stack, &[stack, stack + 1]).expect("memory takes every trace");
    }
    writer.records(records).expect("memory takes every trace");
    writer.finish().expect("memory takes every trace");
    writer.into_sink()
}
