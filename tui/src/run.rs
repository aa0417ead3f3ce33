//! The loop: what is typed and what the source tells go to the state, and the state to the screen.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::event::{self, Event, KeyEventKind, MouseButton, MouseEventKind};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use thiserror::Error;

use crate::drive::Driver;
use crate::keyboard::{Keyboard, Typed};
use crate::keys::Key;
use crate::source::{Kind, Source};
use crate::state::{Effect, Input, Look};
use crate::terminal::{Screen, has_panicked};
use crate::view::draw;

/// How long is waited for a key before the source is asked again,
const PAUSE: Duration = Duration::from_millis(50);
/// and while an answer is expected.
const SHORT_PAUSE: Duration = Duration::from_millis(5);
/// Lines by which the wheel moves.
const WHEEL: i32 = 3;

/// What went wrong.
#[derive(Debug, Error)]
pub enum RunError {
    /// There is no terminal.
    #[error("show this: stdout is no terminal; --dump-frame 120x40 prints one frame")]
    NoTerminal,
    /// The terminal failed.
    #[error("use the terminal: {0}")]
    Terminal(#[from] io::Error),
    /// A thread failed; what it said stands above.
    #[error("go on: a part of it has failed")]
    Failed,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The user left.
    Quit,
    /// A signal asked for it, or its terminal went away, which is the same as SIGHUP.
    Signal(i32),
}

/// The signals that came since they were last asked for.
struct Signals {
    end: Vec<(i32, Arc<AtomicBool>)>,
    stop: Arc<AtomicBool>,
    go_on: Arc<AtomicBool>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let flag = |signal| -> io::Result<Arc<AtomicBool>> {
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
            Ok(flag)
        };
        let end = [SIGTERM, SIGHUP, SIGINT].into_iter().map(|signal| Ok((signal, flag(signal)?)));
        Ok(Self { end: end.collect::<io::Result<_>>()?, stop: flag(SIGTSTP)?, go_on: flag(SIGCONT)? })
    }

    fn end(&self) -> Option<i32> {
        self.end.iter().find(|(_, flag)| flag.load(Ordering::Acquire)).map(|(signal, _)| *signal)
    }
}

/// Shows the source until the user leaves. The keys are typed first, each when what came of those before is there.
///
/// # Errors
///
/// The terminal cannot be used, or a thread failed.
pub fn run(
    source: &mut dyn Source,
    look: Look,
    sources: Option<&Path>,
    keys: &[Key],
) -> Result<End, RunError> {
    if !io::stdout().is_terminal() {
        return Err(RunError::NoTerminal);
    }
    let signals = Signals::new()?;
    let live = source.about().kind == Kind::Live;
    let keyboard = Keyboard::new()?;
    let mut screen = Screen::new(look.mouse)?;
    let size = crossterm::terminal::size()?;
    let mut driver = Driver::new(source, look, sources, size);
    let mut keys = keys.iter();
    let mut dirty = true;
    loop {
        if has_panicked() || driver.has_failed() {
            return Err(RunError::Failed);
        }
        if let Some(signal) = signals.end() {
            return Ok(End::Signal(signal));
        }
        if signals.stop.swap(false, Ordering::AcqRel) {
            screen.suspend(&signals.go_on)?;
            dirty = true;
        }
        if signals.go_on.swap(false, Ordering::AcqRel) {
            screen.again()?;
            dirty = true;
        }
        dirty |= driver.poll();
        let rests = !driver.is_busy() && (live || driver.is_settled());
        if let Some(key) = rests.then(|| keys.next()).flatten() {
            if let Some(end) = take(Input::Key(*key), &mut driver, &mut screen, &signals)? {
                return Ok(end);
            }
            dirty = true;
        }
        if dirty {
            screen.terminal.draw(|frame| draw(&driver.state, frame))?;
            dirty = false;
        }
        let pause = if driver.is_busy() || keys.len() > 0 { SHORT_PAUSE } else { PAUSE };
        let mut typed = keyboard.wait(pause)?;
        // All that was typed meanwhile is taken in before the next frame.
        while typed == Typed::Something {
            if let Some(input) = input(&event::read()?) {
                dirty = true;
                if let Some(end) = take(input, &mut driver, &mut screen, &signals)? {
                    return Ok(end);
                }
            }
            typed = keyboard.wait(Duration::ZERO)?;
        }
        if typed == Typed::Gone {
            // The signal may be on its way, or go to somebody else.
            return Ok(End::Signal(SIGHUP));
        }
    }
}

/// Takes in an input, and does to the terminal what comes of it. Returns whether that is the end.
fn take(
    input: Input,
    driver: &mut Driver<'_>,
    screen: &mut Screen,
    signals: &Signals,
) -> io::Result<Option<End>> {
    for effect in driver.input(input) {
        match effect {
            Effect::Quit => return Ok(Some(End::Quit)),
            Effect::Copy(text) => Screen::copy(&text)?,
            Effect::Mouse(on) => screen.set_mouse(on)?,
            Effect::Redraw => {
                let (width, height) = screen.size()?;
                screen.redraw()?;
                // Nothing else comes of that.
                driver.input(Input::Resize(width, height));
            }
            Effect::Suspend => screen.suspend(&signals.go_on)?,
            Effect::Request(_) | Effect::Select(_) | Effect::Save { .. } | Effect::ReadSource(_) => {}
        }
    }
    Ok(None)
}

fn input(event: &Event) -> Option<Input> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(Input::Key(Key::of(key))),
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) => Some(Input::Click(mouse.column, mouse.row)),
            MouseEventKind::ScrollDown => Some(Input::Wheel(WHEEL)),
            MouseEventKind::ScrollUp => Some(Input::Wheel(-WHEEL)),
            _ => None,
        },
        Event::Resize(width, height) => Some(Input::Resize(*width, *height)),
        _ => None,
    }
}
