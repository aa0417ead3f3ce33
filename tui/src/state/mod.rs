//! All that the screen shows, and how it changes. Nothing here reads or writes anything: what has to be done outside is
//! handed back as [`Effect`]s.

mod moving;
mod overlay;
mod prompt;
mod sorting;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use lazymmu_report::{Filter, Finding};

use crate::keys::{Key, Keymap};
use crate::source::{About, Answer, Moment, Request, Section, Snapshot};
use crate::theme::{Glyphs, Theme};

pub use overlay::{Overlay, Prompt};
pub use sorting::Column;
pub use update::withheld;

/// One of the views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    /// The list of findings.
    Findings,
    /// One finding.
    Finding,
    /// The course of a section.
    Section,
    /// CPUs, tasks, batches.
    Cpus,
    /// Hooks and losses.
    Hooks,
}

impl View {
    /// All, in their order.
    pub const ALL: [Self; 5] = [Self::Findings, Self::Finding, Self::Section, Self::Cpus, Self::Hooks];

    /// Its title.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Findings => "Findings",
            Self::Finding => "Finding",
            Self::Section => "Section",
            Self::Cpus => "CPUs",
            Self::Hooks => "Hooks",
        }
    }
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// A key.
    Key(Key),
    /// A click on that column and row of the screen.
    Click(u16, u16),
    /// The wheel, by so many lines; down is positive.
    Wheel(i32),
    /// The screen has this size now.
    Resize(u16, u16),
    /// More is known.
    Snapshot(Arc<Snapshot>),
    /// What was asked for.
    Answer(Answer),
    /// The lines of a source file, or why there are none.
    SourceFile(String, Result<Arc<Vec<String>>, String>),
    /// Something to say in the last line, and whether it is an error.
    Message(String, bool),
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// To ask the source for something.
    Request(Request),
    /// To select hazards.
    Select(Option<Filter>),
    /// To put text on the clipboard.
    Copy(String),
    /// To write a file that is not there yet.
    Save {
        /// Its name.
        path: String,
        /// What is to be in it.
        text: String,
    },
    /// To read a source file.
    ReadSource(String),
    /// To switch the mouse on or off.
    Mouse(bool),
    /// To draw everything anew.
    Redraw,
    /// To go to the background.
    Suspend,
    /// To leave.
    Quit,
}

/// How the screen looks and what the keys mean.
#[derive(Clone, Debug)]
pub struct Look {
    /// The colours.
    pub theme: Theme,
    /// The characters.
    pub glyphs: Glyphs,
    /// Whether the mouse is used.
    pub mouse: bool,
    /// The keys.
    pub keymap: Keymap,
    /// Whether source files can be read.
    pub has_sources: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            theme: Theme::Dark,
            glyphs: Glyphs { ascii: false },
            mouse: true,
            keymap: Keymap::default(),
            has_sources: false,
        }
    }
}

/// The state.
#[derive(Clone, Debug)]
pub struct State {
    /// Columns and rows of the screen.
    pub size: (u16, u16),
    /// Where everything comes from.
    pub about: Arc<About>,
    /// How it looks.
    pub look: Look,
    /// What is shown.
    pub shown: Arc<Snapshot>,
    /// The latest; other than what is shown if that is frozen.
    pub latest: Arc<Snapshot>,
    /// Whether what is shown is held still.
    pub frozen: bool,
    /// The view.
    pub view: View,
    /// Where "back" goes.
    pub before: Vec<View>,
    /// The line with the cursor, by view.
    pub cursors: BTreeMap<View, usize>,
    /// The findings in the order in which they are shown, by their place in the report.
    pub order: Vec<usize>,
    /// What they are sorted by.
    pub column: Column,
    /// Whether the other way round.
    pub reversed: bool,
    /// The fingerprint of the selected finding.
    pub selected: Option<String>,
    /// Whether the right one of two call paths has the cursor.
    pub on_right: bool,
    /// The section that is shown.
    pub section: Option<Arc<Section>>,
    /// Why it cannot be shown, or that it is being read.
    pub section_note: String,
    /// The only entry whose steps are shown.
    pub one_entry: Option<u64>,
    /// The moment that is shown; none for the latest.
    pub moment: Option<Arc<Moment>>,
    /// What is searched for.
    pub search: String,
    /// The filter.
    pub filter: Option<Filter>,
    /// What is open on top.
    pub overlay: Option<Overlay>,
    /// What the last line says, and whether it is an error.
    pub message: Option<(String, bool)>,
    /// Source files.
    pub files: BTreeMap<String, Result<Arc<Vec<String>>, String>>,
}

impl State {
    /// At the start.
    #[must_use]
    pub fn new(about: Arc<About>, snapshot: Arc<Snapshot>, look: Look, size: (u16, u16)) -> Self {
        let mut state = Self {
            size,
            about,
            look,
            shown: Arc::clone(&snapshot),
            latest: snapshot,
            frozen: false,
            view: View::Findings,
            before: Vec::new(),
            cursors: BTreeMap::new(),
            order: Vec::new(),
            column: Column::Severity,
            reversed: false,
            selected: None,
            on_right: false,
            section: None,
            section_note: String::new(),
            one_entry: None,
            moment: None,
            search: String::new(),
            filter: None,
            overlay: None,
            message: None,
            files: BTreeMap::new(),
        };
        state.sort();
        state
    }

    /// The line with the cursor in this view.
    #[must_use]
    pub fn cursor(&self) -> usize {
        self.cursors.get(&self.view).copied().unwrap_or_default()
    }

    /// The selected finding.
    #[must_use]
    pub fn finding(&self) -> Option<&Finding> {
        let selected = self.selected.as_ref()?;
        self.shown.report.findings.iter().find(|finding| finding.fingerprint == *selected)
    }
}
