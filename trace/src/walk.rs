//! From block to block through a file, over whatever damage there is.
//!
//! The walker trusts nothing but a block header whose checksum matches and which follows from what came before. Where
//! there is none, it looks for the next one, so that damage costs the blocks it touches and no other. It says where
//! the holes are and what they swallowed; what to make of that is its users' matter.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crate::ReadError;
use crate::block::{BLOCK_HEADER_LEN, BlockHeader, MARKER, Type};
use crate::codec::Unpacker;
use crate::damage::{Fault, Hole, LostRecords};
use crate::format::MAX_RECORDS;

/// Enough for a block header; payloads are larger and go past the buffer.
const BUFFER: usize = 4096;
/// How much is searched at once for the next block.
const CHUNK: usize = 64 << 10;

/// The bytes of a trace, from 0 to the length that it had when it was opened: it may be growing.
pub(crate) struct Source<R> {
    name: String,
    inner: BufReader<R>,
    at: u64,
    len: u64,
}

impl<R: Read + Seek> Source<R> {
    pub(crate) fn new(name: String, mut inner: R) -> Result<Self, ReadError> {
        let len = inner.seek(SeekFrom::End(0)).and_then(|len| inner.rewind().map(|()| len));
        let len = len.map_err(|source| {
            let source = match source.kind() {
                io::ErrorKind::NotSeekable => {
                    io::Error::other("it is a pipe or the like; store the trace in a file first")
                }
                _ => source,
            };
            ReadError::Open { name: name.clone(), source }
        })?;
        Ok(Self { name, inner: BufReader::with_capacity(BUFFER, inner), at: 0, len })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    fn error(&self, source: io::Error) -> ReadError {
        ReadError::Io { name: self.name.clone(), at: self.at, source }
    }

    fn goto(&mut self, at: u64) -> Result<(), ReadError> {
        let moved = match at.checked_signed_diff(self.at) {
            Some(0) => Ok(()),
            Some(offset) => self.inner.seek_relative(offset),
            None => self.inner.seek(SeekFrom::Start(at)).map(drop),
        };
        moved.map_err(|source| self.error(source))?;
        self.at = at;
        Ok(())
    }

    /// Fills `buffer` from byte `at` on. Returns how much there was until the end.
    pub(crate) fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        self.goto(at)?;
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let room = buffer.len().min(left);
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..room).filter(|rest| !rest.is_empty()) {
            match self.inner.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(error)),
            }
            self.at = at + filled as u64;
        }
        Ok(filled)
    }
}

/// A block and where it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) at: u64,
    pub(crate) header: BlockHeader,
}

impl Placed {
    /// The hole that this block is if its payload cannot be used.
    pub(crate) fn hole(&self, fault: Fault) -> Hole {
        Hole {
            at: self.at,
            bytes: self.header.len(),
            fault,
            records: LostRecords::Exactly(self.header.records()),
            call_paths: [Some(Type::Stacks), Some(Type::Frames)]
                .contains(&Type::from_code(self.header.block_type)),
        }
    }
}

/// What comes next in a file.
#[derive(Debug)]
pub(crate) enum Step {
    /// A block whose header is whole.
    Block(Placed),
    /// Something is wrong, or missing.
    Hole(Hole),
    /// Nothing.
    End,
}

/// Where a walk stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    at: u64,
    /// The number that the next block should have, and how many records should be before it. `None` after a jump.
    expected: Option<(u64, u64)>,
    /// The trailer was seen.
    finished: bool,
    /// The end was reported.
    ended: bool,
}

/// Walks from block to block.
pub(crate) struct Walker<R> {
    source: Source<R>,
    place: Place,
    stored: Vec<u8>,
    unpacker: Unpacker,
}

impl<R: Read + Seek> Walker<R> {
    /// Starts at the first block, which begins at byte `at`.
    pub(crate) fn new(source: Source<R>, at: u64) -> Result<Self, ReadError> {
        let unpacker = Unpacker::new().map_err(|error| source.error(error))?;
        let place = Place { at, expected: Some((0, 0)), finished: false, ended: false };
        Ok(Self { source, place, stored: Vec::new(), unpacker })
    }

    pub(crate) fn source(&self) -> &Source<R> {
        &self.source
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn go_back(&mut self, place: Place) {
        self.place = place;
    }

    /// Goes on with the block at byte `at`, whatever was before.
    pub(crate) fn jump(&mut self, at: u64) {
        self.place = Place { at, expected: None, finished: false, ended: false };
    }

    pub(crate) fn next(&mut self) -> Result<Step, ReadError> {
        let Place { at, expected, finished, ended } = self.place;
        let left = self.source.len.saturating_sub(at);
        if left == 0 {
            self.place.ended = true;
            let unfinished = || Step::Hole(hole(at, 0, Fault::Unfinished, LostRecords::NONE));
            return Ok(if finished || ended { Step::End } else { unfinished() });
        }
        if finished {
            return Ok(Step::Hole(self.rest(Fault::AfterEnd, LostRecords::NONE)));
        }
        let mut bytes = [0; BLOCK_HEADER_LEN];
        let got = self.source.read_at(at, &mut bytes)?;
        let begins = bytes.get(..got).unwrap_or_default();
        match BlockHeader::parse(begins) {
            Some(header) if follows(expected, &header) => self.block(Placed { at, header }),
            _ if got < BLOCK_HEADER_LEN && begins.iter().zip(&MARKER).all(|(is, want)| is == want) => {
                Ok(Step::Hole(self.rest(Fault::Torn, LostRecords::AtMost(MAX_RECORDS as u64))))
            }
            _ => Ok(Step::Hole(match self.search(at.saturating_add(1))? {
                Some(next) => self.resume(next),
                None => Hole { call_paths: true, ..self.rest(Fault::NoBlock, LostRecords::UNKNOWN) },
            })),
        }
    }

    /// A whole header that may follow here, after a hole or none.
    fn block(&mut self, block: Placed) -> Result<Step, ReadError> {
        let Placed { at, header } = block;
        if let Some(expected) = self.place.expected
            && expected != (header.sequence, header.records_before)
        {
            self.place.expected = Some((header.sequence, header.records_before));
            let missing = hole(at, 0, Fault::Missing, LostRecords::UNKNOWN);
            return Ok(Step::Hole(swallowed(missing, Some(expected), &header)));
        }
        if header.len() > self.source.len.saturating_sub(at) {
            // Either the file ends here, or a part of the payload was taken out and more blocks follow.
            if let Some(next) = self.search(at.saturating_add(BLOCK_HEADER_LEN as u64))? {
                return Ok(Step::Hole(self.resume(next)));
            }
            self.place.finished = header.block_type == Type::Index as u8;
            let call_paths = block.hole(Fault::Torn).call_paths;
            let torn = self.rest(Fault::Torn, LostRecords::AtMost(header.records()));
            return Ok(Step::Hole(Hole { call_paths, ..torn }));
        }
        self.place = Place {
            at: at.saturating_add(header.len()),
            expected: Some((
                header.sequence.saturating_add(1),
                header.records_before.saturating_add(header.records()),
            )),
            finished: header.block_type == Type::Index as u8,
            ..self.place
        };
        Ok(Step::Block(block))
    }

    /// Gives up what is left of the file.
    fn rest(&mut self, fault: Fault, records: LostRecords) -> Hole {
        let at = self.place.at;
        self.place.at = self.source.len;
        hole(at, self.source.len.saturating_sub(at), fault, records)
    }

    /// Goes on with a block that was found later than it should come.
    fn resume(&mut self, next: Placed) -> Hole {
        let Place { at, expected, .. } = self.place;
        self.place.at = next.at;
        self.place.expected = Some((next.header.sequence, next.header.records_before));
        let hole = hole(at, next.at.saturating_sub(at), Fault::NoBlock, LostRecords::UNKNOWN);
        swallowed(hole, expected, &next.header)
    }

    /// Finds the next block that may follow, from byte `from` on.
    fn search(&mut self, from: u64) -> Result<Option<Placed>, ReadError> {
        let mut chunk = vec![0; CHUNK];
        let mut start = from;
        loop {
            let got = self.source.read_at(start, &mut chunk)?;
            let bytes = chunk.get(..got).unwrap_or_default();
            let found = bytes.windows(MARKER.len()).enumerate().find_map(|(offset, window)| {
                let begins = (window == MARKER).then(|| bytes.get(offset..)).flatten()?;
                let header =
                    BlockHeader::parse(begins).filter(|header| follows(self.place.expected, header))?;
                Some(Placed { at: start + offset as u64, header })
            });
            if found.is_some() || got < CHUNK {
                return Ok(found);
            }
            // A header may begin in this chunk and end in the next.
            start += (CHUNK - (BLOCK_HEADER_LEN - 1)) as u64;
        }
    }

    /// Decompresses the payload of a block into `raw`, which has the length that the block's header gives.
    pub(crate) fn load(&mut self, block: &Placed, raw: &mut [u8]) -> Result<Result<(), Fault>, ReadError> {
        let header = &block.header;
        self.stored.resize(header.stored_len as usize, 0);
        let got = self.source.read_at(block.at + BLOCK_HEADER_LEN as u64, &mut self.stored)?;
        Ok(if got < self.stored.len() {
            Err(Fault::Torn)
        } else if crc32fast::hash(&self.stored) != header.payload_crc {
            Err(Fault::Checksum)
        } else if !self.unpacker.unpack(header.codec, &self.stored, raw) {
            Err(Fault::Content)
        } else {
            Ok(())
        })
    }
}

fn hole(at: u64, bytes: u64, fault: Fault, records: LostRecords) -> Hole {
    Hole { at, bytes, fault, records, call_paths: false }
}

/// Whether a block may come after what was read, with or without a hole between.
fn follows(expected: Option<(u64, u64)>, header: &BlockHeader) -> bool {
    expected.is_none_or(|(sequence, records)| header.sequence >= sequence && header.records_before >= records)
}

/// Completes a hole by what its two sides tell: the next block that was expected, and the one that came.
fn swallowed(hole: Hole, expected: Option<(u64, u64)>, next: &BlockHeader) -> Hole {
    let Some((sequence, records)) = expected else { return Hole { call_paths: true, ..hole } };
    let blocks = next.sequence.saturating_sub(sequence);
    let lost = next.records_before.saturating_sub(records);
    // A single block with records had no stacks.
    let call_paths = blocks > u64::from(lost > 0);
    Hole { records: LostRecords::Exactly(lost), call_paths, ..hole }
}
