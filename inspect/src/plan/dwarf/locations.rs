//! Where variables are: the ranges of code in which one stands in a register, or in a register plus a constant, or on the
//! stack. All other places (constants, arithmetic over several registers) are of no use here and left out.

use gimli::{AttributeValue, Encoding, Expression, LocationListsOffset, Operation, SectionId};

use super::{DwarfError, Reader, Sections, Unit};
use crate::address::LinkAddr;
use crate::arch::{Register, x86};
use crate::elf::ElfError;

/// That a variable is in a register for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) struct Held {
    /// From here ...
    pub(in crate::plan) start: LinkAddr,
    /// ... to before here.
    pub(in crate::plan) end: LinkAddr,
    pub(in crate::plan) register: Register,
    /// The variable's value is the register's plus this.
    pub(in crate::plan) add: i64,
}

/// That a variable is on the stack for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) struct Spilled {
    /// From here ...
    pub(in crate::plan) start: LinkAddr,
    /// ... to before here.
    pub(in crate::plan) end: LinkAddr,
    /// Bytes from the frame's base, which for all functions of the kernel is the canonical frame address: behind the
    /// return address (`DW_OP_call_frame_cfa`).
    pub(in crate::plan) offset: i64,
}

/// A location attribute as it stands in the tree.
#[derive(Clone, Copy, Debug)]
pub(in crate::plan) enum Place<'a> {
    /// The same everywhere in the block.
    Everywhere(Expression<Reader<'a>>),
    /// A list, by its offset in the section of lists.
    List(u64),
}

impl<'a> Place<'a> {
    pub(super) fn of(value: AttributeValue<Reader<'a>>) -> Option<Self> {
        match value {
            AttributeValue::Exprloc(expression) => Some(Self::Everywhere(expression)),
            AttributeValue::LocationListsRef(offset) => Some(Self::List(offset.0 as u64)),
            AttributeValue::SecOffset(offset) => Some(Self::List(offset as u64)),
            _ => None,
        }
    }
}

/// The location lists of one unit.
pub(in crate::plan) struct Lists {
    section: SectionId,
    /// Where `bytes` begin in the section.
    base: u64,
    bytes: std::sync::Arc<[u8]>,
}

impl Lists {
    /// Reads those of a unit, from the lowest to the highest offset that it uses.
    pub(in crate::plan) fn load<'p>(
        sections: &Sections<'_>,
        unit: &Unit<'_>,
        places: impl Iterator<Item = &'p Place<'p>>,
    ) -> Result<Self, ElfError> {
        let section =
            if unit.encoding().version >= 5 { SectionId::DebugLocLists } else { SectionId::DebugLoc };
        let mut used: Option<(u64, u64)> = None;
        for place in places {
            if let Place::List(offset) = *place {
                let (low, high) = used.unwrap_or((offset, offset));
                used = Some((low.min(offset), high.max(offset)));
            }
        }
        let (base, high) = used.unwrap_or_default();
        let bytes = match used {
            Some(_) => sections.lists(section, base, high)?,
            None => std::sync::Arc::new([]),
        };
        Ok(Self { section, base, bytes })
    }

    /// Where a variable is in registers and on the stack. `whole` is the range of the function, for a variable that
    /// never moves.
    pub(in crate::plan) fn held(
        &self,
        sections: &Sections<'_>,
        unit: &Unit<'_>,
        place: &Place<'_>,
        whole: (LinkAddr, LinkAddr),
        at: u64,
    ) -> Result<(Vec<Held>, Vec<Spilled>), DwarfError> {
        let encoding = unit.encoding();
        let (mut held, mut spilled) = (Vec::new(), Vec::new());
        let mut take = |expression: Expression<Reader<'_>>, start: LinkAddr, end: LinkAddr| {
            let found = in_register(expression, encoding);
            held.extend(found.map(|(register, add)| Held { start, end, register, add }));
            let found = on_stack(expression, encoding);
            spilled.extend(found.map(|offset| Spilled { start, end, offset }));
        };
        let offset = match place {
            Place::Everywhere(expression) => {
                take(*expression, whole.0, whole.1);
                return Ok((held, spilled));
            }
            Place::List(offset) => *offset,
        };
        let damaged = |source| DwarfError::Unit { unit: at, source };
        let lists = gimli::EndianSlice::new(&self.bytes, sections.endian);
        let empty = gimli::EndianSlice::new(&[], sections.endian);
        let (old, new) = match self.section {
            SectionId::DebugLoc => (lists, empty),
            _ => (empty, lists),
        };
        let lists = gimli::LocationLists::new(old.into(), new.into());
        let start = usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let addresses = gimli::DebugAddr::from(gimli::EndianSlice::new(
            sections.section(SectionId::DebugAddr),
            sections.endian,
        ));
        let mut entries = lists
            .locations(LocationListsOffset(start), encoding, unit.low_pc, &addresses, unit.addr_base)
            .map_err(damaged)?;
        while let Some(entry) = entries.next().map_err(damaged)? {
            take(entry.data, LinkAddr(entry.range.begin), LinkAddr(entry.range.end));
        }
        Ok((held, spilled))
    }
}

/// How far from the frame's base an expression says that a variable is.
fn on_stack(expression: Expression<Reader<'_>>, encoding: Encoding) -> Option<i64> {
    let mut operations = expression.operations(encoding);
    match (operations.next().ok()??, operations.next().ok()?) {
        (Operation::FrameOffset { offset }, None) => Some(offset),
        _ => None,
    }
}

/// The register that an expression names, and what is to be added to it.
fn in_register(expression: Expression<Reader<'_>>, encoding: Encoding) -> Option<(Register, i64)> {
    let mut operations = expression.operations(encoding);
    let first = operations.next().ok()??;
    let second = operations.next().ok()?;
    let third = operations.next().ok()?;
    match (first, second, third) {
        (Operation::Register { register }, None, None) => Some((x86::register_of_dwarf(register.0)?, 0)),
        (Operation::RegisterOffset { register, offset, .. }, Some(Operation::StackValue), None) => {
            Some((x86::register_of_dwarf(register.0)?, offset))
        }
        _ => None,
    }
}
