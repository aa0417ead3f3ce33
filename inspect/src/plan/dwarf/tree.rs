//! What one unit says about functions, what was inlined into them, and their variables: a flat list in the order of the
//! file, in which what is inside of something follows it.

use gimli::AttributeValue;
use lazymmu_abi::Level;

use super::locations::Place;
use super::{Dwarf, Reader, Unit};
use crate::address::LinkAddr;

/// Typedefs and qualifiers in a row; abstract origins in a row.
const MAX_DEPTH: usize = 8;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum NodeKind {
    Function,
    Inlined,
    Block,
    Parameter,
    Variable,
}

/// A function, something inlined, a block, or a variable.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Node<'a> {
    pub(in crate::plan) kind: NodeKind,
    /// What it stands in, as an index.
    pub(in crate::plan) parent: Option<usize>,
    /// The address at which the compiler says that an inlined function begins.
    entry: Option<u64>,
    depth: isize,
    offset: usize,
    name: Option<Reader<'a>>,
    origin: Option<usize>,
    low: Option<u64>,
    high: Option<High>,
    list: Option<AttributeValue<Reader<'a>>>,
    pub(in crate::plan) place: Option<Place<'a>>,
    ty: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum High {
    Address(u64),
    Length(u64),
}

/// What a pointer points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Target<'a> {
    /// A page-table entry.
    Entry(Level),
    /// A structure of this name.
    Struct(&'a [u8]),
    /// Anything else.
    Other,
}

#[derive(Clone, Copy, Debug)]
enum Type<'a> {
    /// `pte_t` and its like.
    Entry(Level),
    Struct(Option<Reader<'a>>),
    Pointer(Option<usize>),
    /// Typedefs and qualifiers.
    Alias(Option<usize>),
}

/// One unit.
pub(in crate::plan) struct Tree<'a> {
    pub(in crate::plan) nodes: Vec<Node<'a>>,
    /// By their offset in the unit.
    types: Vec<(usize, Type<'a>)>,
    /// References into other units, which are not followed.
    pub(in crate::plan) foreign: usize,
}

impl<'a> Tree<'a> {
    pub(in crate::plan) fn read(dwarf: &Dwarf<'a>, unit: &Unit<'a>) -> gimli::Result<Self> {
        let mut tree = Self { nodes: Vec::new(), types: Vec::new(), foreign: 0 };
        // What the next node may stand in.
        let mut open: Vec<usize> = Vec::new();
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            let (offset, depth) = (entries.next_offset().0, entries.next_depth());
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            let kind = match abbreviation.tag() {
                gimli::DW_TAG_subprogram => Some(NodeKind::Function),
                gimli::DW_TAG_inlined_subroutine => Some(NodeKind::Inlined),
                gimli::DW_TAG_lexical_block => Some(NodeKind::Block),
                gimli::DW_TAG_formal_parameter => Some(NodeKind::Parameter),
                gimli::DW_TAG_variable => Some(NodeKind::Variable),
                gimli::DW_TAG_typedef
                | gimli::DW_TAG_const_type
                | gimli::DW_TAG_volatile_type
                | gimli::DW_TAG_pointer_type
                | gimli::DW_TAG_structure_type => None,
                _ => {
                    entries.skip_attributes(abbreviation.attributes())?;
                    continue;
                }
            };
            let mut node = Node {
                kind: kind.unwrap_or(NodeKind::Block),
                parent: None,
                entry: None,
                depth,
                offset,
                name: None,
                origin: None,
                low: None,
                high: None,
                list: None,
                place: None,
                ty: None,
            };
            for specification in abbreviation.attributes() {
                let attribute = entries.read_attribute(*specification)?;
                tree.take(dwarf, unit, &mut node, attribute)?;
            }
            if kind.is_none() {
                tree.types.push((offset, type_of(abbreviation.tag(), &node)));
                continue;
            }
            while open.last().is_some_and(|last| tree.nodes[*last].depth >= depth) {
                open.pop();
            }
            node.parent = open.last().copied();
            match node.kind {
                // Of no interest: globals, and parameters of types.
                NodeKind::Variable | NodeKind::Parameter if node.parent.is_none() => continue,
                NodeKind::Variable | NodeKind::Parameter => {}
                _ => open.push(tree.nodes.len()),
            }
            tree.nodes.push(node);
        }
        Ok(tree)
    }

    fn take(
        &mut self,
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        node: &mut Node<'a>,
        attribute: gimli::Attribute<Reader<'a>>,
    ) -> gimli::Result<()> {
        let value = attribute.value();
        match attribute.name() {
            gimli::DW_AT_name => node.name = dwarf.attr_string(unit, value).ok(),
            gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => match value {
                AttributeValue::UnitRef(offset) => node.origin = Some(offset.0),
                _ => self.foreign += 1,
            },
            gimli::DW_AT_low_pc => node.low = dwarf.attr_address(unit, value)?,
            gimli::DW_AT_high_pc => {
                node.high = match value {
                    AttributeValue::Udata(length) => Some(High::Length(length)),
                    value => dwarf.attr_address(unit, value)?.map(High::Address),
                };
            }
            // A constant counts from the lowest address (DWARF 5, 2.18), which comes before it.
            gimli::DW_AT_entry_pc => {
                node.entry = match value {
                    AttributeValue::Udata(add) => node.low.and_then(|low| low.checked_add(add)),
                    value => dwarf.attr_address(unit, value)?,
                };
            }
            gimli::DW_AT_ranges => node.list = Some(value),
            gimli::DW_AT_location => node.place = Place::of(value),
            gimli::DW_AT_type => {
                if let AttributeValue::UnitRef(offset) = value {
                    node.ty = Some(offset.0);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The name of a node, or of what it is an instance of.
    pub(in crate::plan) fn name(&self, node: &Node<'a>) -> Option<&'a [u8]> {
        self.along_origins(node, |node| node.name).map(|name| name.slice())
    }

    /// What a variable points to; `None` if it is no pointer.
    pub(in crate::plan) fn target(&self, node: &Node<'a>) -> Option<Target<'a>> {
        let mut at = self.along_origins(node, |node| node.ty)?;
        for _ in 0..MAX_DEPTH {
            match self.type_at(at)? {
                Type::Alias(next) => at = next?,
                Type::Pointer(None) => return Some(Target::Other),
                Type::Pointer(Some(to)) => return Some(self.pointed_to(to)),
                Type::Entry(_) | Type::Struct(_) => return None,
            }
        }
        None
    }

    fn pointed_to(&self, mut at: usize) -> Target<'a> {
        for _ in 0..MAX_DEPTH {
            match self.type_at(at) {
                Some(Type::Entry(level)) => return Target::Entry(level),
                Some(Type::Struct(Some(name))) => return Target::Struct(name.slice()),
                Some(Type::Alias(Some(next))) => at = next,
                _ => return Target::Other,
            }
        }
        Target::Other
    }

    /// The code of a node: ranges that are not empty.
    pub(in crate::plan) fn ranges(
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        node: &Node<'a>,
    ) -> gimli::Result<Vec<(LinkAddr, LinkAddr)>> {
        let mut found = Vec::new();
        if let Some(list) = &node.list {
            if let Some(mut ranges) = dwarf.attr_ranges(unit, *list)? {
                while let Some(range) = ranges.next()? {
                    found.push((LinkAddr(range.begin), LinkAddr(range.end)));
                }
            }
        } else if let (Some(low), Some(high)) = (node.low, node.high) {
            let end = match high {
                High::Address(end) => end,
                High::Length(length) => low.saturating_add(length),
            };
            found.push((LinkAddr(low), LinkAddr(end)));
        }
        found.retain(|(start, end)| start < end);
        Ok(found)
    }

    /// Where an inlined function begins, given its ranges.
    pub(in crate::plan) fn entry(node: &Node<'a>, ranges: &[(LinkAddr, LinkAddr)]) -> Option<LinkAddr> {
        node.entry.or(node.low).map(LinkAddr).or_else(|| ranges.first().map(|range| range.0))
    }

    /// Whether it has code of its own: an instance, not a declaration or the common part of instances.
    pub(in crate::plan) fn has_code(node: &Node<'a>) -> bool {
        node.low.is_some() || node.list.is_some()
    }

    /// What stands inside of a node, as indices: all that follows and is deeper.
    pub(in crate::plan) fn inside(&self, index: usize) -> std::ops::Range<usize> {
        let depth = self.nodes[index].depth;
        let rest = &self.nodes[index + 1..];
        let len = rest.iter().position(|node| node.depth <= depth).unwrap_or(rest.len());
        index + 1..index + 1 + len
    }

    /// The function that a node stands in, and the names of what is inlined from there down to the node, itself included.
    pub(in crate::plan) fn chain(&self, index: usize) -> (usize, Vec<String>) {
        let (mut at, mut names) = (index, Vec::new());
        loop {
            let node = &self.nodes[at];
            if node.kind == NodeKind::Inlined {
                let name = self.name(node).unwrap_or(b"?");
                names.push(String::from_utf8_lossy(name).into_owned());
            }
            match node.parent {
                Some(parent) if node.kind != NodeKind::Function => at = parent,
                _ => break,
            }
        }
        names.reverse();
        (at, names)
    }

    /// Which parameter of its function a parameter is, counted from 0 as the source has them. Of a function that the
    /// compiler changed, those that it took away come last.
    pub(in crate::plan) fn position(&self, parameter: usize) -> Option<usize> {
        let own = match self.nodes.get(parameter)?.origin {
            Some(origin) => self.nodes.binary_search_by_key(&origin, |node| node.offset).ok()?,
            None => parameter,
        };
        let function = self.nodes[own].parent?;
        let before = self.nodes[function..own].iter();
        Some(before.filter(|node| node.kind == NodeKind::Parameter && node.parent == Some(function)).count())
    }

    fn along_origins<T>(&self, node: &Node<'a>, get: impl Fn(&Node<'a>) -> Option<T>) -> Option<T> {
        let mut node = node;
        for _ in 0..MAX_DEPTH {
            if let Some(found) = get(node) {
                return Some(found);
            }
            let origin = node.origin?;
            let index = self.nodes.binary_search_by_key(&origin, |node| node.offset).ok()?;
            node = &self.nodes[index];
        }
        None
    }

    fn type_at(&self, offset: usize) -> Option<Type<'a>> {
        let index = self.types.binary_search_by_key(&offset, |(at, _)| *at).ok()?;
        Some(self.types[index].1)
    }
}

fn type_of<'a>(tag: gimli::DwTag, node: &Node<'a>) -> Type<'a> {
    let name = node.name.map(|name| name.slice());
    match (tag, name) {
        (gimli::DW_TAG_typedef, Some(b"pte_t")) => Type::Entry(Level::Pte),
        (gimli::DW_TAG_typedef, Some(b"pmd_t")) => Type::Entry(Level::Pmd),
        (gimli::DW_TAG_typedef, Some(b"pud_t")) => Type::Entry(Level::Pud),
        (gimli::DW_TAG_pointer_type, _) => Type::Pointer(node.ty),
        (gimli::DW_TAG_structure_type, _) => Type::Struct(node.name),
        _ => Type::Alias(node.ty),
    }
}
