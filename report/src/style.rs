//! Colour, or none. The text says everything without it.

use anstyle::{AnsiColor, Style as Ansi};

/// Whether the text has colour. Who calls decides: this crate never looks at a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    #[default]
    Plain,
    /// With ANSI escape sequences.
    Colour,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// A title.
    Title,
    /// Something wrong.
    Bad,
    /// Something uncertain.
    Doubt,
    /// Something right.
    Good,
    /// A name to look for in the source.
    Name,
    /// Of less interest.
    Quiet,
}

impl Style {
    /// The text, marked as what it is.
    pub(crate) fn paint(self, role: Role, text: &str) -> String {
        let ansi = match role {
            Role::Title => Ansi::new().bold(),
            Role::Bad => AnsiColor::Red.on_default().bold(),
            Role::Doubt => AnsiColor::Yellow.on_default(),
            Role::Good => AnsiColor::Green.on_default(),
            Role::Name => AnsiColor::Cyan.on_default(),
            Role::Quiet => Ansi::new().dimmed(),
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("{ansi}{text}{ansi:#}"),
        }
    }
}
