//! The guest of a gate: what is put into it, what it does, and how it ended.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lazymmu_inspect::image::Image;
use lazymmu_inspect::plan::Plan;
use lazymmu_vm::{
    Accelerator, Command, Error, Finished, Initramfs, Job, JobStatus, Limits, Machine, Output, Step,
};

use super::settings::Settings;
use crate::{ExitStatus, Failure};

/// Where lazymmu is in the guest.
const OWN: &str = "/bin/lazymmu";
/// Where the user's programs are.
const PROGRAMS: &str = "/workload";
const MEBIBYTE: u64 = 1 << 20;

/// How the guest ended.
pub(super) enum End {
    /// It did its job, and this is the exit status of `record`.
    Done { status: i32 },
    /// It did not: what happened to it, in a word, and all that is to be said of it.
    Died { what: &'static str, message: String },
}

/// A guest that has ended.
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) release: Option<String>,
    pub(super) boot: Option<Duration>,
    /// How long it took from then to the first of the trace, and from there to the end.
    pub(super) attach: Option<Duration>,
    pub(super) traced: Duration,
    pub(super) console: Vec<String>,
    /// Lines in which the kernel complained about itself.
    pub(super) complaints: Vec<String>,
}

/// Where the guest has a plan.
const PLAN: &str = "/kernel.plan";

/// A function that kernels with the drop-in have (kernel/mm/lazy_mmu_hooks.c).
const DROP_IN: &str = "__lazy_mmu_read";

/// Everything that is put into the guest.
pub(super) struct Guest {
    initramfs: Initramfs,
    job: Job,
    memory: u32,
    /// The build id of the debug information in it.
    debug_info: Option<String>,
}

impl Guest {
    /// Refuses what cannot be used before anything is booted.
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let own = std::env::current_exe().context("failed to find lazymmu's own binary for the guest")?;
        let mut initramfs = Initramfs::with_program(OWN, &own).map_err(refused)?;
        let mut memory = settings.memory;
        let mut debug_info = None;
        if let Some(vmlinux) = &settings.vmlinux {
            let (id, more) = add_vmlinux(&mut initramfs, &settings.kernel, vmlinux)?;
            memory = memory.saturating_add(more);
            debug_info = Some(id);
        }
        let mut words = vec![OWN, "record", "--output", "-"];
        let plan = match (&settings.plan, &settings.vmlinux) {
            (Some(plan), _) => Some(add_plan(&mut initramfs, plan)?),
            (None, Some(vmlinux)) => add_plan_of(&mut initramfs, vmlinux)?,
            (None, None) => None,
        };
        if let Some(plan) = plan {
            words.extend(["--plan", plan]);
        }
        words.extend(["--", OWN, "workload", "run"]);
        let names = workloads(settings, &mut initramfs)?;
        words.extend(names.iter().map(String::as_str));
        let job = Job::new([Step::from(Command::new(words))]);
        Ok(Self { initramfs, job, memory, debug_info })
    }

    pub(super) fn debug_info(&self) -> Option<&str> {
        self.debug_info.as_deref()
    }

    /// Boots it and has it write its trace to a file, as it goes.
    pub(super) fn run(&self, settings: &Settings, trace: &mut File) -> Result<Ended> {
        let machine = Machine::new(&settings.kernel)
            .accelerator(accelerator(&settings.kernel))
            .cpus(settings.cpus)
            .memory(self.memory)
            .append(&settings.append)
            .limits(Limits { job: settings.timeout, ..Limits::default() });
        let machine = match &settings.xen {
            Some(hypervisor) => machine.under(hypervisor),
            None => machine,
        };
        let mut written = Ok(());
        let mut first = None;
        let mut observer = |output: Output<'_>| match output {
            Output::Stdout(bytes) => {
                first.get_or_insert_with(Instant::now);
                if written.is_ok() {
                    written = trace.write_all(bytes);
                }
            }
            // Who closed our stderr does not want to know.
            Output::Stderr(bytes) => drop(io::stderr().write_all(bytes)),
        };
        let mut boot = None;
        let mut release = None;
        let mut ready = None;
        let finished = machine
            .boot(&self.initramfs, &self.job)
            .and_then(lazymmu_vm::Booting::until_ready)
            .and_then(|running| {
                (boot, release) = (Some(running.boot_time()), Some(running.release().to_owned()));
                ready = Some(Instant::now());
                running.finish(&mut observer)
            });
        written.map_err(|error| Failure::to(ExitStatus::Usage, format!("write the trace: {error}")))?;
        let mut ended = match finished {
            Ok(finished) => of_finished(finished, boot),
            Err(error) => of_error(error, release, boot)?,
        };
        ended.attach = ready.zip(first).map(|(ready, first)| first.duration_since(ready));
        ended.traced = first.map_or(Duration::ZERO, |first| first.elapsed());
        Ok(ended)
    }
}

fn of_finished(finished: Finished, boot: Option<Duration>) -> Ended {
    let complaints: Vec<_> = finished.complaints().map(str::to_owned).collect();
    let end = match finished.status {
        JobStatus::Exit(status) => {
            let killed = finished.console.iter().find(|line| line.contains("Out of memory: Killed process"));
            match killed {
                Some(line) => End::Died {
                    what: "out of memory",
                    message: format!("the guest ran out of memory: {line}"),
                },
                None => End::Done { status },
            }
        }
        JobStatus::Failed(why) => End::Died { what: "failed", message: format!("the guest failed to {why}") },
    };
    let (attach, traced) = (None, Duration::ZERO);
    Ended {
        end,
        release: Some(finished.release),
        boot,
        attach,
        traced,
        console: finished.console,
        complaints,
    }
}

/// What the guest died of is a verdict. What is wrong on this side is an error.
fn of_error(error: Error, release: Option<String>, boot: Option<Duration>) -> Result<Ended> {
    let (what, console) = match &error {
        Error::Panic { console, .. } => ("panic", console),
        Error::Stall { console, .. } => ("hang", console),
        Error::TimeOut { console, .. } => ("time-out", console),
        Error::NoInit { console, .. } => ("no first process", console),
        Error::Init { console, .. } => ("set-up failed", console),
        Error::NoStatus { console } => ("went off", console),
        Error::Damaged { console, .. } => ("damaged", console),
        _ => return Err(refused(error).into()),
    };
    let console = console.0.clone();
    Ok(Ended {
        end: End::Died { what, message: error.to_string() },
        release,
        boot,
        attach: None,
        traced: Duration::ZERO,
        console,
        complaints: Vec::new(),
    })
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn refused(error: Error) -> Failure {
    Failure::new(ExitStatus::Usage, format!("failed to run the guest: {error}"))
}

/// KVM where a guest really boots on it. The answer is kept beside other caches of the user's.
fn accelerator(kernel: &Path) -> Accelerator {
    let Ok(own) = std::env::current_exe() else { return Accelerator::Tcg };
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let folder = cache.unwrap_or_else(std::env::temp_dir).join("lazymmu");
    // Without the folder the test is only done again.
    let _ = fs::create_dir_all(&folder);
    let Ok(initramfs) = Initramfs::with_program(OWN, &own) else { return Accelerator::Tcg };
    Accelerator::detect(kernel, &initramfs, &folder.join("accelerator"))
}

/// Puts debug information where the guest looks for it. It must be of the kernel that is booted. Returns its build id and how
/// many MiB more the guest needs for it.
fn add_vmlinux(initramfs: &mut Initramfs, kernel: &Path, vmlinux: &Path) -> Result<(String, u32)> {
    let refuse = |error: &dyn std::fmt::Display| Failure::to(ExitStatus::Usage, error);
    let id = Image::build_id_of(vmlinux).map_err(|error| refuse(&error))?;
    let Some(id) = id else {
        return Err(refuse(&format!("use {}: it has no build id", vmlinux.display())).into());
    };
    // What cannot be unpacked here the kernel unpacks itself, and then it says which build it is.
    if let Ok(Some(of_kernel)) = Image::build_id_of(kernel) {
        check_build(vmlinux, &id.to_string(), &of_kernel.to_string())?;
    }
    initramfs.add_file(Path::new("/usr/lib/debug").join(id.debug_path()), vmlinux, 0o644).map_err(refused)?;
    let bytes = fs::metadata(vmlinux).map_or(0, |metadata| metadata.len());
    // Once in the archive, once unpacked.
    let more = u32::try_from(bytes.saturating_mul(2) / MEBIBYTE).unwrap_or(u32::MAX / 2);
    Ok((id.to_string(), more))
}

/// Refuses a vmlinux of another kernel than the one that was booted, as that would name the wrong lines.
pub(super) fn check_build(vmlinux: &Path, id: &str, of_kernel: &str) -> Result<()> {
    if id == of_kernel {
        return Ok(());
    }
    let what = format!(
        "use {}: its build id is {id}, and that of the kernel is {of_kernel}; give the vmlinux that the kernel was made of",
        vmlinux.display()
    );
    Err(Failure::to(ExitStatus::Usage, what).into())
}

/// Puts a plan into the guest. Whether it is of that kernel the guest knows best. Returns where it is: how it is packed is
/// known by its name.
fn add_plan(initramfs: &mut Initramfs, plan: &Path) -> Result<&'static str> {
    let packed = plan.extension().is_some_and(|extension| extension == "zst");
    let inside = if packed { "/kernel.plan.zst" } else { PLAN };
    initramfs.add_file(inside, plan, 0o644).map_err(refused)?;
    Ok(inside)
}

/// Makes a plan of a kernel without the drop-in and puts it into the guest. Returns where it is.
fn add_plan_of(initramfs: &mut Initramfs, vmlinux: &Path) -> Result<Option<&'static str>> {
    // Split-off debug information has no code to make a plan of. If the drop-in is not there either, the guest says so.
    let Ok(image) = Image::open(vmlinux, None) else { return Ok(None) };
    if image.functions().named(DROP_IN).is_some() {
        return Ok(None);
    }
    let plan = Plan::of(&image).map_err(|error| Failure::to(ExitStatus::Usage, error))?;
    eprintln!(
        "lazymmu: the kernel has not the drop-in: it is traced by its instructions, as {} tells",
        vmlinux.display()
    );
    initramfs.add(PLAN, plan.to_json().context("failed to write the plan as JSON")?, 0o644);
    Ok(Some(PLAN))
}

/// The words for `workload run`; programs of the host are put into the guest.
fn workloads(settings: &Settings, initramfs: &mut Initramfs) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for name in &settings.workloads {
        if name == "all" || lazymmu_workload::is_known(name) {
            words.push(name.clone());
            continue;
        }
        let refuse = |why: &dyn std::fmt::Display| {
            Failure::to(
                ExitStatus::Usage,
                format!(
                    "run the workload {name}: it is none of the built-in ones (`lazymmu workload list`), and no program: {why}"
                ),
            )
        };
        // The words behind a program are its arguments.
        let (path, arguments) = name.split_once(' ').unwrap_or((name, ""));
        let path = Path::new(path);
        let kind = fs::metadata(path).map_err(|error| refuse(&error))?;
        let mut programs = Vec::new();
        if kind.is_dir() {
            for entry in fs::read_dir(path).map_err(|error| refuse(&error))? {
                let entry = entry.map_err(|error| refuse(&error))?.path();
                if is_program(&entry) {
                    programs.push(entry);
                }
            }
            // The order of a folder is no order.
            programs.sort();
            if programs.is_empty() {
                return Err(refuse(&"there is no program in that folder").into());
            }
        } else if is_program(path) {
            programs.push(path.to_owned());
        } else {
            return Err(refuse(&"it may not be executed").into());
        }
        for program in programs {
            let file = program.file_name().unwrap_or_default();
            let inside = Path::new(PROGRAMS).join(words.len().to_string()).join(file);
            initramfs.add_program(&inside, &program).map_err(refused)?;
            words.push(format!("{} {arguments}", inside.display()).trim_end().to_owned());
        }
    }
    Ok(words)
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|there| there.is_file() && there.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_died_of_is_a_verdict_and_what_is_wrong_here_is_an_error() {
        let console = || lazymmu_vm::Excerpt(vec!["the last line".to_owned()]);
        let line = "Kernel panic - not syncing: Fatal exception".to_owned();
        for (error, expected) in [
            (Error::Panic { line: line.clone(), console: console() }, "panic"),
            (Error::Stall { line, silence: Duration::from_secs(3), console: console() }, "hang"),
            (
                Error::TimeOut { phase: "booting", limit: Duration::from_secs(3), console: console() },
                "time-out",
            ),
            (Error::NoInit { line: String::new(), console: console() }, "no first process"),
            (Error::NoStatus { console: console() }, "went off"),
        ] {
            let ended = of_error(error, None, None).unwrap();
            let End::Died { what, message } = ended.end else { panic!("{expected}") };
            assert_eq!(what, expected);
            assert!(message.contains("the last line") && ended.console == ["the last line"], "{message}");
        }
        let missing = Error::QemuMissing { program: "qemu".to_owned() };
        let error = of_error(missing, None, None).err().unwrap();
        assert!(error.to_string().contains("apt-get install"), "{error}");
    }

    #[test]
    fn programs_come_into_the_guest_with_their_arguments() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("prog");
        fs::copy("/proc/self/exe", &program).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(directory.path().join("README"), "").unwrap();
        let words = |name: String| {
            let args = Settings::of_workloads(vec![name]);
            workloads(&args, &mut Initramfs::without_init()).map_err(|error| error.to_string())
        };
        assert_eq!(words(format!("{} -a b", program.display())).unwrap(), ["/workload/0/prog -a b"]);
        assert_eq!(words(directory.path().display().to_string()).unwrap(), ["/workload/0/prog"]);
        assert_eq!(words("fork".to_owned()).unwrap(), ["fork"]);
        let readme = directory.path().join("README").display().to_string();
        assert!(words(readme).unwrap_err().contains("may not be executed"));
        assert!(words("frok".to_owned()).unwrap_err().contains("none of the built-in ones"));
    }
}
