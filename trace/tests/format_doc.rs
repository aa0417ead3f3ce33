//! The worked example of `docs/trace-format.md` is what the code writes, byte by byte.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write;

use lazymmu_abi::{Flags, Kind, Level, Op, Record};
use lazymmu_trace::{Counters, Frame, Header, Kernel, Losses, Reader, Settings, Writer};

const DOC: &str = include_str!("../../docs/trace-format.md");

/// The trace that the document takes apart.
fn example() -> Vec<u8> {
    let kernel = Kernel { release: "7.2.13".into(), ..Kernel::default() };
    // Not the crate's version: the example must not change with each release.
    let header = Header { lazymmu: "0.1.0".into(), kernel, ..Header::default() };
    let settings = Settings { compression: None, ..Settings::default() };
    let mut writer = Writer::with_settings(Vec::new(), &header, settings).unwrap();
    writer.stack(0x5eed, &[0xffff_ffff_8123_4567, 0xffff_ffff_8123_0042]).unwrap();
    let frame = Frame {
        function: "copy_pte_range".into(),
        offset: 0x67,
        module: None,
        file: Some("mm/memory.c".into()),
        line: Some(1309),
        inlined: false,
    };
    writer.frames(0xffff_ffff_8123_4567, &[frame]).unwrap();
    let enter = Record {
        time: 1_000_000_000,
        value: 1,
        caller: 0xffff_ffff_8123_0042,
        tid: 81,
        tgid: 80,
        cpu: 1,
        kind: Kind::Section as u8,
        op: Op::Enter as u8,
        flags: Flags::VALUE,
        ..Record::default()
    };
    let read = Record {
        time: 1_000_000_137,
        entry: 0xffff_8880_0123_4008,
        value: 0x8000_0000_0012_3867,
        memory: 0x8000_0000_0012_3867,
        caller: 0xffff_ffff_8123_4567,
        stack: 0x5eed,
        count: 1,
        kind: Kind::Read as u8,
        op: Op::PtepGet as u8,
        level: Level::Pte as u8,
        flags: Flags::VALUE | Flags::MEMORY,
        ..enter
    };
    writer.records(&[enter, read]).unwrap();
    let lost = vec![Losses { cpu: 1, kind: Kind::Write as u8, count: 3 }];
    writer.counters(&Counters { produced: 5, lost });
    writer.finish().unwrap();
    writer.into_sink()
}

/// Where the parts begin and end that the document shows one by one: the prelude, then header and payload of each
/// block.
fn parts(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let prelude = 0..32;
    let mut parts = vec![prelude];
    let mut at = 32;
    while at < bytes.len() {
        let stored = u32::from_le_bytes(bytes[at + 32..at + 36].try_into().unwrap()) as usize;
        parts.extend([at..at + 48, at + 48..at + 48 + stored]);
        at += 48 + stored;
    }
    parts
}

/// As `hexdump -C` prints it, each part from a line of its own.
fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for part in parts(bytes) {
        for (n, line) in bytes[part.clone()].chunks(16).enumerate() {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let (left, right) = hex.split_at(hex.len().min(8));
            let (left, right, at) = (left.join(" "), right.join(" "), part.start + n * 16);
            let printable = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' };
            let text: String = line.iter().map(printable).collect();
            writeln!(out, "{at:08x}  {left:<23}  {right:<23}  |{text}|").unwrap();
        }
    }
    out
}

#[test]
fn the_worked_example_is_what_the_code_writes() {
    // Dumps are set off by four spaces and begin with an offset.
    let is_dump = |line: &&str| line.bytes().take(8).all(|byte| byte.is_ascii_hexdigit());
    let set_off = DOC.lines().filter_map(|line| line.strip_prefix("    "));
    let documented: String = set_off.filter(is_dump).flat_map(|line| [line, "\n"]).collect();
    let written = dump(&example());
    assert!(documented == written, "docs/trace-format.md should have:\n{written}");
}

#[test]
fn the_worked_example_is_a_whole_trace() {
    let bytes = example();
    let mut reader = Reader::from_bytes(&bytes).unwrap();
    assert_eq!(reader.next_batch().unwrap().map(<[Record]>::len), Some(2));
    assert_eq!(reader.next_batch().unwrap(), None);
    assert_eq!(reader.damage(), None);
    assert!(DOC.contains(&format!("This is version {} of the format", reader.about.version)));
    assert_eq!(reader.about.symbols.frames(0x5eed).next().unwrap().function, "copy_pte_range");
}
