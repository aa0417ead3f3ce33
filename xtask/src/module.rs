//! The module of `kernel/stale/`, for a stock kernel: built with the headers that Debian has for it. Nothing is installed.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::apt::{self, Apt, Suite};
use crate::stock::Stock;
use crate::{paths, sh};

const NAME: &str = "lazymmu_stale.ko";
const SOURCES: [&str; 2] = ["Makefile", "lazymmu_stale.c"];

/// The module for a kernel, from the cache or built now.
pub(crate) fn ensure(stock: &Stock) -> Result<PathBuf> {
    let source = paths::root().join("kernel/stale");
    let mut hasher = DefaultHasher::new();
    stock.release.hash(&mut hasher);
    for name in SOURCES {
        let path = source.join(name);
        fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?.hash(&mut hasher);
    }
    let place = paths::cache()?.join("module");
    let module = place.join(format!("{:016x}-{NAME}", hasher.finish()));
    if module.is_file() {
        return Ok(module);
    }
    ensure!(Apt::is_here(), "failed to build a module: the kernel's headers come as Debian packages");
    fs::create_dir_all(&place).with_context(|| format!("failed to make {}", place.display()))?;
    let scratch = tempfile::tempdir_in(&place).context("failed to make a directory in the cache")?;
    let tree = scratch.path().join("tree");
    let (common, own) = headers(&stock.release, scratch.path(), &tree)?;
    let build = scratch.path().join("build");
    fs::create_dir(&build).with_context(|| format!("failed to make {}", build.display()))?;
    for name in SOURCES {
        fs::copy(source.join(name), build.join(name)).with_context(|| format!("failed to copy {name}"))?;
    }
    let mut make = Command::new("make");
    // What Debian built the kernel with, if that is there, is not asked for: any gcc builds a module.
    make.args(["--silent", "CC=gcc", "-C"]).arg(common);
    make.arg(format!("O={}", own.display())).arg(format!("M={}", build.display())).arg("modules");
    sh::run(&mut make)?;
    fs::rename(build.join(NAME), &module).with_context(|| format!("failed to make {}", module.display()))?;
    Ok(module)
}

/// Unpacks what the build needs. Gives the tree with what all flavours of the kernel have, and that of this one.
fn headers(release: &str, scratch: &Path, tree: &Path) -> Result<(PathBuf, PathBuf)> {
    let version =
        release.strip_suffix("-amd64").with_context(|| format!("{release} is of no full kernel"))?;
    let (common, own) = (format!("linux-headers-{version}-common"), format!("linux-headers-{release}"));
    let apt = Apt::of(Suite::Own)?;
    for package in [&own, &common, &format!("linux-kbuild-{version}")] {
        eprintln!("fetching {package}");
        let into = scratch.join(package);
        fs::create_dir(&into).with_context(|| format!("failed to make {}", into.display()))?;
        let deb = apt.download(package, &into)?;
        apt::run(Command::new("dpkg-deb").arg("--extract").args([deb.as_path(), tree]))?;
    }
    let sources = tree.join("usr/src");
    Ok((sources.join(common), sources.join(own)))
}
