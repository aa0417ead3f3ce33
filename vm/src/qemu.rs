//! QEMU's command line, and what must be known of the QEMU that is installed.
//!
//! Before 8.1, QEMU's translator read the guest's code before it locked the page that the code is in. If another CPU
//! changed that code at this moment, as Linux does at every static key, the old translation stayed, and was run later: a
//! breakpoint that nobody expects any more, and the kernel panics (`docs/testing.md`). With one thread for all CPUs
//! nothing runs beside the translator.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;

use crate::accelerator::Accelerator;
use crate::error::Error;
use crate::xen;

/// The QEMU in the path.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// The first release that locks a page before it translates what is in it (commit deba78709ae8).
const LOCKS_BEFORE_TRANSLATION: Version = Version(8, 1);

/// How many threads of the host emulate the guest's CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One for all.
    Single,
    /// One for each, where the host's memory is ordered strongly enough; QEMU decides that.
    Multi,
    /// One for all, and the guest's clocks count instructions, one for a nanosecond: so the guest does not feel how busy
    /// the host is, nor what an instruction costs. Where nothing in the guest runs, its clocks jump to when something will.
    Counting,
    /// The same, but where nothing runs, the clocks go as the host's do: for a guest that waits for what comes from outside,
    /// if only by a cable.
    CountingAwake,
}

impl Threads {
    /// As many as this QEMU can be trusted with. One that does not say its release is taken for an old one.
    pub fn trusted_to(program: &str) -> Self {
        match Version::of(program) {
            Some(version) if version >= LOCKS_BEFORE_TRANSLATION => Threads::Multi,
            _ => Threads::Single,
        }
    }
}

/// A release of QEMU: major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl Version {
    fn of(program: &str) -> Option<Self> {
        let output = Command::new(program).arg("--version").output().ok()?;
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// From "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)".
    fn parse(text: &str) -> Option<Self> {
        let number = text.split_once("version ")?.1.split_whitespace().next()?;
        let mut parts = number.split('.').map(str::parse);
        Some(Self(parts.next()?.ok()?, parts.next()?.ok()?))
    }
}

/// What a machine is made of, as QEMU is told.
pub(crate) struct Hardware<'a> {
    /// If there is one, it is booted, and it boots the kernel.
    pub(crate) hypervisor: Option<&'a Path>,
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: &'a Path,
    pub(crate) accelerator: Accelerator,
    pub(crate) threads: Threads,
    pub(crate) cpus: u32,
    /// In MiB.
    pub(crate) memory: u32,
    /// The kernel's command line.
    pub(crate) append: &'a str,
}

impl Hardware<'_> {
    pub(crate) fn arguments(&self) -> Vec<String> {
        let accelerator = match self.accelerator {
            Accelerator::Kvm => "kvm".to_owned(),
            Accelerator::Tcg => match self.threads {
                Threads::Single | Threads::Counting | Threads::CountingAwake => {
                    "tcg,thread=single".to_owned()
                }
                Threads::Multi => "tcg".to_owned(),
            },
        };
        let mut cpu = self.accelerator.cpu().to_owned();
        let (mut kernel, mut initrd) = (self.kernel.display().to_string(), self.initrd.display().to_string());
        let mut append = self.append.to_owned();
        if let Some(hypervisor) = self.hypervisor {
            cpu.push_str(xen::CPU);
            initrd = xen::modules(self.kernel, &append, self.initrd);
            kernel = hypervisor.display().to_string();
            xen::APPEND.clone_into(&mut append);
        }
        let (smp, memory) = (self.cpus.to_string(), self.memory.to_string());
        let clock: &[&str] = match (self.accelerator, self.threads) {
            (Accelerator::Tcg, Threads::Counting) => &["-icount", "shift=0,sleep=off"],
            (Accelerator::Tcg, Threads::CountingAwake) => &["-icount", "shift=0,sleep=on"],
            _ => &[],
        };
        [
            ["-accel", &accelerator],
            ["-cpu", &cpu],
            ["-smp", &smp],
            ["-m", &memory],
            ["-kernel", &kernel],
            ["-initrd", &initrd],
            ["-append", &append],
            ["-display", "none"],
            ["-monitor", "none"],
            ["-vga", "none"],
        ]
        .as_flattened()
        .iter()
        .chain(&["-no-user-config", "-nodefaults", "-no-reboot"])
        .chain(clock)
        .map(|word| (*word).to_owned())
        .collect()
    }
}

/// QEMU would load anything and then stay silent, so the file is looked at first (Documentation/arch/x86/boot.rst,
/// 6.12: "HdrS" at 0x202).
pub(crate) fn check_kernel(path: &Path) -> Result<(), Error> {
    let not = |why: String| Error::NotAKernel { path: path.to_owned(), why };
    let mut magic = [0; 4];
    let mut file = fs::File::open(path).map_err(|error| not(error.to_string()))?;
    file.seek(SeekFrom::Start(0x202))
        .and_then(|_| file.read_exact(&mut magic))
        .map_err(|_| not("it is too short".to_owned()))?;
    if magic != *b"HdrS" {
        return Err(not("it has no boot header".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        let of = Version::parse;
        assert_eq!(
            of("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b2)\n"),
            Some(Version(7, 2))
        );
        assert_eq!(of("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)\n"), Some(Version(10, 0)));
        assert_eq!(of("QEMU emulator version 9.2.0-rc1"), Some(Version(9, 2)));
        assert_eq!(of("something else"), None);
        assert_eq!(of("QEMU emulator version new"), None);
    }

    #[test]
    fn only_a_qemu_that_is_known_to_be_sound_gets_threads() {
        let script = |says: &str| {
            let mut file = tempfile::Builder::new();
            let file =
                file.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempfile().unwrap();
            fs::write(file.path(), format!("#!/bin/sh\necho QEMU emulator version {says}\n")).unwrap();
            file.into_temp_path()
        };
        for (says, threads) in [
            ("7.2.22", Threads::Single),
            ("8.0.4", Threads::Single),
            ("8.1.0", Threads::Multi),
            ("10.0.2", Threads::Multi),
        ] {
            assert_eq!(Threads::trusted_to(&script(says).display().to_string()), threads, "{says}");
        }
        assert_eq!(Threads::trusted_to("qemu-system-none"), Threads::Single);
    }

    #[test]
    fn the_threads_are_said_to_the_emulator_only() {
        let arguments = |accelerator, threads| {
            let file = Path::new("/x");
            let hardware = Hardware {
                hypervisor: None,
                kernel: file,
                initrd: file,
                accelerator,
                threads,
                cpus: 2,
                memory: 512,
                append: "quiet",
            };
            hardware.arguments()
        };
        assert_eq!(arguments(Accelerator::Tcg, Threads::Single)[1], "tcg,thread=single");
        assert_eq!(arguments(Accelerator::Kvm, Threads::Single)[1], "kvm");
        for (accelerator, counts) in [(Accelerator::Tcg, true), (Accelerator::Kvm, false)] {
            for threads in [Threads::Counting, Threads::CountingAwake] {
                let arguments = arguments(accelerator, threads);
                assert_eq!(arguments.iter().any(|word| word == "-icount"), counts);
            }
        }
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let why = |path: &Path| check_kernel(path).err().unwrap().to_string();
        assert!(why(file.path()).contains("too short"));
        fs::write(file.path(), [0; 0x400]).unwrap();
        assert!(why(file.path()).contains("no boot header"));
        assert!(why(Path::new("/nowhere/bzImage")).contains("No such file"));
    }
}
