//! Suppressions (docs/suppressions.md): what the file's reader takes can be applied, and takes away only what is there.

use lazymmu_hazard::{Config, Engine};
use lazymmu_report::{Date, Suppressions};
use lazymmu_trace::{Frame, Symbols};

use super::records;

/// Reads the bytes as a file of suppressions.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut suppressions = Suppressions::none();
    if let Err(error) = suppressions.add("fuzz.toml", text) {
        assert!(error.to_string().contains("fuzz.toml"), "an error names the file: {error}");
        return;
    }
    let _ = suppressions.unknown_rules();
    let mut engine = Engine::new(Config::default());
    engine.process_all(&records::history(records::SAMPLE.as_flattened()));
    let outcome = engine.finish();
    for today in [0, 20_000, u32::MAX] {
        let mut rest = outcome.clone();
        let _ = suppressions.apply(&mut rest, &symbols(), Date::from_days_since_1970(today));
        assert!(rest.occurrences.len() <= outcome.occurrences.len());
    }
}

/// Whether it is a file of suppressions.
pub fn is_file(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| Suppressions::none().add("corpus", text).is_ok())
}

/// Names for the stacks of the history, which are small numbers.
fn symbols() -> Symbols {
    let mut symbols = Symbols::default();
    for id in 1..8 {
        symbols.insert_stack(id, vec![id, id + 1]);
        let frame = Frame {
            function: format!("f{id}.isra.0"),
            offset: id,
            module: None,
            file: Some("mm/memory.c".to_owned()),
            line: Some(id as u32),
            inlined: false,
        };
        symbols.insert_frames(id, vec![frame]);
    }
    symbols
}
