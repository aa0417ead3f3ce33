//! What the sources have found so far, each address once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use lazymmu_abi::{Kind, Level, Op};

use super::accessors::Accessor;
use super::model::{Count, Evidence, Source};
use crate::address::LinkAddr;
use crate::arch::{Access, MemoryAccess, Operand, Value, x86};

/// A place that a source has found.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) source: Source,
    pub(super) kind: Kind,
    pub(super) op: Op,
    pub(super) level: Option<Level>,
    pub(super) entry: Option<Operand>,
    pub(super) size: Option<u8>,
    pub(super) count: Count,
    pub(super) read: Option<Value>,
    pub(super) written: Option<Value>,
    pub(super) inlined: Vec<String>,
    pub(super) file: Option<String>,
    pub(super) found: Vec<Evidence>,
    pub(super) patched: bool,
    /// What tells of the same access.
    pub(super) covered: Option<Cover>,
}

/// What tells of the same access as a candidate.
#[derive(Clone, Debug)]
pub(super) enum Cover {
    /// Another instruction.
    Address(LinkAddr),
    /// A function, or the calls through a member of `pv_ops`.
    Name(String),
}

impl Candidate {
    /// An instruction that accesses an entry.
    pub(super) fn access(access: &MemoryAccess, op: Op, level: Level, found: Evidence) -> Self {
        let kind = match access.access {
            Access::Read => Kind::Read,
            // What an accessor that changes in one step does as a load and a store is told at the store; and one step
            // around the accessors is a plain store to who judges it.
            Access::Write | Access::ReadWrite if op.info().kind == Kind::Rmw => Kind::Rmw,
            Access::Write | Access::ReadWrite => Kind::Write,
        };
        Self {
            source: Source::Site,
            kind,
            op,
            level: Some(level),
            entry: Some(access.operand),
            size: Some(access.size),
            count: Count::One,
            read: matches!(kind, Kind::Read | Kind::Rmw).then_some(Value::Memory),
            written: access.stored,
            inlined: Vec::new(),
            file: None,
            found: vec![found],
            patched: false,
            covered: None,
        }
    }

    /// A call of a function with the arguments of an accessor, or the entry of that function.
    pub(super) fn call(accessor: &Accessor, source: Source, found: Evidence) -> Self {
        let argument =
            |index: Option<u8>| index.and_then(|index| x86::ARGUMENTS.get(usize::from(index)).copied());
        let kind = accessor.kind();
        let read = matches!(kind, Kind::Read | Kind::Rmw).then_some(Value::Memory);
        let written = match (argument(accessor.value), accessor.op) {
            (Some(register), _) => Some(Value::Register { register }),
            (None, Op::PteClear | Op::PmdClear | Op::PudClear) => Some(Value::Immediate { value: 0 }),
            (None, _) => (kind == Kind::Rmw).then_some(Value::Computed),
        };
        Self {
            source,
            kind,
            op: accessor.op,
            level: accessor.level(),
            entry: argument(accessor.entry).map(Operand::register),
            size: accessor.entry.map(|_| 8),
            count: argument(accessor.count).map_or(Count::One, Count::Register),
            read,
            written,
            inlined: Vec::new(),
            file: None,
            found: vec![found],
            patched: false,
            covered: None,
        }
    }

    /// A mode call that is no function call.
    pub(super) fn mode(op: Op, found: Evidence) -> Self {
        Self {
            source: Source::Site,
            kind: Kind::Section,
            op,
            level: None,
            entry: None,
            size: None,
            count: Count::One,
            read: None,
            written: None,
            inlined: Vec::new(),
            file: None,
            found: vec![found],
            patched: false,
            covered: None,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    found: BTreeMap<LinkAddr, Candidate>,
}

impl Candidates {
    /// Adds one. If the address is known already, the first source to have found it says what it is, and this one adds
    /// what was not known.
    pub(super) fn add(&mut self, address: LinkAddr, candidate: Candidate) {
        match self.found.entry(address) {
            Entry::Vacant(entry) => {
                entry.insert(candidate);
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                for evidence in candidate.found {
                    if !known.found.contains(&evidence) {
                        known.found.push(evidence);
                    }
                }
                if known.inlined.is_empty() {
                    known.inlined = candidate.inlined;
                }
                known.file = known.file.take().or(candidate.file);
            }
        }
    }

    pub(super) fn in_range(
        &mut self,
        start: LinkAddr,
        end: LinkAddr,
    ) -> impl Iterator<Item = (LinkAddr, &mut Candidate)> {
        self.found.range_mut(start..end).map(|(address, candidate)| (*address, candidate))
    }

    pub(super) fn into_sorted(self) -> impl Iterator<Item = (LinkAddr, Candidate)> {
        self.found.into_iter()
    }
}
