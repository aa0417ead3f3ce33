//! The scenarios of `hazard/corpus/`, judged: what the test and the table of `cargo xtask corpus` have in common.

use std::io;
use std::path::{Path, PathBuf};

use lazymmu_hazard::{Arch, Config, Engine, Outcome};
use lazymmu_report::expectation::Checked;
use lazymmu_trace::scenario::Scenario;

/// What the name of a correct twin ends with.
pub(crate) const TWIN: &str = "-ok";

/// One scenario, judged.
pub(crate) struct Judged {
    /// The file's name without its ending.
    pub(crate) name: String,
    /// What it says.
    pub(crate) scenario: Scenario,
    /// What the engine says.
    pub(crate) outcome: Outcome,
    /// Whether that is what the scenario expects.
    pub(crate) checked: Checked,
}

/// The corpus.
pub(crate) fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../hazard/corpus"))
}

/// Reads and judges every scenario, in the order of their names.
pub(crate) fn all() -> io::Result<Vec<Judged>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == Scenario::EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort_by_key(|path| path.file_stem().map(ToOwned::to_owned));
    paths.iter().map(|path| judge(path)).collect()
}

fn judge(path: &Path) -> io::Result<Judged> {
    let scenario = Scenario::open(path).map_err(io::Error::other)?;
    let arch = Arch::from_machine(&scenario.header.kernel.architecture);
    let mut engine = Engine::new(Config { arch, ..Config::default() });
    engine.process_all(&scenario.records);
    let outcome = engine.finish();
    let checked = Checked::new(&scenario.expectations, &outcome, &scenario.symbols);
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Judged { name, scenario, outcome, checked })
}
