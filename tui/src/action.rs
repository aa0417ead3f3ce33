//! What a user can do: one table, from which keys, footer, help, palette and docs/tui.md come.

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the table says what each does")]
pub enum Action {
    Findings,
    Finding,
    Section,
    Cpus,
    Hooks,
    NextView,
    PreviousView,
    Back,
    Down,
    Up,
    Left,
    Right,
    PageDown,
    PageUp,
    First,
    Last,
    Open,
    Sort,
    Reverse,
    OneEntry,
    Search,
    SearchNext,
    SearchPrevious,
    Filter,
    Freeze,
    NextEvent,
    PreviousEvent,
    NextSection,
    PreviousSection,
    NextHazard,
    PreviousHazard,
    Jump,
    Copy,
    Save,
    Help,
    Palette,
    Theme,
    Ascii,
    Mouse,
    Redraw,
    Suspend,
    Quit,
}

/// Where an action belongs in help and docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Which view is shown.
    Views,
    /// The cursor.
    Moving,
    /// What is shown.
    Looking,
    /// To another moment.
    Time,
    /// The program itself.
    Program,
}

impl Group {
    /// All, in the order of the help.
    pub const ALL: [Self; 5] = [Self::Views, Self::Moving, Self::Looking, Self::Time, Self::Program];

    /// The heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Views => "Views",
            Self::Moving => "Moving",
            Self::Looking => "Looking",
            Self::Time => "Time travel",
            Self::Program => "The program",
        }
    }
}

/// What there is to know of an action.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// The action.
    pub action: Action,
    /// Its name in the palette and in the settings.
    pub name: &'static str,
    /// The keys that it has if nobody changed them.
    pub keys: &'static [&'static str],
    /// Where it belongs.
    pub group: Group,
    /// A word or two for the footer; empty if it has no place there.
    pub short: &'static str,
    /// What it does, as a sentence.
    pub text: &'static str,
}

const fn info(
    action: Action,
    group: Group,
    name: &'static str,
    keys: &'static [&'static str],
    short: &'static str,
    text: &'static str,
) -> Info {
    Info { action, name, keys, group, short, text }
}

use Group::{Looking, Moving, Program, Time, Views};

/// Every action, in the order of the help.
pub static ACTIONS: [Info; 42] = [
    info(Action::Findings, Views, "findings", &["1"], "", "Show the list of findings."),
    info(
        Action::Finding,
        Views,
        "finding",
        &["2"],
        "",
        "Show the selected finding: call paths, values, rule and profiles.",
    ),
    info(
        Action::Section,
        Views,
        "section",
        &["3"],
        "section",
        "Show the course of a section: that of the selected finding, or in the view of the CPUs that of the record.",
    ),
    info(Action::Cpus, Views, "cpus", &["4"], "", "Show CPUs, tasks and batches, at any moment of a trace."),
    info(Action::Hooks, Views, "hooks", &["5"], "", "Show what was hooked, and what was lost."),
    info(Action::NextView, Views, "next-view", &["Tab"], "view", "Go to the next view."),
    info(Action::PreviousView, Views, "previous-view", &["Shift-Tab"], "", "Go to the view before."),
    info(
        Action::Back,
        Views,
        "back",
        &["Esc", "Backspace"],
        "back",
        "Close what is open on top, or go back to where you came from.",
    ),
    info(Action::Down, Moving, "down", &["j", "Down"], "", "Go down a line."),
    info(Action::Up, Moving, "up", &["k", "Up"], "", "Go up a line."),
    info(Action::Left, Moving, "left", &["h", "Left"], "", "Go to the column on the left."),
    info(Action::Right, Moving, "right", &["l", "Right"], "side", "Go to the column on the right."),
    info(Action::PageDown, Moving, "page-down", &["Ctrl-d", "PageDown"], "", "Go down by half a screen."),
    info(Action::PageUp, Moving, "page-up", &["Ctrl-u", "PageUp"], "", "Go up by half a screen."),
    info(Action::First, Moving, "first", &["g", "Home"], "", "Go to the first line."),
    info(Action::Last, Moving, "last", &["G", "End"], "", "Go to the last line."),
    info(Action::Open, Moving, "open", &["Enter"], "open", "Open what is selected."),
    info(Action::Sort, Looking, "sort", &["s"], "sort", "Sort the findings by the next column."),
    info(Action::Reverse, Looking, "reverse", &["r"], "", "Turn the order of the findings round."),
    info(
        Action::OneEntry,
        Looking,
        "one-entry",
        &["e"],
        "entry",
        "Show only the steps about the entry of the selected one, or all again.",
    ),
    info(Action::Search, Looking, "search", &["/"], "search", "Search for text in this view."),
    info(
        Action::SearchNext,
        Looking,
        "search-next",
        &["n"],
        "",
        "Go to the next line that was searched for.",
    ),
    info(
        Action::SearchPrevious,
        Looking,
        "search-previous",
        &["N"],
        "",
        "Go to the line before that was searched for.",
    ),
    info(
        Action::Filter,
        Looking,
        "filter",
        &["f"],
        "filter",
        "Select hazards by an expression (docs/filters.md); an empty one selects all.",
    ),
    info(
        Action::Freeze,
        Looking,
        "freeze",
        &["Space"],
        "freeze",
        "Hold what is shown still while more is captured and judged, or go on.",
    ),
    info(Action::NextEvent, Time, "next-event", &["."], "event", "Go to the next record."),
    info(Action::PreviousEvent, Time, "previous-event", &[","], "", "Go to the record before."),
    info(
        Action::NextSection,
        Time,
        "next-section",
        &["]"],
        "section",
        "Go to where the next section is entered.",
    ),
    info(
        Action::PreviousSection,
        Time,
        "previous-section",
        &["["],
        "",
        "Go to where the section before is entered.",
    ),
    info(Action::NextHazard, Time, "next-hazard", &["}"], "hazard", "Go to the next hazard."),
    info(Action::PreviousHazard, Time, "previous-hazard", &["{"], "", "Go to the hazard before."),
    info(
        Action::Jump,
        Time,
        "jump",
        &["t"],
        "time",
        "Go to a time such as 1.5s or 300us, on or back by +10ms or -10ms, to 50%, or to record #1234.",
    ),
    info(
        Action::Copy,
        Program,
        "copy",
        &["y"],
        "copy",
        "Copy what is selected by the terminal's clipboard (OSC 52).",
    ),
    info(
        Action::Save,
        Program,
        "save",
        &["Ctrl-s"],
        "save",
        "Save the report of the selected finding; the ending of the file's name says in which form.",
    ),
    info(Action::Help, Program, "help", &["?", "F1"], "help", "Show this help; type to search in it."),
    info(Action::Palette, Program, "palette", &[":"], "do", "Do anything by its name."),
    info(Action::Theme, Program, "theme", &["T"], "", "Change the colours: dark, light, mono."),
    info(Action::Ascii, Program, "ascii", &["A"], "", "Draw with ASCII characters only, or not."),
    info(Action::Mouse, Program, "mouse", &["M"], "", "Switch the mouse on or off."),
    info(Action::Redraw, Program, "redraw", &["Ctrl-l"], "", "Draw everything anew."),
    info(Action::Suspend, Program, "suspend", &["Ctrl-z"], "", "Go to the background, as a shell does it."),
    info(Action::Quit, Program, "quit", &["q", "Ctrl-c"], "quit", "Leave."),
];

impl Action {
    /// What there is to know of it.
    #[must_use]
    pub fn info(self) -> &'static Info {
        &ACTIONS[self as usize]
    }

    /// The action of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        ACTIONS.iter().find(|info| info.name == name).map(|info| info.action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_actions() {
        for (number, info) in ACTIONS.iter().enumerate() {
            assert_eq!(info.action as usize, number, "{}", info.name);
            assert_eq!(Action::by_name(info.name), Some(info.action));
        }
    }
}
