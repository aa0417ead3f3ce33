//! Memory does not grow with the trace, nor with what a trace claims. One test: it measures its whole process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Block, begin, header, records};
use lazymmu_trace::{Fault, Reader, Writer};

/// Peak of resident memory so far, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn memory_is_bounded_by_a_block() {
    let directory = tempfile::tempdir().unwrap();

    // 64 MiB of records, as they come from a ring: a few at a time.
    let path = directory.path().join("long.lmt");
    let batch = records(1000);
    let before = peak();
    let mut writer = Writer::create(&path, &header()).unwrap();
    for _ in 0..1000 {
        writer.records(&batch).unwrap();
    }
    writer.finish().unwrap();
    let mut reader = Reader::open(&path).unwrap();
    let mut count = 0;
    while let Some(batch) = reader.next_batch().unwrap() {
        count += batch.len();
    }
    assert_eq!((count, reader.damage()), (1_000_000, None));
    assert!(peak() - before < 8 << 10, "{} KiB for a long trace", peak() - before);

    // Bombs: 500 MiB of records in blocks of some 100 bytes, then more stacks than any reader takes.
    let zeros = vec![0; 1 << 20];
    let packed = zstd::bulk::compress(&zeros, 1).unwrap();
    let mut bytes = begin(0);
    for n in 0..500 {
        let block = Block { codec: 1, raw_len: 1 << 20, ..Block::raw(2, 1 + n, n * 16384, 16384, &packed) };
        bytes.extend(block.bytes());
    }
    assert!(bytes.len() < 200_000);
    let before = peak();
    let seen = common::count(&bytes);
    assert_eq!(seen, 500 * 16384);
    assert!(peak() - before < 8 << 10, "{} KiB for a bomb of records", peak() - before);

    let mut stacks = Vec::new();
    let mut bytes = begin(0);
    for n in 0..300u64 {
        stacks.clear();
        for m in 0..120u64 {
            stacks.extend((n * 120 + m).to_le_bytes());
            stacks.extend(1000u64.to_le_bytes());
            stacks.resize(stacks.len() + 8000, 0);
        }
        let packed = zstd::bulk::compress(&stacks, 1).unwrap();
        let raw_len = stacks.len() as u32;
        bytes.extend(Block { codec: 1, raw_len, ..Block::raw(3, 1 + n, 0, 120, &packed) }.bytes());
    }
    assert!(bytes.len() < 1 << 20);
    let before = peak();
    let reader = Reader::from_bytes(&bytes).unwrap();
    assert_eq!(reader.damage().unwrap().fault, Fault::TooManyCallPaths);
    assert!(peak() - before < 320 << 10, "{} KiB for a bomb of stacks", peak() - before);
}
