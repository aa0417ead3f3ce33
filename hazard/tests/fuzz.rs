//! Whatever 64 bytes say, the engine takes them in.

use lazymmu_abi::Record;
use lazymmu_hazard::rules::Severity;
use lazymmu_hazard::{Arch, Config, Engine, StackId, StackNames};
use proptest::prelude::*;

struct NoNames;

impl StackNames for NoNames {
    fn innermost(&self, _: StackId) -> Option<String> {
        None
    }
}

/// Any bytes, but mostly with codes, tasks and entries that meet.
fn record() -> impl Strategy<Value = Record> {
    let small = || prop_oneof![4 => 0..4u64, 1 => any::<u64>()];
    let entry = prop_oneof![(0..64u64).prop_map(|index| 0x1000 + index), any::<u64>()];
    let numbers = (small(), entry, small(), small(), small(), 0..3u32);
    let codes = (prop_oneof![0..4u16, any::<u16>()], prop_oneof![0..3u16, any::<u16>()]);
    let bytes = (prop_oneof![4 => 0..12u8, 1 => any::<u8>()], any::<u8>(), any::<u8>(), any::<u8>());
    (numbers, codes, bytes).prop_map(|(numbers, (count, cpu), (kind, op, level, flags))| {
        let (time, entry, value, memory, stack, tid) = numbers;
        Record {
            time,
            entry,
            value,
            memory,
            stack,
            tid,
            count,
            cpu,
            kind,
            op,
            level,
            flags,
            ..Record::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn no_record_makes_it_panic(records in prop::collection::vec(record(), 0..400), max_pending in 0..5000usize) {
        let mut engine = Engine::new(Config { max_pending, arch: Arch::X86_64 });
        engine.process_all(&records);
        let outcome = engine.finish();
        prop_assert_eq!(outcome.statistics.records, records.len() as u64);
        for class in outcome.classes(&NoNames) {
            prop_assert!(class.count > 0);
            let advice = class.rule.info().severity == Severity::Advice;
            prop_assert!(class.profiles[0].breaks != advice, "what breaks anywhere breaks the contract");
        }
    }
}
