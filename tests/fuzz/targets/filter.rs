//! Filters (docs/filters.md): what the grammar takes has one form, which reads back as the same filter, and selects
//! some part of what a history has.

use lazymmu_hazard::{Config, Engine};
use lazymmu_report::Filter;
use lazymmu_report::filter::{Reducer, Selection};
use lazymmu_trace::Symbols;

use super::records;

/// Reads the bytes as a filter.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let filter: Filter = match text.parse() {
        Ok(filter) => filter,
        Err(error) => {
            let error: lazymmu_report::FilterError = error;
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let form = filter.to_string();
    let again: Filter = form.parse().unwrap_or_else(|error| panic!("{form} does not read back: {error}"));
    assert_eq!(again, filter, "{form}");
    assert_eq!(again.to_string(), form);
    assert_eq!(filter.clone().and(filter.clone()).as_ref(), Some(&filter), "{form}");
    let _ = filter.unknown_rules();
    selects_a_part(&filter);
}

/// Whether it is a filter.
pub fn is_filter(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<Filter>().is_ok())
}

fn selects_a_part(filter: &Filter) {
    let records = records::history(records::SAMPLE.as_flattened());
    let symbols = Symbols::default();
    let mut engine = Engine::new(Config::default());
    engine.watch();
    let mut selection = Selection::new(filter.clone());
    engine.process_all(&records);
    engine.end();
    selection.take(&mut engine);
    let all = engine.finish();
    let count = |outcome: &lazymmu_hazard::Outcome| -> u64 {
        outcome.occurrences.iter().map(|occurrence| occurrence.count).sum()
    };
    let whole = count(&all);
    assert!(whole > 2, "the history has hazards");
    assert!(count(&selection.outcome(all, &symbols)) <= whole, "{filter}");

    let mut kept = Vec::new();
    let mut reducer = Reducer::new(filter.clone(), Engine::new(Config::default()));
    for record in &records {
        reducer.push(record, Some(&symbols), &mut kept);
    }
    reducer.finish(Some(&symbols), &mut kept);
    assert!(kept.len() <= records.len() + 64, "{filter}: {} of {}", kept.len(), records.len());
}
