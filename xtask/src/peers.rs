//! Other programs that trace, to be compared with in a machine: Debian's bpftrace and trace-cmd with the libraries that
//! they need, unpacked below the cache. Nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{self, Apt, Suite};
use crate::paths;

const PACKAGES: [&str; 2] = ["bpftrace", "trace-cmd"];

/// The directory in which they are unpacked, as below a root.
pub(crate) fn ensure() -> Result<PathBuf> {
    let directory = paths::cache()?.join("peers");
    let root = directory.join("root");
    if root.is_dir() {
        return Ok(root);
    }
    if !Apt::is_here() {
        bail!("they are fetched with apt, and this is not Debian");
    }
    let packages = Apt::of(Suite::Own)?.download_with_dependencies(&PACKAGES, &directory)?;
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
