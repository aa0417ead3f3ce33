//! What lies on top of a view: a line to type in, the help, the palette.

use crossterm::event::KeyCode;

use super::State;
use crate::action::{ACTIONS, Action, Info};
use crate::keys::Key;

/// What is typed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Text to look for.
    Search,
    /// A filter expression.
    Filter,
    /// A moment.
    Jump,
    /// The name of a file.
    Save,
}

impl Prompt {
    /// What stands before what is typed.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Search => "search: ",
            Self::Filter => "filter (empty for all): ",
            Self::Jump => "go to (1.5s, +10ms, 50%, #1234): ",
            Self::Save => "save as (.txt .json .sarif .html ...): ",
        }
    }
}

/// What is open on top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// A line to type in.
    Prompt {
        /// For what.
        prompt: Prompt,
        /// What is typed.
        text: String,
        /// Where the cursor of the view was.
        origin: usize,
    },
    /// The help.
    Help {
        /// What is searched for in it.
        query: String,
        /// The first line that is shown.
        scroll: usize,
    },
    /// All actions by name.
    Palette {
        /// What is searched for.
        query: String,
        /// The selected line.
        cursor: usize,
    },
}

/// What became of a key.
pub(super) enum Typed {
    /// It changed what is typed, or where.
    Changed,
    /// It closes.
    Closed,
    /// It is done.
    Submitted,
}

impl Overlay {
    fn text(&mut self) -> &mut String {
        match self {
            Self::Prompt { text, .. } => text,
            Self::Help { query, .. } | Self::Palette { query, .. } => query,
        }
    }

    fn step(&mut self, by: isize) {
        match self {
            Self::Prompt { .. } => {}
            Self::Help { scroll: line, .. } | Self::Palette { cursor: line, .. } => {
                *line = line.saturating_add_signed(by);
            }
        }
    }

    fn typed(&mut self) {
        if let Self::Help { scroll: line, .. } | Self::Palette { cursor: line, .. } = self {
            *line = 0;
        }
    }

    pub(super) fn key(&mut self, key: Key) -> Typed {
        let ctrl = |c| key.ctrl && key.code == KeyCode::Char(c);
        match key.code {
            KeyCode::Esc => return Typed::Closed,
            KeyCode::Enter => return Typed::Submitted,
            _ if ctrl('c') || ctrl('g') => return Typed::Closed,
            KeyCode::Backspace => {
                if self.text().pop().is_none() {
                    return Typed::Closed;
                }
                self.typed();
            }
            _ if ctrl('u') => {
                self.text().clear();
                self.typed();
            }
            _ if ctrl('w') => {
                let text = self.text();
                let kept = text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                text.truncate(kept);
                self.typed();
            }
            KeyCode::Down => self.step(1),
            KeyCode::Up => self.step(-1),
            _ if ctrl('n') => self.step(1),
            _ if ctrl('p') => self.step(-1),
            KeyCode::PageDown => self.step(10),
            KeyCode::PageUp => self.step(-10),
            _ => {
                if let Some(c) = key.typed() {
                    self.text().push(c);
                    self.typed();
                }
            }
        }
        Typed::Changed
    }
}

impl State {
    /// The actions that fit what was typed into help or palette: every word of it is in the name, the text or a key.
    #[must_use]
    pub fn fitting(&self, query: &str) -> Vec<&'static Info> {
        let words: Vec<_> = query.split_whitespace().map(str::to_lowercase).collect();
        let fits = |info: &&Info| {
            let about = format!("{} {}", info.name, info.text).to_lowercase();
            let keys = self.look.keymap.shown(info.action);
            words
                .iter()
                .all(|word| about.contains(word) || keys.split(' ').any(|key| key.eq_ignore_ascii_case(word)))
        };
        let mut found: Vec<_> = ACTIONS.iter().filter(fits).collect();
        // Who types a name means that action.
        if let [word] = words.as_slice() {
            found.sort_by_key(|info| (info.name != word, !info.name.starts_with(word.as_str())));
        }
        found
    }

    /// The action that is selected in the palette.
    pub(super) fn chosen(&self, query: &str, cursor: usize) -> Option<Action> {
        let fitting = self.fitting(query);
        fitting.get(cursor.min(fitting.len().checked_sub(1)?)).map(|info| info.action)
    }
}
