//! Kernel sources from Debian: finds the package and its version, downloads it once, unpacks it.
//!
//! This does not build.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::apt::{Apt, Suite};
pub(crate) use crate::apt::{run, run_for_output, which};

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
    let package = newest(&apt_for(series)?, series)?;
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
    let apt = apt_for(series)?;
    eprintln!("downloading {} {}", package.name, package.version);
    let work = store.scratch(&package.label())?;
    let got =
        apt.download(&format!("{}={}", package.name, package.version), work.path()).with_context(|| {
            format!(
                "failed to download {} {}; if the archive has moved on, add --refresh",
                package.name, package.version
            )
        })?;
    fs::rename(&got, &deb).with_context(|| format!("failed to move the download to {}", deb.display()))?;
    Ok(deb)
}

/// apt, ready to be asked for the packages of a series.
fn apt_for(series: Series) -> Result<Apt> {
    if !Apt::is_here() {
        bail!(
            "failed to find kernel sources: they are fetched as Debian packages, and this is no Debian; unpack a \
             tree of Linux 6.12 or later and use --tree DIR"
        );
    }
    Apt::of(match series {
        Series::V6_12 => Suite::Own,
        Series::V7 => Suite::Sid,
    })
}

fn newest(apt: &Apt, series: Series) -> Result<Package> {
    let name = newest_name(&apt.names(series.package_pattern())?).with_context(|| {
        format!(
            "failed to find a source package of Linux {} in Debian's archive; unpack a tree and use --tree DIR",
            series.name()
        )
    })?;
    let version = apt.version(&name)?;
    Ok(Package { name, version })
}

/// The name with the highest minor version.
fn newest_name(names: &[String]) -> Option<String> {
    let numbered =
        names.iter().filter_map(|name| Some((name.rsplit_once('.')?.1.parse::<u32>().ok()?, name)));
    numbered.max().map(|(_, name)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_minor_version_is_taken_by_number() {
        let names = ["linux-source-7.9", "linux-source-7.10", "linux-source-7.2"].map(str::to_owned);
        assert_eq!(newest_name(&names).as_deref(), Some("linux-source-7.10"));
        assert_eq!(newest_name(&[]), None);
    }

    #[test]
    fn a_package_has_a_label_that_is_a_file_name() {
        let package = Package { name: "linux-source-7.2".to_owned(), version: "1:7.2.13-1~x".to_owned() };
        assert_eq!(package.label(), "linux-source-7.2_1-7.2.13-1~x");
    }
}
