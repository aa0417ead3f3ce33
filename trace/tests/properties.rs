//! What is written is read back, whatever it is; what was changed is never taken for whole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{exercise, header, sample, see};
use lazymmu_abi::Record;
use lazymmu_trace::{Counters, Frame, Losses, Reader, Settings, Symbols, Writer};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use zerocopy::FromBytes;

#[derive(Clone, Debug)]
enum Call {
    Records(Vec<Record>),
    Stack(u64, Vec<u64>),
    Frames(u64, Vec<Frame>),
    Counters(Counters),
    Flush,
}

fn record() -> impl Strategy<Value = Record> {
    vec(any::<u8>(), 64).prop_map(|bytes| Record::read_from_bytes(&bytes).unwrap())
}

fn frame() -> impl Strategy<Value = Frame> {
    let file = (option::of(".{0,20}"), option::of(".{0,30}"), option::of(any::<u32>()));
    (".{0,40}", any::<u64>(), file, any::<bool>()).prop_map(
        |(function, offset, (module, file, line), inlined)| Frame {
            function,
            offset,
            module,
            file,
            line,
            inlined,
        },
    )
}

fn counters() -> impl Strategy<Value = Counters> {
    let losses =
        (any::<u16>(), any::<u8>(), any::<u64>()).prop_map(|(cpu, kind, count)| Losses { cpu, kind, count });
    (any::<u64>(), vec(losses, 0..4)).prop_map(|(produced, lost)| Counters { produced, lost })
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => vec(record(), 0..40).prop_map(Call::Records),
        2 => (0u64..20, vec(any::<u64>(), 0..30)).prop_map(|(id, addresses)| Call::Stack(id, addresses)),
        2 => (0u64..20, vec(frame(), 0..4)).prop_map(|(address, frames)| Call::Frames(address, frames)),
        1 => counters().prop_map(Call::Counters),
        1 => Just(Call::Flush),
    ]
}

/// What the calls mean.
#[derive(Default)]
struct Model {
    records: Vec<Record>,
    symbols: Symbols,
    counters: Counters,
}

fn write(calls: &[Call], settings: Settings) -> (Vec<u8>, Model) {
    let mut writer = Writer::with_settings(Vec::new(), &header(), settings).unwrap();
    let mut model = Model::default();
    for call in calls {
        match call {
            Call::Records(records) => {
                writer.records(records).unwrap();
                model.records.extend(records);
            }
            Call::Stack(id, addresses) => {
                writer.stack(*id, addresses).unwrap();
                if model.symbols.addresses(*id).is_none() {
                    model.symbols.insert_stack(*id, addresses.clone());
                }
            }
            Call::Frames(address, frames) => {
                writer.frames(*address, frames).unwrap();
                model.symbols.insert_frames(*address, frames.clone());
            }
            Call::Counters(counters) => {
                writer.counters(counters);
                model.counters = counters.clone();
            }
            Call::Flush => writer.flush().unwrap(),
        }
    }
    let written = writer.finish().unwrap();
    assert_eq!(written.records, model.records.len() as u64);
    (writer.into_sink(), model)
}

/// A change to a file.
#[derive(Clone, Debug)]
enum Edit {
    Flip { at: usize, bits: u8 },
    Remove { at: usize, len: usize },
    Repeat { at: usize, len: usize },
    Insert { at: usize, bytes: Vec<u8> },
    Zero { at: usize, len: usize },
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = || any::<usize>();
    prop_oneof![
        (at(), 1u8..).prop_map(|(at, bits)| Edit::Flip { at, bits }),
        (at(), 1usize..600).prop_map(|(at, len)| Edit::Remove { at, len }),
        (at(), 1usize..600).prop_map(|(at, len)| Edit::Repeat { at, len }),
        (at(), vec(any::<u8>(), 1..100)).prop_map(|(at, bytes)| Edit::Insert { at, bytes }),
        (at(), 1usize..600).prop_map(|(at, len)| Edit::Zero { at, len }),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    let total = bytes.len().max(1);
    let range = |at: usize, len: usize| at % total..(at % total + len).min(bytes.len());
    match edit {
        Edit::Flip { at, bits } => {
            if let Some(byte) = bytes.get_mut(at % total) {
                *byte ^= bits;
            }
        }
        Edit::Remove { at, len } => drop(bytes.drain(range(*at, *len))),
        Edit::Repeat { at, len } => {
            let copy = bytes[range(*at, *len)].to_vec();
            bytes.splice(at % total..at % total, copy);
        }
        Edit::Insert { at, bytes: new } => drop(bytes.splice(at % total..at % total, new.iter().copied())),
        Edit::Zero { at, len } => {
            let range = range(*at, *len);
            bytes[range].fill(0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(
        calls in vec(call(), 0..30),
        block_records in 1usize..50,
        compression in option::of(-3i32..6),
    ) {
        let (bytes, model) = write(&calls, Settings { block_records, compression });
        let seen = see(&bytes).unwrap();
        prop_assert_eq!(seen.records, model.records);
        prop_assert_eq!(seen.lost, vec![]);
        prop_assert_eq!(seen.damage, None);
        let about = Reader::from_bytes(&bytes).unwrap().about;
        prop_assert_eq!(about.symbols, model.symbols);
        prop_assert_eq!(about.counters, model.counters);
    }

    #[test]
    fn what_was_changed_is_never_taken_for_whole(edits in vec(edit(), 1..5), stored in any::<bool>()) {
        let sample = sample((!stored).then_some(1));
        let mut bytes = sample.bytes.clone();
        for edit in &edits {
            apply(&mut bytes, edit);
        }
        exercise(&bytes);
        if let Ok(seen) = see(&bytes) {
            prop_assert!(seen.damage.is_some() || bytes == sample.bytes);
            // Nothing is made up, doubled or put into another order.
            let mut rest = sample.records.iter();
            prop_assert!(seen.records.iter().all(|record| rest.any(|known| known == record)));
            if let Some(lost) = seen.lost_sum() {
                prop_assert_eq!(seen.records.len() as u64 + lost, sample.records.len() as u64);
            }
        }
    }

    #[test]
    fn noise_is_no_trace(bytes in vec(any::<u8>(), 0..2000)) {
        prop_assert!(see(&bytes).is_err());
    }

    #[test]
    fn noise_after_a_header_never_panics(bytes in vec(any::<u8>(), 0..2000)) {
        let mut trace = common::begin(0);
        trace.extend(bytes);
        exercise(&trace);
    }
}
