//! A built kernel in a directory, as `cargo xtask kernel build` leaves it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;
use crate::initramfs::Initramfs;

/// A directory with `bzImage`, `vmlinux.debug` and `kernel.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelDirectory {
    path: PathBuf,
    description: Description,
}

/// What this crate needs of `kernel.toml`; the file may say more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Description {
    release: String,
    build_id: String,
}

impl KernelDirectory {
    /// Reads its description.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let file = path.join("kernel.toml");
        let reading = |source| Error::Prepare { what: format!("read {}", file.display()), source };
        let text = fs::read_to_string(&file).map_err(reading)?;
        let description: Description = toml::from_str(&text)
            .map_err(|error| reading(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))?;
        Ok(Self { path, description })
    }

    /// What QEMU boots.
    pub fn boot_image(&self) -> PathBuf {
        self.path.join("bzImage")
    }

    /// The kernel's release, as `uname -r` tells it.
    pub fn release(&self) -> &str {
        &self.description.release
    }

    /// The kernel's build id, in hexadecimal.
    pub fn build_id(&self) -> &str {
        &self.description.build_id
    }

    /// Puts the debug information where programs in the guest look for it by build id.
    pub fn add_debug_info(&self, initramfs: &mut Initramfs) -> Result<(), Error> {
        initramfs.add_file(debug_path(self.build_id()), &self.path.join("vmlinux.debug"), 0o644)
    }
}

/// Where debug information stands by the convention of debuggers: the first byte of the id names the directory.
fn debug_path(build_id: &str) -> PathBuf {
    let (directory, name) = build_id.split_at_checked(2).unwrap_or((build_id, ""));
    Path::new("/usr/lib/debug/.build-id").join(directory).join(format!("{name}.debug"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_read_and_may_say_more() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("kernel.toml"),
            "release = \"7.2.13-lazymmu\"\nbuild_id = \"ab01cd\"\nother = 1\n",
        )
        .unwrap();
        let kernel = KernelDirectory::open(directory.path()).unwrap();
        assert_eq!((kernel.release(), kernel.build_id()), ("7.2.13-lazymmu", "ab01cd"));
        assert_eq!(kernel.boot_image(), directory.path().join("bzImage"));
    }

    #[test]
    fn debug_information_stands_where_debuggers_look() {
        let expected = Path::new("/usr/lib/debug/.build-id/ab/01cd.debug");
        assert_eq!(debug_path("ab01cd"), expected);
    }

    #[test]
    fn a_directory_without_a_kernel_is_named() {
        let error = KernelDirectory::open("/nowhere").err().unwrap();
        assert!(error.to_string().contains("/nowhere/kernel.toml"), "{error}");
    }
}
