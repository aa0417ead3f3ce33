//! What runs the guest's instructions: the CPU itself, or an emulator.
//!
//! `/dev/kvm` may be there and still not boot a guest (in many nested machines), so the only test that counts is
//! to boot one. The answer is kept, since the test costs seconds where it fails.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::initramfs::Initramfs;
use crate::job::{Job, JobStatus};
use crate::machine::{Limits, Machine};

/// How the guest is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the CPU, with the host kernel's help.
    Kvm,
    /// By QEMU's translator: slower, works everywhere.
    Tcg,
}

impl Accelerator {
    /// The name that QEMU has for it.
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }

    /// The CPU model that goes with it.
    pub(crate) fn cpu(self) -> &'static str {
        match self {
            Accelerator::Kvm => "host",
            // With cmpxchg16b, QEMU 7.2's translator corrupted 6.12 at boot about once in twelve times.
            Accelerator::Tcg => "max,cx16=off",
        }
    }

    /// KVM if a guest of this kernel and these files, which have a first process, really boots on it. The answer is kept
    /// in the file `answer`, for this boot of the host.
    pub fn detect(kernel: &Path, initramfs: &Initramfs, answer: &Path) -> Self {
        if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return Accelerator::Tcg;
        }
        let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let kept = fs::read_to_string(answer).unwrap_or_default();
        if let Some(known) = parse(&kept, host.trim()) {
            return known;
        }
        let found = if boots(kernel, initramfs) { Accelerator::Kvm } else { Accelerator::Tcg };
        // Without the file the test is only done again.
        let _ = fs::write(answer, format!("{} {}\n", host.trim(), found.name()));
        found
    }
}

fn parse(kept: &str, host: &str) -> Option<Accelerator> {
    let (boot, name) = kept.trim().split_once(' ')?;
    let accelerator = [Accelerator::Kvm, Accelerator::Tcg].into_iter().find(|one| one.name() == name)?;
    (boot == host).then_some(accelerator)
}

/// Boots, does nothing, and ends well, within ten seconds. A guest that works on KVM takes one.
fn boots(kernel: &Path, initramfs: &Initramfs) -> bool {
    let limits = Limits { boot: Duration::from_secs(10), ..Limits::default() };
    let machine = Machine::new(kernel).accelerator(Accelerator::Kvm).limits(limits);
    let finished = machine.run(initramfs, &Job::default(), &mut |_| ());
    finished.is_ok_and(|finished| finished.status == JobStatus::Exit(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_answer_holds_for_its_boot_only() {
        assert_eq!(parse("abc kvm\n", "abc"), Some(Accelerator::Kvm));
        assert_eq!(parse("abc tcg\n", "abc"), Some(Accelerator::Tcg));
        assert_eq!(parse("abc kvm\n", "abd"), None);
        assert_eq!(parse("abc hvf\n", "abc"), None);
        assert_eq!(parse("", ""), None);
    }
}
