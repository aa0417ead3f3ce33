//! A module (`.ko`), given addresses as if it were linked: sections one behind the other, and what it takes from the kernel
//! somewhere below them. So everything that reads an image can read it; where it is when it runs is another matter.
//!
//! The kernel does the same when it loads one (`simplify_symbols` and `apply_relocate_add`, kernel/module/main.c and
//! arch/x86/kernel/module.c, 6.12). Only x86-64 is done.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use lzma_rust2::XzReader;

/// No module is larger.
const MAX_BYTES: u64 = 256 << 20;
/// Memory for what xz looks back to.
const MAX_DICTIONARY_KIB: u32 = 256 << 10;

/// Where the first section is put: about where modules are (Documentation/arch/x86/x86_64/mm.rst).
const SECTIONS: u64 = 0xffff_ffff_c000_0000;
/// Where the first thing of the kernel is taken to be, and how far the next one is. That holds the largest that anybody looks
/// into, `pv_ops`.
const FOREIGN: u64 = 0xffff_ffff_a000_0000;
const FOREIGN_STEP: u64 = 0x1_0000;

/// `e_type` of a file that has yet to be linked.
const RELOCATABLE: u16 = 1;
const X86_64: u16 = 62;

const PROGBITS_ALLOC: u64 = 2;
const COMPRESSED: u64 = 1 << 11;
const SYMTAB: u32 = 2;
const RELA: u32 = 4;
/// Section numbers from here on have a meaning of their own.
const RESERVED: u16 = 0xff00;

/// Reads a module, packed (xz, zstd, gzip) or not, and gives its sections addresses.
pub(super) fn read(path: &Path) -> std::io::Result<Result<Vec<u8>, String>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let mut plain = Vec::new();
    match &bytes[..] {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            XzReader::new_mem_limit(&bytes[..], false, MAX_DICTIONARY_KIB)
                .take(MAX_BYTES)
                .read_to_end(&mut plain)?;
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            zstd::Decoder::with_buffer(&bytes[..])?.take(MAX_BYTES).read_to_end(&mut plain)?;
        }
        [0x1f, 0x8b, ..] => {
            flate2::bufread::GzDecoder::new(&bytes[..]).take(MAX_BYTES).read_to_end(&mut plain)?;
        }
        _ => plain = bytes,
    }
    Ok(link(plain))
}

/// A section's header, as far as it matters.
#[derive(Clone, Copy, Debug)]
struct Section {
    kind: u32,
    flags: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    /// Where its header is in the file.
    header: usize,
    /// Where it was put; 0 if it is not there when the module runs.
    address: u64,
}

/// The bytes of an ELF file, with the little that is needed to change them.
struct Bytes(Vec<u8>);

impl Bytes {
    fn get<const N: usize>(&self, at: u64) -> Result<[u8; N], String> {
        let at = usize::try_from(at).ok();
        let found = at.and_then(|at| self.0.get(at..)?.first_chunk::<N>().copied());
        found.ok_or_else(|| "it ends too early: the file is cut".to_owned())
    }

    fn half(&self, at: u64) -> Result<u16, String> {
        self.get(at).map(u16::from_le_bytes)
    }

    fn word(&self, at: u64) -> Result<u32, String> {
        self.get(at).map(u32::from_le_bytes)
    }

    fn long(&self, at: u64) -> Result<u64, String> {
        self.get(at).map(u64::from_le_bytes)
    }

    fn set(&mut self, at: u64, new: &[u8]) -> Result<(), String> {
        let start = usize::try_from(at).ok();
        let place = start.and_then(|start| self.0.get_mut(start..start.checked_add(new.len())?));
        place.ok_or_else(|| "a relocation is outside of its section".to_owned())?.copy_from_slice(new);
        Ok(())
    }
}

fn link(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut bytes = Bytes(bytes);
    if bytes.get(0)? != [0x7f, b'E', b'L', b'F', 2, 1] || bytes.half(18)? != X86_64 {
        return Err("it is no ELF file for x86_64".to_owned());
    }
    if bytes.half(16)? != RELOCATABLE {
        return Err("it is no module: it has been linked already".to_owned());
    }
    let sections = place(&mut bytes)?;
    let symbols = sections.iter().find(|section| section.kind == SYMTAB).copied();
    let symbols = symbols.ok_or_else(|| "it has no symbols".to_owned())?;
    resolve(&mut bytes, &sections, symbols)?;
    for rela in sections.iter().filter(|section| section.kind == RELA) {
        let Some(target) = sections.get(rela.info as usize) else { continue };
        if sections.get(rela.link as usize).is_some_and(|table| table.header == symbols.header) {
            relocate(&mut bytes, *rela, *target, symbols)?;
        }
    }
    Ok(bytes.0)
}

/// Reads the headers of the sections, and puts those that are there when the module runs one behind the other.
fn place(bytes: &mut Bytes) -> Result<Vec<Section>, String> {
    let (table, count) = (bytes.long(40)?, bytes.half(60)?);
    let mut next = SECTIONS;
    let mut sections = Vec::with_capacity(count.into());
    for index in 0..u64::from(count) {
        let at = table.checked_add(index * 64).ok_or("its header is damaged")?;
        let mut section = Section {
            kind: bytes.word(at + 4)?,
            flags: bytes.long(at + 8)?,
            offset: bytes.long(at + 24)?,
            size: bytes.long(at + 32)?,
            link: bytes.word(at + 40)?,
            info: bytes.word(at + 44)?,
            align: bytes.long(at + 48)?,
            header: at as usize,
            address: 0,
        };
        if section.flags & PROGBITS_ALLOC != 0 {
            let align = section.align.max(1);
            section.address = next.checked_next_multiple_of(align).ok_or("it is too large")?;
            next = section.address.checked_add(section.size).ok_or("it is too large")?;
            bytes.set(at + 16, &section.address.to_le_bytes())?;
        }
        sections.push(section);
    }
    Ok(sections)
}

/// Where the symbols of a table are in the file.
fn places(table: Section) -> impl Iterator<Item = u64> {
    let Range { start, end } = table.offset..table.offset.saturating_add(table.size);
    (start..end).step_by(24)
}

/// Gives every symbol its address.
fn resolve(bytes: &mut Bytes, sections: &[Section], symbols: Section) -> Result<(), String> {
    let mut foreign = FOREIGN;
    // The first one is none.
    for at in places(symbols).skip(1) {
        let value = match bytes.half(at + 6)? {
            0 => {
                foreign += FOREIGN_STEP;
                foreign
            }
            RESERVED.. => continue,
            number => {
                let section = sections.get(usize::from(number)).ok_or("a symbol is in no section")?;
                section.address.wrapping_add(bytes.long(at + 8)?)
            }
        };
        bytes.set(at + 8, &value.to_le_bytes())?;
    }
    Ok(())
}

/// Applies the relocations of one section.
fn relocate(bytes: &mut Bytes, rela: Section, target: Section, symbols: Section) -> Result<(), String> {
    if target.flags & COMPRESSED != 0 {
        return Err(
            "its debug information is compressed; unpack it with objcopy --decompress-debug-sections"
                .to_owned(),
        );
    }
    for at in places(rela) {
        let (offset, info, add) = (bytes.long(at)?, bytes.long(at + 8)?, bytes.long(at + 16)?);
        let symbol = symbols.offset.checked_add((info >> 32) * 24).ok_or("a relocation names no symbol")?;
        let value = bytes.long(symbol + 8)?.wrapping_add(add);
        let place = target.address.wrapping_add(offset);
        let (value, size) = match info as u32 {
            // R_X86_64_NONE
            0 => continue,
            // R_X86_64_64
            1 => (value, 8),
            // R_X86_64_PC32, R_X86_64_PLT32
            2 | 4 => (value.wrapping_sub(place), 4),
            // R_X86_64_32, R_X86_64_32S
            10 | 11 => (value, 4),
            // R_X86_64_PC64
            24 => (value.wrapping_sub(place), 8),
            other => return Err(format!("it has relocations of type {other}, which are not known here")),
        };
        if offset.checked_add(size as u64).is_none_or(|end| end > target.size) {
            return Err("a relocation is outside of its section".to_owned());
        }
        bytes.set(target.offset + offset, &value.to_le_bytes()[..size])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_is_refused() {
        for (bytes, why) in [(vec![0; 64], "no ELF"), (vec![0x7f, b'E'], "cut")] {
            assert!(link(bytes).unwrap_err().contains(why));
        }
        // This program is linked.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(link(own).unwrap_err().contains("linked already"));
    }
}
