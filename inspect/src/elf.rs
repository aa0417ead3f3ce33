//! An ELF file on disk: its sections, read one at a time and decompressed on the way, its build id and a few of
//! its symbols. The file is never held in memory as a whole: a vmlinux with debug information has hundreds of
//! megabytes, and most of them are of no interest.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object::read::elf::{CompressionHeader, FileHeader, SectionHeader};
use object::{Endian, Endianness, ReadCache, ReadRef, elf};
use rustc_hash::FxHashMap;

use crate::address::{FileOffset, LinkAddr};
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

/// A section that is there when the kernel runs.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) name: String,
    /// Where it is linked; 0 in a module, whose sections are placed when it is loaded.
    pub(crate) address: LinkAddr,
    pub(crate) offset: FileOffset,
    pub(crate) len: u64,
    /// Whether it is code.
    pub(crate) executable: bool,
}

/// Where the bytes are: in a file, or in memory where they had to be unpacked.
#[derive(Debug)]
enum Backing {
    File(File),
    Memory(Arc<[u8]>),
}

impl Backing {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        match self {
            Self::File(file) => file.read_at(buffer, offset),
            Self::Memory(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                let len = rest.len().min(buffer.len());
                buffer[..len].copy_from_slice(&rest[..len]);
                Ok(len)
            }
        }
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(buffer, offset),
            Self::Memory(_) => match self.read_at(buffer, offset)? {
                read if read == buffer.len() => Ok(()),
                _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
            },
        }
    }
}

/// An open ELF file.
#[derive(Debug)]
pub(crate) struct Elf {
    path: PathBuf,
    backing: Backing,
    headers: Headers,
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
        let headers = read_headers(&cache);
        Self::checked(path, Backing::File(file), metadata.len(), headers)
    }

    /// Of what was unpacked from the file at `path`.
    pub(crate) fn unpacked(path: &Path, bytes: Arc<[u8]>) -> Result<Self, ElfError> {
        let headers = read_headers(&*bytes);
        let len = bytes.len() as u64;
        Self::checked(path, Backing::Memory(bytes), len, headers)
    }

    fn checked(
        path: &Path,
        backing: Backing,
        len: u64,
        headers: object::Result<Headers>,
    ) -> Result<Self, ElfError> {
        let mut start = [0; 64];
        let read = backing
            .read_at(&mut start, 0)
            .map_err(|source| ElfError::Io { path: path.to_owned(), source })?;
        let headers = match not_elf(&start[..read]) {
            Some(reason) => Err(reason),
            None if headers.is_err() && table_behind(&start[..read], len) => {
                Err("it ends before its table of sections: the file is cut".to_owned())
            }
            None => headers.map_err(|error| error.to_string()),
        };
        let headers = headers.map_err(|reason| ElfError::Format { path: path.to_owned(), reason })?;
        let elf = Self { path: path.to_owned(), backing, headers };
        let cut = elf
            .headers
            .sections
            .values()
            .any(|section| section.offset.checked_add(section.stored).is_none_or(|end| end > len));
        if cut {
            return Err(elf.damaged("it ends before its last section: the file is cut".into()));
        }
        Ok(elf)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn endian(&self) -> Endianness {
        self.headers.endian
    }

    pub(crate) fn build_id(&self) -> Option<&BuildId> {
        self.headers.build_id.as_ref()
    }

    pub(crate) fn machine(&self) -> elf::Machine {
        self.headers.machine
    }

    /// The sections that are there when the kernel runs, in the order of the file.
    pub(crate) fn regions(&self) -> &[Region] {
        &self.headers.regions
    }

    /// The bytes of a region, or of a part of it.
    pub(crate) fn read_region(
        &self,
        region: &Region,
        range: std::ops::Range<u64>,
    ) -> Result<Arc<[u8]>, ElfError> {
        if range.start > range.end || range.end > region.len {
            return Err(self.damaged(format!("section {} is too short", region.name)));
        }
        self.read(region.offset.0 + range.start, range.end - range.start)
    }

    /// A part of a section that [`Elf::is_plain`], into memory that is there already.
    pub(crate) fn part_into(
        &self,
        name: &str,
        range: std::ops::Range<u64>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ElfError> {
        let section = self.plain(name, &range)?;
        buffer.resize((range.end - range.start) as usize, 0);
        let result = self.backing.read_exact_at(buffer, section.offset + range.start);
        result.map_err(|source| ElfError::Io { path: self.path.clone(), source })
    }

    fn plain(&self, name: &str, range: &std::ops::Range<u64>) -> Result<Section, ElfError> {
        let section = self.headers.sections.get(name).filter(|section| {
            section.storage == Storage::Plain && range.start <= range.end && range.end <= section.len
        });
        section.copied().ok_or_else(|| self.damaged(format!("section {name} is too short")))
    }

    fn read(&self, offset: u64, len: u64) -> Result<Arc<[u8]>, ElfError> {
        let mut contents: Arc<[u8]> = std::iter::repeat_n(0, len as usize).collect();
        let result = match Arc::get_mut(&mut contents) {
            Some(out) => self.backing.read_exact_at(out, offset),
            None => Err(std::io::Error::other("its memory is shared")),
        };
        result.map_err(|source| ElfError::Io { path: self.path.clone(), source })?;
        Ok(contents)
    }

    /// Whether the section exists and holds bytes.
    pub(crate) fn has_section(&self, name: &str) -> bool {
        self.headers.sections.get(name).is_some_and(|section| section.len != 0)
    }

    /// Whether parts of the section can be read without the rest of it.
    pub(crate) fn is_plain(&self, name: &str) -> bool {
        self.headers.sections.get(name).is_some_and(|section| section.storage == Storage::Plain)
    }

    /// The length of a section's contents; 0 if there is no such section.
    pub(crate) fn section_len(&self, name: &str) -> u64 {
        self.headers.sections.get(name).map_or(0, |section| section.len)
    }

    /// The contents of a section, decompressed; empty if there is no such section.
    pub(crate) fn section(&self, name: &str) -> Result<Arc<[u8]>, ElfError> {
        let Some(section) = self.headers.sections.get(name) else { return Ok(Arc::new([])) };
        if section.len > MAX_SECTION.min(section.stored.saturating_mul(MAX_RATIO)) {
            return Err(self.damaged(format!("section {name} claims to have {} bytes", section.len)));
        }
        // Collected from an iterator of known length, so that it is allocated once and filled in place.
        let mut contents: Arc<[u8]> = std::iter::repeat_n(0, section.len as usize).collect();
        let stored = BufReader::with_capacity(
            1 << 16,
            At { backing: &self.backing, offset: section.offset, end: section.offset + section.stored },
        );
        let result = match (Arc::get_mut(&mut contents), section.storage) {
            (None, _) => Err(std::io::Error::other("its memory is shared")),
            (Some(out), Storage::Plain) => self.backing.read_exact_at(out, section.offset),
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
        let section = self.plain(name, &range)?;
        self.read(section.offset + range.start, range.end - range.start)
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
            let name = self.headers.endian.read_u32(*name) as usize;
            let Some(text) = strings.get(name..) else { continue };
            for (wanted, place) in names.iter().zip(&mut found) {
                let same = text.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0));
                if same && place.is_none() {
                    *place = Some(LinkAddr(self.headers.endian.read_u64(*value)));
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

/// Why bytes are not those of a 64-bit ELF file, in words, as far as their start tells.
fn not_elf(start: &[u8]) -> Option<String> {
    let reason = match start {
        [] => "it is empty",
        [0x7f, b'E', b'L', b'F', 1, ..] => "it is a 32-bit ELF file",
        [0x7f, b'E', b'L', b'F', 2, ..] if start.len() >= 20 => return None,
        [0x7f, b'E', b'L', b'F', ..] => "it is cut inside of its header",
        [0x1f, 0x8b, ..] => "it is compressed with gzip",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "it is compressed with xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed with zstd",
        _ => "it is no ELF file",
    };
    Some(reason.to_owned())
}

/// Whether the table of sections ought to begin behind the end of the file (`e_shoff`).
fn table_behind(start: &[u8], len: u64) -> bool {
    let offset = start.get(40..48).and_then(|bytes| bytes.first_chunk::<8>());
    let big = start.get(5) == Some(&2);
    let offset =
        offset.map(|bytes| if big { u64::from_be_bytes(*bytes) } else { u64::from_le_bytes(*bytes) });
    offset.is_some_and(|offset| offset >= len)
}

/// What is read of a file when it is opened.
#[derive(Debug)]
struct Headers {
    endian: Endianness,
    machine: elf::Machine,
    sections: FxHashMap<String, Section>,
    regions: Vec<Region>,
    build_id: Option<BuildId>,
}

fn read_headers<'data>(data: impl ReadRef<'data>) -> object::Result<Headers> {
    let header = elf::FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let table = header.sections(endian, data)?;
    let machine = header.e_machine(endian);
    let mut headers =
        Headers { endian, machine, sections: FxHashMap::default(), regions: Vec::new(), build_id: None };
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
        let flags = section.sh_flags(endian);
        if flags.contains(elf::SHF_ALLOC) && entry.storage == Storage::Plain {
            headers.regions.push(Region {
                name: name.clone(),
                address: LinkAddr(section.sh_addr(endian)),
                offset: FileOffset(offset),
                len: stored,
                executable: flags.contains(elf::SHF_EXECINSTR),
            });
        }
        headers.sections.insert(name, entry);
        if let (None, Some(mut notes)) = (&headers.build_id, section.notes(endian, data)?) {
            while let Some(note) = notes.next()? {
                if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                    headers.build_id = Some(BuildId::new(note.desc()));
                }
            }
        }
    }
    Ok(headers)
}

/// A part of a file, read from its start without moving the file's own position.
struct At<'a> {
    backing: &'a Backing,
    offset: u64,
    end: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let room = buffer.len().min(self.end.saturating_sub(self.offset) as usize);
        let read = self.backing.read_at(&mut buffer[..room], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
