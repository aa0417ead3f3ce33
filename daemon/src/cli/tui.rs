//! `tui`: what it takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lazymmu_tui::Key;

use super::{FilterArgs, SuppressArgs};

/// `tui`
#[derive(Debug, Args)]
pub struct TuiArgs {
    /// The trace or scenario (docs/scenarios.md); without it, the sample inside this binary.
    #[arg(value_name = "TRACE")]
    pub trace: Option<PathBuf>,

    /// Show what a daemon sees that listens at this socket, live.
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["trace", "FilterArgs", "SuppressArgs"])]
    pub connect: Option<PathBuf>,

    /// The kernel's source tree, to show the code around the lines of call paths.
    #[arg(long, value_name = "DIR")]
    pub source: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub look: LookArgs,

    /// Print one frame of this size as text and leave; `80x24` or larger is best.
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    pub dump_frame: Option<(u16, u16)>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub filter: FilterArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub suppress: SuppressArgs,
}

/// How the view looks, and what is typed in it.
#[derive(Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Of the view")]
pub struct LookArgs {
    /// The settings (TOML; see docs/tui.md); without it, lazymmu/tui.toml in the user's configuration folder, if it is
    /// there.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,

    /// The colours; mono without any.
    #[arg(long, value_enum, value_name = "THEME")]
    pub theme: Option<Theme>,

    /// Draw with ASCII characters only.
    #[arg(long)]
    pub ascii: bool,

    /// Leave the mouse to the terminal.
    #[arg(long)]
    pub no_mouse: bool,

    /// Type these keys first, such as `jj<Enter>/copy<Enter>`.
    #[arg(long, value_name = "SCRIPT", value_parser = parse_keys)]
    pub keys: Option<Script>,
}

impl LookArgs {
    /// The keys to type.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        self.keys.as_ref().map_or(&[], |script| &script.0)
    }
}

/// Keys to type.
#[derive(Clone, Debug, PartialEq)]
pub struct Script(pub Vec<Key>);

/// A set of colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Theme {
    /// For a dark terminal.
    Dark,
    /// For a light one.
    Light,
    /// No colour.
    Mono,
}

fn parse_size(text: &str) -> Result<(u16, u16), String> {
    let (width, height) = text.split_once('x').ok_or("not a size such as 120x40")?;
    let cells = |text: &str| text.parse::<u16>().ok().filter(|cells| (1..=1000).contains(cells));
    cells(width)
        .zip(cells(height))
        .ok_or_else(|| "not a size such as 120x40, of at most 1000x1000".to_owned())
}

fn parse_keys(text: &str) -> Result<Script, String> {
    lazymmu_tui::script(text).map(Script)
}
