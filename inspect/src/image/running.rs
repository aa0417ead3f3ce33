//! The image of the kernel that runs: found where distributions and developers keep it, and taken only if its build id is
//! the running kernel's.
//!
//! A vmlinux with debug information is best. A boot image does as well, with the symbols that the kernel lists itself.

use std::path::{Path, PathBuf};

use super::{Image, ImageError};
use crate::build_id::{BuildId, BuildIdError, RUNNING_KERNEL_NOTES};
use crate::vmlinux;

/// Why no image of the running kernel is there.
#[derive(Debug, thiserror::Error)]
pub enum RunningError {
    /// It does not tell which kernel it is.
    #[error(transparent)]
    BuildId(#[from] BuildIdError),
    /// There is one, and it cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// There is none.
    #[error("find an image of the running kernel: {}; give one with --vmlinux", told(.looked_at, .refused))]
    None {
        /// Every place that was looked at.
        looked_at: Vec<PathBuf>,
        /// What was there and is of another kernel, or cannot be read.
        refused: Vec<String>,
    },
}

fn told(looked_at: &[PathBuf], refused: &[String]) -> String {
    let places: Vec<String> = looked_at.iter().map(|path| path.display().to_string()).collect();
    let none = format!("none is at {}", places.join(", "));
    if refused.is_empty() { none } else { format!("{none}; could not {}", refused.join("; could not ")) }
}

impl Image {
    /// Of the kernel that runs. `release` is what `uname -r` prints; `root` is `/` except in tests.
    pub fn of_running_kernel(release: &str, root: &Path) -> Result<Self, RunningError> {
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        let wanted = BuildId::from_notes_file(&below(RUNNING_KERNEL_NOTES))?;
        let search = vmlinux::search(&wanted, release, root);
        let mut refused: Vec<String> = search.refused.iter().map(ToString::to_string).collect();
        let mut looked_at = search.looked_at;
        if let Some(found) = search.vmlinux {
            match Self::open(found.path(), None) {
                Ok(image) => return Ok(image),
                // Debug information that was split off has no code; the boot image has.
                Err(error) => refused.push(error.to_string()),
            }
        }
        let places = [format!("boot/vmlinuz-{release}"), format!("lib/modules/{release}/vmlinuz")];
        for path in places.map(|place| root.join(place)) {
            looked_at.push(path.clone());
            if !path.exists() {
                continue;
            }
            match Self::build_id_of(&path) {
                Ok(Some(found)) if found == wanted => {
                    return Ok(Self::open(&path, Some(&below(crate::kallsyms::RUNNING_KERNEL)))?);
                }
                Ok(_) => refused.push(format!("use {}: it is of another kernel", path.display())),
                Err(error) => refused.push(error.to_string()),
            }
        }
        Err(RunningError::None { looked_at, refused })
    }
}
