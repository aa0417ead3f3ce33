//! Writes a trace, block after block.
//!
//! Each block goes out in one write. Stacks and frames that were handed over before a record are written before it.
//! The writer keeps no clock: its owner calls [`Writer::flush`] about once a second, and that is the most that a
//! killed recorder loses.

use std::fs::File;
use std::io;
use std::path::Path;

use lazymmu_abi::Record;
use rustc_hash::FxHashSet;
use zerocopy::IntoBytes;

use crate::block::{BLOCK_HEADER_LEN, BlockHeader, Type};
use crate::codec::{self, Packer, swap_on_big_endian};
use crate::format::{MAX_PAYLOAD, MAX_RECORDS, Prelude};
use crate::side::{self, Budget};
use crate::{Counters, Frame, Header, Index, Sink, Symbols, WriteError};

/// Stacks and frames are written when this many bytes of them wait, even without a flush.
const SIDE_BYTES: usize = 64 << 10;

/// How a trace is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many records make a block, from 1 to 16384.
    pub block_records: usize,
    /// The level of zstd; `None` stores everything as it is.
    pub compression: Option<i32>,
}

impl Default for Settings {
    fn default() -> Self {
        // 256 KiB: larger blocks compress little better, and fall out of the cache of the core that decodes them.
        Self { block_records: 4096, compression: Some(codec::LEVEL) }
    }
}

/// How much of a trace has been written, in whole blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the file.
    pub bytes: u64,
    /// Records in it.
    pub records: u64,
    /// Stacks in it.
    pub stacks: u64,
    /// Stacks and addresses that were left out, because no reader would take so many.
    pub left_out: u64,
}

/// Writes a trace.
pub struct Writer<S> {
    sink: S,
    settings: Settings,
    packer: Packer,
    /// The block being made: header and payload.
    block: Vec<u8>,
    sequence: u64,
    written: Written,
    ended: bool,
    records: Vec<Record>,
    stacks: Vec<u8>,
    stack_count: u32,
    frames: Vec<u8>,
    frames_count: u32,
    counters: Counters,
    counters_wait: bool,
    known_stacks: FxHashSet<u64>,
    known_addresses: FxHashSet<u64>,
    budget: Budget,
    index: Index,
}

impl Writer<File> {
    /// Makes a trace file; one that is there is replaced.
    pub fn create(path: impl AsRef<Path>, header: &Header) -> Result<Self, WriteError> {
        let file = File::create(&path)
            .map_err(|source| WriteError::Create { name: path.as_ref().display().to_string(), source })?;
        Self::new(file, header)
    }
}

impl<S: Sink> Writer<S> {
    /// Begins a trace: its header is written at once.
    pub fn new(sink: S, header: &Header) -> Result<Self, WriteError> {
        Self::with_settings(sink, header, Settings::default())
    }

    /// Begins a trace with other settings than the usual ones.
    pub fn with_settings(sink: S, header: &Header, settings: Settings) -> Result<Self, WriteError> {
        let settings = Settings { block_records: settings.block_records.clamp(1, MAX_RECORDS), ..settings };
        let packer = Packer::new(settings.compression).map_err(|source| WriteError::Encode { source })?;
        let mut writer = Self {
            sink,
            settings,
            packer,
            block: Prelude::current().as_bytes().to_vec(),
            sequence: 0,
            written: Written::default(),
            ended: false,
            records: Vec::with_capacity(settings.block_records),
            stacks: Vec::new(),
            stack_count: 0,
            frames: Vec::new(),
            frames_count: 0,
            counters: Counters::default(),
            counters_wait: false,
            known_stacks: FxHashSet::default(),
            known_addresses: FxHashSet::default(),
            budget: Budget::new(),
            index: Index::default(),
        };
        let payload = to_json(header)?;
        if payload.len() > MAX_PAYLOAD {
            return Err(WriteError::HeaderTooLarge { bytes: payload.len(), limit: MAX_PAYLOAD });
        }
        writer.put(Type::Header, 1, &payload)?;
        Ok(writer)
    }

    /// Appends records. Whole blocks are written at once, the rest with the next call or flush.
    pub fn records(&mut self, mut batch: &[Record]) -> Result<(), WriteError> {
        self.check()?;
        while !batch.is_empty() {
            let room = self.settings.block_records - self.records.len();
            let (now, later) = batch.split_at(room.min(batch.len()));
            self.records.extend_from_slice(now);
            batch = later;
            if self.records.len() == self.settings.block_records {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Appends a stack: its return addresses, innermost first. A stack that was written before is left out.
    pub fn stack(&mut self, id: u64, addresses: &[u64]) -> Result<(), WriteError> {
        self.check()?;
        if !self.known_stacks.insert(id) {
            return Ok(());
        }
        if self.budget.stack(addresses).is_err() {
            self.written.left_out += 1;
            return Ok(());
        }
        side::put_stack(&mut self.stacks, id, addresses);
        self.stack_count += 1;
        if self.stacks.len() >= SIDE_BYTES { self.flush_stacks() } else { Ok(()) }
    }

    /// Appends the frames of a return address: inlined ones first, the function that holds the text last. They replace
    /// those that were written for it before.
    pub fn frames(&mut self, address: u64, frames: &[Frame]) -> Result<(), WriteError> {
        self.check()?;
        self.known_addresses.insert(address);
        let before = self.frames.len();
        let fits = side::put_frames(&mut self.frames, address, frames).is_ok()
            && self.frames.len() - before <= MAX_PAYLOAD - SIDE_BYTES
            && self.budget.frames(frames).is_ok();
        if !fits {
            self.frames.truncate(before);
            self.written.left_out += 1;
            return Ok(());
        }
        self.frames_count += 1;
        if self.frames.len() >= SIDE_BYTES { self.flush_frames() } else { Ok(()) }
    }

    /// Appends the stacks and frames that have not been written yet.
    pub fn symbols(&mut self, symbols: &Symbols) -> Result<(), WriteError> {
        for (id, addresses) in symbols.stacks() {
            self.stack(id, addresses)?;
        }
        for (address, frames) in symbols.symbolized() {
            if !self.known_addresses.contains(&address) {
                self.frames(address, frames)?;
            }
        }
        Ok(())
    }

    /// Keeps the counters for the next flush, if they changed.
    pub fn counters(&mut self, counters: &Counters) {
        if self.counters != *counters {
            self.counters = counters.clone();
            self.counters_wait = true;
        }
    }

    /// Writes all that waits. To be called about once a second.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.check()?;
        self.flush_stacks()?;
        self.flush_frames()?;
        self.flush_records()?;
        if std::mem::take(&mut self.counters_wait) {
            let payload = to_json(&self.counters)?;
            self.put(Type::Counters, 1, &payload)?;
        }
        Ok(())
    }

    /// Writes all that waits, and the trailer. Nothing can be appended after it.
    pub fn finish(&mut self) -> Result<Written, WriteError> {
        self.flush()?;
        let payload = self.index.to_bytes();
        self.put(Type::Index, self.index.spans().len() as u32, &payload)?;
        self.ended = true;
        Ok(self.written)
    }

    /// How much has been written, in whole blocks. Holds after an error, too.
    pub fn written(&self) -> Written {
        self.written
    }

    /// Gives the sink back. What was not flushed is lost.
    pub fn into_sink(self) -> S {
        self.sink
    }

    fn check(&self) -> Result<(), WriteError> {
        if self.ended { Err(WriteError::Ended) } else { Ok(()) }
    }

    fn flush_stacks(&mut self) -> Result<(), WriteError> {
        if self.stacks.is_empty() {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.stacks);
        let count = std::mem::take(&mut self.stack_count);
        self.put(Type::Stacks, count, &payload)?;
        self.written.stacks += u64::from(count);
        Ok(())
    }

    fn flush_frames(&mut self) -> Result<(), WriteError> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.frames);
        let count = std::mem::take(&mut self.frames_count);
        self.put(Type::Frames, count, &payload)
    }

    fn flush_records(&mut self) -> Result<(), WriteError> {
        if self.records.is_empty() {
            return Ok(());
        }
        let mut records = std::mem::take(&mut self.records);
        self.index.add(self.written.bytes, &records);
        swap_on_big_endian(&mut records);
        self.put(Type::Records, records.len() as u32, records.as_bytes())?;
        self.written.records += records.len() as u64;
        records.clear();
        self.records = records;
        Ok(())
    }

    /// Writes one block. After a failure the trace ends with the block before.
    fn put(&mut self, block_type: Type, items: u32, payload: &[u8]) -> Result<(), WriteError> {
        // The prelude stands before the first block and is written with it.
        let start = self.block.len();
        self.block.resize(start + BLOCK_HEADER_LEN, 0);
        let packed = self.packer.pack(payload, &mut self.block);
        let (room, stored) = self.block.get_mut(start..).unwrap_or_default().split_at_mut(BLOCK_HEADER_LEN);
        let codec = packed.map_err(|source| {
            self.ended = true;
            WriteError::Encode { source }
        })?;
        let header = BlockHeader {
            block_type: block_type as u8,
            codec: codec as u8,
            sequence: self.sequence,
            records_before: self.written.records,
            items,
            raw_len: payload.len() as u32,
            stored_len: stored.len() as u32,
            payload_crc: crc32fast::hash(stored),
        };
        room.copy_from_slice(&header.to_bytes());
        if let Err(source) = self.sink.write_all(&self.block).and_then(|()| self.sink.flush()) {
            self.ended = true;
            let whole = self.written.bytes;
            // Where this fails the reader finds a torn block, and says so.
            let _ = self.sink.cut_back(whole);
            return Err(WriteError::Io { whole, source });
        }
        self.sequence += 1;
        self.written.bytes += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }
}

fn to_json(content: &impl serde::Serialize) -> Result<Vec<u8>, WriteError> {
    serde_json::to_vec(content).map_err(|error| WriteError::Encode { source: io::Error::other(error) })
}
