//! The scenarios of the corpus, cut and changed at every word: none makes the parser panic, and what it takes is a whole
//! trace.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::path::Path;

use lazymmu_trace::Reader;
use lazymmu_trace::scenario::{Scenario, ScenarioError};

fn corpus() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hazard/corpus");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Whether the text is a scenario.
fn exercise(text: &str) -> bool {
    match Scenario::parse("test", text) {
        Ok(scenario) => {
            let trace = scenario.to_trace().unwrap();
            let reader = Reader::from_bytes(&trace).unwrap();
            assert_eq!(reader.about.records, scenario.records.len() as u64, "{text}");
            true
        }
        Err(ScenarioError::Syntax { line, column, .. }) => {
            let line = text.lines().nth(line - 1).unwrap_or_default();
            assert!(column <= line.chars().count() + 1, "column {column} of {line:?}");
            false
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn every_scenario_is_a_trace_however_it_is_cut() {
    let all = corpus();
    assert!(all.len() > 20);
    for text in &all {
        assert!(exercise(text), "{text}");
        for (at, _) in text.char_indices() {
            let _ = exercise(&text[..at]);
        }
    }
}

#[test]
fn a_changed_word_is_refused_or_means_something_else() {
    let mut refused = 0;
    for text in corpus() {
        let words: Vec<_> = text.split_inclusive(char::is_whitespace).collect();
        for at in 0..words.len() {
            for other in ["", "0xffffffffffffffff ", "65535 ", "\u{1f980}[", "= ", "in ", "x 9 "] {
                let mut words = words.clone();
                words[at] = other;
                refused += usize::from(!exercise(&words.concat()));
            }
        }
    }
    assert!(refused > 1000, "only {refused}");
}
