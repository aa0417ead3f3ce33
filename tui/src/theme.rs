//! How things look: roles, and the style of each in each theme. What is said by colour is said by words as well.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

/// A set of colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// For a dark terminal.
    Dark,
    /// For a light one.
    Light,
    /// No colour.
    Mono,
}

/// What a piece of the screen is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Text.
    Plain,
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
    /// The line with the cursor.
    Cursor,
    /// What was searched for.
    Found,
    /// The header and the footer.
    Bar,
    /// A key.
    Key,
}

impl Theme {
    /// All, in the order in which they follow each other.
    pub const ALL: [Self; 3] = [Self::Dark, Self::Light, Self::Mono];

    /// Its name in the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dark => "dark",
            Self::Light => "light",
            Self::Mono => "mono",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.name() == name)
    }

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Dark => Self::Light,
            Self::Light => Self::Mono,
            Self::Mono => Self::Dark,
        }
    }

    /// The style of a role.
    #[must_use]
    pub fn style(self, role: Role) -> Style {
        let style = Style::new();
        let modified = match role {
            Role::Title | Role::Bad | Role::Key => style.add_modifier(Modifier::BOLD),
            Role::Quiet => style.add_modifier(Modifier::DIM),
            Role::Cursor | Role::Bar => style.add_modifier(Modifier::REVERSED),
            Role::Found => style.add_modifier(Modifier::UNDERLINED),
            Role::Doubt => style.add_modifier(Modifier::ITALIC),
            Role::Plain | Role::Good | Role::Name => style,
        };
        let colour = match (self, role) {
            (Self::Mono, _) => return modified,
            (_, Role::Cursor | Role::Plain | Role::Title) => None,
            (Self::Dark, Role::Quiet) => return style.fg(Color::DarkGray),
            (Self::Light, Role::Quiet) => return style.fg(Color::Gray),
            (_, Role::Bad) => Some(Color::Red),
            (Self::Dark, Role::Doubt) => Some(Color::Yellow),
            (_, Role::Good) => Some(Color::Green),
            (Self::Dark, Role::Name | Role::Key) => Some(Color::Cyan),
            (Self::Light, Role::Name | Role::Key) => Some(Color::Blue),
            (Self::Dark, Role::Found) => Some(Color::LightYellow),
            (Self::Light, Role::Doubt | Role::Found) => Some(Color::Magenta),
            (Self::Dark, Role::Bar) => return style.fg(Color::White).bg(Color::Blue),
            (Self::Light, Role::Bar) => return style.fg(Color::Black).bg(Color::Gray),
        };
        colour.map_or(modified, |colour| modified.fg(colour))
    }
}

/// The characters to draw with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// ASCII only.
    pub ascii: bool,
}

impl Glyphs {
    /// One of two.
    #[must_use]
    pub fn pick(self, fine: &'static str, ascii: &'static str) -> &'static str {
        if self.ascii { ascii } else { fine }
    }

    /// The lines of a box.
    #[must_use]
    pub fn border(self) -> border::Set<'static> {
        if !self.ascii {
            return border::PLAIN;
        }
        border::Set {
            top_left: "+",
            top_right: "+",
            bottom_left: "+",
            bottom_right: "+",
            vertical_left: "|",
            vertical_right: "|",
            horizontal_top: "-",
            horizontal_bottom: "-",
        }
    }
}
