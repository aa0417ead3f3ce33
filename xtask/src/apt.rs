//! Debian packages: finds which there are, and downloads one.
//!
//! apt does the work, with its own signatures, in a private root below the cache, so that the machine's package lists
//! stay as they are and no privilege is needed. Where the packages come from is taken from the machine's own sources.
//! Nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::paths;

/// Which of Debian's suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Those that the machine is set up for.
    Own,
    /// sid, of the archive that the machine takes most from.
    Sid,
}

/// apt with a private root.
pub(crate) struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// Whether this machine can fetch Debian packages.
    pub(crate) fn is_here() -> bool {
        is_debian() && which("apt-get").is_some()
    }

    /// Ready to be asked for the packages of a suite: lists are fetched.
    pub(crate) fn of(suite: Suite) -> Result<Self> {
        let root = paths::cache()?.join("kernels/apt");
        fs::create_dir_all(&root).with_context(|| format!("failed to make {}", root.display()))?;
        let path = root.join("lock");
        // apt itself would fail where another is at work.
        let lock = fs::File::create(&path).and_then(|file| file.lock().map(|()| file));
        let _lock = lock.with_context(|| format!("failed to lock {}", path.display()))?;
        let own = Self::in_root(&root.join("own"), None)?;
        own.update()?;
        match suite {
            Suite::Own => Ok(own),
            Suite::Sid => {
                let archive = own.archive()?;
                let line = format!("deb {}{archive} sid main\n", keyring());
                let sid = Self::in_root(&root.join("sid"), Some(&line))?;
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

    /// The names of packages that match a regular expression.
    pub(crate) fn names(&self, pattern: &str) -> Result<Vec<String>> {
        let found = run_for_output(self.command("apt-cache").args(["search", "--names-only", pattern]))?;
        let names = found.lines().filter_map(|line| line.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// The version of a package that apt would take.
    pub(crate) fn version(&self, name: &str) -> Result<String> {
        let shown = run_for_output(self.command("apt-cache").args(["show", "--no-all-versions", name]))?;
        let version = shown.lines().find_map(|line| line.strip_prefix("Version: "));
        let version = version
            .with_context(|| format!("failed to find the version of {name} in what apt-cache shows"))?;
        Ok(version.trim().to_owned())
    }

    /// Downloads a package, `NAME` or `NAME=VERSION`, into a directory that has none yet.
    pub(crate) fn download(&self, package: &str, into: &Path) -> Result<PathBuf> {
        run(self.command("apt-get").args(["download", package]).current_dir(into))?;
        let files = fs::read_dir(into).with_context(|| format!("failed to list {}", into.display()))?;
        files
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("failed to find what apt-get downloaded for {package}"))
    }
}

impl Apt {
    /// Downloads packages and all that they depend on into a directory, and gives the files.
    pub(crate) fn download_with_dependencies(&self, names: &[&str], into: &Path) -> Result<Vec<PathBuf>> {
        let partial = into.join("archives/partial");
        fs::create_dir_all(&partial).with_context(|| format!("failed to make {}", partial.display()))?;
        let mut command = self.command("apt-get");
        // The last one counts.
        command.arg("-o").arg(format!("Dir::Cache={}", into.display()));
        run(command.args(["install", "--download-only", "--no-install-recommends", "-y"]).args(names))?;
        let archives = into.join("archives");
        let files =
            fs::read_dir(&archives).with_context(|| format!("failed to list {}", archives.display()))?;
        let files = files.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect())
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
}
