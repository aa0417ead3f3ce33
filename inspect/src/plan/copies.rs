//! Accessors that the compiler put out of line: which functions they are, and in which registers they take their
//! arguments.
//!
//! A copy that the compiler did not change takes them as every function does. Where it did (`.isra`, `.constprop`),
//! debug information says where they are; without it, the calls are known and their entries are not.

use std::collections::BTreeMap;

use lazymmu_abi::Kind;
use rustc_hash::FxHashMap;

use super::accessors::{ACCESSORS, Accessor};
use super::calls::PvTable;
use super::candidates::Candidate;
use super::dwarf::DwarfError;
use super::dwarf::tree::NodeKind;
use super::model::{Count, Evidence, Source};
use super::unit::UnitView;
use crate::address::LinkAddr;
use crate::arch::x86::{ARGUMENTS, InfoFactory, Instructions};
use crate::arch::{Flow, Operand, Register, Value};
use crate::image::Image;

/// The copies in an image, by where they begin.
#[derive(Debug, Default)]
pub(super) struct Copies {
    accessors: FxHashMap<u64, &'static Accessor>,
    /// Copies whose arguments are not where they are in other functions.
    changed: FxHashMap<u64, Changed>,
}

/// Where a changed copy takes its arguments, as far as is known.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    entry: Option<Operand>,
    value: Option<Register>,
    count: Option<Register>,
}

impl Copies {
    pub(super) fn of(image: &Image) -> Self {
        let known: FxHashMap<&str, &'static Accessor> =
            ACCESSORS.iter().map(|accessor| (accessor.name, accessor)).collect();
        let mut copies = Self::default();
        for function in image.functions().iter() {
            let mut parts = function.name.splitn(2, '.');
            let (Some(name), rest) = (parts.next(), parts.next()) else { continue };
            // The cold part of an accessor is no function that is called.
            if rest.is_some_and(|rest| rest.contains("cold")) {
                continue;
            }
            let Some(accessor) = known.get(name) else { continue };
            copies.accessors.insert(function.start.0, accessor);
            if rest.is_some() {
                copies.changed.insert(function.start.0, Changed::default());
            }
        }
        copies
    }

    pub(super) fn accessors(&self) -> &FxHashMap<u64, &'static Accessor> {
        &self.accessors
    }

    /// Learns from a unit where the changed copies in it take their arguments.
    pub(super) fn learn(&mut self, view: &UnitView<'_>) -> Result<(), DwarfError> {
        for function in view.functions() {
            let Some(start) = view.ranges(&view.tree.nodes[function])?.first().map(|range| range.0) else {
                continue;
            };
            let (Some(changed), Some(accessor)) =
                (self.changed.get_mut(&start.0), self.accessors.get(&start.0))
            else {
                continue;
            };
            let mut parameters = BTreeMap::new();
            for index in view.tree.inside(function) {
                let node = &view.tree.nodes[index];
                if node.kind == NodeKind::Parameter
                    && node.parent == Some(function)
                    && let Some(position) = view.tree.position(index)
                {
                    let held = view.held(node, (start, LinkAddr(u64::MAX)))?;
                    let at_start = held.into_iter().find(|held| (held.start..held.end).contains(&start));
                    if let Some(held) = at_start {
                        parameters.insert(position, (held.register, held.add));
                    }
                }
            }
            let argument = |index: Option<u8>| parameters.get(&usize::from(index?)).copied();
            let plain = |index| argument(index).filter(|(_, add)| *add == 0).map(|(register, _)| register);
            let entry = argument(accessor.entry);
            changed.entry =
                entry.map(|(register, add)| Operand { displacement: add, ..Operand::register(register) });
            (changed.value, changed.count) = (plain(accessor.value), plain(accessor.count));
        }
        Ok(())
    }

    /// Learns where those take their arguments of which nothing else tells it: one that does nothing but a call through
    /// `pv_ops` has them where that call has its own.
    pub(super) fn learn_from_code(&mut self, image: &Image, pv: &PvTable) {
        let mut info = InfoFactory::default();
        let unknown = self.changed.iter_mut().filter(|(_, changed)| changed.entry.is_none());
        for (start, changed) in unknown {
            let function = image.functions().at(LinkAddr(*start));
            let code = function.and_then(|function| image.text(function.start, function.end));
            let (Some(code), Some(accessor)) = (code, self.accessors.get(start)) else { continue };
            if let Some(called) = passed_on(Instructions::new(code, *start), pv, &mut info)
                && called.kind() == accessor.kind()
            {
                let argument =
                    |index: Option<u8>| index.and_then(|index| ARGUMENTS.get(usize::from(index)).copied());
                changed.entry = argument(called.entry).map(Operand::register);
                changed.value = argument(called.value);
            }
        }
    }

    /// A call of the copy that begins here, or its entry.
    pub(super) fn candidate(
        &self,
        start: LinkAddr,
        accessor: &Accessor,
        source: Source,
        found: Evidence,
    ) -> Candidate {
        let mut candidate = Candidate::call(accessor, source, found);
        if let Some(changed) = self.changed.get(&start.0) {
            candidate.entry = changed.entry;
            candidate.written = match (changed.value, candidate.kind) {
                (Some(register), _) => Some(Value::Register { register }),
                (None, Kind::Read) => None,
                (None, _) => Some(Value::Computed),
            };
            candidate.count = changed.count.map_or(Count::One, Count::Register);
        }
        candidate
    }
}

/// The accessor behind `pv_ops` to which a function that does nothing else passes its arguments on as it got them.
fn passed_on(code: Instructions<'_>, pv: &PvTable, info: &mut InfoFactory) -> Option<&'static Accessor> {
    let mut called = None;
    for insn in code {
        match insn.flow() {
            Flow::CallThrough(slot) if called.is_none() => called = Some(&pv.at(slot)?.accessor),
            Flow::JumpThrough(slot) if called.is_none() => return Some(&pv.at(slot)?.accessor),
            // A return, which some kernels jump to.
            Flow::End | Flow::Jump(_) => return called,
            Flow::Next if insn.written(info).all(|register| !ARGUMENTS.contains(&register)) => {}
            _ => return None,
        }
    }
    None
}
