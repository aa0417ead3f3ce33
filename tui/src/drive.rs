//! Joins the state with a source and with files: does what the state asks for, but for what concerns the terminal.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::source::{Snapshot, Source};
use crate::state::{Effect, Input, Look, State};

/// The most that is read of a source file.
const MOST: u64 = 8 << 20;

/// A tab takes so many columns, as in the kernel's style.
const TAB: usize = 8;

/// A state with what it depends on.
pub(crate) struct Driver<'a> {
    pub(crate) state: State,
    source: &'a mut dyn Source,
    /// The kernel's sources.
    sources: Option<PathBuf>,
    last: Arc<Snapshot>,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(
        source: &'a mut dyn Source,
        look: Look,
        sources: Option<&Path>,
        size: (u16, u16),
    ) -> Self {
        let look = Look { has_sources: sources.is_some(), ..look };
        let last = source.snapshot();
        let about = Arc::new(source.about().clone());
        let state = State::new(about, Arc::clone(&last), look, size);
        Self { state, source, sources: sources.map(Path::to_owned), last }
    }

    /// Takes in an input. What is returned concerns the terminal.
    pub(crate) fn input(&mut self, input: Input) -> Vec<Effect> {
        let mut left = Vec::new();
        let mut effects = self.state.update(input);
        while !effects.is_empty() {
            let mut more = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Request(request) => self.source.request(request),
                    Effect::Select(filter) => {
                        if let Err(why) = self.source.select(filter) {
                            more.extend(self.state.update(Input::Message(why, true)));
                        }
                    }
                    Effect::Save { path, text } => more.extend(self.state.update(save(&path, &text))),
                    Effect::ReadSource(file) => {
                        let lines = self.sources.as_deref().map_or_else(
                            || Err("no folder with sources was named".to_owned()),
                            |folder| read(folder, &file),
                        );
                        more.extend(self.state.update(Input::SourceFile(file, lines.map(Arc::new))));
                    }
                    Effect::Copy(_) | Effect::Mouse(_) | Effect::Redraw | Effect::Suspend | Effect::Quit => {
                        left.push(effect);
                    }
                }
            }
            effects = more;
        }
        left
    }

    /// Takes in what the source has. Returns whether anything is new.
    pub(crate) fn poll(&mut self) -> bool {
        let mut changed = false;
        let latest = self.source.snapshot();
        if !Arc::ptr_eq(&latest, &self.last) {
            self.last = Arc::clone(&latest);
            self.input(Input::Snapshot(latest));
            changed = true;
        }
        for answer in self.source.answers() {
            self.input(Input::Answer(answer));
            changed = true;
        }
        changed
    }

    /// Whether an answer is expected.
    pub(crate) fn is_busy(&self) -> bool {
        self.source.is_busy()
    }

    /// Whether nothing more comes by itself.
    pub(crate) fn is_settled(&self) -> bool {
        self.last.done && !self.is_busy()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.source.has_failed()
    }
}

fn save(path: &str, text: &str) -> Input {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => Input::Message(format!("wrote {path}"), false),
        Err(error) => Input::Message(format!("failed to write {path}: {error}"), true),
    }
}

/// The lines of a source file. The name comes from a trace, so it may not lead out of the folder.
fn read(folder: &Path, name: &str) -> Result<Vec<String>, String> {
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        return Err(format!("{name} is not inside of {}", folder.display()));
    }
    let path = folder.join(name);
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MOST).read_to_end(&mut bytes))
        .map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).lines().map(shown).collect())
}

/// Tabs as spaces, and nothing that would steer a terminal.
fn shown(line: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for c in line.chars() {
        let count = if c == '\t' { TAB - column % TAB } else { 1 };
        let c = match c {
            '\t' => ' ',
            c if c.is_control() => '?',
            c => c,
        };
        out.extend(std::iter::repeat_n(c, count));
        column += count;
    }
    out
}

/// Settings by name, for who writes them down.
pub(crate) type Keys = BTreeMap<String, Vec<String>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_lead_out_of_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(read(folder, "src/drive.rs").unwrap().len() > 10);
        for name in ["../Cargo.toml", "/etc/passwd", "src/../../Cargo.toml"] {
            assert!(read(folder, name).unwrap_err().contains("not inside"), "{name}");
        }
        assert!(read(folder, "nothing.c").unwrap_err().contains("failed to read"));
    }

    #[test]
    fn tabs_go_to_the_next_stop() {
        assert_eq!(shown("a\tb\x1b"), "a       b?");
    }
}
