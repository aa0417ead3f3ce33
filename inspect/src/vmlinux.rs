//! A vmlinux: the kernel's ELF file with its symbols and debug information, and the places where one may be.
//!
//! A file is used only if its build id is that of the kernel in question: lines of another build would be wrong
//! without looking wrong.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::address::LinkAddr;
use crate::build_id::BuildId;
use crate::elf::{Elf, ElfError};
use crate::lines::LANDMARK_FUNCTION;

/// Why a vmlinux is not used.
#[derive(Debug, thiserror::Error)]
pub enum VmlinuxError {
    /// It cannot be read, or is no ELF file.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// It is of another kernel.
    #[error("use {}: its build id is {found}, the kernel's is {wanted}", .path.display())]
    OtherBuild {
        /// The file.
        path: PathBuf,
        /// The file's build id.
        found: BuildId,
        /// The kernel's build id.
        wanted: BuildId,
    },
    /// It has no build id, so nobody can say what kernel it is of.
    #[error("use {}: it has no build id, so it cannot be told whether it is of this kernel", .0.display())]
    NoBuildId(PathBuf),
    /// It has no debug information.
    #[error("use {}: it has no debug information; a kernel built with CONFIG_DEBUG_INFO has", .0.display())]
    NoDebugInfo(PathBuf),
}

/// A vmlinux with debug information.
pub struct Vmlinux {
    pub(crate) elf: Elf,
    pub(crate) text: Option<LinkAddr>,
    pub(crate) stext: Option<LinkAddr>,
    pub(crate) landmark: Option<LinkAddr>,
}

impl Vmlinux {
    /// Opens a vmlinux that the caller vouches for.
    pub fn open(path: &Path) -> Result<Self, VmlinuxError> {
        let elf = Elf::open(path)?;
        if !elf.has_section(".debug_info") || !elf.has_section(".debug_line") {
            return Err(VmlinuxError::NoDebugInfo(path.to_owned()));
        }
        let [text, stext, landmark] = elf.symbols(["_text", "_stext", LANDMARK_FUNCTION])?;
        Ok(Self { elf, text, stext, landmark })
    }

    /// Opens a vmlinux if it is the one with this build id.
    pub fn open_matching(path: &Path, wanted: &BuildId) -> Result<Self, VmlinuxError> {
        let vmlinux = Self::open(path)?;
        match vmlinux.build_id() {
            Some(found) if found == wanted => Ok(vmlinux),
            Some(found) => Err(VmlinuxError::OtherBuild {
                path: path.to_owned(),
                found: found.clone(),
                wanted: wanted.clone(),
            }),
            None => Err(VmlinuxError::NoBuildId(path.to_owned())),
        }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        self.elf.path()
    }

    /// Its build id, if it has one.
    pub fn build_id(&self) -> Option<&BuildId> {
        self.elf.build_id()
    }
}

impl fmt::Debug for Vmlinux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmlinux").field("path", &self.path()).field("build_id", &self.build_id()).finish()
    }
}

/// What a search for a vmlinux came to.
#[derive(Debug)]
pub struct Search {
    /// The vmlinux of that kernel, if there is one.
    pub vmlinux: Option<Vmlinux>,
    /// The files that were there and could not be used, with the reason.
    pub refused: Vec<VmlinuxError>,
    /// Every place that was looked at, in order.
    pub looked_at: Vec<PathBuf>,
}

/// Looks for the vmlinux of a kernel where distributions and developers keep it. `release` is what `uname -r`
/// prints; `root` is `/` except in tests.
pub fn search(wanted: &BuildId, release: &str, root: &Path) -> Search {
    let places = [
        PathBuf::from("usr/lib/debug").join(wanted.debug_path()),
        PathBuf::from(format!("usr/lib/debug/boot/vmlinux-{release}")),
        PathBuf::from(format!("usr/lib/debug/lib/modules/{release}/vmlinux")),
        PathBuf::from(format!("boot/vmlinux-{release}")),
        PathBuf::from(format!("lib/modules/{release}/build/vmlinux")),
    ];
    let mut search = Search { vmlinux: None, refused: Vec::new(), looked_at: Vec::new() };
    for place in places {
        let path = root.join(place);
        let opened = path.exists().then(|| Vmlinux::open_matching(&path, wanted));
        search.looked_at.push(path);
        match opened {
            None => {}
            Some(Ok(vmlinux)) => {
                search.vmlinux = Some(vmlinux);
                break;
            }
            Some(Err(error)) => search.refused.push(error),
        }
    }
    search
}
