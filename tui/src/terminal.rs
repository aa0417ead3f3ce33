//! The terminal: how it is set up, and how it is always given back, also by a panic.

use std::io::{self, Stdout, Write, stdout};
use std::mem::ManuallyDrop;
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::cursor::{self, Hide, MoveTo, Show};
use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use crossterm::execute;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{Winsize, tcsetwinsize};

/// Whether the terminal is ours at this time.
static OURS: AtomicBool = AtomicBool::new(false);
/// Whether a thread panicked while it was.
static PANICKED: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The columns and rows of a terminal that does not say how large it is.
const USUAL: (u16, u16) = (80, 24);

/// A process that nobody can stop, such as the first of a machine, goes on after this.
const STOPPED_BY: Duration = Duration::from_secs(1);

/// The terminal while it is ours. Dropped, it is given back.
pub(crate) struct Screen {
    /// Dropped by nobody at the end: it would say on stderr that it cannot show the cursor of a terminal that is gone, and
    /// panic where that is the same one.
    pub(crate) terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    mouse: bool,
    /// Whether the system did not know its size, so that the terminal was asked.
    asked: bool,
}

impl Screen {
    pub(crate) fn new(mouse: bool) -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if OURS.load(Ordering::Acquire) {
                    PANICKED.store(true, Ordering::Release);
                    give_back();
                }
                before(info);
            }));
        });
        take(mouse)?;
        let asked = size().and_then(|(columns, rows)| {
            let unknown = columns == 0 || rows == 0;
            if unknown { ask_size().map(|()| true) } else { Ok(false) }
        });
        let asked = asked.inspect_err(|_| give_back())?;
        let terminal = Terminal::new(CrosstermBackend::new(stdout()));
        let terminal = terminal.inspect_err(|_| give_back())?;
        Ok(Self { terminal: ManuallyDrop::new(terminal), mouse, asked })
    }

    /// Asks for the size again where nobody tells when it changes. Returns columns and rows.
    pub(crate) fn size(&self) -> io::Result<(u16, u16)> {
        if self.asked {
            ask_size()?;
        }
        size()
    }

    /// Switches the mouse on or off.
    pub(crate) fn set_mouse(&mut self, on: bool) -> io::Result<()> {
        self.mouse = on;
        if on { execute!(stdout(), EnableMouseCapture) } else { execute!(stdout(), DisableMouseCapture) }
    }

    /// Gives the terminal back, stops until somebody says to go on, and takes it again.
    ///
    /// `go_on` becomes true by SIGCONT.
    pub(crate) fn suspend(&mut self, go_on: &AtomicBool) -> io::Result<()> {
        give_back();
        go_on.store(false, Ordering::Release);
        // The whole job stops, as the shell expects it of the key.
        kill_current_process_group(Signal::STOP)?;
        // Another thread may get the signal first, and this one run on for a moment.
        let began = Instant::now();
        while !go_on.swap(false, Ordering::AcqRel) && began.elapsed() < STOPPED_BY {
            thread::sleep(Duration::from_millis(1));
        }
        self.again()
    }

    /// Takes the terminal again after others may have used it.
    pub(crate) fn again(&mut self) -> io::Result<()> {
        take(self.mouse)?;
        self.redraw()
    }

    /// Forgets what is on the screen, so that the next frame draws all of it. The terminal's own way asks for the place of
    /// the cursor, which not every terminal answers.
    pub(crate) fn redraw(&mut self) -> io::Result<()> {
        execute!(stdout(), Clear(ClearType::All))?;
        *self.terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        Ok(())
    }

    /// Puts text on the clipboard, if the terminal knows how to.
    pub(crate) fn copy(text: &str) -> io::Result<()> {
        execute!(stdout(), crossterm::clipboard::CopyToClipboard::to_clipboard_from(text))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Whether a thread panicked; what it said is on the terminal.
pub(crate) fn has_panicked() -> bool {
    PANICKED.load(Ordering::Acquire)
}

/// The system does not know how large the terminal at the end of a serial line is. The terminal tells how far its cursor can
/// go, as resize(1) has it; from then on the system knows it, for other programs as well.
fn ask_size() -> io::Result<()> {
    execute!(stdout(), MoveTo(u16::MAX - 1, u16::MAX - 1))?;
    // One that does not answer is waited for two seconds.
    let (columns, rows) = cursor::position().map_or(USUAL, |(column, row)| (column + 1, row + 1));
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(stdout(), size)?)
}

fn take(mouse: bool) -> io::Result<()> {
    enable_raw_mode()?;
    OURS.store(true, Ordering::Release);
    let set_up = execute!(stdout(), EnterAlternateScreen, Hide);
    let set_up = set_up.and_then(|()| if mouse { execute!(stdout(), EnableMouseCapture) } else { Ok(()) });
    set_up.inspect_err(|_| give_back())
}

/// Gives the terminal back once. What fails here cannot be mended.
fn give_back() {
    if OURS.swap(false, Ordering::AcqRel) {
        let _ = execute!(stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
        let _ = stdout().flush();
    }
}
