//! Debian packages with all that they need, unpacked below the cache as below a root, for machines. Nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{self, Apt, Suite};
use crate::paths;

/// Other programs that trace, to be compared with: Debian's bpftrace and trace-cmd.
pub(crate) fn peers() -> Result<PathBuf> {
    ensure("peers", &["bpftrace", "trace-cmd"])
}

/// The service manager that starts the daemon.
pub(crate) fn systemd() -> Result<PathBuf> {
    ensure("systemd", &["systemd"])
}

/// The directory in which they are unpacked.
fn ensure(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let directory = paths::cache()?.join(name);
    let root = directory.join("root");
    if root.is_dir() {
        return Ok(root);
    }
    if !Apt::is_here() {
        bail!("they are fetched with apt, and this is not Debian");
    }
    let packages = Apt::of(Suite::Own)?.download_with_dependencies(packages, &directory)?;
    // Half a tree must not be taken for a whole one.
    let fresh = directory.join("fresh");
    remove(&fresh)?;
    for package in &packages {
        apt::run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&fresh))?;
    }
    fs::rename(&fresh, &root).with_context(|| format!("failed to make {}", root.display()))?;
    remove(&directory.join("archives"))?;
    Ok(root)
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
