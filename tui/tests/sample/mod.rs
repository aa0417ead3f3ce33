//! The sample that is embedded in `lazymmu`, as a source.

use std::io::Cursor;
use std::sync::Arc;

use lazymmu_report::{Date, Suppressions};
use lazymmu_trace::Reader;
use lazymmu_tui::source::{Bytes, Judging, TraceSource};

const SAMPLE: &[u8] = include_bytes!("../../../daemon/sample/fork-exclusive.lmt");

pub(crate) fn source() -> TraceSource {
    let judging = Judging {
        suppressions: Suppressions::shipped(),
        today: Date::from_days_since_1970(20_000),
        filter: None,
    };
    let open = || {
        let bytes: Box<dyn Bytes> = Box::new(Cursor::new(SAMPLE));
        Reader::new("the sample", bytes).map_err(|error| error.to_string())
    };
    TraceSource::open("embedded sample".to_owned(), Arc::new(open), judging).unwrap()
}
