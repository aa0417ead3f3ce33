//! The functions of an image, and the marks that its linker script sets.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;

use object::Endian;
use rustc_hash::FxHashMap;

use super::Code;
use crate::address::{LinkAddr, RuntimeAddr, Slide};
use crate::elf::{Elf, ElfError};
use crate::kallsyms::Line;

/// The symbols beside functions that somebody asks for.
const MARKS: [&str; 24] = [
    "_text",
    "_stext",
    "_etext",
    "linux_banner",
    "pv_ops",
    "__start_mcount_loc",
    "__stop_mcount_loc",
    "__start_kprobe_blacklist",
    "__stop_kprobe_blacklist",
    "__start___jump_table",
    "__stop___jump_table",
    "__start_static_call_sites",
    "__stop_static_call_sites",
    "__kprobes_text_start",
    "__kprobes_text_end",
    "__noinstr_text_start",
    "__noinstr_text_end",
    "__entry_text_start",
    "__entry_text_end",
    "_sinittext",
    "_einittext",
    "__start_orc_unwind_ip",
    "__irqentry_text_start",
    "__irqentry_text_end",
];

/// A function: a named piece of code without holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Its symbol, with whatever the compiler added (`.isra.0`, `.cold`).
    pub name: &'a str,
    /// Where it begins.
    pub start: LinkAddr,
    /// Where it ends.
    pub end: LinkAddr,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u64,
    end: u64,
    /// Where the name begins in `names`, and how long it is.
    name: u32,
    len: u32,
}

/// All functions by address, each address once.
#[derive(Debug)]
pub struct Functions {
    names: Arc<[u8]>,
    entries: Vec<Entry>,
    marks: FxHashMap<&'static str, (LinkAddr, u64)>,
}

impl Functions {
    /// From the symbol table of an ELF file.
    pub(super) fn of_elf(elf: &Elf, code: &[Code]) -> Result<Self, ElfError> {
        let (table, names) = (elf.section(".symtab")?, elf.section(".strtab")?);
        let endian = elf.endian();
        let mut entries = Vec::with_capacity(table.len() / 48);
        let mut marks = FxHashMap::default();
        // `Elf64_Sym`: name (4 bytes), info, other, section index (2), value (8), size (8).
        for symbol in table.chunks_exact(24) {
            let (Some(name), Some(value), Some(size)) =
                (symbol.first_chunk::<4>(), symbol[8..].first_chunk::<8>(), symbol[16..].first_chunk::<8>())
            else {
                break;
            };
            let (name, value, size) =
                (endian.read_u32(*name), endian.read_u64(*value), endian.read_u64(*size));
            let Some(text) = names.get(name as usize..) else { continue };
            let Some(len) = text.iter().position(|byte| *byte == 0) else { continue };
            if let Some(mark) = MARKS.iter().find(|mark| mark.as_bytes() == &text[..len]) {
                marks.entry(*mark).or_insert((LinkAddr(value), size));
            }
            let is_function = symbol[4] & 0xf == object::elf::STT_FUNC.0;
            if is_function && code.iter().any(|code| code.contains(LinkAddr(value))) {
                entries.push(Entry { start: value, end: value.saturating_add(size), name, len: len as u32 });
            }
        }
        Ok(Self::sorted(names, entries, marks))
    }

    /// From a list such as System.map or /proc/kallsyms. What a running kernel lists is moved by KASLR; `_text` is where
    /// the image has its first code. The error is `None` if the addresses are hidden.
    pub(super) fn of_list(path: &Path, code: &[Code]) -> Result<Self, Option<String>> {
        let text = std::fs::read_to_string(path).map_err(|error| Some(error.to_string()))?;
        let lines: Option<Vec<Line<'_>>> = text.lines().map(Line::parse).collect();
        let lines = lines.ok_or_else(|| Some("not every line is \"address type name\"".to_owned()))?;
        let lines: Vec<Line<'_>> = lines.into_iter().filter(|line| line.module.is_none()).collect();
        let first = code
            .iter()
            .map(|code| code.start)
            .min()
            .ok_or_else(|| Some("the image has no code".to_owned()))?;
        let text_symbol = lines
            .iter()
            .find(|line| line.name == "_text")
            .ok_or_else(|| Some("it has no _text".to_owned()))?;
        if text_symbol.address == 0 {
            return Err(None);
        }
        let slide = Slide::between(first, RuntimeAddr(text_symbol.address));
        let (mut entries, mut marks) = (Vec::new(), FxHashMap::default());
        for line in &lines {
            let start = slide.to_link(RuntimeAddr(line.address));
            if let Some(mark) = MARKS.iter().find(|mark| **mark == line.name) {
                marks.entry(*mark).or_insert((start, 0));
            } else if line.text && code.iter().any(|code| code.contains(start)) {
                let name = line.name.as_ptr().addr() - text.as_ptr().addr();
                let (Ok(name), Ok(len)) = (u32::try_from(name), u32::try_from(line.name.len())) else {
                    continue;
                };
                entries.push(Entry { start: start.0, end: start.0, name, len });
            }
        }
        if entries.is_empty() {
            return Err(Some("none of its functions is in the image: it is of another kernel".to_owned()));
        }
        Ok(Self::sorted(text.into_bytes().into(), entries, marks))
    }

    fn sorted(
        names: Arc<[u8]>,
        mut entries: Vec<Entry>,
        marks: FxHashMap<&'static str, (LinkAddr, u64)>,
    ) -> Self {
        // Of several names of one function the one that covers most is taken, and of those the one with the fewest
        // underscores in front.
        entries.sort_unstable_by_key(|entry| {
            let name = &names[entry.name as usize..][..entry.len as usize];
            let underscores = name.iter().take_while(|byte| **byte == b'_').count();
            (entry.start, Reverse(entry.end), underscores, entry.name)
        });
        entries.dedup_by_key(|entry| entry.start);
        // A function ends where the next one begins, whatever its size says; one without a size goes up to there.
        for index in 0..entries.len() {
            let next = entries.get(index + 1).map_or(u64::MAX, |next| next.start);
            let entry = &mut entries[index];
            if entry.end == entry.start || entry.end > next {
                entry.end = if next == u64::MAX { entry.start } else { next };
            }
        }
        entries.shrink_to_fit();
        Self { names, entries, marks }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every function, by address.
    pub fn iter(&self) -> impl Iterator<Item = Function<'_>> {
        self.entries.iter().map(|entry| self.function(entry))
    }

    /// The function that holds an address. The padding behind a function still is its own, as the kernel sees it.
    pub fn at(&self, address: LinkAddr) -> Option<Function<'_>> {
        let after = self.entries.partition_point(|entry| entry.start <= address.0);
        let function = self.function(self.entries.get(after.checked_sub(1)?)?);
        let next = self.entries.get(after).map_or(function.end.0, |next| next.start);
        (address.0 < function.end.0 || address.0 < next).then_some(function)
    }

    /// The first function of this name.
    pub fn named(&self, name: &str) -> Option<Function<'_>> {
        let bytes = |entry: &Entry| self.names.get(entry.name as usize..)?.get(..entry.len as usize);
        let same = |entry: &&Entry| entry.len as usize == name.len() && bytes(entry) == Some(name.as_bytes());
        self.entries.iter().find(same).map(|entry| self.function(entry))
    }

    /// A mark of the linker script or a variable: where it is and its size. Only those that this crate needs are known.
    pub fn mark(&self, name: &str) -> Option<(LinkAddr, u64)> {
        self.marks.get(name).copied()
    }

    fn function(&self, entry: &Entry) -> Function<'_> {
        let name = self.names.get(entry.name as usize..).and_then(|rest| rest.get(..entry.len as usize));
        let name = name.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("?");
        Function { name, start: LinkAddr(entry.start), end: LinkAddr(entry.end) }
    }
}
