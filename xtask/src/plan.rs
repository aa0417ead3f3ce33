//! `cargo xtask plan`: the probe plans of Debian's kernels that the tests use.
//!
//! A plan is made of a debug package of hundreds of megabytes. So that tests need none, the repository keeps the plans of
//! the latest releases. For a kernel that it has no plan of, one is made when it is wanted, and the cache keeps it.
//! What a plan says is `lazymmu`'s matter.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, ensure};

use crate::guest::Binaries;
use crate::stock::{self, Series, Stock};
use crate::{apt, paths};

/// How the files end, behind the release.
const ENDING: &str = ".plan.zst";

/// The probe plans of Debian's kernels that the tests use
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Fetch the newest kernels with their debug packages, one at a time, and keep plans of them in the repository
    Refresh {
        /// These series only
        #[arg(long, value_enum, value_delimiter = ',', default_values_t = Series::PLANNED)]
        series: Vec<Series>,
        /// Take the kernels that the cache has, without looking for newer ones
        #[arg(long)]
        offline: bool,
        /// Keep the debug images in the cache as well, half a gigabyte each
        #[arg(long)]
        keep_images: bool,
    },
    /// List the plans that the repository keeps
    List,
}

/// Runs a subcommand.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Refresh { series, offline, keep_images } => refresh(series, *offline, *keep_images),
        Command::List => {
            for path in Series::PLANNED.into_iter().filter_map(kept) {
                println!("{}", path.display());
            }
            Ok(())
        }
    }
}

fn refresh(series: &[Series], offline: bool, keep_images: bool) -> Result<()> {
    let binaries = Binaries::build()?;
    for series in series.iter().copied() {
        ensure!(series.is_planned(), "no plan is kept of series {}", series.name());
        let stock = if offline { stock::ensure(series)? } else { Some(stock::newest(series)?) };
        let stock = stock.with_context(|| format!("there is no kernel of series {}", series.name()))?;
        let made = tempfile::tempdir_in(stock::directory(series)?).context("failed to make a directory")?;
        let new = made.path().join(file_name(&stock));
        make(&binaries, series, &stock, &new, keep_images)?;
        let place = kept_directory().join(file_name(&stock));
        let old = kept(series);
        let same = old.as_ref().is_some_and(|old| *old == place && fs::read(old).ok() == fs::read(&new).ok());
        if same {
            eprintln!("{}: as it was", place.display());
            continue;
        }
        if let Some(old) = old {
            fs::remove_file(&old).with_context(|| format!("failed to remove {}", old.display()))?;
        }
        // The cache may be on another file system.
        let size = fs::copy(&new, &place).with_context(|| format!("failed to write {}", place.display()))?;
        eprintln!("{}: {size} bytes", place.display());
    }
    Ok(())
}

/// Makes a plan out of the debug package of a kernel.
fn make(binaries: &Binaries, series: Series, stock: &Stock, plan: &Path, keep_image: bool) -> Result<()> {
    let image = stock::debug_image(series, stock)?;
    let made = apt::run(
        process::Command::new(binaries.lazymmu())
            .args(["plan", "--vmlinux"])
            .arg(&image)
            .arg("--output")
            .arg(plan),
    );
    if !keep_image {
        fs::remove_file(&image).with_context(|| format!("failed to remove {}", image.display()))?;
    }
    made?;
    ensure!(
        is_for(binaries, plan, stock),
        "the debug package of {} is of another kernel than the boot image: they have two build ids",
        stock.release
    );
    Ok(())
}

/// The plan of a boot image: the one that the repository keeps, or that the cache has, or else made now.
pub(crate) fn ensure_for(binaries: &Binaries, series: Series, stock: &Stock) -> Result<PathBuf> {
    let cached = stock::directory(series)?.join(file_name(stock));
    let known = kept(series).into_iter().chain([cached.clone()]);
    if let Some(plan) = known.filter(|plan| plan.is_file()).find(|plan| is_for(binaries, plan, stock)) {
        return Ok(plan);
    }
    eprintln!(
        "the repository keeps no plan for {}; making one (`cargo xtask plan refresh` keeps it)",
        stock.release
    );
    let scratch = tempfile::tempdir_in(stock::directory(series)?).context("failed to make a directory")?;
    let new = scratch.path().join(file_name(stock));
    make(binaries, series, stock, &new, false)?;
    fs::rename(&new, &cached).with_context(|| format!("failed to put the plan at {}", cached.display()))?;
    Ok(cached)
}

/// Whether a plan is of that very kernel, by the build id.
fn is_for(binaries: &Binaries, plan: &Path, stock: &Stock) -> bool {
    let mut command = process::Command::new(binaries.lazymmu());
    command.arg("plan").arg(plan).arg("--vmlinux").arg(&stock.image);
    command.output().is_ok_and(|output| output.status.success())
}

fn file_name(stock: &Stock) -> String {
    format!("{}{ENDING}", stock.release)
}

fn kept_directory() -> PathBuf {
    paths::root().join("tests/plans")
}

/// The plan of a series that the repository keeps.
fn kept(series: Series) -> Option<PathBuf> {
    let files = fs::read_dir(kept_directory()).ok()?.flatten().map(|entry| entry.path());
    files.filter(|path| release_of(path).is_some_and(|release| series.has(&release))).max()
}

/// The release whose plan the repository keeps.
pub(crate) fn kept_release(series: Series) -> Option<String> {
    release_of(&kept(series)?)
}

fn release_of(plan: &Path) -> Option<String> {
    Some(plan.file_name()?.to_str()?.strip_suffix(ENDING)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_one_plan_of_each_series() {
        let files = fs::read_dir(kept_directory()).unwrap().flatten();
        let releases: Vec<_> = files.filter_map(|entry| release_of(&entry.path())).collect();
        for series in Series::PLANNED {
            let of = releases.iter().filter(|release| series.has(release)).count();
            assert_eq!(of, 1, "series {}: {releases:?}", series.name());
        }
    }
}
