//! Histories written by hand (docs/scenarios.md): what the parser takes must be a whole trace, and be judged.

use lazymmu_trace::Reader;
use lazymmu_trace::scenario::Scenario;

use super::judging;

/// Reads the bytes as a scenario.
pub fn check(bytes: &[u8]) {
    let _ = Scenario::is_at_start_of(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let scenario = match Scenario::parse("fuzz", text) {
        Ok(scenario) => scenario,
        Err(error) => {
            assert!(error.to_string().contains("fuzz"), "an error names the file: {error}");
            return;
        }
    };
    let trace = scenario.to_trace().expect("memory takes every trace");
    let mut reader = Reader::from_bytes(&trace).expect("what was written reads");
    assert_eq!(reader.about.records, scenario.records.len() as u64);
    judging::judge(&mut reader);
    assert!(reader.damage().is_none());
}

/// Whether the parser takes it.
pub fn is_scenario(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| Scenario::parse("corpus", text).is_ok())
}
