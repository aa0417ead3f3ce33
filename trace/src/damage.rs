//! What is wrong with a trace that can be read nevertheless, where, and what that cost.

use std::fmt;

/// The damage of a trace, summed up: its first place, and what all places cost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The byte of the file at which the first damaged part begins.
    pub at: u64,
    /// What is wrong there.
    pub fault: Fault,
    /// How many places are damaged.
    pub places: u64,
    /// How many bytes of the file could not be used.
    pub bytes: u64,
    /// How many bytes the file has.
    pub file_bytes: u64,
    /// How many records that cost.
    pub records: LostRecords,
    /// Whether stacks or their names may be missing.
    pub call_paths: bool,
    /// Whether the file has no end, so that what was recorded after its last block is not in it.
    pub unfinished: bool,
}

/// What is wrong with one part of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file ends within a block.
    #[error("the file ends within a block")]
    Torn,
    /// The file ends without a trailer: the recorder was killed, or ran out of space, or still runs.
    #[error("the file has no trailer")]
    Unfinished,
    /// The block that should follow does not begin here: its header is damaged, or there is something else.
    #[error("the next block does not begin where it should")]
    NoBlock,
    /// Blocks are missing between two whole ones.
    #[error("blocks are missing")]
    Missing,
    /// The checksum of a payload does not match.
    #[error("the checksum of a block does not match")]
    Checksum,
    /// A payload whose checksum matches does not hold what its header says.
    #[error("the content of a block is not what its header says")]
    Content,
    /// There are bytes after the trailer.
    #[error("there are bytes after the end of the trace")]
    AfterEnd,
    /// More stacks and names than a reader takes in.
    #[error("it has more call paths than fit in memory")]
    TooManyCallPaths,
}

/// How many records are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostRecords {
    /// This many.
    Exactly(u64),
    /// This many or fewer.
    AtMost(u64),
    /// At least this many; how many more cannot be known.
    AtLeast(u64),
}

impl LostRecords {
    /// No record is lost.
    pub const NONE: LostRecords = LostRecords::Exactly(0);
    /// Nothing is known.
    pub const UNKNOWN: LostRecords = LostRecords::AtLeast(0);

    /// Whether it is certain that no record is lost.
    pub fn is_none(self) -> bool {
        matches!(self, LostRecords::Exactly(0) | LostRecords::AtMost(0))
    }

    fn and(self, other: LostRecords) -> LostRecords {
        use LostRecords::{AtLeast, AtMost, Exactly};
        match (self, other) {
            (Exactly(a), Exactly(b)) => Exactly(a.saturating_add(b)),
            (AtMost(a), AtMost(b) | Exactly(b)) | (Exactly(a), AtMost(b)) => AtMost(a.saturating_add(b)),
            (AtLeast(a), AtLeast(b) | Exactly(b)) | (Exactly(a), AtLeast(b)) => AtLeast(a.saturating_add(b)),
            (AtLeast(a), AtMost(_)) | (AtMost(_), AtLeast(a)) => AtLeast(a),
        }
    }
}

impl fmt::Display for LostRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LostRecords::Exactly(0) | LostRecords::AtMost(0) => write!(f, "no record lost"),
            LostRecords::Exactly(1) => write!(f, "1 record lost"),
            LostRecords::Exactly(count) => write!(f, "{count} records lost"),
            LostRecords::AtMost(count) => write!(f, "at most {count} records lost"),
            LostRecords::AtLeast(0) => write!(f, "how many records are lost is not known"),
            LostRecords::AtLeast(count) => write!(f, "{count} records lost, and perhaps more"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, fault, places, bytes, file_bytes, records, call_paths, unfinished } = self;
        if *bytes > 0 {
            write!(f, "{bytes} of its {file_bytes} bytes cannot be used: at byte {at}, {fault}")?;
        } else {
            write!(f, "at byte {at}, {fault}")?;
        }
        match places {
            0 | 1 => {}
            2 => write!(f, ", and 1 more place is damaged")?,
            more => write!(f, ", and {} more places are damaged", more - 1)?,
        }
        write!(f, "; {records}")?;
        if *call_paths {
            write!(f, "; call paths may be missing")?;
        }
        if *unfinished {
            write!(f, "; the recording was not finished, and what came after is not in the file")?;
        }
        Ok(())
    }
}

/// One damaged place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    pub(crate) fault: Fault,
    pub(crate) records: LostRecords,
    pub(crate) call_paths: bool,
}

/// Adds a place to the damage known so far.
pub(crate) fn add(damage: &mut Option<Damage>, hole: Hole, file_bytes: u64) {
    let Hole { at, bytes, fault, records, call_paths } = hole;
    let unfinished = fault == Fault::Unfinished;
    let new = Damage { at, fault, places: 1, bytes, file_bytes, records, call_paths, unfinished };
    *damage = Some(match *damage {
        // The end that is missing is no place of its own where the last block is torn.
        Some(old) if unfinished => Damage { unfinished, ..old },
        Some(old) => merge(old, new),
        None => new,
    });
}

fn merge(a: Damage, b: Damage) -> Damage {
    let first = if b.at < a.at { b } else { a };
    Damage {
        at: first.at,
        fault: first.fault,
        places: a.places.saturating_add(b.places),
        bytes: a.bytes.saturating_add(b.bytes),
        file_bytes: a.file_bytes,
        records: a.records.and(b.records),
        call_paths: a.call_paths || b.call_paths,
        unfinished: a.unfinished || b.unfinished,
    }
}

/// The damage of two passes over one file, which found different things.
pub(crate) fn both(a: Option<Damage>, b: Option<Damage>) -> Option<Damage> {
    match (a, b) {
        (Some(a), Some(b)) => Some(merge(a, b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_reads_as_a_sentence() {
        let mut damage = None;
        let torn = Hole {
            at: 1000,
            bytes: 42,
            fault: Fault::Torn,
            records: LostRecords::AtMost(17),
            call_paths: false,
        };
        add(&mut damage, torn, 1042);
        assert_eq!(
            damage.unwrap().to_string(),
            "42 of its 1042 bytes cannot be used: at byte 1000, the file ends within a block; at most 17 records lost"
        );
        let flipped = Hole {
            at: 500,
            bytes: 100,
            fault: Fault::Checksum,
            records: LostRecords::Exactly(3),
            call_paths: true,
        };
        add(&mut damage, flipped, 1042);
        assert_eq!(
            damage.unwrap().to_string(),
            "142 of its 1042 bytes cannot be used: at byte 500, the checksum of a block does not match, \
             and 1 more place is damaged; at most 20 records lost; call paths may be missing"
        );
    }

    #[test]
    fn losses_never_add_up_to_more_certainty_than_their_parts() {
        use LostRecords::{AtLeast, AtMost, Exactly};
        assert_eq!(Exactly(2).and(Exactly(3)), Exactly(5));
        assert_eq!(AtMost(2).and(Exactly(3)), AtMost(5));
        assert_eq!(AtLeast(2).and(AtMost(9)), AtLeast(2));
        assert_eq!(Exactly(u64::MAX).and(AtMost(1)), AtMost(u64::MAX));
    }
}
