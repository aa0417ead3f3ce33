//! Source: accesses through variables that point to an entry. Debug information says which register holds such a variable
//! from where to where. It finds what goes around the accessors, and copies of code that the compiler made without a
//! note.

use lazymmu_abi::{Level, Op};

use super::candidates::{Candidate, Candidates};
use super::dwarf::DwarfError;
use super::dwarf::locations::Held;
use super::dwarf::tree::{NodeKind, Target};
use super::model::Evidence;
use super::unit::UnitView;
use crate::address::LinkAddr;
use crate::arch::x86::{InfoFactory, Instructions};
use crate::arch::{Access, MemoryAccess};

/// Farther from a pointer than a page, no entry of the same table is.
const PAGE: i64 = 4096;

/// Adds what the functions of a unit do through their variables.
pub(super) fn run(
    view: &UnitView<'_>,
    info: &mut InfoFactory,
    candidates: &mut Candidates,
) -> Result<(), DwarfError> {
    for function in view.functions() {
        let held = pointers(view, function)?;
        if held.is_empty() {
            continue;
        }
        for (start, end) in view.ranges(&view.tree.nodes[function])? {
            let Some(code) = view.image.text(start, end) else { continue };
            for insn in Instructions::new(code, start.0) {
                let Some(access) = insn.memory(info) else { continue };
                let at = LinkAddr(insn.address());
                let Some((level, _)) = held.iter().find(|(_, held)| reaches(&access, at, held)) else {
                    continue;
                };
                let mut candidate = raw(&access, *level, Evidence::TypedVariable);
                candidate.file.clone_from(&view.file);
                candidates.add(at, candidate);
            }
        }
    }
    Ok(())
}

/// An access that goes around the accessors.
pub(super) fn raw(access: &MemoryAccess, level: Level, found: Evidence) -> Candidate {
    let op = if access.access == Access::Read { Op::RawRead } else { Op::RawWrite };
    Candidate::access(access, op, level, found)
}

/// Where the variables of a function that point to entries are in registers.
fn pointers(view: &UnitView<'_>, function: usize) -> Result<Vec<(Level, Held)>, DwarfError> {
    let tree = &view.tree;
    let mut found = Vec::new();
    for index in tree.inside(function) {
        let node = &tree.nodes[index];
        if !matches!(node.kind, NodeKind::Parameter | NodeKind::Variable) {
            continue;
        }
        let Some(Target::Entry(level)) = tree.target(node) else { continue };
        let held = view.held(node, (LinkAddr(0), LinkAddr(u64::MAX)))?;
        found.extend(held.into_iter().map(|held| (level, held)));
    }
    // What a read means depends on the level; where a register holds pointers to two, the lower one is asked first.
    found.sort_by_key(|(level, held)| (*level, held.start));
    Ok(found)
}

/// Whether an instruction accesses what a variable points to, or an entry beside it.
fn reaches(access: &MemoryAccess, at: LinkAddr, held: &Held) -> bool {
    if access.operand.base != Some(held.register) || !(held.start..held.end).contains(&at) {
        return false;
    }
    if access.operand.index.is_some() && access.operand.scale != 8 {
        return false;
    }
    let from_entry = access.operand.displacement.wrapping_sub(held.add);
    from_entry.unsigned_abs() < PAGE.unsigned_abs() && from_entry.rem_euclid(8) + i64::from(access.size) <= 8
}
