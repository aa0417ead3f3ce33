//! A view of a daemon on a serial line, driven and looked at from the other end of the cable. All times are the guest's, so
//! how busy the host is does not matter.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lazymmu_protocol::{Message, Request};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use super::{Daemon, LAZYMMU, PATIENCE, SOCKET, connect, milliseconds, workload_with};

/// Where the view is, and where the one who looks at it.
const NEAR: &str = "/dev/ttyS2";
const FAR: &str = "/dev/ttyS3";
/// What the workload says.
const SAID: &str = "/tmp/workload.txt";
const BAUD: u32 = 115_200;
const ROWS: u16 = 40;
const COLUMNS: u16 = 200;
/// A program asks where the cursor is.
const WHERE: &[u8] = b"\x1b[6n";

/// What can be told apart in the list of findings: the rule and the functions.
type Row = (String, String);

/// The terminal: shows what comes, and remembers when each finding was first on its screen.
struct Terminal {
    port: File,
    shown: Arc<Mutex<Shown>>,
}

struct Shown {
    parser: vt100::Parser,
    rows: HashMap<Row, Instant>,
    bytes: usize,
}

impl Terminal {
    fn open() -> Self {
        let port = port(FAR);
        let parser = vt100::Parser::new(ROWS, COLUMNS, 0);
        let shown = Arc::new(Mutex::new(Shown { parser, rows: HashMap::new(), bytes: 0 }));
        let (mut line, told) = (port.try_clone().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let (mut bytes, mut last) = ([0; 4096], Vec::new());
            while let Ok(count @ 1..) = line.read(&mut bytes) {
                told.lock().unwrap().take(&bytes[..count]);
                // The question may come in two parts.
                last.extend_from_slice(&bytes[..count]);
                if let Some(at) = last.windows(WHERE.len()).position(|part| part == WHERE) {
                    let (row, column) = told.lock().unwrap().parser.screen().cursor_position();
                    write!(line, "\x1b[{};{}R", row + 1, column + 1).unwrap();
                    last.drain(..at + WHERE.len());
                }
                last.drain(..last.len().saturating_sub(WHERE.len()));
            }
        });
        Self { port, shown }
    }

    fn screen(&self) -> String {
        self.shown.lock().unwrap().parser.screen().contents()
    }

    fn press(&mut self, keys: &str) {
        self.port.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen has all of these, and none of those after a `!`.
    fn wait(&self, words: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            let as_wanted = |word: &&str| match word.strip_prefix('!') {
                Some(word) => !screen.contains(word),
                None => screen.contains(*word),
            };
            if words.iter().all(as_wanted) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "waited for {words:?}:\n{screen}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Shown {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.parser.process(bytes);
        for text in self.parser.screen().rows(0, COLUMNS) {
            let words: Vec<_> = text.split_whitespace().collect();
            let functions = match &words[..] {
                [.., writer, "->", reader] => format!("{writer} -> {reader}"),
                [.., only] => (*only).to_owned(),
                [] => continue,
            };
            let rule = words.get(1).copied().unwrap_or_default().to_owned();
            self.rows.entry((rule, functions)).or_insert_with(Instant::now);
        }
    }
}

/// One end of the line, which carries bytes as they are.
fn port(name: &str) -> File {
    let port = File::options().read(true).write(true).open(name).unwrap();
    let mut mode = tcgetattr(&port).unwrap();
    mode.make_raw();
    mode.set_speed(BAUD).unwrap();
    tcsetattr(&port, OptionalActions::Now, &mode).unwrap();
    port
}

/// The view on a line as a login leaves it: it edits and echoes, and has no size.
fn view() -> (Child, File) {
    let line = File::options().read(true).write(true).open(NEAR).unwrap();
    let mut mode = tcgetattr(&line).unwrap();
    mode.set_speed(BAUD).unwrap();
    tcsetattr(&line, OptionalActions::Now, &mode).unwrap();
    let end = || Stdio::from(line.try_clone().unwrap());
    let mut view = Command::new(LAZYMMU);
    view.args(["tui", "--connect", SOCKET]).env("TERM", "vt220").stdin(end()).stdout(end()).stderr(end());
    (view.spawn().unwrap(), line)
}

/// When a client was first told of each finding, until the end.
fn client() -> thread::JoinHandle<(HashMap<Row, Instant>, u64)> {
    let mut client = connect();
    client.send(&Request::Subscribe {}).unwrap();
    thread::spawn(move || {
        let (mut told, mut lost) = (HashMap::new(), 0);
        loop {
            match client.next().unwrap() {
                Some(Message::Update(update)) => {
                    for class in update.findings {
                        let access = class.access.function;
                        let functions = match (class.write, class.opener) {
                            (Some(write), _) => format!("{} -> {access}", write.function),
                            // The end of "section of ...".
                            (None, Some(opener)) if access.starts_with('[') => opener.function,
                            (None, _) => access,
                        };
                        let row = (class.rule.into_owned(), functions);
                        told.entry(row).or_insert_with(Instant::now);
                    }
                }
                Some(Message::Status(status)) => lost = status.losses.total,
                Some(_) => {}
                None => return (told, lost),
            }
        }
    })
}

/// Looks at what a workload does; its name and what else it takes are given.
pub(crate) fn serial(workload: &[&str]) -> Value {
    let daemon = Daemon::start_confined(&[]);
    daemon.told();
    let client = client();
    let mut terminal = Terminal::open();
    let (mut view, line) = view();
    let before = terminal.wait(&["No finding so far.", "live"]);
    let begun = Instant::now();
    let said = File::create(SAID).unwrap();
    let mut working = workload_with(workload).stdout(said.try_clone().unwrap()).stderr(said).spawn().unwrap();
    let found = terminal.wait(&["read-pending"]);
    let left = Instant::now();
    let mut frames = vec![found];
    // While the workload may go on.
    for (keys, words) in [
        ("\r", &["[2 Finding]", "In the section"][..]),
        ("3", &["[3 Section]", "->"]),
        ("4", &["[4 CPUs]", "Batches"]),
        ("5", &["[5 Hooks]", "attached"]),
        ("?", &["Show the list of findings."]),
        // What follows an escape at once would belong to it.
        ("\x1b", &["[5 Hooks]", "attached", "!Show the list of findings."]),
        ("1", &["[1 Findings]", "read-pending"]),
    ] {
        terminal.press(keys);
        frames.push(terminal.wait(words));
    }
    let (back, sent) = (Instant::now(), terminal.shown.lock().unwrap().bytes);
    let done = working.wait().unwrap();
    // What was found last has time to come.
    thread::sleep(Duration::from_secs(2));
    let final_screen = terminal.screen();
    let (took, sent) = (back.elapsed(), terminal.shown.lock().unwrap().bytes - sent);
    terminal.press("q");
    let left_with = view.wait().unwrap();
    daemon.signal(rustix::process::Signal::TERM);
    let ended = daemon.end();
    let (told, lost) = client.join().unwrap();
    let shown = terminal.shown.lock().unwrap();
    let findings: Vec<_> = told
        .iter()
        .map(|((rule, functions), told)| {
            let screen = shown.rows.get(&(rule.clone(), functions.clone()));
            let after = screen.map(|screen| milliseconds(screen.saturating_duration_since(*told)));
            // Another view was on the screen.
            let away = (left..back).contains(told);
            json!({ "rule": rule, "functions": functions, "after_ms": after, "away": away,
                "into_ms": milliseconds(told.saturating_duration_since(begun)) })
        })
        .collect();
    let modes = tcgetattr(&line).unwrap().local_modes;
    json!({
        "before": before, "frames": frames, "last": final_screen, "workload": done.code(),
        "said": fs::read_to_string(SAID).unwrap(), "findings": findings,
        "lost": lost, "took_ms": milliseconds(took), "sent": sent, "code": left_with.code(), "ended": ended,
        "cooked": modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG),
        "alternate": shown.parser.screen().alternate_screen(),
    })
}
