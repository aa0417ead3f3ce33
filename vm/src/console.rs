//! Watches the kernel's console: keeps its lines, and knows those that mean the end.

use std::fs::File;
use std::io::{self, Read};

use crate::error::Excerpt;

/// How many lines an error quotes.
const QUOTED: usize = 25;

/// How many lines before a panic are searched for its cause; the registers and the call trace of an oops are about 60.
const OOPS: usize = 150;

/// How many lines are kept. A kernel that complains without end must not fill the host's memory.
const KEPT: usize = 20_000;

/// A line that decides how the guest will end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The kernel found no first process.
    NoInit(String),
    /// Our first process gave up; the reason.
    InitFailed(String),
    /// The kernel panicked.
    Panic(String),
    /// The kernel believes that a CPU or RCU stands still. It may recover.
    Stall(String),
}

/// What the kernel printed so far.
pub(crate) struct Console {
    file: File,
    partial: Vec<u8>,
    lines: Vec<String>,
    notice: Option<Notice>,
}

impl Console {
    /// Follows the file that QEMU writes the first serial port to.
    pub(crate) fn new(file: File) -> Self {
        Self { file, partial: Vec::new(), lines: Vec::new(), notice: None }
    }

    /// Takes what was printed since the last time. Returns whether there was anything.
    pub(crate) fn poll(&mut self) -> io::Result<bool> {
        let before = self.partial.len();
        let new = self.file.read_to_end(&mut self.partial)?;
        debug_assert_eq!(self.partial.len(), before + new);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.line(&line);
        }
        Ok(new > 0)
    }

    /// No more will come: the last line ends without a line feed.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.poll()?;
        let rest = std::mem::take(&mut self.partial);
        if !rest.is_empty() {
            self.line(&rest);
        }
        Ok(())
    }

    fn line(&mut self, bytes: &[u8]) {
        let line: String =
            String::from_utf8_lossy(bytes).chars().filter(|c| *c == '\t' || !c.is_control()).collect();
        if let Some(notice) = classify(&line) {
            // The first cause is the cause, but a stall that went over yields to what came later.
            if matches!(self.notice, None | Some(Notice::Stall(_))) {
                self.notice = Some(notice);
            }
        }
        if self.lines.len() < KEPT {
            self.lines.push(line);
        } else if let Some(last) = self.lines.last_mut() {
            *last = line;
        }
    }

    /// The line that decides, if there was one.
    pub(crate) fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }

    /// The guest has shown that it goes on: a stall was none.
    pub(crate) fn forget_stall(&mut self) {
        if matches!(self.notice, Some(Notice::Stall(_))) {
            self.notice = None;
        }
    }

    /// Every line, oldest first.
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// What the kernel died of: the first line of the oops before its panic, and where that was.
    pub(crate) fn oops(&self) -> Option<String> {
        let lines = &self.lines[self.oops_at()?..];
        let what = without_time(lines.first()?);
        let at = lines.iter().find_map(|line| without_time(line).strip_prefix("RIP: "));
        Some(match at.and_then(|at| at.split_once(':')) {
            Some((_, at)) => format!("{what}, at {at}"),
            None => what.to_owned(),
        })
    }

    fn panic_at(&self) -> Option<usize> {
        self.lines.iter().position(|line| is_panic(line))
    }

    fn oops_at(&self) -> Option<usize> {
        let panic = self.panic_at()?;
        (panic.saturating_sub(OOPS)..panic).find(|&index| is_oops(&self.lines[index]))
    }

    /// The last lines, for an error: all from the beginning of the oops, or from the panic, if the kernel died of one.
    pub(crate) fn excerpt(&self) -> Excerpt {
        let last = self.lines.len().saturating_sub(QUOTED);
        let from = self.oops_at().or_else(|| self.panic_at()).map_or(last, |died| died.min(last));
        let partial = String::from_utf8_lossy(&self.partial);
        let partial = partial.trim();
        let mut lines = self.lines[from..].to_vec();
        if !partial.is_empty() {
            lines.push(partial.to_owned());
        }
        Excerpt(lines)
    }
}

/// Lines in which the kernel complains about itself without ending: a warning, a bug, an oops.
pub(crate) fn is_complaint(line: &str) -> bool {
    ["WARNING: ", "UBSAN: "].iter().any(|start| without_time(line).starts_with(start)) || is_oops(line)
}

/// Lines with which an oops begins.
fn is_oops(line: &str) -> bool {
    let text = without_time(line);
    // The last two have "Oops: " before them since 6.10 (die_addr() and die() in arch/x86/kernel/dumpstack.c).
    ["BUG: ", "Oops: ", "kernel BUG at ", "general protection fault", "int3: ", "invalid opcode: "]
        .iter()
        .any(|start| text.starts_with(start))
}

fn classify(line: &str) -> Option<Notice> {
    let text = without_time(line);
    let owned = || text.to_owned();
    // init/main.c and init/do_mounts.c, 6.12 and 7.2: run_init_process(), kernel_init(), and what is tried instead
    // where the initramfs has no /init.
    let no_init = ["Failed to execute /init", "No working init found", "VFS: Unable to mount root fs"];
    if no_init.iter().any(|start| text.contains(start)) {
        return Some(Notice::NoInit(owned()));
    }
    if let Some(why) = text.strip_prefix("init: failed to ") {
        return Some(Notice::InitFailed(why.to_owned()));
    }
    if is_panic(text) {
        return Some(Notice::Panic(owned()));
    }
    // kernel/rcu/tree_stall.h, kernel/watchdog.c, kernel/hung_task.c
    let stalls = ["detected stalls on", "self-detected stall", "BUG: soft lockup", "blocked for more than"];
    stalls.iter().any(|part| text.contains(part)).then(|| Notice::Stall(owned()))
}

fn is_panic(line: &str) -> bool {
    // The second one is Xen's own (panic() in its drivers/char/console.c, 4.17).
    line.contains("Kernel panic - not syncing") || line.starts_with("(XEN) Panic on CPU ")
}

/// A line without the time that printk puts before it.
fn without_time(line: &str) -> &str {
    let trimmed = line.trim();
    let rest = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match rest {
        Some((time, rest)) if time.trim().parse::<f64>().is_ok() => rest.trim_start(),
        _ => trimmed,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn console(text: &str) -> (Console, File) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = file.reopen().unwrap();
        let mut console = Console::new(file.reopen().unwrap());
        writer.write_all(text.as_bytes()).unwrap();
        console.poll().unwrap();
        (console, writer)
    }

    #[test]
    fn the_first_cause_is_kept() {
        let (console, _) = console(
            "[    2.1] Failed to execute /init (error -8)\r\n\
             [    2.2] Kernel panic - not syncing: No working init found.\r\n",
        );
        let expected = "Failed to execute /init (error -8)".to_owned();
        assert_eq!(console.notice(), Some(&Notice::NoInit(expected)));
        assert_eq!(console.lines().len(), 2);
    }

    #[test]
    fn lines_come_together_from_pieces() {
        let (mut console, mut writer) = console("[    1.0] Kernel pan");
        assert_eq!(console.notice(), None);
        assert_eq!(console.excerpt().0, ["[    1.0] Kernel pan"]);
        writer.write_all(b"ic - not syncing: x").unwrap();
        assert!(console.poll().unwrap());
        assert!(!console.poll().unwrap());
        console.end().unwrap();
        assert_eq!(console.notice(), Some(&Notice::Panic("Kernel panic - not syncing: x".into())));
    }

    #[test]
    fn a_stall_yields_to_a_panic_and_is_forgotten() {
        let stall = "[   30.0] rcu: INFO: rcu_sched self-detected stall on CPU\n";
        let (mut over, _) = console(stall);
        assert!(matches!(over.notice(), Some(Notice::Stall(_))));
        over.forget_stall();
        assert_eq!(over.notice(), None);
        let (died, _) = console(&format!("{stall}[   31.0] Kernel panic - not syncing: hung\n"));
        assert!(matches!(died.notice(), Some(Notice::Panic(_))));
    }

    #[test]
    fn what_a_kernel_died_of_is_quoted_whole() {
        let trace = "[    4.97]  copy_pte_range+0x1/0x2\n".repeat(60);
        let text = format!(
            "[    2.4] WARNING: something else\n[    4.96] Oops: int3: 0000 [#1] SMP NOPTI\n\
             [    4.96] RIP: 0010:__alloc_pages_noprof+0x184/0x310\n{trace}\
             [    4.98] RIP: 0010:other+0x1/0x2\n\
             [    4.99] Kernel panic - not syncing: Fatal exception in interrupt\n"
        );
        let (dead, _) = console(&text);
        let expected = "Oops: int3: 0000 [#1] SMP NOPTI, at __alloc_pages_noprof+0x184/0x310";
        assert_eq!(dead.oops().as_deref(), Some(expected));
        let quoted = dead.excerpt().0;
        assert!(quoted[0].contains("Oops: int3"), "{quoted:?}");
        assert_eq!(quoted.len(), 64);
    }

    #[test]
    fn a_panic_without_an_oops_is_quoted_as_any_other_end() {
        let (dead, _) =
            console("[    1.0] one\n[    2.0] Kernel panic - not syncing: Attempted to kill init!\n");
        assert_eq!(dead.oops(), None);
        assert_eq!(dead.excerpt().0.len(), 2);
        let trace = "[    2.1]  do_exit+0x1/0x2\n".repeat(60);
        let (dead, _) = console(&format!("[    1.0] one\n[    2.0] Kernel panic - not syncing: x\n{trace}"));
        let quoted = dead.excerpt().0;
        assert!(quoted[0].contains("not syncing: x") && quoted.len() == 61, "{quoted:?}");
    }

    #[test]
    fn ordinary_lines_decide_nothing() {
        let text =
            "[    0.0] Linux version 7.2.13\n[    0.1] rcu: Hierarchical RCU implementation.\ninit: exit 1\n";
        let (console, _) = console(text);
        assert_eq!(console.notice(), None);
        assert!(!console.lines().iter().any(|line| is_complaint(line)));
    }

    #[test]
    fn complaints_are_known() {
        assert!(is_complaint("[    2.0] WARNING: CPU: 0 PID: 1 at mm/memory.c:905 copy_pte_range+0x1/0x2"));
        assert!(is_complaint("[   12.0] BUG: kernel NULL pointer dereference, address: 0"));
        assert!(is_complaint("[    4.9] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI"));
        assert!(is_complaint("[    4.9] int3: 0000 [#1] PREEMPT SMP NOPTI"));
        assert!(!is_complaint("[    2.0] x86/fpu: WARNING: none"));
    }
}
