//! `gate`: boots a kernel, runs workloads on it, and judges what was recorded, as `replay` would.
//!
//! The guest sends its trace while it is written, so a guest that dies is judged up to then.

mod guest;
mod settings;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use lazymmu_hazard::profile::ProfileId;
use lazymmu_hazard::{Occurrence, Outcome};
use lazymmu_trace::{ReadError, Reader};

use self::guest::{End, Ended, Guest};
use self::settings::Settings;
use super::report::{Detail, detailed};
use crate::cli::{Color, Format, GateArgs, GateCommand, SuppressArgs};
use crate::policy::Policy;
use crate::session::Output;
use crate::{ExitStatus, Failure, whole_file};

/// The files in the folder for results.
const TRACE: &str = "trace.lmt";
const CONSOLE: &str = "console.log";
const REPORTS: [(&str, Format); 4] = [
    ("report.html", Format::Html),
    ("report.json", Format::Json),
    ("report.sarif", Format::Sarif),
    ("report.junit.xml", Format::Junit),
];

pub(super) fn run(args: &GateArgs, color: Color) -> Result<ExitStatus> {
    if let Some(GateCommand::Init { file }) = &args.command {
        return init(file);
    }
    let result = judge(args, color);
    if !args.bisect {
        return result;
    }
    // What cannot be judged is neither good nor bad.
    Ok(match result {
        Ok(status @ (ExitStatus::Clean | ExitStatus::Hazards)) => status,
        Ok(_) => ExitStatus::Skip,
        Err(error) => {
            eprintln!("lazymmu: {error:#}");
            ExitStatus::Skip
        }
    })
}

/// Writes the settings to begin with.
fn init(file: &Path) -> Result<ExitStatus> {
    let created = File::create_new(file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, settings::TEMPLATE.as_bytes()));
    created.map_err(|error| Failure::to(ExitStatus::Usage, format!("write {}: {error}", file.display())))?;
    eprintln!("lazymmu: wrote {}; name the kernel in it, then run `lazymmu gate`", file.display());
    Ok(ExitStatus::Clean)
}

fn judge(args: &GateArgs, color: Color) -> Result<ExitStatus> {
    let settings = Settings::new(args)?;
    let suppress = SuppressArgs {
        suppressions: settings.suppressions.clone(),
        no_default_suppressions: args.suppress.no_default_suppressions,
        today: args.suppress.today,
    };
    // All that can be wrong on this side is said before minutes are spent on a guest.
    let policy = Policy::new(None, &suppress)?.with_baseline(&settings.baseline)?;
    let guest = Guest::new(&settings)?;
    let mut place = Place::new(settings.out.as_deref())?;
    eprintln!("lazymmu: booting {} to run {}", settings.kernel.display(), settings.workloads.join(", "));
    let ended = guest.run(&settings, &mut place.file)?;
    place.write(CONSOLE, &(ended.console.join("\n") + "\n"))?;
    for line in &ended.complaints {
        eprintln!("lazymmu: the guest's kernel complained: {line}");
    }
    let (recorded, died) = say(&ended);
    match Reader::open(&place.trace) {
        Ok(reader) => {
            let of_kernel = reader.about.header.kernel.build_id;
            if let (Some(vmlinux), Some(id), Some(of_kernel)) =
                (&settings.vmlinux, guest.debug_info(), of_kernel)
            {
                guest::check_build(vmlinux, id, &of_kernel)?;
            }
        }
        // It did not come so far, and it was said why.
        Err(ReadError::Empty { .. }) if died => return Ok(ExitStatus::Inconclusive),
        Err(ReadError::Empty { .. }) => return Ok(recorded.unwrap_or(ExitStatus::Bug)),
        Err(error) => return Err(Failure::to(ExitStatus::Bug, error).into()),
    }
    let begin = Instant::now();
    let status = report(&place, &policy, &settings.profiles, Output::new(args.report.format, color))?;
    say_times(&ended, begin.elapsed());
    let complete = !died && recorded == Some(ExitStatus::Clean);
    Ok(if status == ExitStatus::Clean && !complete { ExitStatus::Inconclusive } else { status })
}

/// Says how the guest ended. Gives the status of what recorded there, and whether the guest died.
fn say(ended: &Ended) -> (Option<ExitStatus>, bool) {
    if let (Some(release), Some(boot)) = (&ended.release, ended.boot) {
        eprintln!("lazymmu: Linux {release} was up after {:.1} s", boot.as_secs_f32());
    }
    match &ended.end {
        End::Done { status } => {
            let known = [
                ExitStatus::Clean,
                ExitStatus::Inconclusive,
                ExitStatus::CannotTrace,
                ExitStatus::NotPermitted,
                ExitStatus::Usage,
            ];
            (known.into_iter().find(|known| i32::from(*known as u8) == *status), false)
        }
        End::Died { what, message } => {
            eprintln!("lazymmu: GUEST DIED ({what}): {message}");
            eprintln!(
                "lazymmu: what was recorded until then is judged; that nothing is found in it says nothing"
            );
            (None, true)
        }
    }
}

/// Says what took how long.
fn say_times(ended: &Ended, report: Duration) {
    let [boot, attach] = [ended.boot, ended.attach].map(Option::unwrap_or_default);
    let parts = [boot, attach, ended.traced, report].map(|part| part.as_secs_f32());
    let [boot, attach, traced, report] = parts;
    eprintln!(
        "lazymmu: boot {boot:.1} s, attaching {attach:.1} s, workloads {traced:.1} s, verdict and reports {report:.1} s"
    );
}

/// Judges the trace and makes the reports.
fn report(place: &Place, policy: &Policy, profiles: &[ProfileId], output: Output) -> Result<ExitStatus> {
    let counts = |occurrence: &Occurrence| {
        profiles.is_empty() || profiles.iter().any(|profile| occurrence.breaks.has(*profile))
    };
    let select = |outcome: &mut Outcome| outcome.occurrences.retain(counts);
    let judged = detailed(Some(&place.trace), policy.clone(), Detail::All, &select)?;
    if place.kept.is_some() {
        for (name, format) in REPORTS {
            place.write(name, &Output::to_file(format).render(&judged.report)?)?;
        }
    }
    Output::print(&output.render(&judged.report)?)?;
    Ok(judged.status)
}

/// Where the trace and the reports go.
struct Place {
    trace: PathBuf,
    file: File,
    kept: Option<PathBuf>,
    /// Removed at the end, if nobody wants to keep it.
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn new(out: Option<&Path>) -> Result<Self> {
        let refuse = |path: &Path, error: std::io::Error| {
            Failure::to(ExitStatus::Usage, format!("write to {}: {error}", path.display()))
        };
        let (folder, temporary) = if let Some(out) = out {
            fs::create_dir_all(out).map_err(|error| refuse(out, error))?;
            (out.to_owned(), None)
        } else {
            let temporary = tempfile::Builder::new().prefix("lazymmu-gate-").tempdir();
            let temporary = temporary.map_err(|error| refuse(&std::env::temp_dir(), error))?;
            (temporary.path().to_owned(), Some(temporary))
        };
        let trace = folder.join(TRACE);
        let file = File::create(&trace).map_err(|error| refuse(&trace, error))?;
        Ok(Self { trace, file, kept: out.map(Path::to_owned), _temporary: temporary })
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        match &self.kept {
            Some(folder) => Ok(whole_file::write(&folder.join(name), text)?),
            None => Ok(()),
        }
    }
}
