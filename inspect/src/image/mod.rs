//! A kernel image: the code, the symbols and the type information of one kernel or module, whatever file they come in.
//!
//! Addresses are those that the linker gave ([`LinkAddr`]). Bytes are read where they are asked for; only code and
//! the symbols are kept in memory. Debug information is read by [`crate::plan`].

mod lz4;
mod module;
mod running;
mod symbols;
mod unpack;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::address::LinkAddr;
use crate::arch::{Architecture, OtherArchitecture};
use crate::btf::{Btf, BtfError};
use crate::build_id::BuildId;
use crate::elf::{Elf, ElfError};

pub use self::running::RunningError;
pub use self::symbols::{Function, Functions};
pub use self::unpack::UnpackError;

/// Why a file cannot be used as an image of a kernel.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be read, or is no ELF file, or a damaged one.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// It is of an architecture that nothing is known about.
    #[error("use {}: {source}", .path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// Which one.
        source: OtherArchitecture,
    },
    /// It is no module, or one that cannot be linked.
    #[error("use the module {}: {reason}", .path.display())]
    Module {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It has no code: a file of debug information alone.
    #[error(
        "use {}: it has no code; debug information that was split off needs the vmlinux it was split from",
        .0.display()
    )]
    NoCode(PathBuf),
    /// It is an ELF file of something else.
    #[error("use {}: it is no Linux kernel, as it has no symbol _text", .0.display())]
    NoKernel(PathBuf),
    /// It has no symbols.
    #[error(
        "use {}: it is stripped, so there are no symbols in it; use the vmlinux of the kernel's build, or give \
         the symbols with --symbols FILE (a System.map, or a copy of /proc/kallsyms)",
        .0.display()
    )]
    Stripped(PathBuf),
    /// It is a boot image that cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The list of symbols that was given cannot be used.
    #[error("read the symbols in {}: {reason}", .path.display())]
    Symbols {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The list of symbols has no addresses: the kernel shows them to privileged readers only.
    #[error(
        "read the symbols in {}: every address is hidden; run as root, or copy /proc/kallsyms as root",
        .0.display()
    )]
    Hidden(PathBuf),
    /// Its type information is damaged.
    #[error("use {}: {source}", .path.display())]
    Btf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BtfError,
    },
}

fn btf_in(elf: &Elf) -> Result<Option<Btf>, ImageError> {
    if !elf.has_section(".BTF") {
        return Ok(None);
    }
    let btf = Btf::from_bytes(elf.section(".BTF")?.to_vec());
    btf.map(Some).map_err(|source| ImageError::Btf { path: elf.path().to_owned(), source })
}

/// The tables that a kernel has between two marks, and the section that a module has each in.
const MODULE_TABLES: [(&str, &str); 4] = [
    ("__start_mcount_loc", "__mcount_loc"),
    ("__start_kprobe_blacklist", "_kprobe_blacklist"),
    ("__start___jump_table", "__jump_table"),
    ("__start_static_call_sites", ".static_call_sites"),
];

/// What kind of file an image came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// The linked kernel.
    Vmlinux,
    /// The kernel as it is booted: compressed, without symbols and debug information.
    Vmlinuz,
    /// A module.
    Module,
}

impl ImageKind {
    /// As plans have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vmlinux => "vmlinux",
            Self::Vmlinuz => "vmlinuz",
            Self::Module => "module",
        }
    }
}

/// A section of code.
#[derive(Clone, Debug)]
pub struct Code {
    /// Its name, such as `.text` or `.init.text`.
    pub name: String,
    /// Where it is linked.
    pub start: LinkAddr,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

impl Code {
    /// Whether an address is in it.
    pub fn contains(&self, address: LinkAddr) -> bool {
        address >= self.start && address.0 - self.start.0 < self.bytes.len() as u64
    }
}

/// An image of a kernel.
#[derive(Debug)]
pub struct Image {
    elf: Elf,
    kind: ImageKind,
    architecture: Architecture,
    code: Vec<Code>,
    functions: Functions,
    base: LinkAddr,
    /// Whether its symbols come from a list beside it.
    listed: bool,
    /// The release, where something else than the kernel's banner tells it.
    release: Option<String>,
}

impl Image {
    /// Opens a file: a vmlinux, or a vmlinuz, which is unpacked. `symbols` is a list such as System.map or a copy of
    /// /proc/kallsyms, for a kernel that was stripped of its symbols; it is not looked at otherwise.
    pub fn open(path: &Path, symbols: Option<&Path>) -> Result<Self, ImageError> {
        match unpack::unpack(path)? {
            Some(unpacked) => {
                let elf = Elf::unpacked(path, unpacked.vmlinux)?;
                Self::of_elf(elf, ImageKind::Vmlinuz, symbols, unpacked.release)
            }
            None => Self::of_elf(Elf::open(path)?, ImageKind::Vmlinux, symbols, None),
        }
    }

    /// Opens a module, a `.ko` that may be packed. Its addresses are made up; plans count from its `.text`.
    pub fn open_module(path: &Path) -> Result<Self, ImageError> {
        let io = |source| ImageError::Elf(ElfError::Io { path: path.to_owned(), source });
        let failed = |reason: String| ImageError::Module { path: path.to_owned(), reason };
        let linked = module::read(path).map_err(io)?.map_err(failed)?;
        let image = Self::of_elf(Elf::unpacked(path, linked.into())?, ImageKind::Module, None, None)?;
        if image.module_name().is_none() {
            return Err(failed("it does not tell its name".to_owned()));
        }
        let magic = image.tag("vermagic");
        let release = magic.and_then(|magic| magic.split(' ').next().map(str::to_owned));
        Ok(Self { release, ..image })
    }

    /// The name of the module; `None` if it is none.
    pub fn module_name(&self) -> Option<String> {
        if self.kind == ImageKind::Module { self.tag("name") } else { None }
    }

    /// What `.modinfo` says: texts like `name=zram`, each with a zero behind it.
    fn tag(&self, name: &str) -> Option<String> {
        let all = self.elf.section(".modinfo").ok()?;
        let value = all
            .split(|byte| *byte == 0)
            .find_map(|tag| std::str::from_utf8(tag).ok()?.strip_prefix(name)?.strip_prefix('='));
        value.map(str::to_owned)
    }

    /// The build id of the kernel in a file, for which nothing else of it is needed.
    pub fn build_id_of(path: &Path) -> Result<Option<BuildId>, ImageError> {
        let elf = match unpack::unpack(path)? {
            Some(unpacked) => Elf::unpacked(path, unpacked.vmlinux)?,
            None => Elf::open(path)?,
        };
        Ok(elf.build_id().cloned())
    }

    /// The type information of the kernel in a file, for which nothing else of it is needed.
    pub fn btf_of(path: &Path) -> Result<Option<Btf>, ImageError> {
        let elf = match unpack::unpack(path)? {
            Some(unpacked) => Elf::unpacked(path, unpacked.vmlinux)?,
            None => Elf::open(path)?,
        };
        btf_in(&elf)
    }

    fn of_elf(
        elf: Elf,
        kind: ImageKind,
        symbols: Option<&Path>,
        release: Option<String>,
    ) -> Result<Self, ImageError> {
        let path = || elf.path().to_owned();
        let architecture = Architecture::of_elf(elf.machine())
            .map_err(|source| ImageError::Architecture { path: path(), source })?;
        let mut code = Vec::new();
        for region in elf.regions().iter().filter(|region| region.executable && region.address.0 != 0) {
            // `.data` is marked as code where it holds some; it is not what is looked for, and large.
            if region.name.contains("text") {
                let bytes = elf.read_region(region, 0..region.len)?;
                code.push(Code { name: region.name.clone(), start: region.address, bytes });
            }
        }
        if code.is_empty() {
            return Err(ImageError::NoCode(path()));
        }
        let mut functions = Functions::of_elf(&elf, &code)?;
        let mut listed = false;
        if functions.is_empty() {
            let list = symbols.ok_or_else(|| ImageError::Stripped(path()))?;
            functions = Functions::of_list(list, &code).map_err(|reason| match reason {
                Some(reason) => ImageError::Symbols { path: list.to_owned(), reason },
                None => ImageError::Hidden(list.to_owned()),
            })?;
            listed = true;
        }
        let text = code.iter().find(|code| kind == ImageKind::Module && code.name == ".text");
        let base = match (text, kind) {
            (Some(text), _) => text.start,
            (None, ImageKind::Module) => return Err(ImageError::NoCode(path())),
            (None, _) => functions.mark("_text").ok_or_else(|| ImageError::NoKernel(path()))?.0,
        };
        Ok(Self { elf, kind, architecture, code, functions, base, listed, release })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.elf.path()
    }

    /// What kind of file it is.
    pub fn kind(&self) -> ImageKind {
        self.kind
    }

    /// Its architecture.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Its build id.
    pub fn build_id(&self) -> Option<&BuildId> {
        self.elf.build_id()
    }

    /// Where the symbol `_text` is linked, or a module's section `.text`, from which plans count.
    pub fn base(&self) -> LinkAddr {
        self.base
    }

    /// `uname -r`, as the kernel's banner has it (init/version.c: `linux_banner`).
    pub fn release(&self) -> Option<String> {
        if self.release.is_some() {
            return self.release.clone();
        }
        let banner = self.read(self.functions.mark("linux_banner")?.0, 128)?;
        let text = banner.strip_prefix(b"Linux version ")?;
        let end = text.iter().position(|byte| *byte == b' ')?;
        String::from_utf8(text[..end].to_vec()).ok()
    }

    /// Where its symbols come from, as plans have it.
    pub fn symbols_from(&self) -> &'static str {
        if self.listed { "list" } else { "symtab" }
    }

    /// Its sections of code.
    pub fn code(&self) -> &[Code] {
        &self.code
    }

    /// Its functions.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// The code from one address to another, if it is all in one section.
    pub fn text(&self, start: LinkAddr, end: LinkAddr) -> Option<&[u8]> {
        let code = self.section_of(start)?;
        let range =
            (start.0 - code.start.0) as usize..usize::try_from(end.0.checked_sub(code.start.0)?).ok()?;
        code.bytes.get(range)
    }

    /// The section of code that an address is in.
    pub fn section_of(&self, address: LinkAddr) -> Option<&Code> {
        self.code.iter().find(|code| code.contains(address))
    }

    /// Bytes at an address, code or data; fewer where the section ends. `None` if the file has none there.
    pub fn read(&self, address: LinkAddr, len: u64) -> Option<Arc<[u8]>> {
        let region = self.elf.regions().iter().find(|region| {
            region.address.0 != 0 && address >= region.address && address.0 - region.address.0 < region.len
        })?;
        let start = address.0 - region.address.0;
        self.elf.read_region(region, start..region.len.min(start.checked_add(len)?)).ok()
    }

    /// The bytes between two marks of the linker script, such as `__start_mcount_loc` and `__stop_mcount_loc`. Empty if
    /// the kernel does not have them.
    pub fn table(&self, start: &str, stop: &str) -> (LinkAddr, Arc<[u8]>) {
        if self.kind == ImageKind::Module {
            let section = MODULE_TABLES.iter().find(|(mark, _)| *mark == start).map(|(_, section)| *section);
            let regions = self.elf.regions().iter();
            let region = section.and_then(|name| regions.into_iter().find(|region| region.name == name));
            let read =
                region.and_then(|region| Some((region.address, self.read(region.address, region.len)?)));
            return read.unwrap_or_else(|| (LinkAddr(0), Arc::new([])));
        }
        let marks = (self.functions.mark(start), self.functions.mark(stop));
        let (Some((start, _)), Some((stop, _))) = marks else { return (LinkAddr(0), Arc::new([])) };
        let bytes = stop.0.checked_sub(start.0).and_then(|len| self.read(start, len));
        (start, bytes.unwrap_or_else(|| Arc::new([])))
    }

    /// Its type information; `None` if it has none.
    pub fn btf(&self) -> Result<Option<Btf>, ImageError> {
        btf_in(&self.elf)
    }

    /// Whether it has debug information.
    pub fn has_debug_info(&self) -> bool {
        self.elf.has_section(".debug_info") && self.elf.has_section(".debug_abbrev")
    }

    pub(crate) fn elf(&self) -> &Elf {
        &self.elf
    }
}
