//! Traces of other versions and files that are none, made by hand from the description of the format.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::io::Write;

use common::{Block, begin, header, prelude, records, see};
use lazymmu_abi::Record;
use lazymmu_trace::{Fault, LostRecords, ReadError, Reader};
use zerocopy::IntoBytes;

fn trailer(sequence: u64, records_before: u64) -> Vec<u8> {
    let mut payload = 1u64.to_le_bytes().to_vec();
    payload.extend(0u64.to_le_bytes());
    payload.extend(40u32.to_le_bytes());
    payload.extend(0u32.to_le_bytes());
    Block::raw(6, sequence, records_before, 0, &payload).bytes()
}

#[test]
fn a_trace_made_by_hand_is_read() {
    let records = records(5);
    let mut bytes = begin(0);
    bytes.extend(Block::raw(2, 1, 0, 5, records.as_bytes()).bytes());
    bytes.extend(trailer(2, 5));
    let seen = see(&bytes).unwrap();
    assert_eq!((seen.records, seen.damage), (records, None));
}

#[test]
fn a_newer_minor_version_may_add_blocks_and_fields() {
    let mut json = serde_json::to_value(header()).unwrap();
    json["colour"] = "red".into();
    json["kernel"]["lockdown"] = serde_json::json!({ "level": 3 });
    let mut bytes = prelude(1, 7, "0.1.0");
    bytes.extend(Block::raw(1, 0, 0, 1, &serde_json::to_vec(&json).unwrap()).bytes());
    bytes.extend(Block::raw(77, 1, 0, u32::MAX, b"something new").bytes());
    bytes.extend(Block { codec: 9, ..Block::raw(78, 2, 0, 1, b"packed in a new way") }.bytes());
    bytes.extend(Block::raw(2, 3, 0, 5, records(5).as_bytes()).bytes());
    bytes.extend(Block::raw(5, 4, 5, 1, br#"{"produced":5,"lost":[],"delayed":1}"#).bytes());
    bytes.extend(trailer(5, 5));
    let seen = see(&bytes).unwrap();
    assert_eq!((seen.records, seen.damage), (records(5), None));
    assert_eq!(seen.counters.produced, 5);
    let reader = Reader::from_bytes(&bytes).unwrap();
    assert_eq!((reader.about.header.clone(), reader.about.version.minor), (header(), 7));
}

#[test]
fn an_unknown_block_of_a_known_version_is_damage() {
    let mut bytes = begin(0);
    bytes.extend(Block::raw(77, 1, 0, 1, b"what is this").bytes());
    bytes.extend(trailer(2, 0));
    let damage = see(&bytes).unwrap().damage.unwrap();
    assert_eq!((damage.fault, damage.records), (Fault::Content, LostRecords::NONE));
}

#[test]
fn a_newer_major_version_is_refused_and_named() {
    // Nothing after the prelude has to be as we know it.
    let mut bytes = prelude(2, 0, "4.5.6");
    bytes.extend(b"who knows");
    let error = see(&bytes).unwrap_err();
    assert!(matches!(error, ReadError::Newer { .. }), "{error}");
    assert!(error.to_string().contains("2.0 is newer than 1.0"), "{error}");
    assert!(error.to_string().ends_with("use lazymmu 4.5.6 or later"), "{error}");
}

#[test]
fn a_file_that_is_no_trace_is_refused() {
    for (bytes, wanted) in [
        (&b""[..], "the file is empty"),
        (b"\x7fELF\x02\x01\x01", "this is no lazymmu trace"),
        (b"{}", "this is no lazymmu trace"),
        (&[0; 4096], "this is no lazymmu trace"),
        // What a transfer as text makes of the first line.
        (b"\x89LMT\n\x1a\n", "this is no lazymmu trace"),
        (b"\x89LMT", "its header is unreadable: the file ends within it"),
        (&prelude(0, 9, ""), "no lazymmu ever wrote"),
        (&prelude(1, 0, "0.1.0"), "its header is unreadable: the file ends within it"),
    ] {
        let error = see(bytes).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"text").unwrap();
    let Err(error) = Reader::open(file.path()) else { panic!("text is no trace") };
    assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
    let Err(error) = Reader::open("/nonexistent/t.lmt") else { panic!("there is no such file") };
    assert!(error.to_string().starts_with("open the trace /nonexistent/t.lmt: "), "{error}");
}

#[test]
fn a_header_that_makes_no_sense_is_refused() {
    let mut wrong = header();
    wrong.kernel.page_size = 0;
    let json = serde_json::to_vec(&wrong).unwrap();
    for (payload, wanted) in [
        (&json[..], "a page cannot have 0 bytes"),
        (b"[]", "its header is unreadable"),
        (b"{\"lazymmu\":\"0.1.0\"}", "missing field `kernel`"),
    ] {
        let mut bytes = prelude(1, 0, "0.1.0");
        bytes.extend(Block::raw(1, 0, 0, 1, payload).bytes());
        let error = see(&bytes).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    // A trace cannot begin with anything else.
    let mut bytes = prelude(1, 0, "0.1.0");
    bytes.extend(Block::raw(2, 0, 0, 5, records(5).as_bytes()).bytes());
    assert!(matches!(see(&bytes), Err(ReadError::Header { .. })));
}

/// Blocks whose checksums match and whose numbers lie.
#[test]
fn big_numbers_are_not_believed() {
    let records = records(2);
    let good = Block::raw(2, 1, 0, 2, records.as_bytes());
    let deep = [1u64.to_le_bytes(), u64::from(u32::MAX).to_le_bytes()].concat();
    for (block, damage) in [
        (Block { items: u32::MAX, ..good }, Fault::NoBlock),
        (Block { items: 16384, ..good }, Fault::Content),
        (Block { items: 3, ..good }, Fault::Content),
        (Block { items: 0, ..good }, Fault::Content),
        (Block { raw_len: u32::MAX, ..good }, Fault::NoBlock),
        (Block { raw_len: 1 << 20, codec: 1, ..good }, Fault::Content),
        (Block { raw_len: 1 << 20, items: 16384, codec: 1, ..good }, Fault::Content),
        (Block { stored_len: u32::MAX, ..good }, Fault::NoBlock),
        (Block { stored_len: 1 << 20, ..good }, Fault::NoBlock),
        (Block { codec: 200, ..good }, Fault::Content),
        (Block { sequence: u64::MAX, ..good }, Fault::Missing),
        (Block { records_before: u64::MAX, ..good }, Fault::Missing),
        (Block { items: u32::MAX, ..Block::raw(3, 1, 0, 1, &deep) }, Fault::Content),
        (Block::raw(3, 1, 0, 1, &deep), Fault::Content),
        (Block::raw(4, 1, 0, 1, b"{\"address\":1e99,\"frames\":[]}"), Fault::Content),
        (Block::raw(5, 1, 0, 1, b"{\"produced\":-1}"), Fault::Content),
        (Block::raw(6, 1, 0, 1, &[0xff; 64]), Fault::Content),
        (Block::raw(1, 1, 0, 1, b"{}"), Fault::Content),
    ] {
        let mut bytes = begin(0);
        bytes.extend(block.bytes());
        bytes.extend(trailer(2, 2));
        let seen = see(&bytes).unwrap();
        assert_eq!(seen.damage.map(|damage| damage.fault), Some(damage), "{:?}", &block.bytes()[..48]);
        common::exercise(&bytes);
    }
}

#[test]
fn a_jump_of_the_record_count_is_a_loss_of_that_many() {
    let mut bytes = begin(0);
    bytes.extend(Block::raw(2, 1, 1_000_000, 2, records(2).as_bytes()).bytes());
    bytes.extend(trailer(2, 1_000_002));
    let seen = see(&bytes).unwrap();
    assert_eq!((seen.records.len(), seen.lost), (2, vec![Some(1_000_000)]));
}

#[test]
fn records_stand_in_the_file_as_they_are_in_memory_of_a_little_endian_machine() {
    let record = Record {
        time: 0x0102030405060708,
        entry: 0x1112131415161718,
        value: 0x2122232425262728,
        memory: 0x3132333435363738,
        caller: 0x4142434445464748,
        stack: 0x5152535455565758,
        tid: 0x61626364,
        tgid: 0x71727374,
        count: 0x8182,
        cpu: 0x9192,
        kind: 0xa1,
        op: 0xa2,
        level: 0xa3,
        flags: 0xa4,
    };
    let payload = [
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x28,
        0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, 0x48, 0x47,
        0x46, 0x45, 0x44, 0x43, 0x42, 0x41, 0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51, 0x64, 0x63, 0x62,
        0x61, 0x74, 0x73, 0x72, 0x71, 0x82, 0x81, 0x92, 0x91, 0xa1, 0xa2, 0xa3, 0xa4,
    ];
    let mut bytes = begin(0);
    bytes.extend(Block::raw(2, 1, 0, 1, &payload).bytes());
    bytes.extend(trailer(2, 1));
    assert_eq!(see(&bytes).unwrap().records, [record]);
}
