//! Cuts a kernel's debug information down to what file:line and inlined frames need.
//!
//! A kernel's `.debug_info` is mostly types, variables and call sites: 94 of 158 MB in 7.2. A guest that symbolizes must
//! carry and unpack all of it. Here only functions and inlined functions with their ranges, names and call positions are
//! written again, as DWARF 5 with one table of abbreviations. The sections that they point into (lines, strings, ranges)
//! stay as they are. Nothing that a debugger wants beyond that is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result, bail};
use gimli::constants as dw;
use gimli::{AttributeValue, Reader, UnitOffset};
use object::{Object, ObjectSection};

/// The two sections that are written again.
pub(crate) struct Reduced {
    /// `.debug_info`
    pub(crate) info: Vec<u8>,
    /// `.debug_abbrev`
    pub(crate) abbrev: Vec<u8>,
}

type Slice<'a> = gimli::EndianSlice<'a, gimli::LittleEndian>;

/// Attributes that are kept: of the unit, and of functions.
const KEPT: &[gimli::DwAt] = &[
    dw::DW_AT_name,
    dw::DW_AT_comp_dir,
    dw::DW_AT_stmt_list,
    // clang's lists of ranges have their addresses in a table.
    dw::DW_AT_addr_base,
    dw::DW_AT_language,
    dw::DW_AT_low_pc,
    dw::DW_AT_high_pc,
    dw::DW_AT_ranges,
    dw::DW_AT_linkage_name,
    dw::DW_AT_abstract_origin,
    dw::DW_AT_specification,
    dw::DW_AT_call_file,
    dw::DW_AT_call_line,
    dw::DW_AT_call_column,
];

/// Reads an ELF file's debug information and writes it reduced.
pub(crate) fn reduce(elf: &[u8]) -> Result<Reduced> {
    let file = object::File::parse(elf).context("failed to read vmlinux as ELF")?;
    let load = |id: gimli::SectionId| -> Result<Slice<'_>> {
        let Some(section) = file.section_by_name(id.name()) else { return Ok(Slice::default()) };
        // The kernel's own compression is off in our configuration.
        let data = section.data().with_context(|| format!("failed to read {} of vmlinux", id.name()))?;
        Ok(Slice::new(data, gimli::LittleEndian))
    };
    let dwarf = gimli::Dwarf::load(load)?;
    let mut out = Writer::default();
    let mut units = dwarf.units();
    while let Some(header) = units.next().context("failed to read a unit of .debug_info")? {
        let unit = dwarf.unit(header).context("failed to read a unit of .debug_info")?;
        if unit.encoding().version != 5 || unit.encoding().format != gimli::Format::Dwarf32 {
            bail!("failed to reduce the debug information: it is not all 32-bit DWARF 5");
        }
        out.unit(&read(&dwarf, &unit)?)?;
    }
    Ok(out.finish())
}

/// An entry that may be kept.
struct Entry {
    offset: usize,
    tag: gimli::DwTag,
    /// Index of the nearest ancestor in the list.
    parent: Option<usize>,
    attributes: Vec<(gimli::DwAt, Value)>,
}

impl Entry {
    fn has_code(&self) -> bool {
        self.attributes.iter().any(|(name, _)| matches!(*name, dw::DW_AT_low_pc | dw::DW_AT_ranges))
    }

    fn origin(&self) -> Option<usize> {
        self.attributes.iter().find_map(|(_, value)| match value {
            Value::Entry(offset) => Some(*offset),
            _ => None,
        })
    }
}

/// A value in the one form in which it is written.
enum Value {
    Address(u64),
    Number(u64),
    String(Vec<u8>),
    /// Offset into `.debug_str`.
    Str(usize),
    /// Offset into `.debug_line_str`.
    LineStr(usize),
    /// Offset into another section.
    Section(usize),
    /// Offset of an entry in the unit as it was read.
    Entry(usize),
}

impl Value {
    fn form(&self) -> gimli::DwForm {
        match self {
            Self::Address(_) => dw::DW_FORM_addr,
            Self::Number(_) => dw::DW_FORM_udata,
            Self::String(_) => dw::DW_FORM_string,
            Self::Str(_) => dw::DW_FORM_strp,
            Self::LineStr(_) => dw::DW_FORM_line_strp,
            Self::Section(_) => dw::DW_FORM_sec_offset,
            Self::Entry(_) => dw::DW_FORM_ref4,
        }
    }

    /// `None` for values that are not kept, of flags for example.
    fn read(value: &AttributeValue<Slice<'_>>) -> Option<Self> {
        Some(match value {
            AttributeValue::Addr(address) => Self::Address(*address),
            AttributeValue::String(text) => Self::String(text.to_slice().ok()?.into_owned()),
            AttributeValue::DebugStrRef(offset) => Self::Str(offset.0),
            AttributeValue::DebugLineStrRef(offset) => Self::LineStr(offset.0),
            AttributeValue::DebugLineRef(offset) => Self::Section(offset.0),
            AttributeValue::RangeListsRef(offset) => Self::Section(offset.0),
            AttributeValue::DebugAddrBase(base) => Self::Section(base.0),
            AttributeValue::SecOffset(offset) => Self::Section(*offset),
            AttributeValue::UnitRef(UnitOffset(offset)) => Self::Entry(*offset),
            AttributeValue::FileIndex(index) => Self::Number(*index),
            AttributeValue::Language(language) => Self::Number(u64::from(language.0)),
            other => Self::Number(other.udata_value()?),
        })
    }
}

/// The root of a unit and its functions, in their order.
fn read(dwarf: &gimli::Dwarf<Slice<'_>>, unit: &gimli::Unit<Slice<'_>>) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    // Depth and index of the listed ancestors of the entry at hand.
    let mut ancestors: Vec<(isize, usize)> = Vec::new();
    let mut raw = unit.entries_raw(None)?;
    while !raw.is_empty() {
        let depth = raw.next_depth();
        let offset = raw.next_offset();
        let Some(abbreviation) = raw.read_abbreviation()? else { continue };
        let tag = abbreviation.tag();
        // Also for what is left out: what a lexical block holds does not belong to the function before the block.
        while ancestors.last().is_some_and(|(above, _)| *above >= depth) {
            ancestors.pop();
        }
        if !entries.is_empty() && !matches!(tag, dw::DW_TAG_subprogram | dw::DW_TAG_inlined_subroutine) {
            raw.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let mut attributes = Vec::new();
        for specification in abbreviation.attributes() {
            let attribute = raw.read_attribute(*specification)?;
            if !KEPT.contains(&attribute.name()) {
                continue;
            }
            let value = match attribute.value() {
                AttributeValue::DebugRngListsIndex(index) => {
                    Some(Value::Section(dwarf.ranges_offset(unit, index)?.0))
                }
                AttributeValue::DebugAddrIndex(index) => Some(Value::Address(dwarf.address(unit, index)?)),
                AttributeValue::DebugStrOffsetsIndex(index) => Some(Value::Str(
                    dwarf
                        .debug_str_offsets
                        .get_str_offset(gimli::Format::Dwarf32, unit.str_offsets_base, index)?
                        .0,
                )),
                value => Value::read(&value),
            };
            let value = value.with_context(|| format!("failed to read a {} of vmlinux", attribute.name()))?;
            attributes.push((attribute.name(), value));
        }
        let parent = ancestors.last().map(|(_, index)| *index);
        ancestors.push((depth, entries.len()));
        entries.push(Entry { offset: offset.0, tag, parent, attributes });
    }
    Ok(entries)
}

/// The indices of entries to write: the root, what has code, and what those take their names from.
fn needed(entries: &[Entry]) -> BTreeSet<usize> {
    let by_offset: HashMap<usize, usize> =
        entries.iter().enumerate().map(|(index, entry)| (entry.offset, index)).collect();
    let mut needed = BTreeSet::from([0]);
    let mut pending: Vec<usize> = (1..entries.len()).filter(|index| entries[*index].has_code()).collect();
    while let Some(index) = pending.pop() {
        if needed.insert(index) {
            pending.extend(entries[index].parent);
            pending.extend(entries[index].origin().and_then(|offset| by_offset.get(&offset)).copied());
        }
    }
    needed
}

/// An abbreviation: tag, whether there are children, attributes with their forms.
type Shape = (u16, bool, Vec<(u16, u16)>);

#[derive(Default)]
struct Writer {
    info: Vec<u8>,
    shapes: BTreeMap<Shape, u64>,
}

impl Writer {
    fn unit(&mut self, entries: &[Entry]) -> Result<()> {
        let needed = needed(entries);
        if needed.len() == 1 && !entries.first().is_some_and(Entry::has_code) {
            return Ok(());
        }
        let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
        for index in &needed {
            if let Some(parent) = entries[*index].parent {
                children.entry(parent).or_default().push(*index);
            }
        }
        let start = self.info.len();
        // Length (set at the end), version, a compile unit, bytes per address, the one abbreviation table.
        self.info.extend([0, 0, 0, 0, 5, 0, dw::DW_UT_compile.0, 8, 0, 0, 0, 0]);
        let mut unit = UnitWriter { start, places: HashMap::new(), references: Vec::new() };
        self.entry(entries, &children, 0, &mut unit);
        for (at, target) in unit.references {
            let place =
                unit.places.get(&target).context("failed to keep an entry that another one refers to")?;
            self.info[at..at + 4].copy_from_slice(&four(*place)?);
        }
        let length = four(self.info.len() - start - 4)?;
        self.info[start..start + 4].copy_from_slice(&length);
        Ok(())
    }

    fn entry(
        &mut self,
        entries: &[Entry],
        children: &HashMap<usize, Vec<usize>>,
        index: usize,
        unit: &mut UnitWriter,
    ) {
        let entry = &entries[index];
        let below = children.get(&index).map_or(&[][..], Vec::as_slice);
        let forms = entry.attributes.iter().map(|(name, value)| (name.0, value.form().0)).collect();
        let next = self.shapes.len() as u64 + 1;
        let code = *self.shapes.entry((entry.tag.0, !below.is_empty(), forms)).or_insert(next);
        unit.places.insert(entry.offset, self.info.len() - unit.start);
        uleb(&mut self.info, code);
        for (_, value) in &entry.attributes {
            self.value(value, unit);
        }
        if !below.is_empty() {
            for child in below {
                self.entry(entries, children, *child, unit);
            }
            self.info.push(0);
        }
    }

    fn value(&mut self, value: &Value, unit: &mut UnitWriter) {
        match value {
            Value::Address(address) => self.info.extend(address.to_le_bytes()),
            Value::Number(number) => uleb(&mut self.info, *number),
            Value::String(text) => {
                self.info.extend(text);
                self.info.push(0);
            }
            // Offsets of 32-bit DWARF, as they were read.
            Value::Str(offset) | Value::LineStr(offset) | Value::Section(offset) => {
                self.info.extend((*offset as u32).to_le_bytes());
            }
            Value::Entry(offset) => {
                unit.references.push((self.info.len(), *offset));
                self.info.extend([0; 4]);
            }
        }
    }

    fn finish(self) -> Reduced {
        let mut shapes: Vec<(Shape, u64)> = self.shapes.into_iter().collect();
        shapes.sort_by_key(|(_, code)| *code);
        let mut abbrev = Vec::new();
        for ((tag, has_children, attributes), code) in shapes {
            uleb(&mut abbrev, code);
            uleb(&mut abbrev, u64::from(tag));
            abbrev.push(u8::from(has_children));
            for (name, form) in attributes.into_iter().chain([(0, 0)]) {
                uleb(&mut abbrev, u64::from(name));
                uleb(&mut abbrev, u64::from(form));
            }
        }
        abbrev.push(0);
        Reduced { info: self.info, abbrev }
    }
}

/// Where things of one unit were written.
struct UnitWriter {
    start: usize,
    /// Offset read to offset written, both from the start of the unit.
    places: HashMap<usize, usize>,
    /// Where a reference stands, and the offset read that it means.
    references: Vec<(usize, usize)>,
}

fn four(offset: usize) -> Result<[u8; 4]> {
    Ok(u32::try_from(offset).context("failed to write a unit of more than 4 GB")?.to_le_bytes())
}

fn uleb(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use object::ObjectSymbol;

    use super::super::variant::Variant;
    use super::*;

    const SOURCE: &str = "\
struct unused { int a; long b; };
volatile int sink;
static inline __attribute__((always_inline)) int inner(int x)
{
	struct unused u = { x, x };
	sink = u.a;
	return sink * 3;
}
static inline __attribute__((always_inline)) int middle(int x)
{
	return inner(x) + 1;
}
static inline __attribute__((always_inline)) int first(int x)
{
	sink = x - 7;
	return sink;
}
static inline __attribute__((always_inline)) int outer(int x)
{
	volatile int sum = first(x);
	for (int i = 0; i < x; i++) {
		volatile int in_a_block = middle(i);
		sum += in_a_block;
	}
	return sum;
}
int main(int argc, char **argv)
{
	return outer(argc) + outer(argc + 1);
}
";

    /// A small program of which everything is known, compiled as the kernel is.
    fn program(compiler: &str) -> (tempfile::TempDir, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("small.c");
        std::fs::write(&source, SOURCE).unwrap();
        let program = directory.path().join("small");
        let status = Command::new(compiler)
            .args(["-gdwarf-5", "-O2", "-static", "-nostdlib", "-Wl,-e,main", "-o"])
            .args([&program, &source])
            .status()
            .unwrap();
        assert!(status.success());
        (directory, std::fs::read(&program).unwrap())
    }

    fn frames(elf: &[u8], sections: &dyn Fn(&str) -> Option<Vec<u8>>, address: u64) -> Vec<String> {
        let file = object::File::parse(elf).unwrap();
        let dwarf = gimli::Dwarf::load(|id| -> Result<_, gimli::Error> {
            let data = sections(id.name()).unwrap_or_else(|| {
                file.section_by_name(id.name()).map_or(Vec::new(), |section| section.data().unwrap().to_vec())
            });
            Ok(gimli::EndianRcSlice::new(data.into(), gimli::LittleEndian))
        })
        .unwrap();
        let context = addr2line::Context::from_dwarf(dwarf).unwrap();
        let mut frames = context.find_frames(address).skip_all_loads().unwrap();
        let mut found = Vec::new();
        while let Some(frame) = frames.next().unwrap() {
            let name = frame.function.unwrap().raw_name().unwrap().into_owned();
            let line = frame.location.and_then(|location| location.line);
            found.push(format!("{name}:{line:?}"));
        }
        found
    }

    #[test]
    fn frames_are_the_same_before_and_after_and_the_rest_is_gone() {
        frames_are_kept("cc", 3);
        // clang writes its strings, addresses and ranges in other forms. Not every machine has one.
        if let Ok(clang) = Variant::Clang.compiler() {
            frames_are_kept(&clang, 1);
        }
    }

    fn frames_are_kept(compiler: &str, least_saved: u64) {
        let (_directory, elf) = program(compiler);
        let reduced = reduce(&elf).unwrap();
        let file = object::File::parse(&*elf).unwrap();
        let main = file.symbols().find(|symbol| symbol.name() == Ok("main")).unwrap();
        let mut inlined = 0;
        for address in main.address()..main.address() + main.size() {
            let before = frames(&elf, &|_| None, address);
            let after = frames(
                &elf,
                &|name| match name {
                    ".debug_info" => Some(reduced.info.clone()),
                    ".debug_abbrev" => Some(reduced.abbrev.clone()),
                    ".debug_aranges" | ".debug_loclists" | ".debug_str_offsets" => Some(Vec::new()),
                    _ => None,
                },
                address,
            );
            assert_eq!(before, after, "at {address:#x}");
            inlined += usize::from(before.len() == 4 && before[0].starts_with("inner:"));
        }
        assert!(inlined > 0, "nothing was inlined, so nothing was tested");
        // clang says the same in fewer bytes than gcc, so less can be saved.
        let size = file.section_by_name(".debug_info").unwrap().size();
        assert!(
            (reduced.info.len() as u64) < size / least_saved,
            "{} bytes of {size} left",
            reduced.info.len()
        );
    }
}
