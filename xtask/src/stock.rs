//! A stock kernel: Debian's own, without our drop-in, to test what lazymmu says on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{paths, setup, sh};

/// Small, boots to its first process in two seconds, has BTF.
const PATTERN: &str = "^linux-image-6\\.[0-9.]+.*-cloud-amd64-unsigned$";

/// The boot image, from the cache or fetched now. `None` where packages cannot be had.
pub(crate) fn ensure() -> Result<Option<PathBuf>> {
    let directory = paths::cache()?.join("stock-kernel");
    if let Some(image) = find_image(&directory) {
        return Ok(Some(image));
    }
    if !setup::is_debian() {
        return Ok(None);
    }
    let package = newest_package()?;
    eprintln!("stock kernel: fetching {package}");
    let parent = directory.parent().unwrap_or(&directory);
    let scratch = tempfile::tempdir_in(parent).context("failed to make a directory in the cache")?;
    sh::run(Command::new("apt-get").args(["download", "--quiet", &package]).current_dir(scratch.path()))?;
    let file = fs::read_dir(scratch.path())?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("failed to fetch {package}: apt-get brought no file"))?;
    let unpacked = scratch.path().join("unpacked");
    sh::run(Command::new("dpkg-deb").arg("--extract").args([&file, &unpacked]))?;
    let boot = unpacked.join("boot");
    if find_image(&boot).is_none() {
        bail!("failed to use {package}: it has no kernel in /boot");
    }
    fs::rename(&boot, &directory)
        .with_context(|| format!("failed to put the stock kernel into {}", directory.display()))?;
    Ok(find_image(&directory))
}

fn find_image(directory: &Path) -> Option<PathBuf> {
    let mut images: Vec<PathBuf> = fs::read_dir(directory)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")))
        .collect();
    images.sort();
    images.pop()
}

fn newest_package() -> Result<String> {
    let output = Command::new("apt-cache")
        .args(["search", "--names-only", PATTERN])
        .output()
        .context("failed to look for a stock kernel with apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    names.sort_by_key(|name| numbers(name));
    match names.pop() {
        Some(name) => Ok(name.to_owned()),
        None => bail!(
            "failed to find a stock kernel: apt knows no package that matches {PATTERN}; run apt-get update"
        ),
    }
}

/// The numbers in a name, by which the newest is told.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(
            numbers("linux-image-6.12.117+deb12-cloud-amd64-unsigned")
                > numbers("linux-image-6.12.99+deb12-cloud-amd64-unsigned")
        );
        assert!(
            numbers("linux-image-6.12.99+deb12-cloud-amd64-unsigned")
                > numbers("linux-image-6.1.0-56-cloud-amd64-unsigned")
        );
    }
}
