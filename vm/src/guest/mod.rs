//! The guest's side: the first process, which does the job and switches the machine off.
//!
//! It refuses to do anything outside a machine that [`crate::Machine`] has booted, since it mounts things and ends
//! with a reset.

mod channel;
mod mounts;
mod program;
mod steps;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use rustix::system::{RebootCommand, reboot, uname};

use crate::job::{Job, JobStatus};
use channel::Channel;

/// Where the job stands in the initramfs.
pub(crate) const JOB_PATH: &str = "/etc/job.json";

/// The word on the kernel's command line that says whose machine this is. Its value is the time in seconds after which
/// the guest ends by itself, so that no machine outlives a host's side that was killed.
pub(crate) const MARK: &str = "lazymmu.vm=";

const COMMAND_LINE: &str = "/proc/cmdline";

/// Whether this process is the first one of a guest whose [`crate::Initramfs`] has it as such. In a container a program
/// may have the number 1 as well, but not this name.
pub fn is_first_process() -> bool {
    std::process::id() == 1 && std::env::args_os().next().is_some_and(|name| name == "/init")
}

/// As first process: sets up the guest, does the job and ends the machine.
///
/// For jobs it is also a tool: `/init reset` ends the machine at once, `/init repeat PROGRAM...` runs a program
/// again and again, until that fails, `/init each PROGRAM... -- WORD...` runs a program with each of the words in turn,
/// and `/init write PATH TEXT` writes a text to a file. Where a service manager is the first process
/// `/init job` as one of its services does the job and ends the machine.
pub fn main() -> ExitCode {
    let first = std::process::id() == 1;
    // The first process finds nothing mounted.
    if first
        && !Path::new(COMMAND_LINE).exists()
        && let Err(why) = mounts::proc()
    {
        return refuse(&why);
    }
    let command_line = match fs::read_to_string(COMMAND_LINE) {
        Ok(line) => line,
        Err(error) => return refuse(&format!("read {COMMAND_LINE}: {error}")),
    };
    let mut words = command_line.split_ascii_whitespace();
    let Some(seconds) = words.find_map(|word| word.strip_prefix(MARK)?.parse().ok()) else {
        return refuse(
            "find lazymmu's mark on the kernel's command line: this is none of its virtual machines",
        );
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if first || arguments == ["job"] {
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(seconds));
            eprintln!("init: nobody has ended this machine in {seconds} s");
            end();
        });
        // Another first process has mounted what there is to mount.
        let mounted = if first { mounts::all() } else { Ok(()) };
        // The console may show this in the midst of other lines; what counts goes through the channel.
        eprintln!("{}", work(mounted));
        end();
        return refuse("end");
    }
    match arguments.split_first() {
        Some((tool, [])) if tool == "reset" => {
            end();
            refuse("end")
        }
        Some((tool, program)) if tool == "repeat" && !program.is_empty() => repeat(program),
        Some((tool, rest)) if tool == "each" => each(rest),
        Some((tool, [path, text])) if tool == "write" => match fs::write(path, text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&format!("write to {path}: {error}")),
        },
        _ => refuse("do anything: it is not the first process, and its arguments name no tool"),
    }
}

fn repeat(program: &[String]) -> ExitCode {
    loop {
        let status =
            program.split_first().map(|(name, rest)| std::process::Command::new(name).args(rest).status());
        match status {
            Some(Ok(status)) if status.success() => {}
            Some(Ok(status)) => {
                return refuse(&format!("repeat {}: it ended with {status}", program.join(" ")));
            }
            Some(Err(error)) => return refuse(&format!("start {}: {error}", program.join(" "))),
            None => return refuse("repeat a program without a name"),
        }
    }
}

/// Goes on where one fails, and fails at the end.
fn each(arguments: &[String]) -> ExitCode {
    let mut parts = arguments.splitn(2, |word| word == "--");
    let (Some([program, rest @ ..]), Some(words)) = (parts.next(), parts.next()) else {
        return refuse("run a program with each word: say which, then --, then the words");
    };
    let mut failed = Vec::new();
    for word in words {
        match std::process::Command::new(program).args(rest).arg(word).status() {
            Ok(status) if status.success() => {}
            Ok(_) => failed.push(word.as_str()),
            Err(error) => return refuse(&format!("start {program}: {error}")),
        }
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { refuse(&format!("do {}", failed.join(", "))) }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("{}", JobStatus::Failed(why.to_owned()));
    ExitCode::from(2)
}

/// Resets the machine. QEMU takes that as its end, whatever the guest knows of power management.
fn end() {
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::Restart) {
        eprintln!("{}", JobStatus::Failed(format!("reset the machine: {error}")));
    }
}

fn work(mounted: Result<(), String>) -> JobStatus {
    let mut channel = match mounted.and_then(|()| Channel::open()) {
        Ok(channel) => channel,
        Err(why) => return JobStatus::Failed(why),
    };
    let status = do_job(&mut channel).unwrap_or_else(JobStatus::Failed);
    match channel.finish(&status) {
        Ok(()) => status,
        Err(why) => JobStatus::Failed(why),
    }
}

fn do_job(channel: &mut Channel) -> Result<JobStatus, String> {
    channel.hello(&uname().release().to_string_lossy())?;
    let text = fs::read(JOB_PATH).map_err(|error| format!("read {JOB_PATH}: {error}"))?;
    let job: Job =
        serde_json::from_slice(&text).map_err(|error| format!("understand {JOB_PATH}: {error}"))?;
    let done = steps::run(&job, channel);
    // What a job left behind is worth most when it failed.
    channel.send_files()?;
    done.map(JobStatus::Exit)
}
