//! The build id: what says whether a file belongs to the kernel that runs. It is read from the kernel's ELF notes.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where the running kernel shows its ELF notes.
pub const RUNNING_KERNEL_NOTES: &str = "/sys/kernel/notes";

/// `NT_GNU_BUILD_ID` (include/uapi/linux/elf.h).
const NT_GNU_BUILD_ID: u32 = 3;

/// The id that the linker gave a kernel image.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BuildId(Vec<u8>);

/// Why there is no build id.
#[derive(Debug, thiserror::Error)]
pub enum BuildIdError {
    /// The notes could not be read.
    #[error("read the build id of the kernel from {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The notes hold none.
    #[error("find the build id of the kernel in {}: its notes have none", .0.display())]
    None(PathBuf),
}

impl BuildId {
    /// Takes the bytes of an id.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id of the kernel that runs here.
    pub fn of_running_kernel() -> Result<Self, BuildIdError> {
        Self::from_notes_file(Path::new(RUNNING_KERNEL_NOTES))
    }

    /// The id in a file of ELF notes.
    pub fn from_notes_file(path: &Path) -> Result<Self, BuildIdError> {
        let notes =
            std::fs::read(path).map_err(|source| BuildIdError::Io { path: path.to_owned(), source })?;
        Self::from_notes(&notes).ok_or_else(|| BuildIdError::None(path.to_owned()))
    }

    /// The id in ELF notes of this machine's byte order: name size, size, type, then name and contents, each
    /// padded to 4 bytes.
    pub fn from_notes(notes: &[u8]) -> Option<Self> {
        let mut rest = notes;
        loop {
            let (name_len, after) = rest.split_first_chunk::<4>()?;
            let (len, after) = after.split_first_chunk::<4>()?;
            let (kind, after) = after.split_first_chunk::<4>()?;
            let name_len = u32::from_ne_bytes(*name_len) as usize;
            let len = u32::from_ne_bytes(*len) as usize;
            let name = after.get(..name_len)?;
            let after = after.get(name_len.checked_next_multiple_of(4)?..)?;
            let contents = after.get(..len)?;
            if u32::from_ne_bytes(*kind) == NT_GNU_BUILD_ID && name == b"GNU\0" && len != 0 {
                return Some(Self(contents.to_vec()));
            }
            // The last note may lack its padding.
            rest = after.get(len.checked_next_multiple_of(4)?..)?;
        }
    }

    /// Where debug packages install the debug information of this id: `.build-id/xx/yyyy.debug`.
    pub fn debug_path(&self) -> PathBuf {
        let hex = self.to_string();
        let (head, tail) = hex.split_at(hex.len().min(2));
        PathBuf::from(".build-id").join(head).join(format!("{tail}.debug"))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, contents: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [name.len() as u32, contents.len() as u32, kind] {
            out.extend(word.to_ne_bytes());
        }
        for part in [name, contents] {
            out.extend_from_slice(part);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn it_is_found_among_other_notes() {
        // A kernel with XEN_PV has its Xen notes before the build id; Linux notes share the type number.
        let mut notes = note(b"Xen\0", 3, b"linux");
        notes.extend(note(b"Linux\0", 257, &[1]));
        notes.extend(note(b"GNU\0", 3, &[0xab, 0xcd, 0xef, 1, 2]));
        let id = BuildId::from_notes(&notes).unwrap();
        assert_eq!(id.to_string(), "abcdef0102");
        assert_eq!(id.debug_path(), Path::new(".build-id/ab/cdef0102.debug"));
    }

    #[test]
    fn damaged_notes_have_none() {
        let notes = note(b"GNU\0", 3, &[1, 2, 3, 4]);
        for len in 0..notes.len() {
            assert_eq!(BuildId::from_notes(&notes[..len]), None);
        }
        assert_eq!(BuildId::from_notes(&[0xff; 64]), None);
        assert_eq!(BuildId::from_notes(&note(b"GNU\0", 3, &[])), None);
    }
}
