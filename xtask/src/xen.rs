//! The hypervisor under which x86 does defer, from Debian's package. Nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::apt::{self, Apt, Suite};
use crate::paths;

const PACKAGE: &str = "^xen-hypervisor-[0-9.]+-amd64$";

/// What QEMU boots, from the cache or fetched now. `None` where packages cannot be had.
pub(crate) fn find() -> Result<Option<PathBuf>> {
    let directory = paths::cache()?.join("xen");
    let file = directory.join("xen");
    if file.is_file() {
        return Ok(Some(file));
    }
    if !Apt::is_here() {
        return Ok(None);
    }
    fs::create_dir_all(&directory).with_context(|| format!("failed to make {}", directory.display()))?;
    let apt = Apt::of(Suite::Own)?;
    let package = apt.names(PACKAGE)?.pop().context("failed to find Xen: apt knows no package with it")?;
    eprintln!("fetching {package}");
    let scratch = tempfile::tempdir_in(&directory).context("failed to make a directory in the cache")?;
    let deb = apt.download(&package, scratch.path())?;
    let unpacked = scratch.path().join("unpacked");
    apt::run(Command::new("dpkg-deb").arg("--extract").args([&deb, &unpacked]))?;
    let part = scratch.path().join("part");
    decompress(&packed(&unpacked.join("boot"))?, &part)?;
    fs::rename(&part, &file).with_context(|| format!("failed to make {}", file.display()))?;
    Ok(Some(file))
}

/// The same for who cannot do without it.
pub(crate) fn ensure() -> Result<PathBuf> {
    find()?.context("failed to get Xen: it comes as a Debian package; run without --xen")
}

fn packed(boot: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(boot).with_context(|| format!("failed to list {}", boot.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "gz"))
        .with_context(|| format!("failed to find the hypervisor in {}", boot.display()))
}

fn decompress(packed: &Path, into: &Path) -> Result<()> {
    let file = fs::File::create(into).with_context(|| format!("failed to make {}", into.display()))?;
    let mut gzip = Command::new("gzip");
    gzip.args(["--decompress", "--stdout"]).arg(packed).stdin(Stdio::null()).stdout(file);
    let status = gzip.status().context("failed to start gzip")?;
    ensure!(status.success(), "failed to unpack {}: gzip ended with {status}", packed.display());
    Ok(())
}
