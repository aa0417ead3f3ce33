//! Kernel sources from Debian: finds the package and its version, downloads it once, unpacks it.
//!
//! apt does the work, with its own signatures, in a private root below the cache, so that the machine's package lists
//! stay as they are and no privilege is needed. Where the packages come from is taken from the machine's own sources.
//! This does not build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::store::Store;

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Series {
    /// The 6.12 of the machine's own suites: mode calls by the architecture's names, no nesting
    #[value(name = "6.12")]
    V6_12,
    /// The newest 7.x in sid: the generic, nestable mode
    #[value(name = "7")]
    V7,
}

impl Series {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V6_12 => "6.12",
            Self::V7 => "7",
        }
    }

    fn package_pattern(self) -> &'static str {
        match self {
            Self::V6_12 => "^linux-source-6\\.12$",
            Self::V7 => "^linux-source-7\\.[0-9]+$",
        }
    }
}

/// A source package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Package {
    /// `linux-source-7.2`
    pub(crate) name: String,
    /// `7.2.13-1`
    pub(crate) version: String,
}

impl Package {
    /// A name for files and directories.
    pub(crate) fn label(&self) -> String {
        format!("{}_{}", self.name, self.version.replace([':', '/'], "-"))
    }
}

/// The package of a series: the one that this cache took the last time, or, the first time and if `refresh` says so, the
/// newest there is. sid moves; what was taken stays until somebody asks for newer.
pub(crate) fn resolve(store: &Store, series: Series, refresh: bool) -> Result<Package> {
    let known = store.root().join(format!("series-{}.toml", series.name()));
    if !refresh && let Ok(text) = fs::read_to_string(&known) {
        return toml::from_str(&text)
            .with_context(|| format!("failed to read {}; remove it, or add --refresh", known.display()));
    }
    let apt = Apt::for_series(store, series)?;
    let package = apt.newest(series)?;
    store.write(&known, toml::to_string(&package)?.as_bytes())?;
    Ok(package)
}

/// The unpacked source of a package, to be read.
pub(crate) fn ensure(store: &Store, series: Series, package: &Package) -> Result<PathBuf> {
    let source = store.source(&package.label());
    if source.is_dir() {
        return Ok(source);
    }
    let _lock = store.lock(&package.label())?;
    unpack(store, series, package)
}

/// The unpacked source that the cache has of a series, if it has one.
pub(crate) fn in_cache(store: &Store, series: Series) -> Option<PathBuf> {
    let known = fs::read_to_string(store.root().join(format!("series-{}.toml", series.name()))).ok()?;
    let package: Package = toml::from_str(&known).ok()?;
    Some(store.source(&package.label())).filter(|source| source.is_dir())
}

/// The unpacked source of a package; downloads and unpacks it if the cache has none. The caller holds the source's lock.
pub(crate) fn unpack(store: &Store, series: Series, package: &Package) -> Result<PathBuf> {
    let source = store.source(&package.label());
    if source.is_dir() {
        return Ok(source);
    }
    let deb = download(store, series, package)?;
    eprintln!("unpacking {}", deb.display());
    let work = store.scratch(&package.label())?;
    run(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(work.path()))?;
    let tarball = work.path().join("usr/src").join(format!("{}.tar.xz", package.name));
    run(Command::new("tar")
        .arg("--extract")
        .arg("--file")
        .arg(&tarball)
        .arg("--directory")
        .arg(work.path()))?;
    let unpacked = work.path().join(&package.name);
    fs::rename(&unpacked, &source)
        .with_context(|| format!("failed to move {} to {}", unpacked.display(), source.display()))?;
    Ok(source)
}

fn download(store: &Store, series: Series, package: &Package) -> Result<PathBuf> {
    let downloads = store.downloads();
    let deb = downloads.join(format!("{}_all.deb", package.label()));
    if deb.is_file() {
        return Ok(deb);
    }
    let apt = Apt::for_series(store, series)?;
    eprintln!("downloading {} {}", package.name, package.version);
    let work = store.scratch(&package.label())?;
    let mut command = apt.command("apt-get");
    command.arg("download").arg(format!("{}={}", package.name, package.version)).current_dir(work.path());
    run(&mut command).with_context(|| {
        format!(
            "failed to download {} {}; if the archive has moved on, add --refresh",
            package.name, package.version
        )
    })?;
    let got = fs::read_dir(work.path())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("failed to find what apt-get downloaded for {}", package.name))?;
    fs::rename(&got, &deb).with_context(|| format!("failed to move the download to {}", deb.display()))?;
    Ok(deb)
}

/// apt with a private root.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// Ready to be asked for the packages of a series: lists are fetched.
    fn for_series(store: &Store, series: Series) -> Result<Self> {
        if !is_debian() || which("apt-get").is_none() {
            bail!(
                "failed to find kernel sources: they are fetched as Debian packages, and this is no Debian; unpack a \
                 tree of Linux 6.12 or later and use --tree DIR"
            );
        }
        let own = Self::in_root(&store.root().join("apt/own"), None)?;
        own.update()?;
        match series {
            Series::V6_12 => Ok(own),
            Series::V7 => {
                let archive = own.archive()?;
                let line = format!("deb {}{archive} sid main\n", keyring());
                let sid = Self::in_root(&store.root().join("apt/sid"), Some(&line))?;
                sid.update()?;
                Ok(sid)
            }
        }
    }

    fn in_root(root: &Path, sources: Option<&str>) -> Result<Self> {
        for directory in ["state/lists/partial", "cache/archives/partial"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).with_context(|| format!("failed to make {}", path.display()))?;
        }
        let mut options = vec![
            format!("Dir::State={}", root.join("state").display()),
            format!("Dir::State::status={}", root.join("status").display()),
            format!("Dir::Cache={}", root.join("cache").display()),
            // The cache may lie where apt's own user cannot write.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let status = root.join("status");
        fs::write(&status, "").with_context(|| format!("failed to write {}", status.display()))?;
        if let Some(sources) = sources {
            let list = root.join("sources.list");
            fs::write(&list, sources).with_context(|| format!("failed to write {}", list.display()))?;
            options.extend([
                format!("Dir::Etc::sourcelist={}", list.display()),
                "Dir::Etc::sourceparts=-".to_owned(),
                // A pin of the machine must not hide sid.
                "Dir::Etc::preferences=/dev/null".to_owned(),
                "Dir::Etc::preferencesparts=-".to_owned(),
            ]);
        }
        Ok(Self { options })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").arg("-qq");
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        command
    }

    fn update(&self) -> Result<()> {
        eprintln!("reading package lists");
        run(self.command("apt-get").arg("update"))
            .context("failed to read the package lists; is there a network, and do apt's sources work?")
    }

    /// The archive that most of the machine's suites come from, security updates aside.
    fn archive(&self) -> Result<String> {
        let mut command = self.command("apt-get");
        command.args(["indextargets", "--format", "$(CREATED_BY) $(RELEASE) $(REPO_URI)", "Origin: Debian"]);
        let output = run_for_output(&mut command)?;
        most_used_archive(&output).context(
            "failed to find a Debian archive among apt's sources; unpack a kernel tree and use --tree DIR",
        )
    }

    fn newest(&self, series: Series) -> Result<Package> {
        let mut search = self.command("apt-cache");
        search.args(["search", "--names-only", series.package_pattern()]);
        let names = run_for_output(&mut search)?;
        let name = newest_name(&names).with_context(|| {
            format!(
                "failed to find a source package of Linux {} in Debian's archive; unpack a tree and use --tree DIR",
                series.name()
            )
        })?;
        let mut show = self.command("apt-cache");
        show.args(["show", "--no-all-versions", &name]);
        let shown = run_for_output(&mut show)?;
        let version = shown
            .lines()
            .find_map(|line| line.strip_prefix("Version: "))
            .with_context(|| format!("failed to find the version of {name} in what apt-cache shows"))?;
        Ok(Package { name, version: version.trim().to_owned() })
    }
}

/// From lines of "created-by release uri".
fn most_used_archive(targets: &str) -> Option<String> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for line in targets.lines() {
        let mut fields = line.split_whitespace();
        let (Some("Packages"), Some(release), Some(uri)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if release.contains("security") {
            continue;
        }
        match counts.iter_mut().find(|(known, _)| known == uri) {
            Some((_, count)) => *count += 1,
            None => counts.push((uri.to_owned(), 1)),
        }
    }
    // The first of those used most.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(uri, _)| uri)
}

/// The name with the highest minor version, of lines of "name - description".
fn newest_name(search: &str) -> Option<String> {
    search
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter_map(|name| Some((name.rsplit_once('.')?.1.parse::<u32>().ok()?, name)))
        .max()
        .map(|(_, name)| name.to_owned())
}

/// The key that Debian signs its archives with, if it is where Debian has it.
fn keyring() -> String {
    let keyring = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
    if keyring.exists() { format!("[signed-by={}] ", keyring.display()) } else { String::new() }
}

fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian"))
}

/// Where a program is, if it is installed.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// Runs a program whose output only matters if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    run_for_output(command).map(|_| ())
}

/// Runs a program and returns what it printed.
pub(crate) fn run_for_output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(std::process::Stdio::null()).output().with_context(|| {
        format!("failed to run {program}; is it installed? `cargo xtask setup` installs what is needed")
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_minor_version_is_taken_by_number() {
        let search = "linux-source-7.9 - source\nlinux-source-7.10 - source\nlinux-source-7.2 - source\n";
        assert_eq!(newest_name(search).as_deref(), Some("linux-source-7.10"));
        assert_eq!(newest_name(""), None);
    }

    #[test]
    fn the_archive_is_the_one_most_suites_use_and_never_security() {
        let targets = "\
Packages bookworm-security scheme:/security
Packages bookworm-security scheme:/security
Translations bookworm scheme:/other
Packages bookworm scheme:/main
Packages bookworm-updates scheme:/main
Packages extra scheme:/extra
";
        assert_eq!(most_used_archive(targets).as_deref(), Some("scheme:/main"));
        assert_eq!(most_used_archive("Packages x-security u\n"), None);
    }

    #[test]
    fn a_package_has_a_label_that_is_a_file_name() {
        let package = Package { name: "linux-source-7.2".to_owned(), version: "1:7.2.13-1~x".to_owned() };
        assert_eq!(package.label(), "linux-source-7.2_1-7.2.13-1~x");
    }
}
