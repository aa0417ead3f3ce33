//! The drop-in as it stands in this checkout: the files that go into a kernel tree, the configuration that a traced
//! kernel needs, and the table of accessors.
//!
//! Reads only; what happens to a tree is in [`super::apply`].

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::tree::Version;
use super::variant::Variant;
use crate::paths;

/// Stands in every file of the drop-in, of this version and of all before it.
pub(crate) const MARK: &str = "lazymmu drop-in";

/// The drop-in's own files. They have the same path here, under `kernel/`, and in a kernel tree.
const FILES: &[&str] = &[
    "include/linux/lazy_mmu_hooks.h",
    "include/linux/lazy_mmu_names.h",
    "include/linux/lazy_mmu_ops.h",
    "include/trace/events/lazy_mmu.h",
    "mm/Kconfig.lazy_mmu_hooks",
    "mm/lazy_mmu_hooks.c",
];

/// One file of the drop-in.
pub(crate) struct File {
    /// Where it goes, from the root of a kernel tree.
    pub(crate) path: &'static str,
    /// What it holds.
    pub(crate) text: String,
}

/// The drop-in.
pub(crate) struct Dropin {
    /// Its files.
    pub(crate) files: Vec<File>,
    /// The table of accessors, as TOML.
    pub(crate) accessors: String,
}

impl Dropin {
    /// Reads it from this checkout.
    pub(crate) fn load() -> Result<Self> {
        let files = FILES
            .iter()
            .map(|path| Ok(File { path, text: read(&directory().join(path))? }))
            .collect::<Result<_>>()?;
        Ok(Self { files, accessors: read(&directory().join("accessors.toml"))? })
    }

    /// The text of one of its files; empty if it has none of that path.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.files.iter().find(|file| file.path == path).map_or("", |file| &file.text)
    }
}

/// Configuration fragments, each with the version from which on it is merged.
const FRAGMENTS: &[(&str, Version)] = &[
    ("config.fragment", Version { major: 0, minor: 0 }),
    ("config-7.0.fragment", Version { major: 7, minor: 0 }),
];

/// The configuration fragments for a tree of this version, in the order in which they are merged.
pub(crate) fn fragments(version: Version, variant: Variant) -> Vec<PathBuf> {
    let usual = FRAGMENTS.iter().filter(|(_, since)| version >= *since).map(|(name, _)| *name);
    usual.chain(variant.fragment()).map(|name| directory().join(name)).collect()
}

/// The fragments of a variant for any version.
pub(crate) fn all_fragments(variant: Variant) -> impl Iterator<Item = PathBuf> {
    FRAGMENTS.iter().map(|(name, _)| *name).chain(variant.fragment()).map(|name| directory().join(name))
}

fn directory() -> PathBuf {
    paths::root().join("kernel")
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}
