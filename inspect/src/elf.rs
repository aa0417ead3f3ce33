//! An ELF file on disk: its sections, read one at a time and decompressed on the way, its build id and a few of
//! its symbols. The file is never held in memory as a whole: a vmlinux with debug information has hundreds of
//! megabytes, and most of them are of no interest.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object::read::elf::{CompressionHeader, FileHeader, SectionHeader};
use object::{Endian, Endianness, ReadCache, elf};
use rustc_hash::FxHashMap;

use crate::address::LinkAddr;
use crate::build_id::BuildId;

/// No section of a kernel is that large; a header that says so is damaged.
const MAX_SECTION: u64 = 4 << 30;
/// Debug information shrinks to a third or a tenth. A header that says so much more than this is damaged.
const MAX_RATIO: u64 = 2048;

/// Why a file could not be read as ELF.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file could not be opened or read.
    #[error("read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no ELF file, or a damaged one.
    #[error("read {} as a 64-bit ELF file: {reason}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// How the bytes of a section are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    Plain,
    Zlib,
    Zstd,
    /// A compression that this program does not know.
    Unknown,
}

/// Where a section stands in the file, and how long it is there and in memory.
#[derive(Clone, Copy, Debug)]
struct Section {
    storage: Storage,
    offset: u64,
    stored: u64,
    len: u64,
}

/// An open ELF file.
#[derive(Debug)]
pub(crate) struct Elf {
    path: PathBuf,
    file: File,
    endian: Endianness,
    sections: FxHashMap<String, Section>,
    build_id: Option<BuildId>,
}

impl Elf {
    pub(crate) fn open(path: &Path) -> Result<Self, ElfError> {
        let io = |source| ElfError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(ElfError::Format { path: path.to_owned(), reason: "it is no regular file".into() });
        }
        let cache = ReadCache::new(file.try_clone().map_err(io)?);
        let (endian, sections, build_id) = read_headers(&cache)
            .map_err(|error| ElfError::Format { path: path.to_owned(), reason: error.to_string() })?;
        let elf = Self { path: path.to_owned(), file, endian, sections, build_id };
        let cut = elf
            .sections
            .values()
            .any(|section| section.offset.checked_add(section.stored).is_none_or(|end| end > metadata.len()));
        if cut {
            return Err(elf.damaged("it ends before its last section: the file is cut".into()));
        }
        Ok(elf)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn endian(&self) -> Endianness {
        self.endian
    }

    pub(crate) fn build_id(&self) -> Option<&BuildId> {
        self.build_id.as_ref()
    }

    /// Whether the section exists and holds bytes.
    pub(crate) fn has_section(&self, name: &str) -> bool {
        self.sections.get(name).is_some_and(|section| section.len != 0)
    }

    /// Whether parts of the section can be read without the rest of it.
    pub(crate) fn is_plain(&self, name: &str) -> bool {
        self.sections.get(name).is_some_and(|section| section.storage == Storage::Plain)
    }

    /// The length of a section's contents; 0 if there is no such section.
    pub(crate) fn section_len(&self, name: &str) -> u64 {
        self.sections.get(name).map_or(0, |section| section.len)
    }

    /// The contents of a section, decompressed; empty if there is no such section.
    pub(crate) fn section(&self, name: &str) -> Result<Arc<[u8]>, ElfError> {
        let Some(section) = self.sections.get(name) else { return Ok(Arc::new([])) };
        if section.len > MAX_SECTION.min(section.stored.saturating_mul(MAX_RATIO)) {
            return Err(self.damaged(format!("section {name} claims to have {} bytes", section.len)));
        }
        // Collected from an iterator of known length, so that it is allocated once and filled in place.
        let mut contents: Arc<[u8]> = std::iter::repeat_n(0, section.len as usize).collect();
        let stored = BufReader::with_capacity(
            1 << 16,
            At { file: &self.file, offset: section.offset, end: section.offset + section.stored },
        );
        let result = match (Arc::get_mut(&mut contents), section.storage) {
            (None, _) => Err(std::io::Error::other("its memory is shared")),
            (Some(out), Storage::Plain) => self.file.read_exact_at(out, section.offset),
            (Some(out), Storage::Zlib) => fill(flate2::bufread::ZlibDecoder::new(stored), out),
            (Some(out), Storage::Zstd) => {
                zstd::Decoder::with_buffer(stored).and_then(|decoder| fill(decoder, out))
            }
            (Some(_), Storage::Unknown) => {
                return Err(self.damaged(format!("section {name} is compressed in an unknown way")));
            }
        };
        result.map_err(|error| self.damaged(format!("section {name} cannot be read: {error}")))?;
        Ok(contents)
    }

    /// A part of a section that [`Elf::is_plain`].
    pub(crate) fn part(&self, name: &str, range: std::ops::Range<u64>) -> Result<Arc<[u8]>, ElfError> {
        let section = self.sections.get(name).filter(|section| {
            section.storage == Storage::Plain && range.start <= range.end && range.end <= section.len
        });
        let section = section.ok_or_else(|| self.damaged(format!("section {name} is too short")))?;
        let mut contents = vec![0; (range.end - range.start) as usize];
        self.file
            .read_exact_at(&mut contents, section.offset + range.start)
            .map_err(|source| ElfError::Io { path: self.path.clone(), source })?;
        Ok(contents.into())
    }

    /// The addresses of some symbols, in the order of the names; `None` for those that do not exist.
    pub(crate) fn symbols<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<[Option<LinkAddr>; N], ElfError> {
        let (table, strings) = (self.section(".symtab")?, self.section(".strtab")?);
        let mut found = [None; N];
        // `Elf64_Sym`: name (4 bytes), info, other, section index (2), value (8), size (8).
        for symbol in table.chunks_exact(24) {
            let (Some(name), Some(value)) = (symbol.first_chunk::<4>(), symbol[8..].first_chunk::<8>())
            else {
                break;
            };
            let name = self.endian.read_u32(*name) as usize;
            let Some(text) = strings.get(name..) else { continue };
            for (wanted, place) in names.iter().zip(&mut found) {
                let same = text.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0));
                if same && place.is_none() {
                    *place = Some(LinkAddr(self.endian.read_u64(*value)));
                }
            }
            if found.iter().all(Option::is_some) {
                break;
            }
        }
        Ok(found)
    }

    pub(crate) fn damaged(&self, reason: String) -> ElfError {
        ElfError::Format { path: self.path.clone(), reason }
    }
}

/// Fills the buffer and goes on to the end of the stream, where the checksum is.
fn fill(mut decoder: impl Read, out: &mut [u8]) -> std::io::Result<()> {
    decoder.read_exact(out)?;
    match decoder.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(std::io::Error::other("it is longer than its header says")),
    }
}

type Headers = (Endianness, FxHashMap<String, Section>, Option<BuildId>);

fn read_headers(data: &ReadCache<File>) -> object::Result<Headers> {
    let header = elf::FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let table = header.sections(endian, data)?;
    let mut sections = FxHashMap::default();
    let mut build_id = None;
    for section in table.iter() {
        // Sections without bytes in the file (.bss, and all code in a file of debug information alone).
        let Some((offset, stored)) = section.file_range(endian) else { continue };
        let entry = match section.compression(endian, data)? {
            None => Section { storage: Storage::Plain, offset, stored, len: stored },
            Some((header, offset, stored)) => {
                let storage = match header.ch_type(endian) {
                    elf::ELFCOMPRESS_ZLIB => Storage::Zlib,
                    elf::ELFCOMPRESS_ZSTD => Storage::Zstd,
                    _ => Storage::Unknown,
                };
                Section { storage, offset, stored, len: header.ch_size(endian) }
            }
        };
        let name = String::from_utf8_lossy(table.section_name(endian, section)?).into_owned();
        sections.insert(name, entry);
        if let (None, Some(mut notes)) = (&build_id, section.notes(endian, data)?) {
            while let Some(note) = notes.next()? {
                if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                    build_id = Some(BuildId::new(note.desc()));
                }
            }
        }
    }
    Ok((endian, sections, build_id))
}

/// A part of a file, read from its start without moving the file's own position.
struct At<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let room = buffer.len().min(self.end.saturating_sub(self.offset) as usize);
        let read = self.file.read_at(&mut buffer[..room], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
