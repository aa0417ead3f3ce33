//! The terminal itself: a process on a pseudo-terminal, whose screen an emulator shows.
//!
//! The process is this test binary again, with the test `child` alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod sample;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lazymmu_report::Filter;
use lazymmu_tui::source::{About, Answer, Request, Snapshot, Source};
use lazymmu_tui::{End, Look, run, script};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};

/// How long anything may take; machines may be slow.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where the process finds what is to be typed first.
const KEYS: &str = "LAZYMMU_TEST_KEYS";

/// By this, a program asks where the cursor is.
const WHERE: &[u8] = b"\x1b[6n";

/// A source that panics when it is asked for a moment.
struct Fragile<S>(S);

impl<S: Source> Source for Fragile<S> {
    fn about(&self) -> &About {
        self.0.about()
    }
    fn snapshot(&mut self) -> Arc<Snapshot> {
        self.0.snapshot()
    }
    fn request(&mut self, request: Request) {
        assert!(!matches!(request, Request::Moment(_)), "it was asked for a moment");
        self.0.request(request);
    }
    fn answers(&mut self) -> Vec<Answer> {
        self.0.answers()
    }
    fn select(&mut self, filter: Option<Filter>) -> Result<(), String> {
        self.0.select(filter)
    }
    fn is_busy(&self) -> bool {
        self.0.is_busy()
    }
}

/// What runs on the pseudo-terminal. Only started by the other tests.
#[test]
#[ignore = "it is the process that the other tests start"]
fn child() {
    let keys = script(&std::env::var(KEYS).unwrap_or_default()).unwrap();
    match run(&mut Fragile(sample::source()), Look::default(), None, &keys).unwrap() {
        End::Quit => {}
        End::Signal(signal) => std::process::exit(128 + signal),
    }
}

/// A process on a terminal.
struct Terminal {
    controller: Option<File>,
    /// Who reads what it shows, until it is told to leave off.
    reader: Option<JoinHandle<()>>,
    leave_off: Arc<AtomicBool>,
    /// Keeps the terminal alive, and tells its modes.
    device: OwnedFd,
    child: Child,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn start() -> Self {
        Self::start_with((24, 80), "")
    }

    /// As large as the system takes it for, in rows and columns. The screen has 24 rows and 80 columns, and says so if it is
    /// asked where the cursor is.
    fn start_with((rows, columns): (u16, u16), keys: &str) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let open = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let device: OwnedFd = open().into();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&device, size).unwrap();
        // setsid makes it a session of its own with this terminal.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child", "--nocapture"])
            .env("TERM", "xterm-256color")
            .env("RUST_BACKTRACE", "0")
            .env(KEYS, keys)
            .stdin(Stdio::from(open()))
            .stdout(Stdio::from(open()))
            .stderr(Stdio::from(open()))
            .spawn()
            .unwrap();
        let controller = File::from(controller);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(24, 80, 0)));
        let (mut output, shown) = (controller.try_clone().unwrap(), Arc::clone(&screen));
        let leave_off = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&leave_off);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while !is_over.load(Ordering::Acquire) {
                let time = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                if poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&time)).unwrap() == 0 {
                    continue;
                }
                let Ok(count @ 1..) = output.read(&mut bytes) else { break };
                let mut shown = shown.lock().unwrap();
                shown.process(&bytes[..count]);
                // It comes in one piece: it is written and flushed alone.
                if bytes[..count].ends_with(WHERE) {
                    let (row, column) = shown.screen().cursor_position();
                    write!(output, "\x1b[{};{}R", row + 1, column + 1).unwrap();
                }
            }
        });
        Self { controller: Some(controller), reader: Some(reader), leave_off, device, child, screen }
    }

    fn type_in(&mut self, keys: &str) {
        self.controller.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// The other end goes away, as when a connection breaks.
    fn hang_up(&mut self) {
        self.leave_off.store(true, Ordering::Release);
        self.reader.take().unwrap().join().unwrap();
        self.controller = None;
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(rows, columns);
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.device, size).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// Waits until the screen is as wanted.
    fn wait(&self, what: &str, wanted: impl Fn(&vt100::Screen) -> bool) {
        let began = Instant::now();
        while !wanted(self.screen.lock().unwrap().screen()) {
            if began.elapsed() > PATIENCE {
                let screen = self.screen.lock().unwrap().screen().clone();
                let (alternate, hidden) = (screen.alternate_screen(), screen.hide_cursor());
                let (mouse, cooked) = (screen.mouse_protocol_mode(), self.is_cooked());
                let contents = screen.contents();
                panic!(
                    "waited for {what}: alternate {alternate}, hidden {hidden}, mouse {mouse:?}, cooked {cooked}\n{contents}"
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn shows(&self, text: &str) {
        self.wait(text, |screen| screen.alternate_screen() && screen.contents().contains(text));
    }

    /// Whether the terminal gives whole lines and echoes, as it does for a shell.
    fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.device).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits until the terminal is as before.
    fn is_given_back(&self) {
        self.wait("the terminal to be given back", |screen| {
            let mouse = screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None;
            !screen.alternate_screen() && !screen.hide_cursor() && !mouse && self.is_cooked()
        });
    }

    fn end(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it did not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit(')').next().unwrap().trim().chars().next().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_takes_the_terminal_follows_its_size_and_gives_it_back() {
    let mut terminal = Terminal::start();
    terminal.shows("read-pending");
    assert!(!terminal.is_cooked());
    terminal.wait("the mouse", |screen| screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None);
    terminal.type_in("\r");
    terminal.shows("[2 Finding]");
    // The call paths are side by side only where there is room.
    terminal.wait("one path", |screen| !screen.contents().contains(" │ ptep_get"));
    terminal.resize(40, 120);
    terminal.shows(" │ ptep_get of PTE");
    terminal.type_in("M");
    terminal.wait("no mouse", |screen| screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None);
    terminal.type_in("q");
    assert!(terminal.end().success());
    terminal.is_given_back();
}

#[test]
fn a_terminal_without_a_size_is_asked_for_it() {
    let mut terminal = Terminal::start_with((0, 0), "");
    terminal.shows("read-pending");
    let size = tcgetwinsize(&terminal.device).unwrap();
    assert_eq!((size.ws_row, size.ws_col), (24, 80));
    // Nobody tells when it changes; it is asked again when all is drawn anew.
    terminal.screen.lock().unwrap().screen_mut().set_size(40, 120);
    terminal.type_in("\x0c\r");
    terminal.shows(" │ ptep_get of PTE");
    assert_eq!(tcgetwinsize(&terminal.device).unwrap().ws_col, 120);
    terminal.type_in("q");
    assert!(terminal.end().success());
    terminal.is_given_back();
}

#[test]
fn keys_that_were_given_are_typed_first() {
    let mut terminal = Terminal::start_with((24, 80), "<Enter>3");
    terminal.shows("[3 Section]");
    terminal.type_in("1");
    terminal.shows("[1 Findings]");
    drop(terminal);
    let mut terminal = Terminal::start_with((24, 80), "jq");
    assert!(terminal.end().success());
    terminal.is_given_back();
}

#[test]
fn it_is_suspended_and_goes_on() {
    let mut terminal = Terminal::start();
    terminal.shows("read-pending");
    for by_signal in [false, true] {
        if by_signal {
            kill_process(terminal.pid(), Signal::TSTP).unwrap();
        } else {
            terminal.type_in("\x1a");
        }
        let began = Instant::now();
        while terminal.state() != 'T' {
            assert!(began.elapsed() < PATIENCE, "it did not stop");
            thread::sleep(Duration::from_millis(5));
        }
        terminal.is_given_back();
        kill_process(terminal.pid(), Signal::CONT).unwrap();
        terminal.shows("read-pending");
        assert!(!terminal.is_cooked());
    }
    terminal.type_in("q");
    assert!(terminal.end().success());
}

#[test]
fn a_signal_that_ends_it_leaves_the_terminal_as_it_was() {
    let mut terminal = Terminal::start();
    terminal.shows("read-pending");
    kill_process(terminal.pid(), Signal::TERM).unwrap();
    assert_eq!(terminal.end().code(), Some(128 + 15));
    terminal.is_given_back();
}

#[test]
fn without_its_terminal_it_ends() {
    let mut terminal = Terminal::start();
    terminal.shows("read-pending");
    terminal.hang_up();
    assert_eq!(terminal.end().code(), Some(128 + 1));
}

#[test]
fn a_panic_is_read_on_the_terminal_as_it_was() {
    let mut terminal = Terminal::start();
    terminal.shows("read-pending");
    terminal.type_in("}");
    assert!(!terminal.end().success());
    terminal.is_given_back();
    let said = "it was asked for a moment";
    terminal.wait(said, |screen| screen.contents().replace('\n', "").contains(said));
}
