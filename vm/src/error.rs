//! Everything that can keep a job from being done. Each message says what to do, and quotes the guest's console.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The last lines of the guest's console.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt(
    /// Oldest first.
    pub Vec<String>,
);

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("\n  (the guest's console said nothing)");
        }
        f.write_str("\n  the guest's console said last:")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  | {line}"))
    }
}

/// Why a machine could not do its job. The texts fit after "failed to run the machine: ".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something on the host's side could not be prepared.
    #[error("cannot {what}: {source}")]
    Prepare {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// QEMU is not installed.
    #[error(
        "{program} is not installed; on Debian `apt-get install --no-install-recommends qemu-system-x86` brings it, \
         on Fedora `dnf install qemu-system-x86-core`"
    )]
    QemuMissing {
        /// The program that was looked for.
        program: String,
    },
    /// The file is no kernel that QEMU can boot.
    #[error("{} is not a kernel that can be booted: {why}; give the bzImage of an x86-64 kernel", path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file is no hypervisor that QEMU can boot.
    #[error("{} is not a hypervisor that can be booted: {why}; give an unpacked Xen", path.display())]
    NotAHypervisor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// QEMU itself failed, not the guest.
    #[error("qemu failed ({status}): {message}")]
    Qemu {
        /// How QEMU ended.
        status: String,
        /// What it wrote to its standard error.
        message: String,
    },
    /// The kernel found no program that it could run as the first process.
    #[error("the kernel could not run its first process: {line}{console}")]
    NoInit {
        /// The kernel's line that says so.
        line: String,
        /// The console.
        console: Excerpt,
    },
    /// The first process runs, and could not set up the guest.
    #[error("the guest's first process failed to {why}{console}")]
    Init {
        /// What it failed to do and why.
        why: String,
        /// The console.
        console: Excerpt,
    },
    /// The kernel panicked.
    #[error("the guest's kernel panicked: {line}{console}")]
    Panic {
        /// What it died of and where, if it said so, and its line about the panic.
        line: String,
        /// The console.
        console: Excerpt,
    },
    /// The kernel reported a stall, and then nothing more came.
    #[error("the guest hangs: {line}, and nothing came for {} s after it{console}", silence.as_secs())]
    Stall {
        /// The kernel's line that reported the stall.
        line: String,
        /// How long nothing came.
        silence: Duration,
        /// The console.
        console: Excerpt,
    },
    /// A phase took longer than its limit.
    #[error("the guest was still {phase} after {} s; give it more time if it is only slow{console}", limit.as_secs_f32())]
    TimeOut {
        /// What the guest was doing.
        phase: &'static str,
        /// The limit of that phase.
        limit: Duration,
        /// The console.
        console: Excerpt,
    },
    /// The machine went off without a status.
    #[error("the guest went off before it said how its job ended{console}")]
    NoStatus {
        /// The console.
        console: Excerpt,
    },
    /// What came through the serial port makes no sense.
    #[error("what the guest sent is damaged: {what}{console}")]
    Damaged {
        /// What is wrong with it.
        what: String,
        /// The console.
        console: Excerpt,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_quotes_the_console() {
        let console = Excerpt(vec!["[    1.0] one".into(), "[    2.0] two".into()]);
        let text =
            Error::TimeOut { phase: "booting", limit: Duration::from_millis(1500), console }.to_string();
        assert!(text.starts_with("the guest was still booting after 1.5 s"), "{text}");
        assert!(text.ends_with("\n  | [    1.0] one\n  | [    2.0] two"), "{text}");
    }

    #[test]
    fn a_missing_qemu_says_what_to_install() {
        let text = Error::QemuMissing { program: "qemu-system-x86_64".into() }.to_string();
        assert!(
            text.contains("qemu-system-x86_64 is not installed") && text.contains("apt-get install"),
            "{text}"
        );
    }
}
