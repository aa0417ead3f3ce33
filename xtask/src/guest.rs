//! The static binaries that go into virtual machines: `lazymmu` with its eBPF object, and the first process.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{ebpf, paths, sh};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The directory with both binaries.
pub(crate) struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Builds them, eBPF object included.
    pub(crate) fn build() -> Result<Self> {
        ebpf::build()?;
        let target_directory = paths::target().join("guest");
        sh::run(
            sh::cargo()
                .args(["build", "--quiet", "--profile", "guest", "--target", TARGET, "--target-dir"])
                .arg(&target_directory)
                .args(["-p", "lazymmu", "--bin", "lazymmu", "-p", "lazymmu-vm", "--bin", "lazymmu-init"])
                .args(["-p", "lazymmu-workload", "--bin", "lazymmu-loop"])
                .args(["-p", "lazymmu-tests", "--bin", "lazymmu-trial"])
                // A guest has no shared libraries.
                .env("RUSTFLAGS", "-C target-feature=+crt-static")
                .env_remove("CARGO_ENCODED_RUSTFLAGS"),
        )?;
        Ok(Self { directory: target_directory.join(TARGET).join("guest") })
    }

    /// Where they are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The product.
    pub(crate) fn lazymmu(&self) -> PathBuf {
        self.directory.join("lazymmu")
    }

    /// The first process.
    pub(crate) fn init(&self) -> PathBuf {
        self.directory.join("lazymmu-init")
    }
}
