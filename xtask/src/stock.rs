//! Stock kernels: Debian's own, without the drop-in and with BTF; small ones, and one for Xen. The tests boot them, and probe plans are made of
//! their debug packages.
//!
//! What is fetched stays in the cache. A release that the repository keeps a plan of is taken as long as apt offers it,
//! so that a fresh machine needs no debug package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::apt::{Apt, Suite};
use crate::{paths, plan};

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Series {
    /// The 6.1 of the machine's own suites
    #[value(name = "6.1")]
    V6_1,
    /// The 6.12 of the machine's own suites
    #[value(name = "6.12")]
    V6_12,
    /// The newest 7.x in sid
    #[value(name = "7")]
    V7,
    /// The full 6.12, the one that can be the first guest of Xen
    #[value(name = "6.12-full")]
    V6_12Full,
    /// The full 6.1, which can be it too
    #[value(name = "6.1-full")]
    V6_1Full,
}

/// Modules that bring swap space in memory, in the order of loading.
const ZRAM: [&str; 3] = ["lz4_compress.ko", "lz4hc_compress.ko", "zram.ko"];

impl Series {
    /// Those that the repository keeps a plan of. The full 6.1 is traced by its symbols alone.
    pub(crate) const PLANNED: [Self; 4] = [Self::V6_1, Self::V6_12, Self::V7, Self::V6_12Full];

    /// Whether it is one of them.
    pub(crate) fn is_planned(self) -> bool {
        Self::PLANNED.contains(&self)
    }

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7",
            Self::V6_12Full => "6.12-full",
            Self::V6_1Full => "6.1-full",
        }
    }

    /// How its releases begin.
    fn version(self) -> &'static str {
        self.name().trim_end_matches("-full")
    }

    /// How its releases end.
    fn flavour(self) -> &'static str {
        match self {
            Self::V6_1 | Self::V6_12 | Self::V7 => "-cloud-amd64",
            Self::V6_12Full | Self::V6_1Full => "[0-9]-amd64",
        }
    }

    /// The modules that its guests need and that are not built in.
    fn modules(self) -> &'static [&'static str] {
        match self {
            Self::V6_1 | Self::V6_12 | Self::V7 | Self::V6_1Full => &[],
            Self::V6_12Full => &ZRAM,
        }
    }

    fn suite(self) -> Suite {
        match self {
            Self::V6_1 | Self::V6_12 | Self::V6_12Full | Self::V6_1Full => Suite::Own,
            Self::V7 => Suite::Sid,
        }
    }

    /// Packages with a boot image. That of 7.2 is in `linux-binary-*`, and what is called `linux-image-*` depends on it.
    fn pattern(self) -> String {
        let version = self.version().replace('.', "\\.");
        format!("^linux-(image|binary)-{version}\\..*{}(-unsigned)?$", self.flavour())
    }

    /// Whether a release, as `uname -r` prints it, is of this series.
    pub(crate) fn has(self, release: &str) -> bool {
        let cloud = release.contains("-cloud-") != matches!(self, Self::V6_12Full | Self::V6_1Full);
        cloud && release.strip_prefix(self.version()).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// A boot image in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    /// As `uname -r` prints it.
    pub(crate) release: String,
    /// What QEMU boots.
    pub(crate) image: PathBuf,
}

/// Where the cache keeps what belongs to a series.
pub(crate) fn directory(series: Series) -> Result<PathBuf> {
    let path = paths::cache()?.join("stock-kernel").join(series.name());
    fs::create_dir_all(&path).with_context(|| format!("failed to make {}", path.display()))?;
    Ok(path)
}

/// The boot image, from the cache or fetched now. `None` where packages cannot be had.
pub(crate) fn ensure(series: Series) -> Result<Option<Stock>> {
    if let Some(stock) = in_cache(&directory(series)?) {
        return Ok(Some(stock));
    }
    if !Apt::is_here() {
        return Ok(None);
    }
    fetch(series, plan::kept_release(series).as_deref()).map(Some)
}

/// The boot image that the cache has.
pub(crate) fn in_cache_of(series: Series) -> Option<Stock> {
    in_cache(&directory(series).ok()?)
}

/// The modules that guests of a series need, in the order of loading, as [`ensure`] has left them in the cache.
pub(crate) fn modules(series: Series) -> Result<Vec<PathBuf>> {
    let place = directory(series)?;
    Ok(series.modules().iter().map(|name| place.join(format!("{name}.xz"))).collect())
}

/// The newest boot image that there is; one that the cache had goes.
pub(crate) fn newest(series: Series) -> Result<Stock> {
    ensure!(Apt::is_here(), "failed to look for a newer kernel: it comes as a Debian package");
    fetch(series, None)
}

fn fetch(series: Series, wanted: Option<&str>) -> Result<Stock> {
    let place = directory(series)?;
    let apt = Apt::of(series.suite())?;
    let names = apt.names(&series.pattern())?;
    let (package, release) = chosen(&names, wanted).with_context(|| {
        format!("failed to find a stock kernel of series {}: apt knows no package for it", series.name())
    })?;
    if let Some(stock) = in_cache(&place).filter(|stock| stock.release == release) {
        return Ok(stock);
    }
    eprintln!("stock kernel: fetching {package}");
    let scratch = tempfile::tempdir_in(&place).context("failed to make a directory in the cache")?;
    let deb = apt.download(&package, scratch.path())?;
    let unpacked = unpack(&deb, "vmlinuz", scratch.path())?;
    for old in files(&place, "vmlinuz-") {
        fs::remove_file(&old).with_context(|| format!("failed to remove {}", old.display()))?;
    }
    for name in series.modules() {
        let module = unpack(&deb, name, scratch.path())?;
        let kept = place.join(format!("{name}.xz"));
        fs::rename(&module, &kept).with_context(|| format!("failed to make {}", kept.display()))?;
    }
    let image = place.join(format!("vmlinuz-{release}"));
    fs::rename(&unpacked, &image)
        .with_context(|| format!("failed to put the stock kernel into {}", place.display()))?;
    Ok(Stock { release, image })
}

/// The vmlinux with debug information that belongs to a boot image, from the cache or fetched now. It is large.
pub(crate) fn debug_image(series: Series, stock: &Stock) -> Result<PathBuf> {
    let place = directory(series)?;
    let path = place.join(format!("vmlinux-{}", stock.release));
    if path.is_file() {
        return Ok(path);
    }
    ensure!(Apt::is_here(), "failed to fetch debug information: it comes as a Debian package");
    let package = format!("linux-image-{}-dbg", stock.release);
    eprintln!("stock kernel: fetching {package}; this takes a while");
    let scratch = tempfile::tempdir_in(&place).context("failed to make a directory in the cache")?;
    let deb = Apt::of(series.suite())?.download(&package, scratch.path())?;
    let unpacked = unpack(&deb, "vmlinux", scratch.path())?;
    fs::rename(&unpacked, &path).with_context(|| format!("failed to make {}", path.display()))?;
    Ok(path)
}

/// Takes the one large file whose name begins so out of a package, and nothing else: debug packages hold gigabytes.
fn unpack(deb: &Path, name: &str, into: &Path) -> Result<PathBuf> {
    let shown = deb.display();
    let mut contents = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start dpkg-deb")?;
    let stream = contents.stdout.take().context("failed to read what dpkg-deb writes")?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--no-anchored", "--wildcards", "--directory"]).arg(into);
    tar.arg(format!("*/{name}*")).stdin(stream);
    run_tar(&mut tar)?;
    let status = contents.wait().context("failed to wait for dpkg-deb")?;
    ensure!(status.success(), "failed to unpack {shown}: dpkg-deb ended with {status}");
    let mut found = Vec::new();
    collect(into, name, &mut found)?;
    let largest = found.into_iter().max_by_key(|path| path.metadata().map_or(0, |metadata| metadata.len()));
    match largest {
        Some(path) => Ok(path),
        None => bail!("failed to use {shown}: it has no {name}"),
    }
}

/// Runs it with the standard input that it has been given.
fn run_tar(command: &mut Command) -> Result<()> {
    let output = command.output().context("failed to start tar")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tar failed ({}): {}", output.status, said.trim());
    Ok(())
}

/// All files below a directory whose names begin so.
fn collect(directory: &Path, name: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("failed to list {}", directory.display()))?;
    for entry in entries.flatten() {
        let kind = entry.file_type().context("failed to look at what was unpacked")?;
        if kind.is_dir() {
            collect(&entry.path(), name, found)?;
        } else if kind.is_file() && entry.file_name().to_string_lossy().starts_with(name) {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// The files of a directory whose names begin so.
fn files(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect()
}

fn in_cache(directory: &Path) -> Option<Stock> {
    let mut found: Vec<Stock> = files(directory, "vmlinuz-")
        .into_iter()
        .filter_map(|image| {
            let release = image.file_name()?.to_str()?.strip_prefix("vmlinuz-")?.to_owned();
            Some(Stock { release, image })
        })
        .collect();
    found.sort_by_key(|stock| numbers(&stock.release));
    found.pop()
}

/// The package to take, with its release: the wanted one if it is there, or else the newest.
fn chosen(names: &[String], wanted: Option<&str>) -> Option<(String, String)> {
    // `linux-image-*` without the ending is the signed kernel, or depends on the package that holds it.
    let mut all: Vec<(String, String)> = names
        .iter()
        .filter_map(|name| {
            let release = name.strip_prefix("linux-binary-").or_else(|| {
                name.strip_prefix("linux-image-").and_then(|rest| rest.strip_suffix("-unsigned"))
            })?;
            Some((name.clone(), release.to_owned()))
        })
        .collect();
    all.sort_by_key(|(_, release)| numbers(release));
    let same = all.iter().find(|(_, release)| Some(release.as_str()) == wanted).cloned();
    same.or_else(|| all.pop())
}

/// The numbers in a name, by which the newest is told.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_newest_is_taken_by_number() {
        let offered = names(&[
            "linux-image-6.12.99+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
        ]);
        let (package, release) = chosen(&offered, None).unwrap();
        assert_eq!(package, "linux-image-6.12.117+deb12-cloud-amd64-unsigned");
        assert_eq!(release, "6.12.117+deb12-cloud-amd64");
        assert_eq!(chosen(&names(&["linux-image-6.12-cloud-amd64"]), None), None);
    }

    #[test]
    fn the_wanted_one_is_taken_while_it_is_there() {
        let offered =
            names(&["linux-binary-7.2.13+deb14-cloud-amd64", "linux-binary-7.3.1+deb14-cloud-amd64"]);
        let release = |wanted| chosen(&offered, Some(wanted)).unwrap().1;
        assert_eq!(release("7.2.13+deb14-cloud-amd64"), "7.2.13+deb14-cloud-amd64");
        assert_eq!(release("7.1.1+deb14-cloud-amd64"), "7.3.1+deb14-cloud-amd64");
    }

    #[test]
    fn a_release_is_of_one_series() {
        for (release, series) in [
            ("6.1.0-56-cloud-amd64", Series::V6_1),
            ("6.12.117+deb12-cloud-amd64", Series::V6_12),
            ("7.2.13+deb14-cloud-amd64", Series::V7),
            ("6.12.117+deb12-amd64", Series::V6_12Full),
            ("6.1.0-56-amd64", Series::V6_1Full),
        ] {
            let of: Vec<_> = Series::PLANNED
                .into_iter()
                .chain([Series::V6_1Full])
                .filter(|series| series.has(release))
                .collect();
            assert_eq!(of, [series], "{release}");
        }
    }
}
