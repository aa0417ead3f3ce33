//! Debug information, read one compilation unit at a time.
//!
//! A vmlinux has hundreds of megabytes of it, and few units touch page tables. A unit is looked into only if it refers
//! to the name of an accessor; the others cost one pass over their bytes. What is in memory is what units share, and one
//! unit with its location lists.
//!
//! References from one unit to another (link-time optimisation, dwz) are not followed.

pub(super) mod locations;
pub(super) mod tree;

use std::sync::Arc;

use gimli::{AttributeValue, EndianSlice, RunTimeEndian, SectionId};
use object::Endianness;
use rustc_hash::FxHashSet;

use crate::elf::{Elf, ElfError};

pub(super) type Reader<'a> = EndianSlice<'a, RunTimeEndian>;
pub(super) type Dwarf<'a> = gimli::Dwarf<Reader<'a>>;
pub(super) type Unit<'a> = gimli::Unit<Reader<'a>>;

/// Why debug information cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DwarfError {
    /// The file cannot be read.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// It is damaged.
    #[error("read the debug information of the unit at byte {unit:#x} of .debug_info: {source}")]
    Unit {
        /// Where the unit begins.
        unit: u64,
        /// What is wrong.
        source: gimli::Error,
    },
}

/// The sections that all units share.
pub(super) struct Sections<'a> {
    elf: &'a Elf,
    pub(super) endian: RunTimeEndian,
    shared: Vec<(SectionId, Arc<[u8]>)>,
    /// `.debug_info` as a whole, where it is compressed and cannot be read in parts.
    info: Option<Arc<[u8]>>,
}

const SHARED: [SectionId; 7] = [
    SectionId::DebugAbbrev,
    SectionId::DebugStr,
    SectionId::DebugLineStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugAddr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
];

impl<'a> Sections<'a> {
    pub(super) fn load(elf: &'a Elf) -> Result<Self, ElfError> {
        let endian = match elf.endian() {
            Endianness::Little => RunTimeEndian::Little,
            Endianness::Big => RunTimeEndian::Big,
        };
        let mut shared = Vec::new();
        for id in SHARED {
            shared.push((id, elf.section(id.name())?));
        }
        let name = SectionId::DebugInfo.name();
        let info = if elf.is_plain(name) { None } else { Some(elf.section(name)?) };
        Ok(Self { elf, endian, shared, info })
    }

    fn section(&self, id: SectionId) -> &[u8] {
        self.shared.iter().find(|(known, _)| *known == id).map_or(&[], |(_, bytes)| bytes)
    }

    /// Calls `visit` with each unit that mentions one of `names`: where it begins, and its bytes.
    pub(super) fn for_each_unit(
        &self,
        names: &FxHashSet<&[u8]>,
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), DwarfError>,
    ) -> Result<(), DwarfError> {
        let needles = Needles::new(self.section(SectionId::DebugStr), names, self.endian);
        // Where names are given by index, or stand in the unit itself, their offsets are not in its bytes.
        let indexed = !self.section(SectionId::DebugStrOffsets).is_empty();
        let name = SectionId::DebugInfo.name();
        let end = self.elf.section_len(name);
        let mut buffer = Vec::new();
        let mut at = 0;
        while at < end {
            let damaged = |source| DwarfError::Unit { unit: at, source };
            if self.info.is_none() {
                self.elf.part_into(name, at..at.saturating_add(12).min(end), &mut buffer)?;
            }
            let header = match &self.info {
                Some(info) => info.get(at as usize..).unwrap_or_default(),
                None => &buffer[..],
            };
            let len = unit_len(header, self.endian).map_err(damaged)?;
            let next = at.checked_add(len).filter(|next| *next <= end);
            let next = next.ok_or(gimli::Error::OffsetOutOfBounds(at)).map_err(damaged)?;
            let unit = if let Some(info) = &self.info {
                info.get(at as usize..next as usize).unwrap_or_default()
            } else {
                self.elf.part_into(name, at..next, &mut buffer)?;
                &buffer[..]
            };
            if indexed || needles.any_in(unit) {
                visit(at, unit)?;
            }
            at = next;
        }
        Ok(())
    }

    /// The sections as if the file had this one unit.
    pub(super) fn dwarf<'b>(&'b self, unit: &'b [u8]) -> gimli::Result<Dwarf<'b>> {
        Dwarf::load(|id| {
            let bytes = if id == SectionId::DebugInfo { unit } else { self.section(id) };
            Ok(EndianSlice::new(bytes, self.endian))
        })
    }

    /// The unit of [`Sections::dwarf`], without its line program: nobody asks for lines here, and that section is large.
    pub(super) fn unit<'b>(dwarf: &Dwarf<'b>) -> gimli::Result<Option<Unit<'b>>> {
        let Some(header) = dwarf.units().next()? else { return Ok(None) };
        let (encoding, file) = (header.encoding(), dwarf.file_type);
        let mut unit = gimli::Unit {
            abbreviations: dwarf.abbreviations(&header)?,
            name: None,
            comp_dir: None,
            low_pc: 0,
            str_offsets_base: gimli::DebugStrOffsetsBase::default_for_encoding_and_file(encoding, file),
            addr_base: gimli::DebugAddrBase(0),
            loclists_base: gimli::DebugLocListsBase::default_for_encoding_and_file(encoding, file),
            rnglists_base: gimli::DebugRngListsBase::default_for_encoding_and_file(encoding, file),
            line_program: None,
            dwo_id: None,
            header,
        };
        let (mut name, mut low) = (None, None);
        let mut entries = unit.entries_raw(None)?;
        let Some(root) = entries.read_abbreviation()? else { return Ok(Some(unit)) };
        let mut attributes = Vec::new();
        for specification in root.attributes() {
            attributes.push(entries.read_attribute(*specification)?);
        }
        for attribute in attributes {
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_name, value) => name = Some(value),
                (gimli::DW_AT_low_pc, value) => low = Some(value),
                (_, AttributeValue::DebugStrOffsetsBase(base)) => unit.str_offsets_base = base,
                (_, AttributeValue::DebugAddrBase(base)) => unit.addr_base = base,
                (_, AttributeValue::DebugLocListsBase(base)) => unit.loclists_base = base,
                (_, AttributeValue::DebugRngListsBase(base)) => unit.rnglists_base = base,
                _ => {}
            }
        }
        // The two that may need a base that stands behind them.
        unit.name = name.and_then(|name| dwarf.attr_string(&unit, name).ok());
        if let Some(low) = low {
            unit.low_pc = dwarf.attr_address(&unit, low)?.unwrap_or(0);
        }
        Ok(Some(unit))
    }

    /// The part of a section of location lists from one list to another, and a good deal more for the length of the
    /// last one.
    pub(super) fn lists(&self, id: SectionId, from: u64, to: u64) -> Result<Arc<[u8]>, ElfError> {
        const LAST: u64 = 1 << 18;
        let end = self.elf.section_len(id.name());
        if !self.elf.is_plain(id.name()) {
            let whole = self.elf.section(id.name())?;
            return Ok(whole.get(from as usize..).unwrap_or_default().into());
        }
        self.elf.part(id.name(), from.min(end)..to.saturating_add(LAST).min(end))
    }
}

/// The length of the unit that begins here, its length field included (DWARF 5, 7.4).
fn unit_len(info: &[u8], endian: RunTimeEndian) -> gimli::Result<u64> {
    use gimli::Reader as _;
    let mut rest = EndianSlice::new(info, endian);
    let (len, format) = rest.read_initial_length()?;
    (len as u64).checked_add(u64::from(format.initial_length_size())).ok_or(gimli::Error::UnsupportedOffset)
}

/// The offsets of names in `.debug_str`, to be looked for in a unit's bytes: whatever refers to a name has its offset in
/// 4 bytes (`DW_FORM_strp`). A hit may be chance; a miss is certain.
struct Needles {
    /// By the first two bytes of an offset, whether there is one that begins so.
    first: Box<[u64; 1024]>,
    offsets: FxHashSet<[u8; 4]>,
}

impl Needles {
    fn new(strings: &[u8], names: &FxHashSet<&[u8]>, endian: RunTimeEndian) -> Self {
        use gimli::Endianity as _;
        let mut needles = Self { first: Box::new([0; 1024]), offsets: FxHashSet::default() };
        // Most strings are told apart by their last bytes.
        let ends: FxHashSet<&[u8]> =
            names.iter().filter_map(|name| name.get(name.len().checked_sub(3)?..)).collect();
        let mut start = 0;
        for string in strings.split(|byte| *byte == 0) {
            // The linker lets a name be the tail of another one, so each tail counts. Names have no more than 40 bytes.
            let end = string.len().checked_sub(3).map(|at| &string[at..]);
            let tails = if end.is_some_and(|end| ends.contains(end)) {
                string.len().saturating_sub(40)
            } else {
                string.len()
            };
            for tail in tails..string.len() {
                if names.contains(&string[tail..]) {
                    let mut offset = [0; 4];
                    endian.write_u32(&mut offset, (start + tail) as u32);
                    needles.offsets.insert(offset);
                    let first = usize::from(u16::from_le_bytes([offset[0], offset[1]]));
                    needles.first[first / 64] |= 1 << (first % 64);
                }
            }
            start += string.len() + 1;
        }
        needles
    }

    fn any_in(&self, unit: &[u8]) -> bool {
        unit.windows(4).any(|window| {
            let first = usize::from(u16::from_le_bytes([window[0], window[1]]));
            self.first[first / 64] >> (first % 64) & 1 != 0
                && window.try_into().is_ok_and(|offset: [u8; 4]| self.offsets.contains(&offset))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_at_its_own_offset_and_as_a_tail() {
        let names: FxHashSet<&[u8]> = [&b"ptep_get"[..]].into_iter().collect();
        let needles =
            Needles::new(b"\0abc\0__ptep_get\0ptep_get_x\0ptep_get\0", &names, RunTimeEndian::Little);
        let mut offsets: Vec<u32> = needles.offsets.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, [7, 27]);
        assert!(needles.any_in(&[9, 27, 0, 0, 0, 9]) && needles.any_in(&[7, 0, 0, 0]));
        assert!(!needles.any_in(&[27, 0, 0]) && !needles.any_in(&[27, 0, 1, 0, 7, 0, 1, 0]));
    }
}
