//! What `cargo xtask test` has built, as it says in the environment, and machines made of it.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lazymmu_vm::{Accelerator, Error, Finished, Initramfs, Job, KernelDirectory, Machine, Step, StepResult};

use crate::binary::{self, Said};

/// A kernel that was built here, all but one with the drop-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// 7.x: the generic, nestable mode.
    V7,
    /// 6.12: the mode as the architecture has it.
    V6_12,
    /// 7.x with KASAN.
    V7Kasan,
    /// 7.x without the drop-in.
    V7Bare,
}

impl Series {
    fn variable(self) -> &'static str {
        match self {
            Series::V7 => "LAZYMMU_VM_KERNEL_7",
            Series::V6_12 => "LAZYMMU_VM_KERNEL_6_12",
            Series::V7Kasan => "LAZYMMU_VM_KERNEL_7_KASAN",
            Series::V7Bare => "LAZYMMU_VM_KERNEL_7_BARE",
        }
    }
}

/// A kernel without the drop-in: Debian's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stock {
    /// The newest 7.x.
    V7,
    /// 6.12.
    V6_12,
    /// 6.1.
    V6_1,
    /// The full 6.12, which can be a guest of Xen.
    V6_12Full,
    /// The full 6.1, which can be one too. No plan of it is kept.
    V6_1Full,
}

impl Stock {
    /// The variables that say where its boot image and its plan are.
    fn variables(self) -> (&'static str, &'static str) {
        match self {
            Stock::V7 => ("LAZYMMU_VM_STOCK_7", "LAZYMMU_VM_PLAN_7"),
            Stock::V6_12 => ("LAZYMMU_VM_STOCK_6_12", "LAZYMMU_VM_PLAN_6_12"),
            Stock::V6_1 => ("LAZYMMU_VM_STOCK_6_1", "LAZYMMU_VM_PLAN_6_1"),
            Stock::V6_12Full => ("LAZYMMU_VM_STOCK_6_12_FULL", "LAZYMMU_VM_PLAN_6_12_FULL"),
            Stock::V6_1Full => ("LAZYMMU_VM_STOCK_6_1_FULL", "LAZYMMU_VM_PLAN_6_1_FULL"),
        }
    }
}

/// The environment does not say where something is.
#[derive(Debug)]
pub struct Missing(
    /// The variable that should say it.
    pub &'static str,
);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not set; run the tests in machines with `cargo xtask test`, which builds what they need",
            self.0
        )
    }
}

impl std::error::Error for Missing {}

fn variable(name: &'static str) -> Result<PathBuf, Missing> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from).ok_or(Missing(name))
}

/// The functions of 7.x that open or pause a section, and where they are, as `cargo xtask kernel sections` lists them.
pub fn sections() -> Result<Vec<(String, String)>, Missing> {
    const VARIABLE: &str = "LAZYMMU_VM_SECTIONS_7";
    let list = env::var(VARIABLE).map_err(|_| Missing(VARIABLE))?;
    let pairs = list.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(function, place)| (function.to_owned(), place.to_owned())).collect())
}

/// Where guests have the probe plan of their kernel.
pub const PROBE_PLAN: &str = "/kernel.plan";

/// The static binaries, and how machines run here.
pub struct Lab {
    binaries: PathBuf,
    accelerator: Accelerator,
}

impl Lab {
    /// From the environment.
    pub fn open() -> Result<Self, Missing> {
        let accelerator = match variable("LAZYMMU_VM_ACCELERATOR")?.to_str() {
            Some("kvm") => Accelerator::Kvm,
            _ => Accelerator::Tcg,
        };
        Ok(Self { binaries: variable("LAZYMMU_VM_GUEST")?, accelerator })
    }

    /// The static lazymmu, which runs here as well.
    pub fn lazymmu(&self) -> PathBuf {
        self.binaries.join("lazymmu")
    }

    /// What talks to daemons in guests.
    pub fn trial(&self) -> PathBuf {
        self.binaries.join("lazymmu-trial")
    }

    /// What does little else than change page-table entries.
    pub fn dense_loop(&self) -> PathBuf {
        self.binaries.join("lazymmu-loop")
    }

    /// Judges a trace on this machine, with the same binary as in the guests.
    pub fn replay(&self, trace: &Path) -> std::io::Result<Said> {
        binary::run(Command::new(self.lazymmu()).arg("replay").arg(trace).args(["--format", "json"]))
    }

    /// The kernel of a series.
    pub fn kernel(&self, series: Series) -> Result<KernelDirectory, Box<dyn std::error::Error>> {
        Ok(KernelDirectory::open(variable(series.variable())?)?)
    }

    /// The kernel of one series or another.
    pub fn any_kernel(&self) -> Result<KernelDirectory, Box<dyn std::error::Error>> {
        Ok(KernelDirectory::open(variable("LAZYMMU_VM_KERNEL")?)?)
    }

    /// The boot image of a kernel without the drop-in.
    pub fn stock_kernel(&self, stock: Stock) -> Result<PathBuf, Missing> {
        variable(stock.variables().0)
    }

    /// The probe plan of that very kernel, compressed.
    pub fn stock_plan(&self, stock: Stock) -> Result<PathBuf, Missing> {
        variable(stock.variables().1)
    }

    /// The module with a bug, for the full 6.12.
    pub fn stale_module(&self) -> Result<PathBuf, Missing> {
        variable("LAZYMMU_VM_STALE_MODULE")
    }

    /// Debian's systemd with what it needs, as below a root.
    pub fn systemd(&self) -> Result<PathBuf, Missing> {
        variable("LAZYMMU_VM_SYSTEMD")
    }

    /// The hypervisor.
    pub fn xen(&self) -> Result<PathBuf, Missing> {
        variable("LAZYMMU_VM_XEN")
    }

    /// The probe plan of a kernel that was built here, as it would be in a file. If it has the drop-in, the instructions are to
    /// tell what that tells as well.
    pub fn probe_plan(&self, kernel: &KernelDirectory) -> std::io::Result<String> {
        let said = Command::new(self.lazymmu())
            .arg("plan")
            .arg("--vmlinux")
            .arg(kernel.boot_image().with_file_name("vmlinux"))
            .args(["--instructions", "--format", "json"])
            .output()?;
        if !said.status.success() {
            return Err(std::io::Error::other(String::from_utf8_lossy(&said.stderr).into_owned()));
        }
        String::from_utf8(said.stdout).map_err(std::io::Error::other)
    }

    /// Whether machines are emulated here.
    pub fn is_emulated(&self) -> bool {
        self.accelerator == Accelerator::Tcg
    }

    /// A machine with this kernel, as fast as it can be here.
    pub fn machine(&self, image: &Path) -> Machine {
        Machine::new(image).accelerator(self.accelerator)
    }

    /// The first process and `/bin/lazymmu`.
    pub fn initramfs(&self) -> Result<Initramfs, Error> {
        let mut initramfs = Initramfs::new(&self.binaries.join("lazymmu-init"))?;
        initramfs.add_file("/bin/lazymmu", &self.lazymmu(), 0o755)?;
        Ok(initramfs)
    }

    /// Runs a job on a kernel, without debug information.
    pub fn run(&self, image: &Path, steps: Vec<Step>) -> Result<Finished, Error> {
        self.machine(image).run(&self.initramfs()?, &Job::new(steps), &mut |_| ())
    }
}

/// What a program in a guest said, for a message.
pub fn step_output(step: &StepResult) -> String {
    format!(
        "it ended with: {}\nstderr:\n{}\nstdout:\n{}",
        step.status,
        shortened(&step.stderr),
        shortened(&step.stdout)
    )
}

fn shortened(bytes: &[u8]) -> String {
    const MOST: usize = 4000;
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}\n... and {} bytes more", &text[..end], text.len() - end),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_is_shortened() {
        assert_eq!(shortened(b"abc"), "abc");
        let text = shortened(&[b'x'; 5000]);
        assert!(text.ends_with("... and 1000 bytes more") && text.len() < 4100, "{text}");
    }
}
