//! What a gate is to do: the options, and for what they leave open the file of settings.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use lazymmu_hazard::profile::{PROFILES, ProfileId};
use serde::Deserialize;

use crate::cli::{BaselineArgs, GateArgs};
use crate::{ExitStatus, Failure};

/// The file that is read where none is named.
const FILE: &str = "lazymmu.toml";
/// What runs if nobody says what.
const WORKLOAD: &str = "all";
const MEMORY: u32 = 1024;
const TIMEOUT: Duration = Duration::from_mins(10);

/// A file of settings to begin with. A test reads it.
pub(super) const TEMPLATE: &str = include_str!("lazymmu.toml");

/// The file of settings. Paths in it are relative to the folder that it is in.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(default)]
    gate: Gate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Gate {
    kernel: Option<PathBuf>,
    vmlinux: Option<PathBuf>,
    plan: Option<PathBuf>,
    xen: Option<PathBuf>,
    #[serde(default)]
    workloads: Vec<String>,
    #[serde(default)]
    profiles: Vec<String>,
    baseline: Option<PathBuf>,
    #[serde(default)]
    suppressions: Vec<PathBuf>,
    cpus: Option<u32>,
    memory: Option<u32>,
    timeout: Option<u64>,
    append: Option<String>,
    out: Option<PathBuf>,
}

/// Everything that is to be known.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) kernel: PathBuf,
    pub(super) vmlinux: Option<PathBuf>,
    pub(super) plan: Option<PathBuf>,
    pub(super) xen: Option<PathBuf>,
    pub(super) workloads: Vec<String>,
    pub(super) profiles: Vec<ProfileId>,
    pub(super) baseline: BaselineArgs,
    pub(super) suppressions: Vec<PathBuf>,
    pub(super) cpus: u32,
    pub(super) memory: u32,
    pub(super) timeout: Duration,
    pub(super) append: String,
    pub(super) out: Option<PathBuf>,
}

impl Settings {
    pub(super) fn new(args: &GateArgs) -> Result<Self> {
        let (file, folder) = read(args.config.as_deref())?;
        let Gate {
            kernel,
            vmlinux,
            plan,
            xen,
            workloads,
            profiles,
            baseline,
            suppressions,
            cpus,
            memory,
            timeout,
            append,
            out,
        } = file.gate;
        let beside = |path: PathBuf| folder.join(path);
        let kernel = args.kernel.clone().or(kernel.map(beside)).ok_or_else(|| {
            let what = "failed to judge a kernel: none is given; name its bzImage with --kernel, or in lazymmu.toml \
                        (`lazymmu gate init` writes one)";
            Failure::new(ExitStatus::Usage, what)
        })?;
        let given =
            |options: &[String], file: Vec<String>| if options.is_empty() { file } else { options.to_vec() };
        let workloads: Vec<_> = match args.workload.as_slice() {
            [] if workloads.is_empty() => vec![WORKLOAD.to_owned()],
            [] => workloads.into_iter().map(|name| in_folder(name, &folder)).collect(),
            options => options.to_vec(),
        };
        let mut suppressions: Vec<_> = suppressions.into_iter().map(beside).collect();
        suppressions.extend(args.suppress.suppressions.iter().cloned());
        let path = args.baseline.baseline.clone().or(baseline.map(beside));
        if args.baseline.update_baseline && path.is_none() {
            let what = "failed to update the baseline: none is given; name its file with --baseline";
            return Err(Failure::new(ExitStatus::Usage, what).into());
        }
        Ok(Self {
            kernel,
            vmlinux: args.vmlinux.clone().or(vmlinux.map(beside)),
            plan: args.plan.clone().or(plan.map(beside)),
            xen: args.xen.clone().or(xen.map(beside)),
            workloads,
            profiles: given(&args.profile, profiles)
                .iter()
                .map(|name| profile(name))
                .collect::<Result<_>>()?,
            baseline: BaselineArgs { baseline: path, update_baseline: args.baseline.update_baseline },
            suppressions,
            cpus: args.cpus.or(cpus).unwrap_or(1).clamp(1, 64),
            memory: args.memory.or(memory).unwrap_or(MEMORY).max(128),
            timeout: args.timeout.or(timeout.map(Duration::from_secs)).unwrap_or(TIMEOUT),
            append: args.append.clone().or(append).unwrap_or_default(),
            out: args.out.clone().or(out.map(beside)),
        })
    }
}

#[cfg(test)]
impl Settings {
    pub(super) fn of_workloads(workloads: Vec<String>) -> Self {
        Self {
            kernel: PathBuf::new(),
            vmlinux: None,
            plan: None,
            xen: None,
            workloads,
            profiles: Vec::new(),
            baseline: BaselineArgs::default(),
            suppressions: Vec::new(),
            cpus: 1,
            memory: MEMORY,
            timeout: TIMEOUT,
            append: String::new(),
            out: None,
        }
    }
}

/// What has a slash is a path, and then of the folder that names it.
fn in_folder(name: String, folder: &Path) -> String {
    if name.contains('/') { folder.join(name).to_string_lossy().into_owned() } else { name }
}

fn read(path: Option<&Path>) -> Result<(File, PathBuf)> {
    let (path, named) = (path.unwrap_or(Path::new(FILE)), path.is_some());
    let name = path.display();
    let refuse = |why: &dyn std::fmt::Display| {
        Failure::to(ExitStatus::Usage, format!("read the settings {name}: {why}"))
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if !named && error.kind() == io::ErrorKind::NotFound => {
            return Ok((File::default(), PathBuf::new()));
        }
        Err(error) => return Err(refuse(&error).into()),
    };
    let file = toml::from_str(&text).map_err(|error| refuse(&error.to_string().trim()))?;
    Ok((file, path.parent().unwrap_or(Path::new("")).to_owned()))
}

fn profile(name: &str) -> Result<ProfileId> {
    let found = PROFILES.iter().find(|profile| profile.name == name);
    Ok(found.map(|profile| profile.id).ok_or_else(|| {
        let names: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
        let what = format!("judge for the profile {name}: there is none; there are {}", names.join(", "));
        Failure::to(ExitStatus::Usage, what)
    })?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn settings(words: &[&str]) -> Result<Settings> {
        let cli = Cli::try_parse_from(["lazymmu", "gate"].iter().chain(words)).unwrap();
        let Command::Gate(args) = cli.command else { panic!("{words:?}") };
        Settings::new(&args)
    }

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("my.toml");
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (directory, path)
    }

    #[test]
    fn the_template_is_a_file_of_settings() {
        let (directory, path) = file(TEMPLATE);
        let found = settings(&["--config", &path]).unwrap();
        assert_eq!(found.kernel, directory.path().join("arch/x86/boot/bzImage"));
        assert_eq!((found.workloads, found.cpus), (vec!["all".to_owned()], 1));
    }

    #[test]
    fn options_go_before_the_file() {
        let (directory, path) =
            file("[gate]\nkernel = 'k'\nworkloads = ['fork', 'bin/mine']\ncpus = 2\nprofiles = ['s390']\n");
        let found = settings(&["--config", &path, "--cpus", "4", "--profile", "xen-pv,arm64"]).unwrap();
        assert_eq!((found.cpus, found.memory), (4, MEMORY));
        assert_eq!(found.profiles, [ProfileId::XenPv, ProfileId::Arm64]);
        let mine = directory.path().join("bin/mine").to_str().unwrap().to_owned();
        assert_eq!(found.workloads, ["fork".to_owned(), mine]);
        assert_eq!(settings(&["--config", &path]).unwrap().profiles, [ProfileId::S390]);
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let (_directory, path) = file("[gate]\nkernl = 'k'\n");
        for (words, expected) in [
            (&["--config", &path][..], "unknown field `kernl`"),
            (&["--config", "/nowhere/my.toml"], "read the settings /nowhere/my.toml: No such file"),
            (
                &["--kernel", "k", "--profile", "z80"],
                "the profile z80: there is none; there are strict, xen-pv",
            ),
            (&["--config", "/dev/null"], "none is given; name its bzImage with --kernel"),
        ] {
            let error = settings(words).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
