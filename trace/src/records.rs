//! The records of a trace, block by block, with what was lost between them.

use std::io::{Read, Seek};
use std::mem;

use lazymmu_abi::{Flags, Kind, Record};
use zerocopy::IntoBytes;

use crate::block::Type;
use crate::codec::swap_on_big_endian;
use crate::damage::{self, Damage, Fault, Hole, LostRecords};
use crate::walk::{Place, Placed, Step, Walker};
use crate::{Index, ReadError, Span};

/// Reads the records of a trace in the order of the file, one block in memory at a time.
///
/// Where records are missing because the file is damaged, a record of kind `Lost` stands in for them: its CPU is
/// [`Record::ANY_CPU`], its `op` 0 (the lost kinds are not known), its `value` their number. Where that is not known,
/// `value` is 0 and [`Flags::VALUE`] is clear.
pub struct Records<R> {
    walker: Walker<R>,
    start: Place,
    buffer: Vec<Record>,
    lost: [Record; 1],
    last_time: u64,
    damage: Option<Damage>,
}

/// What the next block of records turned out to be.
enum Found {
    /// The buffer holds the records of the block at this byte.
    Records(u64),
    /// A `Lost` record stands in for what is missing.
    Lost,
    /// There is no more.
    End,
}

impl<R: Read + Seek> Records<R> {
    pub(crate) fn new(walker: Walker<R>) -> Self {
        let start = walker.place();
        Self { walker, start, buffer: Vec::new(), lost: [Record::default()], last_time: 0, damage: None }
    }

    /// The next records, `None` at the end. A batch is never empty.
    pub fn next_batch(&mut self) -> Result<Option<&[Record]>, ReadError> {
        Ok(match self.advance()? {
            Found::Records(_) => Some(&self.buffer),
            Found::Lost => Some(&self.lost),
            Found::End => None,
        })
    }

    /// The same, as memory that is the caller's. What he gives for it is used again.
    pub(crate) fn next_owned(&mut self, mut memory: Vec<Record>) -> Result<Option<Vec<Record>>, ReadError> {
        Ok(match self.advance()? {
            Found::Records(_) => Some(mem::replace(&mut self.buffer, memory)),
            Found::Lost => {
                memory.clear();
                memory.extend(self.lost);
                Some(memory)
            }
            Found::End => None,
        })
    }

    /// Goes back to the first record.
    pub fn rewind(&mut self) {
        self.walker.go_back(self.start);
        self.last_time = 0;
        self.damage = None;
    }

    /// Goes to the first record of a span.
    pub fn seek(&mut self, span: &Span) {
        self.walker.jump(span.at);
        self.last_time = span.first;
    }

    /// Damage of record blocks that were read so far.
    pub(crate) fn damage(&self) -> Option<Damage> {
        self.damage
    }

    /// Makes the index of a trace that has none, and rewinds.
    pub(crate) fn rebuild_index(&mut self) -> Result<Index, ReadError> {
        let mut index = Index::default();
        self.rewind();
        loop {
            match self.advance()? {
                Found::Records(at) => index.add(at, &self.buffer),
                Found::Lost => {}
                Found::End => break,
            }
        }
        self.rewind();
        Ok(index)
    }

    fn advance(&mut self) -> Result<Found, ReadError> {
        loop {
            let hole = match self.walker.next()? {
                Step::End => return Ok(Found::End),
                Step::Hole(hole) => hole,
                Step::Block(block) if block.header.block_type != Type::Records as u8 => continue,
                Step::Block(block) => match self.load(&block)? {
                    Ok(()) if self.buffer.is_empty() => continue,
                    Ok(()) => return Ok(Found::Records(block.at)),
                    Err(fault) => {
                        let hole = block.hole(fault);
                        damage::add(&mut self.damage, hole, self.walker.source().len());
                        hole
                    }
                },
            };
            if let Some(lost) = stand_in(&hole, self.last_time) {
                self.lost = [lost];
                return Ok(Found::Lost);
            }
        }
    }

    fn load(&mut self, block: &Placed) -> Result<Result<(), Fault>, ReadError> {
        // The block header's limits keep this within 1 MiB.
        self.buffer.resize(block.header.items as usize, Record::default());
        let raw = self.buffer.as_mut_bytes();
        if raw.len() != block.header.raw_len as usize {
            return Ok(Err(Fault::Content));
        }
        if let Err(fault) = self.walker.load(block, raw)? {
            return Ok(Err(fault));
        }
        swap_on_big_endian(&mut self.buffer);
        self.last_time = self.buffer.last().map_or(self.last_time, |record| record.time);
        Ok(Ok(()))
    }
}

/// The record that tells the engine of a hole, if records may be missing in it.
fn stand_in(hole: &Hole, time: u64) -> Option<Record> {
    let lost = Record { time, kind: Kind::Lost as u8, cpu: Record::ANY_CPU, ..Record::default() };
    match hole.records {
        // What was recorded after the end of the file is not known.
        _ if hole.fault == Fault::Unfinished => Some(lost),
        records if records.is_none() => None,
        LostRecords::Exactly(count) => Some(Record { value: count, flags: Flags::VALUE, ..lost }),
        LostRecords::AtMost(_) | LostRecords::AtLeast(_) => Some(lost),
    }
}
