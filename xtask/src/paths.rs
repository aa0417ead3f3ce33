//! Where things are: the checkout, the cache, the target directories.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the checkout that this xtask was built from.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// Where built kernels, downloads and tools are kept: `$LAZYMMU_CACHE`, or `~/.cache/lazymmu`. It is made if missing.
pub(crate) fn cache() -> Result<PathBuf> {
    let path = match env::var_os("LAZYMMU_CACHE") {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => env::home_dir()
            .context("failed to find the cache: neither LAZYMMU_CACHE nor HOME is set; set one of them")?
            .join(".cache/lazymmu"),
    };
    std::fs::create_dir_all(&path)
        .with_context(|| format!("failed to make the cache directory {}", path.display()))?;
    Ok(path)
}

/// Cargo's target directory of the workspace.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(path) if !path.is_empty() => root().join(path),
        _ => root().join("target"),
    }
}
