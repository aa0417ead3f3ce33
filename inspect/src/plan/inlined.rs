//! Source: accessors that were inlined. Debug information says which instructions are theirs.
//!
//! About a third of the reads in 7.2 have no instruction left that is theirs: the compiler merged the load into a later
//! `test`, `cmp` or `and`, which keeps the source line of that later one. There the address at which the accessor begins is
//! known all the same, and the load is the first one behind it. It is taken only if its base register is not known to
//! hold a pointer to something else.

use lazymmu_abi::{Kind, Level, Op};
use rustc_hash::FxHashMap;

use super::accessors::Accessor;
use super::calls::PvTable;
use super::candidates::{Candidate, Candidates, Cover};
use super::dwarf::DwarfError;
use super::dwarf::locations::Held;
use super::dwarf::tree::{NodeKind, Target, Tree};
use super::model::{Evidence, Source};
use super::unit::UnitView;
use crate::address::LinkAddr;
use crate::arch::x86::{InfoFactory, Insn, Instructions};
use crate::arch::{Access, Flow, MemoryAccess};

/// How many instructions behind its beginning a merged load may be.
const LOOK_AHEAD: usize = 8;
/// No instruction of x86 is longer.
const LONGEST: u64 = 15;

/// Where the counters of the mode are in `struct task_struct`, if the kernel has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModeCounters {
    pub(super) enable: u32,
    pub(super) pause: u32,
}

/// What a pointer that is none to an entry points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Points {
    ToStruct,
    /// Also to an entry, where it is taken for a plain word: `xchg()` has such a pointer of its own.
    Elsewhere,
}

/// What an inlined accessor is looked for with.
pub(super) struct Search<'s, 'a> {
    pub(super) view: &'s UnitView<'a>,
    pub(super) pv: &'s PvTable,
    pub(super) counters: Option<ModeCounters>,
    /// For each function, where other pointers are held; made when it is first asked for.
    pub(super) strangers: FxHashMap<usize, Vec<(Points, Held)>>,
    pub(super) info: InfoFactory,
}

impl Search<'_, '_> {
    /// Adds what the inlined accessors of the unit do.
    pub(super) fn run(&mut self, candidates: &mut Candidates) -> Result<(), DwarfError> {
        let tree = &self.view.tree;
        for (index, node) in tree.nodes.iter().enumerate() {
            if node.kind != NodeKind::Inlined {
                continue;
            }
            let name = tree.name(node).and_then(|name| std::str::from_utf8(name).ok());
            let Some(accessor) = name.and_then(Accessor::named) else { continue };
            let ranges = self.view.ranges(node)?;
            let entry = Tree::entry(node, &ranges);
            let (outer, chain) = tree.chain(index);
            let mut found = self.in_ranges(accessor, &ranges, outer)?;
            if found.is_empty()
                && accessor.kind() == Kind::Read
                && let (Some(entry), Some(level)) = (entry, accessor.level())
            {
                found.extend(self.behind(accessor, level, entry, outer)?);
            }
            for (address, mut candidate) in found {
                candidate.inlined.clone_from(&chain);
                candidate.file.clone_from(&self.view.file);
                candidates.add(address, candidate);
            }
        }
        Ok(())
    }

    /// The accesses among the instructions of an accessor. The compiler may count the computing of its arguments among
    /// them, as the load of `vmf->pmd` in `pmdp_get(vmf->pmd)`.
    fn in_ranges(
        &mut self,
        accessor: &Accessor,
        ranges: &[(LinkAddr, LinkAddr)],
        outer: usize,
    ) -> Result<Vec<(LinkAddr, Candidate)>, DwarfError> {
        let image = self.view.image;
        let mut found: Vec<(LinkAddr, Candidate)> = Vec::new();
        for (start, end) in ranges {
            let Some(code) = image.text(*start, *end) else { continue };
            for insn in Instructions::new(code, start.0) {
                let Some(candidate) = self.access(accessor, &insn) else { continue };
                let at = LinkAddr(insn.address());
                // The arguments of a call are known; what they are computed of is not looked at.
                let access = insn.memory(&mut self.info).filter(|_| insn.flow() == Flow::Next);
                if let Some(access) = access
                    && candidate.kind != Kind::Section
                    && self.stranger(&access, at, outer)? == Some(Points::ToStruct)
                {
                    continue;
                }
                found.push((at, candidate));
            }
        }
        tell_once(accessor, &mut found);
        Ok(found)
    }

    /// An access that fits the accessor: reads only read.
    fn access(&mut self, accessor: &Accessor, insn: &Insn) -> Option<Candidate> {
        if let Flow::CallThrough(slot) | Flow::JumpThrough(slot) = insn.flow() {
            // The call is found by its bytes; the accessor that it belongs to says more.
            let pv = self.pv.at(slot).filter(|pv| pv.accessor.kind() == accessor.kind())?;
            let mut candidate = Candidate::call(&pv.accessor, Source::Site, Evidence::InlinedAccessor);
            candidate.op = if accessor.kind() == Kind::Section { self.pv.op(pv) } else { accessor.op };
            candidate.patched = true;
            return Some(candidate);
        }
        if accessor.kind() == Kind::Section {
            return self.counter(accessor.op, insn);
        }
        let access = insn.memory(&mut self.info)?;
        let fits = match (accessor.kind(), access.access) {
            // `lock btr` and the like work on as many bytes as they like.
            (Kind::Rmw, Access::ReadWrite) => true,
            (Kind::Read | Kind::Rmw, Access::Read) | (Kind::Write | Kind::Rmw, Access::Write) => {
                access.size == 8
            }
            _ => false,
        };
        let level = accessor.level().filter(|_| fits)?;
        // A load is a read, whatever the accessor goes on to do.
        let op = match (access.access, accessor.kind(), level) {
            (Access::Read, Kind::Rmw, Level::Pmd) => Op::PmdpGet,
            (Access::Read, Kind::Rmw, Level::Pud) => Op::PudpGet,
            (Access::Read, Kind::Rmw, _) => Op::PtepGet,
            _ => accessor.op,
        };
        Some(Candidate::access(&access, op, level, Evidence::InlinedAccessor))
    }

    /// A change of the counters that a mode call is (include/linux/pgtable.h, 7.0 and later).
    fn counter(&mut self, op: Op, insn: &Insn) -> Option<Candidate> {
        let counters = self.counters?;
        let field = match op {
            Op::Enter | Op::Leave => counters.enable,
            Op::Pause | Op::Resume => counters.pause,
            _ => return None,
        };
        let access = insn.memory(&mut self.info).filter(|access| access.access != Access::Read)?;
        let same = access.size == 1 && access.operand.displacement == i64::from(field);
        same.then(|| Candidate::mode(op, Evidence::InlinedAccessor))
    }

    /// The load that belongs to an accessor of which only the beginning is known.
    fn behind(
        &mut self,
        accessor: &Accessor,
        level: Level,
        entry: LinkAddr,
        outer: usize,
    ) -> Result<Option<(LinkAddr, Candidate)>, DwarfError> {
        let image = self.view.image;
        let end = LinkAddr(entry.0.saturating_add(LOOK_AHEAD as u64 * LONGEST));
        let end = image.functions().at(entry).map_or(end, |function| LinkAddr(function.end.0.min(end.0)));
        let Some(code) = image.text(entry, end) else { return Ok(None) };
        for insn in Instructions::new(code, entry.0).take(LOOK_AHEAD) {
            let access = insn.memory(&mut self.info);
            let load = access.filter(|access| access.access == Access::Read && access.size == 8);
            if let Some(access) = load
                && self.stranger(&access, LinkAddr(insn.address()), outer)?.is_none()
            {
                let candidate = Candidate::access(&access, accessor.op, level, Evidence::BehindInlinedEntry);
                return Ok(Some((LinkAddr(insn.address()), candidate)));
            }
            if insn.flow() != Flow::Next {
                break;
            }
        }
        Ok(None)
    }

    /// What else than to an entry the base register is known to point, if it is.
    fn stranger(
        &mut self,
        access: &MemoryAccess,
        at: LinkAddr,
        outer: usize,
    ) -> Result<Option<Points>, DwarfError> {
        let Some(base) = access.operand.base.filter(|_| access.operand.index.is_none()) else {
            return Ok(None);
        };
        if !self.strangers.contains_key(&outer) {
            let held = self.others(outer)?;
            self.strangers.insert(outer, held);
        }
        let held = self.strangers.get(&outer).map_or(&[][..], Vec::as_slice);
        let mut here = held
            .iter()
            .filter(|(_, held)| held.register == base && (held.start..held.end).contains(&at))
            .map(|(points, _)| *points);
        let first = here.next();
        Ok(here.find(|points| *points == Points::ToStruct).or(first))
    }

    /// Where pointers to anything but entries are held in a function.
    fn others(&self, outer: usize) -> Result<Vec<(Points, Held)>, DwarfError> {
        let tree = &self.view.tree;
        let mut found = Vec::new();
        for index in tree.inside(outer) {
            let node = &tree.nodes[index];
            let variable =
                matches!(node.kind, NodeKind::Parameter | NodeKind::Variable) && node.place.is_some();
            if !variable {
                continue;
            }
            let points = match tree.target(node) {
                Some(Target::Struct(_)) => Points::ToStruct,
                Some(Target::Other) => Points::Elsewhere,
                Some(Target::Entry(_)) | None => continue,
            };
            let held = self.view.held(node, (LinkAddr(0), LinkAddr(u64::MAX)))?;
            found.extend(held.into_iter().filter(|held| held.add == 0).map(|held| (points, held)));
        }
        Ok(found)
    }
}

/// An accessor that changes an entry may load it first: a compare-and-exchange loop, or a test before the change. The
/// change tells of both, and of the load there is nothing more to tell. Where the change is not among its instructions, a
/// call makes it, and what is loaded before that are the call's arguments.
fn tell_once(accessor: &Accessor, found: &mut Vec<(LinkAddr, Candidate)>) {
    if accessor.kind() != Kind::Rmw {
        return;
    }
    let change = found.iter().find(|(_, candidate)| candidate.kind == Kind::Rmw).map(|(address, _)| *address);
    let Some(change) = change else { return found.clear() };
    for (_, candidate) in found.iter_mut().filter(|(_, candidate)| candidate.kind == Kind::Read) {
        candidate.covered = Some(Cover::Address(change));
    }
}
