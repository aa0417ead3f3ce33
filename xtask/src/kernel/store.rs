//! The part of the cache that holds kernels: downloads, sources, object trees, logs, and the built kernels.
//!
//! What is published is complete: it is put together beside its place and then renamed. What is under work is guarded by
//! a lock of its label. This knows nothing of how a kernel is built.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::paths;

/// The file that describes a built kernel. It is the last that is made.
const INFO: &str = "kernel.toml";

/// `$LAZYMMU_CACHE/kernels`.
pub(crate) struct Store {
    root: PathBuf,
}

/// What `kernel.toml` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Info {
    /// As `uname -r` prints it.
    pub(crate) release: String,
    /// The build id, in hex, of `vmlinux`, `vmlinux.debug` and /sys/kernel/notes.
    pub(crate) build_id: String,
    /// The source package and its version, or the tree's path.
    pub(crate) source: String,
    /// The compiler's version line.
    pub(crate) compiler: String,
    /// Hash of everything that went in.
    pub(crate) key: String,
}

/// A kernel in the cache.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "each user takes the files it needs")]
pub(crate) struct BuiltKernel {
    /// The directory that holds all of it.
    pub(crate) directory: PathBuf,
    /// What QEMU boots.
    pub(crate) image: PathBuf,
    /// The whole ELF file.
    pub(crate) vmlinux: PathBuf,
    /// Debug sections and symbols of `vmlinux` only, compressed, for symbolization in a guest.
    pub(crate) debug: PathBuf,
    /// What it is.
    pub(crate) info: Info,
}

impl BuiltKernel {
    /// The kernel in a directory, if there is a whole one.
    fn open(directory: PathBuf) -> Option<Self> {
        let text = fs::read_to_string(directory.join(INFO)).ok()?;
        let info = toml::from_str(&text).ok()?;
        Some(Self {
            image: directory.join("bzImage"),
            vmlinux: directory.join("vmlinux"),
            debug: directory.join("vmlinux.debug"),
            directory,
            info,
        })
    }
}

impl Store {
    /// Opens it, made if missing.
    pub(crate) fn open() -> Result<Self> {
        Self::at(paths::cache()?.join("kernels"))
    }

    /// Opens it somewhere else.
    #[cfg(test)]
    pub(crate) fn open_in(root: &Path) -> Result<Self> {
        Self::at(root.to_owned())
    }

    fn at(root: PathBuf) -> Result<Self> {
        for directory in ["src", "obj", "built", "downloads", "logs", "locks", "tmp"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).with_context(|| format!("failed to make {}", path.display()))?;
        }
        Ok(Self { root })
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the source of that label is or goes.
    pub(crate) fn source(&self, label: &str) -> PathBuf {
        self.root.join("src").join(label)
    }

    /// Where objects are kept between builds of the same source.
    pub(crate) fn objects(&self, label: &str) -> PathBuf {
        self.root.join("obj").join(label)
    }

    /// The log of the last build of that source.
    pub(crate) fn log(&self, label: &str) -> PathBuf {
        self.root.join("logs").join(format!("{label}.log"))
    }

    /// Downloaded files.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    /// A directory for work in progress, on the same file system, that goes away with its handle.
    pub(crate) fn scratch(&self, label: &str) -> Result<TempDir> {
        let parent = self.root.join("tmp");
        tempfile::Builder::new()
            .prefix(label)
            .tempdir_in(&parent)
            .with_context(|| format!("failed to make a directory in {}", parent.display()))
    }

    /// Writes a file by renaming a complete one to its place.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let failed = || format!("failed to write {}", path.display());
        let mut file = tempfile::NamedTempFile::new_in(self.root.join("tmp")).with_context(failed)?;
        file.write_all(bytes).with_context(failed)?;
        file.persist(path).with_context(failed)?;
        Ok(())
    }

    /// Waits until nobody else works on that label; the lock goes with the returned file.
    pub(crate) fn lock(&self, label: &str) -> Result<File> {
        let path = self.root.join("locks").join(label);
        let failed = || format!("failed to lock {}", path.display());
        let file = File::create(&path).with_context(failed)?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another build of {label}");
            file.lock().with_context(failed)?;
        }
        Ok(file)
    }

    /// The built kernel of that name, if there is one.
    pub(crate) fn built(&self, name: &str) -> Option<BuiltKernel> {
        BuiltKernel::open(self.root.join("built").join(name))
    }

    /// Makes a directory with a kernel's files the built kernel of that name.
    pub(crate) fn publish(&self, name: &str, files: &Path, info: &Info) -> Result<BuiltKernel> {
        let place = self.root.join("built").join(name);
        let failed = || format!("failed to put the kernel into {}", place.display());
        fs::write(files.join(INFO), toml::to_string(info)?).with_context(failed)?;
        if place.exists() {
            // Only a broken one can be there: whoever calls has looked, under the lock.
            fs::remove_dir_all(&place).with_context(failed)?;
        }
        fs::rename(files, &place).with_context(failed)?;
        BuiltKernel::open(place.clone()).with_context(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> Info {
        Info {
            release: "7.2.13-lazymmu".to_owned(),
            build_id: "ab".to_owned(),
            source: "linux-source-7.2 7.2.13-1".to_owned(),
            compiler: "gcc".to_owned(),
            key: "k".to_owned(),
        }
    }

    #[test]
    fn only_a_whole_kernel_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path().join("kernels")).unwrap();
        assert!(store.built("a").is_none());
        fs::create_dir_all(store.root().join("built/a")).unwrap();
        fs::write(store.root().join("built/a/bzImage"), "half").unwrap();
        assert!(store.built("a").is_none(), "without {INFO} it is not complete");

        let files = store.scratch("a").unwrap().keep();
        fs::write(files.join("bzImage"), "whole").unwrap();
        let built = store.publish("a", &files, &info()).unwrap();
        assert_eq!(fs::read_to_string(&built.image).unwrap(), "whole");
        assert_eq!(store.built("a").unwrap().info, info());
    }

    #[test]
    fn a_lock_keeps_others_out_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path().to_owned()).unwrap();
        let held = store.lock("a").unwrap();
        let other = File::open(directory.path().join("locks/a")).unwrap();
        assert!(other.try_lock().is_err());
        drop(held);
        other.try_lock().unwrap();
    }
}
