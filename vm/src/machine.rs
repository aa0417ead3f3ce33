//! The machine and the phases of its life.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use crate::accelerator::Accelerator;
use crate::console;
use crate::error::Error;
use crate::frame::{Frame, Kind};
use crate::initramfs::Initramfs;
use crate::job::{Job, JobStatus, StepStatus};
use crate::process::{Event, Process, Watch};
use crate::qemu::{Hardware, QEMU, Threads, check_kernel};
use crate::xen;

/// Files that the guest sends may take this much of the host's memory.
const MAX_FILE: u64 = 1 << 30;

/// How long each phase may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the start of QEMU to the first sign of the first process.
    pub boot: Duration,
    /// From there to the end of the job.
    pub job: Duration,
    /// How long nothing may come after the kernel has reported a stall.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { boot: Duration::from_secs(90), job: Duration::from_mins(5), silence: Duration::from_secs(30) }
    }
}

/// What the machine is made of.
#[derive(Clone, Debug)]
pub struct Machine {
    hypervisor: Option<PathBuf>,
    kernel: PathBuf,
    qemu: String,
    accelerator: Accelerator,
    threads: Option<Threads>,
    cpus: u32,
    memory: u32,
    append: Vec<String>,
    cable: bool,
    limits: Limits,
}

impl Machine {
    /// One with this kernel (a bzImage), one emulated CPU and 1024 MiB of memory.
    pub fn new(kernel: impl Into<PathBuf>) -> Self {
        Self {
            hypervisor: None,
            kernel: kernel.into(),
            qemu: QEMU.to_owned(),
            accelerator: Accelerator::Tcg,
            threads: None,
            cpus: 1,
            memory: 1024,
            append: Vec::new(),
            cable: false,
            limits: Limits::default(),
        }
    }

    /// Boots this hypervisor, Xen, with the kernel as its first PV guest.
    #[must_use]
    pub fn under(mut self, hypervisor: impl Into<PathBuf>) -> Self {
        self.hypervisor = Some(hypervisor.into());
        self
    }

    /// Sets what runs the guest's instructions.
    #[must_use]
    pub fn accelerator(mut self, accelerator: Accelerator) -> Self {
        self.accelerator = accelerator;
        self
    }

    /// Sets the QEMU that it runs on, instead of the one in the path.
    #[must_use]
    pub fn qemu(mut self, program: &str) -> Self {
        program.clone_into(&mut self.qemu);
        self
    }

    /// Sets how many threads emulate its CPUs. If nobody does, there are as many as QEMU can be trusted with.
    #[must_use]
    pub fn threads(mut self, threads: Threads) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets how many CPUs it has.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Sets its memory, in MiB.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// Adds words to the kernel's command line.
    #[must_use]
    pub fn append(mut self, words: &str) -> Self {
        self.append.push(words.to_owned());
        self
    }

    /// Joins the third serial port (`/dev/ttyS2`) to the fourth by a cable, so that a program in the guest can be the
    /// terminal of another.
    #[must_use]
    pub fn with_cable(mut self) -> Self {
        self.cable = true;
        self
    }

    /// Sets how long each phase may take.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Switches the machine on.
    pub fn boot(&self, initramfs: &Initramfs, job: &Job) -> Result<Booting, Error> {
        check_kernel(&self.kernel)?;
        if let Some(hypervisor) = &self.hypervisor {
            xen::check(hypervisor, &self.kernel)?;
        }
        let preparing = |what: &str| {
            let what = what.to_owned();
            move |source| Error::Prepare { what, source }
        };
        let directory = tempfile::Builder::new()
            .prefix("lazymmu-vm-")
            .tempdir()
            .map_err(preparing("make a temporary directory"))?;
        let initrd = directory.path().join("initramfs");
        fs::write(&initrd, initramfs.pack(job)?).map_err(preparing("write the initramfs"))?;
        let process = Process::start(&self.qemu, &self.arguments(&initrd), directory, self.cable)?;
        Ok(Booting { process, limits: self.limits, since: Instant::now() })
    }

    /// All phases in one. The observer sees the programs' output as it comes.
    pub fn run(
        &self,
        initramfs: &Initramfs,
        job: &Job,
        observer: &mut dyn FnMut(Output<'_>),
    ) -> Result<Finished, Error> {
        self.boot(initramfs, job)?.until_ready()?.finish(observer)
    }

    fn arguments(&self, initrd: &Path) -> Vec<String> {
        let console = if self.hypervisor.is_some() { xen::CONSOLE } else { "console=ttyS0" };
        // A panic resets the machine, by a triple fault, which works on every kernel; QEMU then ends (-no-reboot).
        // Level 5 shows warnings and worse: what is needed to judge, and little enough not to slow the boot.
        let mut append = vec![format!("{console} loglevel=5 panic=-1 reboot=t oops=panic")];
        // On a busy host the timer that QEMU emulates may come too late for the test whether it works, and the kernel
        // panics at boot. On KVM kernels leave the test out by themselves (io_apic.c:1523 and kvm.c:344 below
        // arch/x86/kernel, 6.12).
        append.push("no_timer_check".to_owned());
        // The host's side ends it earlier, if it is still there.
        let most = self.limits.job + Duration::from_secs(30);
        append.push(format!("{}{}", crate::guest::MARK, most.as_secs()));
        append.extend(self.append.iter().cloned());
        Hardware {
            hypervisor: self.hypervisor.as_deref(),
            kernel: &self.kernel,
            initrd,
            accelerator: self.accelerator,
            threads: self.threads.unwrap_or_else(|| match (self.accelerator, self.cpus) {
                (Accelerator::Tcg, 2..) => Threads::trusted_to(&self.qemu),
                // One CPU has nobody beside it.
                _ => Threads::Multi,
            }),
            cpus: self.cpus,
            memory: self.memory,
            append: &append.join(" "),
        }
        .arguments()
    }
}

/// What a program in the guest writes, as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// To its standard output.
    Stdout(&'a [u8]),
    /// To its standard error.
    Stderr(&'a [u8]),
}

/// The kernel is starting.
pub struct Booting {
    process: Process,
    limits: Limits,
    since: Instant,
}

impl Booting {
    /// Waits until the first process runs.
    pub fn until_ready(mut self) -> Result<Running, Error> {
        let limit = self.limits.boot;
        let watch =
            Watch { phase: "booting", deadline: self.since + limit, limit, silence: self.limits.silence };
        match self.process.next(watch)? {
            Event::Frame(frame) if frame.kind == Kind::Hello => Ok(Running {
                release: frame.text(),
                process: self.process,
                limits: self.limits,
                boot_time: self.since.elapsed(),
            }),
            Event::Frame(frame) => Err(Error::Damaged {
                what: format!("it began with a {:?} frame", frame.kind),
                console: self.process.console().excerpt(),
            }),
            Event::Ended(status) => Err(self.process.verdict_on(status)),
        }
    }
}

/// The first process does the job.
pub struct Running {
    process: Process,
    limits: Limits,
    release: String,
    boot_time: Duration,
}

impl Running {
    /// The release of the guest's kernel.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// How long it took from the start of QEMU to the first process.
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// Waits until the job is done and everything is here.
    pub fn finish(mut self, observer: &mut dyn FnMut(Output<'_>)) -> Result<Finished, Error> {
        let limit = self.limits.job;
        let watch = Watch {
            phase: "doing its job",
            deadline: Instant::now() + limit,
            limit,
            silence: self.limits.silence,
        };
        let mut collected = Collected::default();
        let status = loop {
            match self.process.next(watch)? {
                Event::Frame(frame) => {
                    let done = collected.take(frame, observer);
                    if let Some(status) = done.map_err(|what| self.damaged(what))? {
                        break status;
                    }
                }
                Event::Ended(status) => return Err(self.process.verdict_on(status)),
            }
        };
        let console = self.process.stop()?;
        Ok(Finished {
            status,
            steps: collected.steps,
            files: collected.files,
            release: self.release,
            boot_time: self.boot_time,
            console,
        })
    }

    fn damaged(&self, what: String) -> Error {
        Error::Damaged { what, console: self.process.console().excerpt() }
    }
}

/// What one program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepResult {
    /// How it ended.
    pub status: StepStatus,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// The job is over and the machine is off.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How the job ended.
    pub status: JobStatus,
    /// The results of the [`crate::Step::Run`] steps, in order.
    pub steps: Vec<StepResult>,
    /// What was in `/out`, by path.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// The release of the guest's kernel.
    pub release: String,
    /// How long it took from the start of QEMU to the first process.
    pub boot_time: Duration,
    /// Every line of the kernel's console.
    pub console: Vec<String>,
}

impl Finished {
    /// The lines in which the kernel complained about itself: warnings, bugs.
    pub fn complaints(&self) -> impl Iterator<Item = &str> {
        self.console.iter().map(String::as_str).filter(|line| console::is_complaint(line))
    }

    /// Writes the files under a directory of the host.
    pub fn write_files(&self, directory: &Path) -> Result<(), Error> {
        for (name, data) in &self.files {
            let path = directory.join(name);
            let written = match path.parent() {
                Some(parent) => fs::create_dir_all(parent).and_then(|()| fs::write(&path, data)),
                None => fs::write(&path, data),
            };
            written.map_err(|source| Error::Prepare { what: format!("write {}", path.display()), source })?;
        }
        Ok(())
    }
}

/// What came out of the guest so far.
#[derive(Default)]
struct Collected {
    steps: Vec<StepResult>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    open: Option<(PathBuf, u64)>,
}

impl Collected {
    /// Takes one frame. Returns the job's status if it was the last one, or what is wrong with it.
    fn take(
        &mut self,
        frame: Frame,
        observer: &mut dyn FnMut(Output<'_>),
    ) -> Result<Option<JobStatus>, String> {
        match frame.kind {
            Kind::Hello => return Err("it began twice".to_owned()),
            Kind::Stdout => {
                observer(Output::Stdout(&frame.payload));
                self.stdout.extend(frame.payload);
            }
            Kind::Stderr => {
                observer(Output::Stderr(&frame.payload));
                self.stderr.extend(frame.payload);
            }
            Kind::StepEnd => {
                let text = frame.text();
                let status =
                    StepStatus::parse(&text).ok_or_else(|| format!("a program ended with {text:?}"))?;
                let (stdout, stderr) = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
                self.steps.push(StepResult { status, stdout, stderr });
            }
            Kind::FileStart => {
                self.file_is_whole()?;
                let (path, size) = file_start(&frame.payload)?;
                self.files.insert(path.clone(), Vec::new());
                self.open = Some((path, size));
            }
            Kind::FileData => {
                let (path, size) = self.open.as_ref().ok_or("a piece of no file")?;
                let data = self.files.entry(path.clone()).or_default();
                data.extend(frame.payload);
                if data.len() as u64 > *size {
                    return Err(format!("{} is longer than it said", path.display()));
                }
            }
            Kind::Status => {
                self.file_is_whole()?;
                let text = frame.text();
                let status = JobStatus::parse(&text);
                return status.map(Some).ok_or_else(|| format!("its status is {text:?}"));
            }
        }
        Ok(None)
    }

    fn file_is_whole(&mut self) -> Result<(), String> {
        let Some((path, size)) = self.open.take() else { return Ok(()) };
        let got = self.files.get(&path).map_or(0, |data| data.len() as u64);
        if got == size { Ok(()) } else { Err(format!("{} has {got} of {size} bytes", path.display())) }
    }
}

/// A guest may name any path; only one that stays below the directory is taken.
fn file_start(payload: &[u8]) -> Result<(PathBuf, u64), String> {
    let (size, path) = payload.split_first_chunk::<8>().ok_or("a file without a name")?;
    let size = u64::from_le_bytes(*size);
    let path = std::str::from_utf8(path).map_err(|_| "a file whose name is not UTF-8")?;
    let path = Path::new(path);
    let stays = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !stays || path.as_os_str().is_empty() {
        return Err(format!("a file with the name {}", path.display()));
    }
    if size > MAX_FILE {
        return Err(format!("{} has {size} bytes", path.display()));
    }
    Ok((path.to_owned(), size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, payload: &[u8]) -> Frame {
        Frame { kind, payload: payload.to_vec() }
    }

    fn start(size: u64, path: &str) -> Frame {
        frame(Kind::FileStart, &[&size.to_le_bytes(), path.as_bytes()].concat())
    }

    fn take_all(frames: impl IntoIterator<Item = Frame>) -> Result<(Collected, Option<JobStatus>), String> {
        let mut collected = Collected::default();
        let mut status = None;
        for frame in frames {
            status = collected.take(frame, &mut |_| ())?;
        }
        Ok((collected, status))
    }

    #[test]
    fn output_belongs_to_the_program_that_ends_next() {
        let (collected, status) = take_all([
            frame(Kind::Stdout, b"a"),
            frame(Kind::Stderr, b"b"),
            frame(Kind::StepEnd, b"exit 1"),
            frame(Kind::Stdout, b"c"),
            frame(Kind::StepEnd, b"signal 9"),
            frame(Kind::Status, b"init: exit 1"),
        ])
        .unwrap();
        assert_eq!(status, Some(JobStatus::Exit(1)));
        assert_eq!(collected.steps.len(), 2);
        assert_eq!((&*collected.steps[0].stdout, &*collected.steps[0].stderr), (&b"a"[..], &b"b"[..]));
        assert_eq!(collected.steps[1].status, StepStatus::Signal(9));
    }

    #[test]
    fn files_come_together_from_pieces() {
        let (collected, _) = take_all([
            start(3, "t/x.lmt"),
            frame(Kind::FileData, b"ab"),
            frame(Kind::FileData, b"c"),
            start(0, "empty"),
            frame(Kind::Status, b"init: exit 0"),
        ])
        .unwrap();
        assert_eq!(collected.files[Path::new("t/x.lmt")], b"abc");
        assert!(collected.files[Path::new("empty")].is_empty());
    }

    #[test]
    fn a_file_that_is_not_whole_is_an_error() {
        for frames in [
            vec![start(3, "x"), frame(Kind::FileData, b"ab"), frame(Kind::Status, b"init: exit 0")],
            vec![start(1, "x"), frame(Kind::FileData, b"ab")],
            vec![frame(Kind::FileData, b"ab")],
            vec![start(u64::MAX, "x")],
        ] {
            assert!(take_all(frames).is_err());
        }
    }

    #[test]
    fn a_path_that_leaves_the_directory_is_refused() {
        for path in ["../x", "/etc/passwd", "a/../../b", "", "."] {
            assert!(take_all([start(0, path)]).is_err(), "{path:?}");
        }
    }
}
