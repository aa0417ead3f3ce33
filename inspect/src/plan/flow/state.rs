//! What is known of registers and of the stack at one instruction, and what an instruction makes of it.
//!
//! Only what can be a pointer to an entry, or lead to one, is kept. What is not certain is not known.

use lazymmu_abi::Level;

use crate::arch::x86::{CALLEE_SAVED, Move};
use crate::arch::{Operand, Register};
use crate::btf::PointerTypes;

/// Farther from a pointer than a page, no entry of the same table is.
const PAGE: i64 = 4096;

/// What a register or a word of the stack holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::plan) enum Value {
    /// Anything.
    #[default]
    Unknown,
    /// A null pointer, of whatever type.
    Null,
    /// A pointer to an entry.
    Entry(Level),
    /// A pointer into a structure that has pointers to entries: which, and how many bytes from its start.
    Struct(u16, i64),
    /// An address on the stack, in bytes from where the return address begins.
    Stack(i64),
}

impl Value {
    /// What is known where two paths meet.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Null, known @ Self::Entry(_)) | (known @ Self::Entry(_), Self::Null) => known,
            (a, b) if a == b => a,
            _ => Self::Unknown,
        }
    }

    /// The value plus a constant.
    fn plus(self, add: i64) -> Self {
        match self {
            Self::Entry(_) if add % 8 == 0 && add.unsigned_abs() < PAGE.unsigned_abs() => self,
            Self::Struct(which, at) => {
                at.checked_add(add).map_or(Self::Unknown, |at| Self::Struct(which, at))
            }
            Self::Stack(at) => at.checked_add(add).map_or(Self::Unknown, Self::Stack),
            other if add == 0 => other,
            _ => Self::Unknown,
        }
    }

    /// The value plus an index that is not known.
    fn indexed(self, scale: u8) -> Self {
        if matches!(self, Self::Entry(_)) && matches!(scale, 1 | 8) { self } else { Self::Unknown }
    }
}

/// A structure on the stack: where it begins, and which one.
pub(super) type Local = (i64, u16);

/// What holds everywhere in a function.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// The structures on the stack that functions are given a pointer to.
    pub(super) locals: Vec<Local>,
    /// The pointers to entries on the stack that functions are given a pointer to.
    pub(super) pointers: Vec<(i64, Level)>,
    /// Addresses on the stack that were put into a register: somebody else may change what is there.
    pub(super) taken: Vec<i64>,
}

impl Frame {
    /// How far behind an address that was taken others may write.
    const REACH: i64 = 256;

    fn is_taken(&self, at: i64) -> bool {
        self.taken.iter().any(|taken| (*taken..taken.saturating_add(Self::REACH)).contains(&at))
    }

    /// What points to an entry whenever it is used, whoever has written it.
    fn member(&self, types: &PointerTypes, at: i64) -> Option<Level> {
        let pointer = self.pointers.iter().find(|(place, _)| *place == at).map(|(_, level)| *level);
        pointer.or_else(|| self.local(types, at))
    }

    fn local(&self, types: &PointerTypes, at: i64) -> Option<Level> {
        self.locals.iter().find_map(|(start, which)| member(types, *which, at.checked_sub(*start)?))
    }
}

/// The level of the entries that a member points to, if it is such a pointer.
fn member(types: &PointerTypes, which: u16, at: i64) -> Option<Level> {
    let members = &types.structs.get(usize::from(which))?.members;
    members.iter().find(|(offset, _)| i64::from(*offset) == at).map(|(_, level)| *level)
}

/// All that is known at one instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    registers: [Value; 16],
    /// Words of the stack, by their address.
    stack: Vec<(i64, Value)>,
}

impl State {
    /// At the entry of a function.
    pub(super) fn new() -> Self {
        let mut state = Self { registers: [Value::Unknown; 16], stack: Vec::new() };
        state.set(Register::Rsp, Value::Stack(0));
        state
    }

    pub(super) fn get(&self, register: Register) -> Value {
        self.registers[register as usize]
    }

    pub(super) fn set(&mut self, register: Register, value: Value) {
        self.registers[register as usize] = value;
    }

    /// Takes in what another path brings; whether that changed anything.
    pub(super) fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (own, theirs) in self.registers.iter_mut().zip(&other.registers) {
            let joined = own.join(*theirs);
            changed |= *own != joined;
            *own = joined;
        }
        self.stack.retain_mut(|(at, value)| {
            let joined = value.join(other.word(*at));
            changed |= *value != joined;
            *value = joined;
            joined != Value::Unknown
        });
        changed
    }

    fn word(&self, at: i64) -> Value {
        let found = self.stack.iter().find(|(place, _)| *place == at);
        found.map_or(Value::Unknown, |(_, value)| *value)
    }

    pub(super) fn set_word(&mut self, at: i64, value: Value) {
        // A word that overlaps it is gone.
        self.stack.retain(|(place, _)| place.abs_diff(at) >= 8);
        if value != Value::Unknown {
            self.stack.push((at, value));
            self.stack.sort_unstable_by_key(|(place, _)| *place);
        }
    }

    /// What an address is the address of.
    fn address(&self, operand: &Operand) -> Value {
        let base = operand.base.map_or(Value::Unknown, |register| self.get(register));
        let Some(index) = operand.index.map(|register| self.get(register)) else {
            return base.plus(operand.displacement);
        };
        let sum = match (base, index) {
            (base @ Value::Entry(_), Value::Unknown | Value::Null) => base.indexed(operand.scale),
            (Value::Unknown | Value::Null, index @ Value::Entry(_)) if operand.scale == 1 => index,
            _ => Value::Unknown,
        };
        sum.plus(operand.displacement)
    }

    /// The entry that an access of so many bytes is made to, if it is to one.
    pub(super) fn entry(&self, operand: &Operand, size: u8) -> Option<Level> {
        let within = operand.displacement.rem_euclid(8);
        let whole = Operand { displacement: operand.displacement - within, ..*operand };
        match self.address(&whole) {
            Value::Entry(level) if within + i64::from(size) <= 8 => Some(level),
            _ => None,
        }
    }

    fn load(&self, operand: &Operand, frame: &Frame, types: &PointerTypes) -> Value {
        match self.address(operand) {
            Value::Stack(at) => match self.word(at) {
                Value::Unknown => frame.member(types, at).map_or(Value::Unknown, Value::Entry),
                known => known,
            },
            Value::Struct(which, at) => member(types, which, at).map_or(Value::Unknown, Value::Entry),
            _ => Value::Unknown,
        }
    }

    /// A store: what is put into a member is a pointer of the member's type.
    fn store(&mut self, from: Register, operand: &Operand, frame: &Frame, types: &PointerTypes) {
        let level = match self.address(operand) {
            Value::Stack(at) => {
                self.set_word(at, self.get(from));
                frame.member(types, at)
            }
            Value::Struct(which, at) => member(types, which, at),
            _ => None,
        };
        if let Some(level) = level
            && self.get(from) == Value::Unknown
        {
            self.set(from, Value::Entry(level));
        }
    }

    /// A store of what is no pointer.
    pub(super) fn spoil(&mut self, operand: &Operand) {
        if let Value::Stack(at) = self.address(operand) {
            self.set_word(at, Value::Unknown);
        }
    }

    /// Goes over an instruction that moves pointers. Returns the address on the stack that it takes, if it does.
    pub(super) fn apply(&mut self, moved: Move, frame: &Frame, types: &PointerTypes) -> Option<i64> {
        let (to, value) = match moved {
            Move::Copy { from, to, add } => (to, self.get(from).plus(add)),
            Move::Sum { operand, to } => (to, self.address(&operand)),
            Move::Load { operand, to } => (to, self.load(&operand, frame, types)),
            Move::Choose { from, to } => (to, self.get(to).join(self.get(from))),
            Move::Zero { to } => (to, Value::Null),
            Move::Store { from, operand } => {
                self.store(from, &operand, frame, types);
                return None;
            }
            Move::Push { from } => {
                let (value, stack) = (self.get(from), self.get(Register::Rsp).plus(-8));
                self.set(Register::Rsp, stack);
                if let Value::Stack(at) = stack {
                    self.set_word(at, value);
                }
                return None;
            }
            Move::Pop { to } => {
                let Value::Stack(at) = self.get(Register::Rsp) else { return self.forget(to) };
                self.set(Register::Rsp, Value::Stack(at + 8));
                (to, self.word(at))
            }
        };
        self.set(to, value);
        let frame_pointer = matches!(moved, Move::Copy { from: Register::Rsp, to: Register::Rbp, .. });
        match value {
            Value::Stack(at) if to != Register::Rsp && !frame_pointer => Some(at),
            _ => None,
        }
    }

    fn forget(&mut self, register: Register) -> Option<i64> {
        self.set(register, Value::Unknown);
        None
    }

    /// Others have written to the stack where they can.
    pub(super) fn stack_changed(&mut self, frame: &Frame) {
        self.stack.retain(|(at, _)| !frame.is_taken(*at));
    }

    /// A call of a function came back.
    pub(super) fn returned(&mut self, result: Value, frame: &Frame) {
        for register in Register::ALL {
            if !CALLEE_SAVED.contains(&register) {
                self.set(register, Value::Unknown);
            }
        }
        self.set(crate::arch::x86::RESULT, result);
        self.stack_changed(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::PointerStruct;

    fn types() -> PointerTypes {
        let fault = PointerStruct { name: "vm_fault".to_owned(), size: 32, members: vec![(8, Level::Pmd)] };
        PointerTypes { structs: vec![fault], ..PointerTypes::default() }
    }

    fn at(register: Register, displacement: i64) -> Operand {
        Operand { displacement, ..Operand::register(register) }
    }

    #[test]
    fn pointers_are_followed_through_moves_and_the_stack() {
        let (mut state, frame, types) = (State::new(), Frame::default(), types());
        state.set(Register::Rdi, Value::Entry(Level::Pte));
        let mut step = |moved| state.apply(moved, &frame, &types);
        step(Move::Push { from: Register::Rbx });
        step(Move::Store { from: Register::Rdi, operand: at(Register::Rsp, -16) });
        step(Move::Zero { to: Register::Rdi });
        step(Move::Load { operand: at(Register::Rsp, -16), to: Register::Rax });
        step(Move::Copy { from: Register::Rax, to: Register::Rdx, add: 8 });
        step(Move::Pop { to: Register::Rbx });
        assert_eq!(state.entry(&at(Register::Rdx, 16), 8), Some(Level::Pte));
        assert_eq!(state.entry(&at(Register::Rdx, 17), 1), Some(Level::Pte), "a byte of an entry");
        assert_eq!(state.entry(&at(Register::Rdx, 4), 8), None, "half of two entries");
        assert_eq!(state.entry(&at(Register::Rdx, 4096), 8), None, "of another table");
        let index = Operand { index: Some(Register::Rcx), scale: 8, ..at(Register::Rdx, 0) };
        assert_eq!(state.entry(&index, 8), Some(Level::Pte));
        assert_eq!(state.entry(&Operand { scale: 4, ..index }, 8), None);
        assert_eq!(state.get(Register::Rdi), Value::Null);
        assert_eq!(state.get(Register::Rsp), Value::Stack(0));
    }

    #[test]
    fn members_lead_to_entries_and_tell_what_is_stored_in_them() {
        let (mut state, frame, types) = (State::new(), Frame::default(), types());
        state.set(Register::Rdi, Value::Struct(0, 0));
        state.apply(Move::Load { operand: at(Register::Rdi, 8), to: Register::Rax }, &frame, &types);
        assert_eq!(state.get(Register::Rax), Value::Entry(Level::Pmd));
        state.apply(Move::Load { operand: at(Register::Rdi, 16), to: Register::Rax }, &frame, &types);
        assert_eq!(state.get(Register::Rax), Value::Unknown);
        state.apply(Move::Store { from: Register::R8, operand: at(Register::Rdi, 8) }, &frame, &types);
        assert_eq!(state.get(Register::R8), Value::Entry(Level::Pmd));
        // The same structure on the stack.
        let frame = Frame { locals: vec![(-64, 0)], taken: vec![-64], ..Frame::default() };
        state.apply(Move::Load { operand: at(Register::Rsp, -56), to: Register::R9 }, &frame, &types);
        assert_eq!(state.get(Register::R9), Value::Entry(Level::Pmd));
    }

    #[test]
    fn what_a_call_may_change_is_forgotten() {
        let (mut state, types) = (State::new(), types());
        let frame = Frame { taken: vec![-64], ..Frame::default() };
        for register in [Register::Rbx, Register::Rdi] {
            state.set(register, Value::Entry(Level::Pte));
        }
        for displacement in [-72, -64] {
            let operand = at(Register::Rsp, displacement);
            state.apply(Move::Store { from: Register::Rbx, operand }, &frame, &types);
        }
        state.returned(Value::Entry(Level::Pud), &frame);
        assert_eq!(state.get(Register::Rax), Value::Entry(Level::Pud));
        assert_eq!(state.get(Register::Rbx), Value::Entry(Level::Pte));
        assert_eq!(state.get(Register::Rdi), Value::Unknown);
        assert_eq!(
            (state.word(-72), state.word(-64)),
            (Value::Entry(Level::Pte), Value::Unknown),
            "its address was taken"
        );
    }

    #[test]
    fn where_paths_meet_only_what_both_say_is_known() {
        let (mut one, mut other) = (State::new(), State::new());
        one.set(Register::Rax, Value::Entry(Level::Pte));
        one.set(Register::Rbx, Value::Entry(Level::Pte));
        one.set(Register::Rcx, Value::Null);
        other.set(Register::Rbx, Value::Entry(Level::Pmd));
        other.set(Register::Rcx, Value::Entry(Level::Pte));
        assert!(one.join(&other));
        assert_eq!(one.get(Register::Rax), Value::Unknown);
        assert_eq!(one.get(Register::Rbx), Value::Unknown);
        assert_eq!(one.get(Register::Rcx), Value::Entry(Level::Pte), "it is null there or a pointer");
        assert!(!one.join(&other), "a second time nothing changes");
    }
}
