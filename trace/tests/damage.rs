//! A trace that is cut or changed anywhere gives what is whole and says what is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{BLOCK_HEADER, Sample, block_type, exercise, records_in, sample, see};
use lazymmu_trace::{Fault, LostRecords, ReadError, Reader};

fn both() -> [Sample; 2] {
    [sample(Some(1)), sample(None)]
}

#[test]
fn the_sample_has_every_type_of_block_and_no_damage() {
    for sample in both() {
        let mut types: Vec<u8> = sample.blocks.iter().map(|block| block_type(&sample.bytes, block)).collect();
        assert_eq!(types.last(), Some(&6));
        types.sort_unstable();
        types.dedup();
        assert_eq!(types, [1, 2, 3, 4, 5, 6]);
        let seen = see(&sample.bytes).unwrap();
        assert_eq!(seen.records, sample.records);
        assert_eq!((seen.lost, seen.damage), (vec![], None));
        assert_eq!((seen.stacks, seen.addresses, seen.counters.produced), (3, 3, 120));
    }
}

#[test]
fn cut_at_any_byte_it_gives_every_whole_block_before() {
    for sample in both() {
        for cut in 0..sample.bytes.len() {
            cut_at(&sample, cut);
        }
    }
}

fn cut_at(sample: &Sample, cut: usize) {
    let Sample { bytes, blocks, records } = sample;
    let seen = see(&bytes[..cut]);
    if cut < blocks[0].end {
        match seen.unwrap_err() {
            ReadError::Empty { .. } => assert_eq!(cut, 0),
            ReadError::Header { what, .. } => assert_eq!(what, "the file ends within it", "cut at {cut}"),
            other => panic!("cut at {cut}: {other}"),
        }
        return;
    }
    let seen = seen.unwrap();
    let whole = blocks.iter().filter(|block| block.end <= cut);
    let readable = whole.clone().map(|block| records_in(bytes, block)).sum::<usize>();
    assert_eq!(seen.records, records[..readable], "cut at {cut}");
    let stacks = whole.clone().filter(|block| block_type(bytes, block) == 3).count();
    assert_eq!(seen.stacks, stacks, "cut at {cut}");

    let last = whole.map(|block| block.end).max().unwrap();
    let damage = seen.damage.expect("a cut trace is damaged");
    assert_eq!((damage.at, damage.bytes), (last as u64, (cut - last) as u64), "cut at {cut}");
    assert_eq!(damage.fault, if cut == last { Fault::Unfinished } else { Fault::Torn }, "cut at {cut}");
    let torn = &blocks[blocks.iter().position(|block| block.end > cut).unwrap()];
    let header_is_whole = cut >= torn.start + BLOCK_HEADER;
    let expected = match cut - last {
        0 => LostRecords::NONE,
        _ if header_is_whole => LostRecords::AtMost(records_in(bytes, torn) as u64),
        _ => LostRecords::AtMost(16384),
    };
    assert_eq!(damage.records, expected, "cut at {cut}");
    // Once the trailer has begun, every record is known to be there.
    let complete = block_type(bytes, torn) == 6 && header_is_whole;
    assert_eq!(damage.unfinished, !complete, "cut at {cut}");
    assert_eq!(seen.lost.is_empty(), complete, "cut at {cut}");
    assert!(seen.lost.iter().all(Option::is_none), "how many follow cannot be known");
}

#[test]
fn with_any_byte_changed_it_is_refused_or_says_what_is_lost() {
    for sample in both() {
        for at in 0..sample.bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                changed_at(&sample, at, change);
            }
        }
    }
}

fn changed_at(sample: &Sample, at: usize, change: u8) {
    let Sample { bytes, blocks, records } = sample;
    let mut changed = bytes.clone();
    changed[at] ^= change;
    let seen = see(&changed);
    if at < blocks[0].end {
        let error = seen.unwrap_err();
        assert!(matches!(error, ReadError::Header { .. } | ReadError::NotATrace { .. }), "at {at}: {error}");
        return;
    }
    let seen = seen.unwrap();
    let (n, hit) = blocks.iter().enumerate().find(|(_, block)| block.contains(&at)).unwrap();
    let in_header = at < hit.start + BLOCK_HEADER;
    let before: usize = blocks[..n].iter().map(|block| records_in(bytes, block)).sum();
    let inside = records_in(bytes, hit);
    let expected: Vec<_> = records[..before].iter().chain(&records[before + inside..]).copied().collect();
    assert_eq!(seen.records, expected, "at {at}");

    let damage = seen.damage.expect("a changed trace is damaged");
    assert_eq!((damage.at, damage.bytes), (hit.start as u64, hit.len() as u64), "at {at}");
    assert_eq!(damage.fault, if in_header { Fault::NoBlock } else { Fault::Checksum }, "at {at}");
    if in_header && n == blocks.len() - 1 {
        // A trailer that cannot be told from anything else.
        assert_eq!((damage.records, damage.unfinished), (LostRecords::UNKNOWN, true), "at {at}");
        assert!(!seen.lost.is_empty() && seen.lost.iter().all(Option::is_none), "at {at}");
    } else {
        assert_eq!((damage.records, damage.unfinished), (LostRecords::Exactly(inside as u64), false));
        assert_eq!(seen.lost_sum(), Some(inside as u64), "at {at}");
    }
    if [3, 4].contains(&block_type(bytes, hit)) {
        assert!(damage.call_paths, "at {at}");
    }
}

#[test]
fn the_stand_in_for_lost_records_comes_where_they_were() {
    let sample = sample(Some(1));
    let second = sample.blocks.iter().filter(|block| block_type(&sample.bytes, block) == 2).nth(1).unwrap();
    let mut bytes = sample.bytes.clone();
    bytes[second.end - 1] ^= 1;
    let mut reader = Reader::from_bytes(&bytes).unwrap();
    assert_eq!(reader.damage(), None, "the first pass does not decompress records");
    assert_eq!(reader.next_batch().unwrap(), Some(&sample.records[..40]));
    let stand_in = reader.next_batch().unwrap().unwrap()[0];
    assert_eq!((stand_in.time, stand_in.known_value()), (sample.records[39].time, Some(40)));
    assert_eq!(reader.next_batch().unwrap(), Some(&sample.records[80..]));
    assert_eq!(reader.next_batch().unwrap(), None);
    let message = reader.damage().unwrap().to_string();
    assert!(message.contains("the checksum of a block does not match; 40 records lost"), "{message}");
}

#[test]
fn a_block_that_was_taken_out_is_missed() {
    let sample = sample(Some(1));
    for block in &sample.blocks[1..sample.blocks.len() - 1] {
        let mut bytes = sample.bytes.clone();
        bytes.drain(block.clone());
        let seen = see(&bytes).unwrap();
        let damage = seen.damage.unwrap();
        assert_eq!((damage.fault, damage.at), (Fault::Missing, block.start as u64));
        let lost = records_in(&sample.bytes, block);
        assert_eq!(damage.records, LostRecords::Exactly(lost as u64));
        assert_eq!(damage.call_paths, lost == 0, "only a block of records gives itself away");
        assert_eq!(seen.records.len() + lost, sample.records.len());
        assert_eq!(seen.lost_sum(), Some(lost as u64));
    }
}

#[test]
fn bytes_that_were_taken_out_of_a_block_cost_that_block() {
    let sample = sample(None);
    // More than all that follows: the block's length leads past the end of the file.
    let block = sample.blocks.iter().rfind(|block| records_in(&sample.bytes, block) > 0).unwrap();
    let mut bytes = sample.bytes.clone();
    bytes.drain(block.start + 100..block.end - 10);
    let seen = see(&bytes).unwrap();
    assert_eq!(seen.records, sample.records[..80]);
    let damage = seen.damage.unwrap();
    assert_eq!((damage.fault, damage.at, damage.bytes), (Fault::NoBlock, block.start as u64, 110));
    assert_eq!((damage.records, damage.unfinished), (LostRecords::Exactly(40), false));
}

#[test]
fn a_block_that_is_there_twice_counts_once() {
    let sample = sample(Some(1));
    for block in &sample.blocks[1..sample.blocks.len() - 1] {
        let mut bytes = sample.bytes[..block.end].to_vec();
        bytes.extend_from_slice(&sample.bytes[block.start..]);
        let seen = see(&bytes).unwrap();
        assert_eq!(seen.records, sample.records);
        assert_eq!(seen.damage.unwrap().at, block.end as u64);
        assert_eq!(seen.lost, []);
    }
}

#[test]
fn something_foreign_between_blocks_costs_nothing_else() {
    let sample = sample(Some(1));
    // Longer than what is searched at once, with marks of blocks that are none.
    let foreign: Vec<u8> = b"\xb1lmb, and not a block ".iter().cycle().take(200_003).copied().collect();
    for block in &sample.blocks[1..] {
        let mut bytes = sample.bytes.clone();
        bytes.splice(block.start..block.start, foreign.iter().copied());
        let seen = see(&bytes).unwrap();
        assert_eq!(seen.records, sample.records);
        let damage = seen.damage.unwrap();
        assert_eq!((damage.at, damage.bytes), (block.start as u64, foreign.len() as u64));
        assert_eq!((damage.records, damage.call_paths), (LostRecords::NONE, false));
    }
}

#[test]
fn bytes_after_the_trailer_are_told_and_not_read() {
    let sample = sample(Some(1));
    let mut bytes = sample.bytes.clone();
    bytes.extend_from_slice(&sample.bytes);
    let seen = see(&bytes).unwrap();
    assert_eq!((seen.records, seen.lost), (sample.records, vec![]));
    let damage = seen.damage.unwrap();
    assert_eq!((damage.fault, damage.bytes), (Fault::AfterEnd, sample.bytes.len() as u64));
    assert!(!damage.unfinished);
}

#[test]
fn two_damaged_places_are_summed_up() {
    let sample = sample(Some(1));
    let of_records: Vec<_> =
        sample.blocks.iter().filter(|block| block_type(&sample.bytes, block) == 2).collect();
    let mut bytes = sample.bytes.clone();
    bytes[of_records[0].end - 1] ^= 1;
    bytes[of_records[2].end - 1] ^= 1;
    let damage = see(&bytes).unwrap().damage.unwrap();
    assert_eq!((damage.places, damage.records), (2, LostRecords::Exactly(80)));
    assert_eq!(damage.at, of_records[0].start as u64);
}

#[test]
fn an_index_is_rebuilt_where_the_trailer_is_missing() {
    let sample = sample(Some(1));
    let kept = Reader::from_bytes(&sample.bytes).unwrap().index().unwrap().clone();
    assert_eq!(kept.spans().len(), 3);
    let trailer = sample.blocks.last().unwrap();
    let cut = &sample.bytes[..trailer.start + 20];
    let mut reader = Reader::from_bytes(cut).unwrap();
    assert_eq!(reader.index().unwrap(), &kept);
    assert_eq!(reader.next_batch().unwrap(), Some(&sample.records[..40]), "reading starts again");
}

#[test]
fn reading_can_begin_at_any_span() {
    let sample = sample(Some(1));
    let mut reader = Reader::from_bytes(&sample.bytes).unwrap();
    let span = *reader.index().unwrap().from_time(sample.records[45].time).unwrap();
    reader.records.seek(&span);
    assert_eq!(reader.next_batch().unwrap(), Some(&sample.records[40..80]));
    assert_eq!(reader.next_batch().unwrap(), Some(&sample.records[80..]));
    assert_eq!(reader.next_batch().unwrap(), None);
}

#[test]
fn a_torn_and_changed_trace_never_panics() {
    let sample = sample(None);
    for cut in (0..sample.bytes.len()).step_by(37) {
        for at in (0..cut).step_by(101) {
            let mut bytes = sample.bytes[..cut].to_vec();
            bytes[at] = bytes[at].wrapping_add(1);
            exercise(&bytes);
        }
    }
}
