//! The interactive view of a trace or of a live session.
//!
//! [`State`] is all that is shown, [`State::update`] changes it by one input, [`draw`] shows it: pure functions over what a
//! [`Source`] tells. Only [`run`] and [`dump`] touch the terminal, the clipboard and files.

#![forbid(unsafe_code)]

mod action;
mod drive;
mod dump;
mod keyboard;
mod keys;
mod run;
mod settings;
pub mod source;
mod state;
mod terminal;
mod theme;
mod view;

pub use action::{ACTIONS, Action, Group, Info};
pub use dump::{Dump, dump};
pub use keys::{Key, Keymap, script};
pub use run::{End, RunError, run};
pub use source::Source;
pub use state::{Column, Effect, Input, Look, Overlay, Prompt, State, View, withheld};
pub use theme::{Glyphs, Role, Theme};
pub use view::draw;
