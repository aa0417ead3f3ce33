//! A writer that is stopped at any point leaves a trace that can be read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Cursor, Read, Write};

use common::{Seen, header, records, see, see_all, stack, write_part};
use lazymmu_trace::{
    Counters, Fault, Header, Hook, ReadError, Reader, Settings, Sink, Stream, WriteError, Writer, Written,
};

/// A disk with room for so many bytes, whose last write is partial.
#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    room: usize,
    can_cut: bool,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room - self.bytes.len());
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for &mut Disk {
    fn cut_back(&mut self, len: u64) -> io::Result<()> {
        if self.can_cut {
            self.bytes.truncate(usize::try_from(len).unwrap());
            return Ok(());
        }
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Records until the disk is full. The last thing known is how much was written.
fn record(disk: &mut Disk, written: &Cell<Written>) -> Result<(), WriteError> {
    let settings = Settings { block_records: 16, ..Settings::default() };
    let mut writer = Writer::with_settings(disk, &header(), settings)?;
    let mut go = || {
        for (n, batch) in (0..).zip(records(120).chunks(40)) {
            write_part(&mut writer, n, batch)?;
        }
        writer.finish().map(drop)
    };
    let result = go();
    written.set(writer.written());
    if result.is_err() {
        assert!(matches!(writer.records(&records(1)), Err(WriteError::Ended)));
        assert!(matches!(writer.finish(), Err(WriteError::Ended)));
        assert_eq!(writer.written(), written.get());
    }
    result
}

#[test]
fn a_disk_that_is_full_at_any_byte_leaves_all_whole_blocks() {
    let mut whole = Disk { room: usize::MAX, ..Disk::default() };
    record(&mut whole, &Cell::default()).unwrap();
    for room in 0..whole.bytes.len() {
        for can_cut in [true, false] {
            let mut disk = Disk { room, can_cut, ..Disk::default() };
            let written = Cell::default();
            let error = record(&mut disk, &written).unwrap_err();
            let WriteError::Io { whole, source } = &error else { panic!("room for {room}: {error}") };
            assert_eq!((*whole, source.kind()), (written.get().bytes, io::ErrorKind::StorageFull));
            full_at(room, &disk, written.get());
        }
    }
}

fn full_at(room: usize, disk: &Disk, written: Written) {
    let torn = if disk.can_cut { 0 } else { room as u64 - written.bytes };
    assert_eq!(disk.bytes.len() as u64, written.bytes + torn);
    if written.bytes == 0 {
        assert!(matches!(see(&disk.bytes), Err(ReadError::Empty { .. } | ReadError::Header { .. })));
        return;
    }
    let seen = see(&disk.bytes).unwrap();
    assert_eq!(seen.records, records(120)[..usize::try_from(written.records).unwrap()]);
    assert_eq!(seen.stacks as u64, written.stacks);
    let damage = seen.damage.unwrap();
    assert_eq!((damage.at, damage.bytes), (written.bytes, torn));
    assert_eq!(damage.fault, if torn == 0 { Fault::Unfinished } else { Fault::Torn });
}

#[test]
fn a_full_device_is_a_typed_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let Err(error) = Writer::new(full, &header()) else { panic!("the device takes nothing") };
    let WriteError::Io { whole: 0, source } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().ends_with("; nothing was recorded"), "{error}");
}

#[test]
fn a_file_is_cut_back_to_its_last_whole_block() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"whole, torn").unwrap();
    file.cut_back(5).unwrap();
    file.write_all(b"!").unwrap();
    let mut text = String::new();
    io::Seek::rewind(&mut file).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "whole!");
    let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let mut device: File = null;
    assert_eq!(device.cut_back(0).unwrap_err().kind(), io::ErrorKind::Unsupported);
}

/// As a recorder that was killed leaves it: what was flushed is there, the rest never was written.
#[test]
fn a_recorder_that_is_killed_loses_what_it_did_not_flush() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("killed.lmt");
    let mut writer = Writer::create(&path, &header()).unwrap();
    write_part(&mut writer, 0, &records(40)).unwrap();
    writer.stack(0x9999, &stack(9)).unwrap();
    writer.records(&records(7)).unwrap();
    std::mem::forget(writer);

    let seen = see_all(Reader::open(&path).unwrap()).unwrap();
    assert_eq!((seen.records.len(), seen.stacks, seen.addresses), (40, 1, 1));
    let damage = seen.damage.unwrap();
    assert_eq!((damage.fault, damage.bytes, damage.unfinished), (Fault::Unfinished, 0, true));
    assert_eq!(seen.lost, [None], "the engine must not call this clean");
}

#[test]
fn a_trace_that_still_grows_is_read_as_it_was_when_it_was_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("growing.lmt");
    let mut writer = Writer::create(&path, &header()).unwrap();
    write_part(&mut writer, 0, &records(40)).unwrap();
    let reader = Reader::open(&path).unwrap();
    write_part(&mut writer, 1, &records(40)).unwrap();
    writer.finish().unwrap();
    let seen = see_all(reader).unwrap();
    assert_eq!((seen.records.len(), seen.stacks, seen.promised), (40, 1, 40));
    assert!(seen.damage.unwrap().unfinished);
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_torn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shrinking.lmt");
    let mut writer = Writer::create(&path, &header()).unwrap();
    writer.records(&records(40_000)).unwrap();
    let written = writer.finish().unwrap();
    let reader = Reader::open(&path).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(written.bytes / 2).unwrap();
    let Seen { damage, lost, .. } = see_all(reader).unwrap();
    assert_eq!(damage.unwrap().fault, Fault::Torn);
    assert!(!lost.is_empty());
}

#[test]
fn a_pipe_carries_a_trace_but_none_can_be_read_from_one() {
    let (mut output, input) = io::pipe().unwrap();
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut writer = Writer::new(Stream(input), &header()).unwrap();
    write_part(&mut writer, 0, &records(40)).unwrap();
    let written = writer.finish().unwrap();
    drop(writer.into_sink());
    let bytes = reading.join().unwrap().unwrap();
    assert_eq!(bytes.len() as u64, written.bytes);
    assert_eq!(see(&bytes).unwrap().damage, None);

    let (output, _input) = io::pipe().unwrap();
    let Err(error) = Reader::new("standard input", File::from(std::os::fd::OwnedFd::from(output))) else {
        panic!("a pipe cannot be moved about in");
    };
    assert!(error.to_string().contains("store the trace in a file first"), "{error}");
}

#[test]
fn stacks_are_written_once_and_frames_only_if_they_are_new() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    let mut symbols = lazymmu_trace::Symbols::default();
    symbols.insert_stack(1, stack(1));
    symbols.insert_frames(stack(1)[0], vec![common::frame(1)]);
    writer.symbols(&symbols).unwrap();
    writer.flush().unwrap();
    let first = writer.written().bytes;
    writer.symbols(&symbols).unwrap();
    writer.stack(1, &stack(1)).unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.written().bytes, first);
    // Frames that are handed over again replace the first ones.
    writer.frames(stack(1)[0], &[common::frame(2)]).unwrap();
    writer.finish().unwrap();
    let bytes = writer.into_sink();
    let symbols = Reader::from_bytes(&bytes).unwrap().about.symbols;
    assert_eq!(symbols.frames_at(stack(1)[0]), [common::frame(2)]);
}

#[test]
fn counters_are_written_when_they_change() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    let begun = writer.written().bytes;
    writer.counters(&Counters::default());
    writer.flush().unwrap();
    assert_eq!(writer.written().bytes, begun, "nothing counted, nothing written");
    for produced in [3, 3, 8] {
        writer.counters(&Counters { produced, lost: vec![] });
        writer.flush().unwrap();
    }
    writer.finish().unwrap();
    let bytes = writer.into_sink();
    let blocks = common::blocks(&bytes);
    assert_eq!(blocks.iter().filter(|block| common::block_type(&bytes, block) == 5).count(), 2);
    assert_eq!(Reader::from_bytes(&bytes).unwrap().about.counters.produced, 8);
}

#[test]
fn a_header_that_fits_no_block_is_refused_before_anything_is_written() {
    let mut header = header();
    header.plan.hooks = vec![Hook { name: "x".repeat(1000), ..Hook::default() }; 1100];
    let mut out = Cursor::new(Vec::new());
    let Err(error) = Writer::new(Stream(&mut out), &header) else { panic!("it cannot fit") };
    assert!(matches!(error, WriteError::HeaderTooLarge { .. }), "{error}");
    assert!(out.into_inner().is_empty());
}

#[test]
fn a_header_is_read_back() {
    let mut header: Header = header();
    header.kernel.build_id = Some("00ff".into());
    header.kernel.btf_offsets.insert("task_struct.lazy_mmu_state".into(), 1234);
    header.capture.level = "sections".into();
    header.plan.hooks.push(Hook {
        name: "lazy_mmu:lazy_mmu_read".into(),
        source: "dev".into(),
        missing: Some("this kernel has no drop-in".into()),
    });
    let mut writer = Writer::new(Vec::new(), &header).unwrap();
    writer.finish().unwrap();
    let bytes = writer.into_sink();
    let reader = Reader::from_bytes(&bytes).unwrap();
    assert_eq!(reader.about.header, header);
    assert_eq!(header.plan.coverage(), (0, 1));
}
