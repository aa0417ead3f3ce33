//! A trace that can be read must be judged, and told of, whatever is in it.

use std::io::{Read, Seek};

use lazymmu_hazard::{Arch, Config, Engine};
use lazymmu_report::{Report, Session, Style};
use lazymmu_trace::Reader;

/// So few pending entries are watched that a full table comes up.
const PENDING: usize = 1 << 12;

/// Judges the trace and writes both reports. A damaged trace is never called clean.
pub fn judge<R: Read + Seek>(reader: &mut Reader<R>) {
    let arch = Arch::from_machine(&reader.about.header.kernel.architecture);
    let mut engine = Engine::new(Config { arch, max_pending: PENDING });
    while let Some(batch) = reader.records.next_batch().expect("memory is always readable") {
        engine.process_all(batch);
    }
    let outcome = engine.finish();
    let damage = reader.damage();
    let session =
        Session { header: &reader.about.header, symbols: &reader.about.symbols, outcome: &outcome, damage };
    let report = Report::new(&session);
    assert!(!report.text(Style::Plain).is_empty());
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("the report is JSON");
    assert_eq!(json["verdict"], report.verdict);
    if damage.is_some_and(|damage| !damage.records.is_none()) {
        assert_ne!(report.verdict, "clean", "records may be missing: {damage:?}");
    }
}
