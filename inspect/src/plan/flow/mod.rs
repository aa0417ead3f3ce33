//! Source: accesses through pointers that are followed through the code. Kernels before 6.12 read entries as `*vmf->pte`
//! and the like in many places, where the pointer is in no variable, so debug information does not tell it.
//!
//! A pointer to an entry comes from a parameter, from a member of a structure, from a function that gives one, or from a
//! variable that debug information knows. The types are those of BTF. From there it is followed through registers and
//! the stack, along all paths of the function, to the instructions that use it. Where paths meet and do not agree,
//! nothing is known any more; where control comes from a place that is not seen, nothing is looked for.

mod state;

use std::collections::BTreeSet;

use lazymmu_abi::Level;
use rustc_hash::{FxHashMap, FxHashSet};

pub(super) use self::state::Value;
use self::state::{Frame, State};
use crate::address::LinkAddr;
use crate::arch::x86::{ARGUMENTS, InfoFactory, Insn, Instructions, RESULT};
use crate::arch::{Flow, MemoryAccess, Register};
use crate::btf::{Pointee, PointerTypes, Signature};
use crate::image::{Function, Image};

/// A loop over what is known ends long before that; damaged code must not make it endless.
const MAX_STEPS: usize = 1 << 20;

/// What debug information knows of a register or of the stack for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) start: LinkAddr,
    pub(super) end: LinkAddr,
    pub(super) place: Place,
    pub(super) value: Value,
}

/// Where a value is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Register(Register),
    /// Bytes from behind the return address.
    Frame(i64),
}

/// Bytes of a return address.
const RETURN: i64 = 8;

/// Follows pointers through functions.
pub(super) struct Follower<'a> {
    types: &'a PointerTypes,
    /// By where the functions begin.
    signatures: FxHashMap<u64, &'a Signature>,
    /// Where the pointers to functions stand that keep all registers but that of the result.
    sparing: FxHashSet<u64>,
    /// What is called at the start of each function, and keeps all registers.
    fentry: Option<u64>,
    /// Where jump labels lead.
    labels: FxHashMap<u64, u64>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(image: &Image, types: &'a PointerTypes) -> Self {
        let functions = image.functions();
        // BTF has one function of each name; which of several in the kernel it is, it does not say.
        let mut once: FxHashMap<&str, Option<u64>> = FxHashMap::default();
        for function in functions.iter() {
            once.entry(function.name).and_modify(|start| *start = None).or_insert(Some(function.start.0));
        }
        let start = |name: &String| once.get(name.as_str()).copied().flatten();
        let signatures = types.functions.iter().filter_map(|(name, found)| Some((start(name)?, found)));
        let sparing = functions.mark("pv_ops").into_iter().flat_map(|(ops, _)| {
            types.sparing.iter().map(move |offset| ops.0.wrapping_add(u64::from(*offset)))
        });
        Self {
            types,
            signatures: signatures.collect(),
            sparing: sparing.collect(),
            fentry: functions.named("__fentry__").map(|function| function.start.0),
            labels: labels(image),
        }
    }

    /// A structure by its name.
    pub(super) fn structure(&self, name: &[u8]) -> Option<u16> {
        let found = self.types.structs.iter().position(|known| known.name.as_bytes() == name);
        found.and_then(|index| u16::try_from(index).ok())
    }

    /// The accesses to entries in a function.
    pub(super) fn accesses(
        &self,
        image: &Image,
        function: Function<'_>,
        known: &[Known],
        info: &mut InfoFactory,
    ) -> Vec<(LinkAddr, Level, MemoryAccess)> {
        let Some(bytes) = image.text(function.start, function.end) else { return Vec::new() };
        let code: Vec<Insn> = Instructions::new(bytes, function.start.0).collect();
        let signature = self.signatures.get(&function.start.0).copied();
        let takes = signature.is_some_and(|found| found.parameters.iter().any(Option::is_some));
        let calls = || code.iter().any(|insn| matches!(insn.flow(), Flow::Call(to) if self.gives(to)));
        let leads = |known: &Known| matches!(known.value, Value::Entry(_) | Value::Struct(..));
        if !takes && !known.iter().any(leads) && !calls() {
            return Vec::new();
        }
        let mut walk = Walk::new(self, &code, known, info);
        // The first time tells what is on the stack.
        walk.run(signature);
        if !walk.taken.is_empty() {
            walk.frame.locals = walk.agreed_locals();
            walk.frame.pointers = walk.agreed_pointers();
            walk.frame.taken = walk.taken.iter().copied().collect();
            walk.run(signature);
        }
        walk.accesses()
    }

    /// Whether a function has pointers to entries for its caller.
    fn gives(&self, start: u64) -> bool {
        let signature = self.signatures.get(&start);
        signature.is_some_and(|found| {
            found.result.is_some()
                || found
                    .parameters
                    .iter()
                    .any(|pointee| matches!(pointee, Some(Pointee::Pointer(_) | Pointee::Struct(_))))
        })
    }
}

/// Where the jump labels of an image lead: `struct jump_entry` has code and target, relative to themselves
/// (include/linux/jump_label.h).
fn labels(image: &Image) -> FxHashMap<u64, u64> {
    let (start, table) = image.table("__start___jump_table", "__stop___jump_table");
    let mut found = FxHashMap::default();
    for (number, entry) in table.chunks_exact(16).enumerate() {
        let at = start.0.wrapping_add(number as u64 * 16);
        if let (Some(code), Some(target)) = (entry.first_chunk::<4>(), entry[4..].first_chunk::<4>()) {
            let code = at.wrapping_add_signed(i64::from(i32::from_le_bytes(*code)));
            let target = at.wrapping_add(4).wrapping_add_signed(i64::from(i32::from_le_bytes(*target)));
            found.insert(code, target);
        }
    }
    found
}

/// Where an instruction leads in its function.
#[derive(Clone, Copy, Debug, Default)]
struct Ways {
    /// To these, besides a next one that nothing else leads to.
    targets: [Option<usize>; 3],
    /// Whether the next one may follow.
    goes_on: bool,
}

/// One function on the way.
struct Walk<'w, 'a> {
    follower: &'w Follower<'a>,
    code: &'w [Insn],
    info: &'w mut InfoFactory,
    /// Where each instruction leads.
    ways: Vec<Ways>,
    /// Where paths begin or meet.
    leaders: BTreeSet<usize>,
    /// What is known before an instruction, besides what is followed.
    hints: FxHashMap<usize, Vec<(Place, Value)>>,
    /// Before each leader that was reached.
    states: FxHashMap<usize, State>,
    frame: Frame,
    locals: BTreeSet<(i64, u16)>,
    pointers: BTreeSet<(i64, Level)>,
    taken: BTreeSet<i64>,
}

impl<'w, 'a> Walk<'w, 'a> {
    fn new(follower: &'w Follower<'a>, code: &'w [Insn], known: &[Known], info: &'w mut InfoFactory) -> Self {
        let mut walk = Self {
            follower,
            code,
            info,
            ways: Vec::new(),
            leaders: BTreeSet::from([0]),
            hints: FxHashMap::default(),
            states: FxHashMap::default(),
            frame: Frame::default(),
            locals: BTreeSet::new(),
            pointers: BTreeSet::new(),
            taken: BTreeSet::new(),
        };
        walk.ways = (0..code.len()).map(|at| walk.ways_of(at)).collect();
        walk.leaders.extend(walk.ways.iter().flat_map(|ways| ways.targets).flatten());
        for known in known {
            let index = |address: LinkAddr| code.partition_point(|insn| insn.address() < address.0);
            let (start, end) = (index(known.start), index(known.end));
            if start >= end {
                continue;
            }
            let inside = walk.leaders.range(start..end).copied().filter(|leader| *leader != start);
            for at in std::iter::once(start).chain(inside) {
                walk.hints.entry(at).or_default().push((known.place, known.value));
            }
        }
        walk
    }

    /// Where control may go from an instruction in this function.
    fn ways_of(&self, at: usize) -> Ways {
        let insn = &self.code[at];
        let flow = insn.flow();
        let label = self.follower.labels.get(&insn.address()).copied();
        let jump = match flow {
            Flow::Jump(to) | Flow::Branch(to) => Some(to),
            _ => None,
        };
        // What is a jump in the image may be none when the kernel runs.
        let stays = matches!(flow, Flow::Jump(_) | Flow::JumpIndirect | Flow::JumpThrough(_) | Flow::End);
        let goes_on = label.is_some() || !stays;
        let inside = |to: Option<u64>| to.and_then(|to| self.index(to));
        let next = (jump.is_some() || label.is_some()) && goes_on && at + 1 < self.code.len();
        Ways { targets: [inside(jump), inside(label), next.then_some(at + 1)], goes_on }
    }

    fn index(&self, address: u64) -> Option<usize> {
        self.code.binary_search_by_key(&address, Insn::address).ok()
    }

    /// Follows everything from the entry of the function until nothing new is learned.
    fn run(&mut self, signature: Option<&Signature>) {
        self.states.clear();
        let mut entry = State::new();
        for (pointee, register) in signature.map_or(&[][..], |found| &found.parameters).iter().zip(ARGUMENTS)
        {
            match pointee {
                Some(Pointee::Entry(level)) => entry.set(register, Value::Entry(*level)),
                Some(Pointee::Struct(which)) => entry.set(register, Value::Struct(*which, 0)),
                Some(Pointee::Pointer(_)) | None => {}
            }
        }
        self.states.insert(0, entry);
        let mut open = BTreeSet::from([0]);
        let mut steps = 0;
        while let Some(leader) = open.pop_first() {
            let Some(mut state) = self.states.get(&leader).cloned() else { continue };
            let mut at = leader;
            while at < self.code.len() && steps < MAX_STEPS {
                steps += 1;
                self.step(at, &mut state);
                let Ways { targets, goes_on } = self.ways[at];
                for target in targets.into_iter().flatten() {
                    self.reach(target, &state, &mut open);
                }
                if targets.iter().any(Option::is_some) || !goes_on {
                    break;
                }
                at += 1;
                if self.leaders.contains(&at) {
                    self.reach(at, &state, &mut open);
                    break;
                }
            }
        }
    }

    fn bytes(&self, (start, which): (i64, u16)) -> (i64, i64) {
        let found = self.follower.types.structs.get(usize::from(which));
        (start, start.saturating_add(found.map_or(0, |found| i64::from(found.size))))
    }

    /// The structures on the stack that no other one overlaps: the compiler lets variables share a place.
    fn agreed_locals(&self) -> Vec<(i64, u16)> {
        let overlap = |one: &(i64, u16), other: &(i64, u16)| {
            let (one, other) = (self.bytes(*one), self.bytes(*other));
            one.0 < other.1 && other.0 < one.1
        };
        let alone = |one: &(i64, u16)| !self.locals.iter().any(|other| one != other && overlap(one, other));
        self.locals.iter().copied().filter(alone).collect()
    }

    fn agreed_pointers(&self) -> Vec<(i64, Level)> {
        let shared = |(at, level): &(i64, Level)| {
            let other = self.pointers.iter().any(|(place, other)| place == at && other != level);
            other || self.locals.iter().any(|local| (self.bytes(*local).0..self.bytes(*local).1).contains(at))
        };
        self.pointers.iter().copied().filter(|pointer| !shared(pointer)).collect()
    }

    fn reach(&mut self, leader: usize, state: &State, open: &mut BTreeSet<usize>) {
        let changed = if let Some(known) = self.states.get_mut(&leader) {
            known.join(state)
        } else {
            self.states.insert(leader, state.clone());
            true
        };
        if changed {
            open.insert(leader);
        }
    }

    fn hint(&self, at: usize, state: &mut State) {
        for (place, value) in self.hints.get(&at).map_or(&[][..], Vec::as_slice) {
            match place {
                Place::Register(register) => state.set(*register, *value),
                Place::Frame(offset) => state.set_word(offset.wrapping_add(RETURN), *value),
            }
        }
    }

    /// Goes over one instruction.
    fn step(&mut self, at: usize, state: &mut State) {
        self.hint(at, state);
        let insn = self.code[at];
        match insn.flow() {
            Flow::Call(to) if Some(to) == self.follower.fentry => {}
            Flow::Call(to) => self.call(to, state),
            Flow::CallThrough(slot) if self.follower.sparing.contains(&slot) => {
                state.set(RESULT, Value::Unknown);
            }
            Flow::CallThrough(_) | Flow::CallIndirect => state.returned(Value::Unknown, &self.frame),
            _ => self.move_pointers(insn, state),
        }
    }

    fn move_pointers(&mut self, insn: Insn, state: &mut State) {
        if let Some(moved) = insn.moved() {
            let taken = state.apply(moved, &self.frame, self.follower.types);
            self.taken.extend(taken);
            return;
        }
        if let Some(operand) = insn.stored_to() {
            state.spoil(&operand);
        }
        if insn.is_string() {
            state.stack_changed(&self.frame);
        }
        for register in insn.written(self.info) {
            state.set(register, Value::Unknown);
        }
    }

    fn call(&mut self, to: u64, state: &mut State) {
        let signature = self.follower.signatures.get(&to).copied();
        let mut left = Vec::new();
        for (pointee, register) in signature.map_or(&[][..], |found| &found.parameters).iter().zip(ARGUMENTS)
        {
            match (pointee, state.get(register)) {
                (Some(Pointee::Struct(which)), Value::Stack(at)) => {
                    self.locals.insert((at, *which));
                }
                (Some(Pointee::Pointer(level)), Value::Stack(at)) => left.push((at, *level)),
                _ => {}
            }
        }
        let result = match signature.and_then(|found| found.result) {
            Some(Pointee::Entry(level)) => Value::Entry(level),
            Some(Pointee::Struct(which)) => Value::Struct(which, 0),
            Some(Pointee::Pointer(_)) | None => Value::Unknown,
        };
        state.returned(result, &self.frame);
        for (at, level) in left {
            self.pointers.insert((at, level));
            state.set_word(at, Value::Entry(level));
        }
    }

    /// What uses the pointers, once all is followed.
    fn accesses(&mut self) -> Vec<(LinkAddr, Level, MemoryAccess)> {
        let mut found = Vec::new();
        let leaders: Vec<usize> = self.leaders.iter().copied().collect();
        for leader in leaders {
            let Some(mut state) = self.states.get(&leader).cloned() else { continue };
            for at in leader..self.code.len() {
                if at != leader && self.leaders.contains(&at) {
                    break;
                }
                self.hint(at, &mut state);
                let insn = self.code[at];
                let to_entry = insn.addressed().is_some_and(|operand| state.entry(&operand, 1).is_some());
                if to_entry
                    && let Some(access) = insn.memory(self.info)
                    && let Some(level) = state.entry(&access.operand, access.size)
                {
                    found.push((LinkAddr(insn.address()), level, access));
                }
                self.step(at, &mut state);
                if !self.ways[at].goes_on {
                    break;
                }
            }
        }
        found
    }
}
