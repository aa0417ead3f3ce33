//! A kernel tree that belongs to somebody: what version it is, and reading its files.
//!
//! Changes nothing; see [`super::apply`].

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Version and patch level: 7.2 of 7.2.13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The oldest kernel whose accessors the drop-in knows.
const OLDEST: Version = Version { major: 6, minor: 12 };

/// A kernel tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    /// Its root, absolute.
    pub(crate) root: PathBuf,
    /// What its Makefile says.
    pub(crate) version: Version,
}

impl Tree {
    /// Looks at a directory; fails if it is no kernel tree or one that is too old.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let root = root
            .canonicalize()
            .with_context(|| format!("failed to open the kernel tree {}", root.display()))?;
        let makefile = fs::read_to_string(root.join("Makefile")).with_context(|| {
            format!("failed to read the Makefile of {}; is it a kernel tree?", root.display())
        })?;
        let number = |name: &str| {
            makefile
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))
                .and_then(|value| value.trim().parse().ok())
                .with_context(|| {
                    format!("failed to find {name} in {}/Makefile; is it a kernel tree?", root.display())
                })
        };
        let version = Version { major: number("VERSION")?, minor: number("PATCHLEVEL")? };
        if version < OLDEST {
            bail!(
                "failed to use {}: it is Linux {version}, and the drop-in needs the accessors of {OLDEST} or later",
                root.display()
            );
        }
        Ok(Self { root, version })
    }

    /// The text of a file, or `None` if the tree has none of that path.
    pub(crate) fn read(&self, path: &str) -> Result<Option<String>> {
        let full = self.root.join(path);
        match fs::read(&full) {
            // Old files of the kernel are not all UTF-8; those that matter here are.
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", full.display())),
        }
    }

    /// The files under a directory whose names pass, sorted, from the root of the tree. Empty if there is no such
    /// directory.
    pub(crate) fn files(&self, directory: &str, deep: bool, wanted: fn(&str) -> bool) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let Ok(entries) = fs::read_dir(self.root.join(directory)) else { return Ok(found) };
        for entry in entries {
            let entry = entry.with_context(|| format!("failed to list {directory}"))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{directory}/{name}");
            if entry.path().is_dir() {
                if deep {
                    found.extend(self.files(&path, deep, wanted)?);
                }
            } else if wanted(&name) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_the_makefile_and_old_trees_are_refused() {
        let tree = tempfile::tempdir().unwrap();
        let makefile = tree.path().join("Makefile");
        fs::write(&makefile, "VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 13\n").unwrap();
        assert_eq!(Tree::open(tree.path()).unwrap().version, Version { major: 7, minor: 2 });

        fs::write(&makefile, "VERSION = 6\nPATCHLEVEL = 1\n").unwrap();
        let refusal = Tree::open(tree.path()).unwrap_err().to_string();
        assert!(refusal.contains("Linux 6.1") && refusal.contains("6.12"), "{refusal}");

        fs::write(&makefile, "all:\n").unwrap();
        assert!(Tree::open(tree.path()).unwrap_err().to_string().contains("is it a kernel tree?"));
    }
}
