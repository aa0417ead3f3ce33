//! Feeds the parser of scenarios whatever the fuzzer makes up; what it takes must be a whole trace. The corpus to begin
//! with is `hazard/corpus`.

#![no_main]

use lazymmu_trace::Reader;
use lazymmu_trace::scenario::Scenario;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Scenario::is_at_start_of(text.as_bytes());
    let Ok(scenario) = Scenario::parse("fuzz", text) else { return };
    let trace = scenario.to_trace().expect("memory takes every trace");
    let reader = Reader::from_bytes(&trace).expect("what was written reads");
    assert_eq!(reader.about.records, scenario.records.len() as u64);
});
