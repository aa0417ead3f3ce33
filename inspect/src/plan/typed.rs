//! Source: accesses through variables that point to an entry. Debug information says which register holds such a variable
//! from where to where. It finds what goes around the accessors, and copies of code that the compiler made without a
//! note. From the variables pointers are followed further, see [`super::flow`].

use lazymmu_abi::{Level, Op};
use rustc_hash::FxHashSet;

use super::candidates::{Candidate, Candidates};
use super::dwarf::DwarfError;
use super::dwarf::locations::{Held, Spilled};
use super::dwarf::tree::{NodeKind, Target};
use super::flow::{Follower, Known, Place, Value};
use super::model::Evidence;
use super::unit::UnitView;
use crate::address::LinkAddr;
use crate::arch::x86::{InfoFactory, Instructions};
use crate::arch::{Access, MemoryAccess};

/// Farther from a pointer than a page, no entry of the same table is.
const PAGE: i64 = 4096;

/// What variables hold, in registers and on the stack.
type Variables = (Vec<(Value, Held)>, Vec<(Value, Spilled)>);

/// What the functions of a unit are looked into with.
pub(super) struct Typed<'t, 'a> {
    pub(super) view: &'t UnitView<'a>,
    pub(super) follower: &'t Follower<'t>,
    /// Where the functions begin that pointers were followed through.
    pub(super) followed: &'t mut FxHashSet<u64>,
    pub(super) info: &'t mut InfoFactory,
}

impl Typed<'_, '_> {
    /// Adds what the functions of a unit do through their variables.
    pub(super) fn run(&mut self, candidates: &mut Candidates) -> Result<(), DwarfError> {
        let view = self.view;
        for function in view.functions() {
            let known = self.known(function)?;
            for (start, end) in view.ranges(&view.tree.nodes[function])? {
                self.through_variables((start, end), &known.0, candidates);
                self.followed_on(start, &known, candidates);
            }
        }
        Ok(())
    }

    fn through_variables(
        &mut self,
        (start, end): (LinkAddr, LinkAddr),
        known: &[(Value, Held)],
        candidates: &mut Candidates,
    ) {
        let entries = known.iter().filter_map(|(value, held)| match value {
            Value::Entry(level) => Some((*level, held)),
            _ => None,
        });
        let entries: Vec<(Level, &Held)> = entries.collect();
        let Some(code) = self.view.image.text(start, end).filter(|_| !entries.is_empty()) else { return };
        for insn in Instructions::new(code, start.0) {
            let at = LinkAddr(insn.address());
            let base = insn.addressed().and_then(|operand| operand.base);
            let here = |held: &Held| Some(held.register) == base && (held.start..held.end).contains(&at);
            if base.is_none() || !entries.iter().any(|(_, held)| here(held)) {
                continue;
            }
            let Some(access) = insn.memory(self.info) else { continue };
            if let Some((level, _)) = entries.iter().find(|(_, held)| reaches(&access, at, held)) {
                self.add(candidates, at, raw(&access, *level, Evidence::TypedVariable));
            }
        }
    }

    /// What pointers lead to that come from the variables, or from elsewhere.
    fn followed_on(&mut self, start: LinkAddr, (known, spilled): &Variables, candidates: &mut Candidates) {
        let Some(function) = self.view.image.functions().at(start).filter(|found| found.start == start)
        else {
            return;
        };
        if !self.followed.insert(start.0) {
            return;
        }
        // Where a register holds pointers to two levels, the lower one stands last and counts.
        let known = known.iter().rev().map(|(value, held)| Known {
            start: held.start,
            end: held.end,
            place: Place::Register(held.register),
            value: *value,
        });
        let spilled = spilled.iter().map(|(value, spilled)| Known {
            start: spilled.start,
            end: spilled.end,
            place: Place::Frame(spilled.offset),
            value: *value,
        });
        let known: Vec<Known> = known.chain(spilled).collect();
        for (at, level, access) in self.follower.accesses(self.view.image, function, &known, self.info) {
            self.add(candidates, at, raw(&access, level, Evidence::Dataflow));
        }
    }

    fn add(&self, candidates: &mut Candidates, at: LinkAddr, mut candidate: Candidate) {
        candidate.file.clone_from(&self.view.file);
        candidates.add(at, candidate);
    }

    /// Where the variables of a function that are pointers are in registers, by level, and on the stack.
    fn known(&self, function: usize) -> Result<Variables, DwarfError> {
        let tree = &self.view.tree;
        let (mut found, mut stack) = (Vec::new(), Vec::new());
        for index in tree.inside(function) {
            let node = &tree.nodes[index];
            if !matches!(node.kind, NodeKind::Parameter | NodeKind::Variable) || node.place.is_none() {
                continue;
            }
            let value = match tree.target(node) {
                Some(Target::Entry(level)) => Value::Entry(level),
                // The pointer to a structure is none to an entry, whatever else seems to say so.
                Some(Target::Struct(name)) => {
                    self.follower.structure(name).map_or(Value::Unknown, |which| Value::Struct(which, 0))
                }
                _ => continue,
            };
            let (held, spilled) = self.view.placed(node, (LinkAddr(0), LinkAddr(u64::MAX)))?;
            stack.extend(spilled.into_iter().map(|spilled| (value, spilled)));
            for held in held {
                let value = match value {
                    Value::Struct(which, _) => Value::Struct(which, held.add.wrapping_neg()),
                    Value::Entry(_) if held.add % 8 != 0 => continue,
                    other => other,
                };
                found.push((value, held));
            }
        }
        // What a read means depends on the level; where a register holds pointers to two, the lower one is asked first.
        found.sort_by_key(|(value, held)| (rank(*value), held.start));
        Ok((found, stack))
    }
}

fn rank(value: Value) -> u8 {
    match value {
        Value::Entry(level) => level as u8,
        _ => u8::MAX,
    }
}

/// An access that goes around the accessors.
pub(super) fn raw(access: &MemoryAccess, level: Level, found: Evidence) -> Candidate {
    let op = if access.access == Access::Read { Op::RawRead } else { Op::RawWrite };
    Candidate::access(access, op, level, found)
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
