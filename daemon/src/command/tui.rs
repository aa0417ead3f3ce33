//! `tui`: a trace on the screen.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use lazymmu_trace::Reader;
use lazymmu_tui::source::{Bytes, ConnectSource, Judging, Open, Source, TraceSource};
use lazymmu_tui::{Dump, End, Look, RunError, Theme};

use crate::cli::{self, Color, LookArgs, TuiArgs};
use crate::input;
use crate::policy::{self, Policy};
use crate::session::Output;
use crate::{ExitStatus, Failure};

pub(super) fn run(args: &TuiArgs, color: Color) -> Result<ExitStatus> {
    let look = look(&args.look, color, args.dump_frame.is_some())?;
    if let Some(socket) = &args.connect {
        return show(&mut ConnectSource::open(socket).map_err(usage)?, args, look, color);
    }
    let policy = Policy::new(policy::filter(&args.filter, None)?, &args.suppress)?;
    let judging = Judging { suppressions: policy.suppressions, today: policy.today, filter: policy.filter };
    let path = args.trace.clone();
    let name =
        path.as_deref().map_or_else(|| "embedded sample".to_owned(), |path| path.display().to_string());
    // Says what is wrong with the file, and with which status, before anything is drawn.
    drop(input::Input::reopen(args.trace.as_deref())?);
    let open: Open = Arc::new(move || reader(path.as_deref()).map_err(|error| error.to_string()));
    let mut source = TraceSource::open(name, open, judging).map_err(usage)?;
    show(&mut source, args, look, color)
}

fn reader(path: Option<&Path>) -> Result<Reader<Box<dyn Bytes>>> {
    let input::Bytes { name, source, .. } = input::Bytes::open(path)?;
    let source: Box<dyn Bytes> = Box::new(source);
    Ok(Reader::new(name, source).map_err(input::unreadable)?)
}

/// On the screen, or as one frame.
fn show(source: &mut dyn Source, args: &TuiArgs, look: Look, color: Color) -> Result<ExitStatus> {
    let sources = args.source.as_deref();
    if let Some(size) = args.dump_frame {
        let dump = Dump {
            size,
            keys: args.look.keys(),
            colour: Output::style(color) == lazymmu_report::Style::Colour,
        };
        let frame = lazymmu_tui::dump(source, look, sources, &dump).map_err(usage)?;
        Output::print(&frame)?;
        return Ok(ExitStatus::Clean);
    }
    match lazymmu_tui::run(source, look, sources, args.look.keys()) {
        Ok(End::Quit) => Ok(ExitStatus::Clean),
        Ok(End::Signal(signal)) => {
            // As if nobody had caught it: who started this sees how it ended.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            Ok(ExitStatus::Clean)
        }
        Err(error @ RunError::Failed) => Err(Failure::to(ExitStatus::Bug, error).into()),
        Err(error) => Err(Failure::to(ExitStatus::Usage, error).into()),
    }
}

/// Colours, characters, mouse and keys: what the command line says comes before what the settings say.
/// A frame for a file or a bug report does not depend on whose machine it is.
pub(super) fn look(args: &LookArgs, color: Color, is_frame: bool) -> Result<Look> {
    let mut look = Look::default();
    if !is_frame {
        look.glyphs.ascii = !has_utf8();
    }
    let settings = match (&args.settings, is_frame) {
        (Some(path), _) => Some(path.clone()),
        (None, true) => None,
        (None, false) => own_settings().filter(|path| path.exists()),
    };
    if let Some(path) = settings {
        let name = path.display();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| usage(format!("read the settings {name}: {error}")))?;
        look.patch(&text).map_err(|error| usage(format!("use the settings {name}: {error}")))?;
    }
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match (args.theme, color) {
        (Some(cli::Theme::Dark), _) => look.theme = Theme::Dark,
        (Some(cli::Theme::Light), _) => look.theme = Theme::Light,
        (Some(cli::Theme::Mono), _) | (None, Color::Never) => look.theme = Theme::Mono,
        (None, Color::Auto) if refused => look.theme = Theme::Mono,
        (None, Color::Auto | Color::Always) => {}
    }
    look.glyphs.ascii |= args.ascii;
    look.mouse &= !args.no_mouse;
    Ok(look)
}

fn usage(what: impl Into<String>) -> Failure {
    Failure::new(ExitStatus::Usage, format!("failed to {}", what.into()))
}

fn own_settings() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(folder.join("lazymmu/tui.toml"))
}

/// Whether the terminal shows more than ASCII, as far as the environment tells.
fn has_utf8() -> bool {
    if !io::stdout().is_terminal() {
        return true;
    }
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let set = names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    set.is_some_and(|value| {
        let value = value.to_ascii_uppercase();
        value.contains("UTF-8") || value.contains("UTF8")
    })
}
