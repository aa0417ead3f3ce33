//! Source lines and inlined functions from DWARF, one compilation unit at a time.
//!
//! A kernel has thousands of units and a trace touches a few dozen. `.debug_aranges` says which unit an address
//! is in; only that unit's part of `.debug_info` is given to addr2line, which reads it and nothing else. Where
//! the section is not compressed, that part is all that is read from the file.
//!
//! What this does not do: names that one unit takes from another (link-time optimisation, dwz) are not resolved;
//! those frames have a line and no inlined functions.

use std::sync::Arc;

use addr2line::Context;
use gimli::{EndianArcSlice, Reader as _, RunTimeEndian, SectionId};
use object::Endianness;
use rustc_hash::FxHashMap;

use crate::address::LinkAddr;
use crate::elf::{Elf, ElfError};
use crate::source_path::SourceRoots;

type Reader = EndianArcSlice<RunTimeEndian>;
type Dwarf = gimli::Dwarf<Reader>;

/// The file by which the root of the kernel's tree is recognised, and a function in it.
pub(crate) const LANDMARK_FUNCTION: &str = "start_kernel";
const LANDMARK_FILE: &str = "init/main.c";

/// Why an address has no line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinesError {
    #[error(transparent)]
    Elf(#[from] ElfError),
    #[error("read debug information: {0}")]
    Dwarf(#[from] gimli::Error),
}

/// One function at an address: the innermost first, the one that holds the text last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineFrame {
    pub(crate) function: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

/// The debug information of one vmlinux.
pub(crate) struct Lines {
    endian: RunTimeEndian,
    /// What all units share, by name of the section.
    shared: FxHashMap<&'static str, Reader>,
    /// `.debug_info` as a whole; `None` if its parts are read from the file.
    info: Option<Reader>,
    index: Vec<UnitRange>,
    units: FxHashMap<u64, Option<Context<Reader>>>,
    roots: SourceRoots,
}

/// A range of addresses and the unit they are in.
#[derive(Clone, Copy, Debug)]
struct UnitRange {
    start: u64,
    end: u64,
    unit: u64,
}

/// The sections that all units share. Those of locations and types are not here: nobody asks for them.
const SHARED: [SectionId; 8] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];

impl Lines {
    /// Reads what all units share. `landmark` is the address of [`LANDMARK_FUNCTION`].
    pub(crate) fn load(elf: &Elf, landmark: Option<LinkAddr>) -> Result<Self, LinesError> {
        let endian = match elf.endian() {
            Endianness::Little => RunTimeEndian::Little,
            Endianness::Big => RunTimeEndian::Big,
        };
        let read = |id: SectionId| elf.section(id.name()).map(|bytes| Reader::new(bytes, endian));
        let mut shared = FxHashMap::default();
        for id in SHARED {
            shared.insert(id.name(), read(id)?);
        }
        let aranges = read(SectionId::DebugAranges)?;
        let mut index = index_from_aranges(&aranges.into())?;
        let whole = index.is_empty() || !elf.is_plain(SectionId::DebugInfo.name());
        let info = if whole { Some(read(SectionId::DebugInfo)?) } else { None };
        let mut lines = Self {
            endian,
            shared,
            info,
            index: Vec::new(),
            units: FxHashMap::default(),
            roots: SourceRoots::default(),
        };
        if let (true, Some(info)) = (index.is_empty(), &lines.info) {
            index = index_from_units(&lines.dwarf(info)?)?;
        }
        index.sort_unstable_by_key(|range| range.start);
        lines.index = index;
        lines.roots = landmark.and_then(|address| lines.find_roots(elf, address)).unwrap_or_default();
        Ok(lines)
    }

    /// The functions at an address. Empty if the debug information does not cover it.
    pub(crate) fn frames(&mut self, elf: &Elf, address: LinkAddr) -> Result<Vec<LineFrame>, LinesError> {
        let Some(unit) = self.unit_of(address) else { return Ok(Vec::new()) };
        if !self.units.contains_key(&unit) {
            // A damaged unit is not tried again; the error is told once.
            self.units.insert(unit, None);
            let context = Context::from_dwarf(self.unit_dwarf(elf, unit)?)?;
            self.units.insert(unit, Some(context));
        }
        let Some(Some(context)) = self.units.get(&unit) else { return Ok(Vec::new()) };
        // Split DWARF is not used by kernels: a unit that asks for another file gets none.
        let mut frames = match context.find_frames(address.0).skip_all_loads() {
            Ok(frames) => frames,
            Err(error) => {
                let location = context.find_location(address.0)?.ok_or(error)?;
                return Ok(vec![self.line_frame(None, Some(&location))]);
            }
        };
        let mut out = Vec::new();
        while let Some(frame) = frames.next()? {
            let function = frame.function.and_then(|name| Some(name.raw_name().ok()?.into_owned()));
            let location = frame.location;
            out.push(self.line_frame(function, location.as_ref()));
        }
        Ok(out)
    }

    fn line_frame(&self, function: Option<String>, location: Option<&addr2line::Location<'_>>) -> LineFrame {
        LineFrame {
            function,
            file: location.and_then(|location| location.file).map(|file| self.roots.relative(file)),
            line: location.and_then(|location| location.line),
        }
    }

    fn unit_of(&self, address: LinkAddr) -> Option<u64> {
        let after = self.index.partition_point(|range| range.start <= address.0);
        let range = self.index.get(after.checked_sub(1)?)?;
        (address.0 < range.end).then_some(range.unit)
    }

    fn find_roots(&self, elf: &Elf, landmark: LinkAddr) -> Option<SourceRoots> {
        let dwarf = self.unit_dwarf(elf, self.unit_of(landmark)?).ok()?;
        let unit = dwarf.unit(dwarf.units().next().ok()??).ok()?;
        let text = |part: &Option<Reader>| Some(part.as_ref()?.to_string_lossy().ok()?.into_owned());
        Some(SourceRoots::from_unit(&text(&unit.name)?, &text(&unit.comp_dir)?, LANDMARK_FILE))
    }

    /// The sections as if the file had this one unit. References inside a unit count from its start, and those to
    /// other sections from theirs, so the unit reads the same as in its place.
    fn unit_dwarf(&self, elf: &Elf, unit: u64) -> Result<Dwarf, LinesError> {
        let info = match &self.info {
            Some(info) => {
                let len = unit_len(&info.to_slice()?, unit, self.endian)?;
                let mut part = info.clone();
                part.skip(unit as usize)?;
                part.truncate(len as usize)?;
                part
            }
            None => self.read_unit(elf, unit)?,
        };
        Ok(self.dwarf(&info)?)
    }

    fn read_unit(&self, elf: &Elf, unit: u64) -> Result<Reader, LinesError> {
        let name = SectionId::DebugInfo.name();
        let end = elf.section_len(name);
        let header = elf.part(name, unit..unit.saturating_add(12).min(end))?;
        let len = unit_len(&header, 0, self.endian)?;
        let bytes = elf.part(name, unit..unit.saturating_add(len).min(end))?;
        Ok(Reader::new(bytes, self.endian))
    }

    fn dwarf(&self, info: &Reader) -> gimli::Result<Dwarf> {
        Dwarf::load(|id| {
            Ok(match id {
                SectionId::DebugInfo => info.clone(),
                _ => match self.shared.get(id.name()) {
                    Some(section) => section.clone(),
                    None => Reader::new(Arc::new([]), self.endian),
                },
            })
        })
    }
}

/// The length of the unit that begins at `at`, its length field included (DWARF 5, 7.4: a first word of
/// 0xffffffff says that a 64-bit length follows).
fn unit_len(info: &[u8], at: u64, endian: RunTimeEndian) -> gimli::Result<u64> {
    let mut rest = gimli::EndianSlice::new(info, endian);
    rest.skip(usize::try_from(at).map_err(|_| gimli::Error::OffsetOutOfBounds(at))?)?;
    let (len, format) = rest.read_initial_length()?;
    (len as u64).checked_add(u64::from(format.initial_length_size())).ok_or(gimli::Error::UnsupportedOffset)
}

fn index_from_aranges(aranges: &gimli::DebugAranges<Reader>) -> gimli::Result<Vec<UnitRange>> {
    let mut index = Vec::new();
    let mut headers = aranges.headers();
    while let Some(header) = headers.next()? {
        let unit = header.debug_info_offset().0 as u64;
        let mut entries = header.entries();
        while let Some(entry) = entries.next()? {
            let range = entry.range();
            index.push(UnitRange { start: range.begin, end: range.end, unit });
        }
    }
    Ok(index)
}

/// For compilers that write no `.debug_aranges` (clang): the ranges that the units themselves tell.
fn index_from_units(dwarf: &Dwarf) -> gimli::Result<Vec<UnitRange>> {
    let mut index = Vec::new();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next()? {
        let Some(offset) = header.debug_info_offset() else { continue };
        let unit = dwarf.unit(header)?;
        let mut ranges = dwarf.unit_ranges(&unit)?;
        while let Some(range) = ranges.next()? {
            index.push(UnitRange { start: range.begin, end: range.end, unit: offset.0 as u64 });
        }
    }
    Ok(index)
}
