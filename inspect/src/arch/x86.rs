//! x86-64: decoding by iced-x86, the DWARF numbers of its registers, their place in `struct pt_regs`, the calling
//! convention.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register as Iced,
};

use super::{Access, Flow, MemoryAccess, Operand, Register, Value};

/// Where integer arguments are passed (System V psABI, 3.2.3), which is how the kernel is compiled.
pub const ARGUMENTS: [Register; 6] =
    [Register::Rdi, Register::Rsi, Register::Rdx, Register::Rcx, Register::R8, Register::R9];

/// Where a function leaves an integer result.
pub const RESULT: Register = Register::Rax;

/// Registers that a callee must keep (System V psABI, figure 3.4).
pub const CALLEE_SAVED: [Register; 7] =
    [Register::Rbx, Register::Rbp, Register::Rsp, Register::R12, Register::R13, Register::R14, Register::R15];

/// In the order of their DWARF numbers (System V psABI, figure 3.36).
const DWARF: [Register; 16] = [
    Register::Rax,
    Register::Rdx,
    Register::Rcx,
    Register::Rbx,
    Register::Rsi,
    Register::Rdi,
    Register::Rbp,
    Register::Rsp,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// The register of a DWARF number; `None` for what is no general register.
pub fn register_of_dwarf(number: u16) -> Option<Register> {
    DWARF.get(usize::from(number)).copied()
}

/// Where `struct pt_regs` has the register, in bytes (arch/x86/include/asm/ptrace.h, the same in 6.1, 6.12 and 7.2).
pub const fn pt_regs_offset(register: Register) -> usize {
    match register {
        Register::R15 => 0,
        Register::R14 => 8,
        Register::R13 => 16,
        Register::R12 => 24,
        Register::Rbp => 32,
        Register::Rbx => 40,
        Register::R11 => 48,
        Register::R10 => 56,
        Register::R9 => 64,
        Register::R8 => 72,
        Register::Rax => 80,
        Register::Rcx => 88,
        Register::Rdx => 96,
        Register::Rsi => 104,
        Register::Rdi => 112,
        Register::Rsp => 152,
    }
}

/// One instruction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Insn(Instruction);

/// What an instruction does to pointers, as far as they can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// A register takes the value of another one plus a constant.
    Copy {
        /// Where from.
        from: Register,
        /// Where to.
        to: Register,
        /// What is added.
        add: i64,
    },
    /// A register takes the sum of `base`, a multiple of another register and a constant.
    Sum {
        /// The address arithmetic.
        operand: Operand,
        /// Where to.
        to: Register,
    },
    /// A register takes 8 bytes of memory.
    Load {
        /// Where from.
        operand: Operand,
        /// Where to.
        to: Register,
    },
    /// 8 bytes of memory take a register.
    Store {
        /// Where from.
        from: Register,
        /// Where to.
        operand: Operand,
    },
    /// A register may take the value of another one, or keep its own.
    Choose {
        /// Where from.
        from: Register,
        /// Where to.
        to: Register,
    },
    /// A register becomes 0.
    Zero {
        /// Which.
        to: Register,
    },
    /// A register is put on the stack.
    Push {
        /// Which.
        from: Register,
    },
    /// A register is taken from the stack.
    Pop {
        /// Which.
        to: Register,
    },
}

/// Decodes instructions in a row.
pub struct Instructions<'a> {
    decoder: Decoder<'a>,
}

impl<'a> Instructions<'a> {
    /// The instructions of `code`, which is linked at `address`.
    pub fn new(code: &'a [u8], address: u64) -> Self {
        Self { decoder: Decoder::with_ip(64, code, address, DecoderOptions::NONE) }
    }
}

impl Iterator for Instructions<'_> {
    type Item = Insn;

    /// `None` at the end, and where the bytes are no instruction.
    fn next(&mut self) -> Option<Insn> {
        if !self.decoder.can_decode() {
            return None;
        }
        let mut insn = Insn::default();
        self.decoder.decode_out(&mut insn.0);
        (insn.0.code() != Code::INVALID).then_some(insn)
    }
}

impl Insn {
    /// Where it is linked.
    pub fn address(&self) -> u64 {
        self.0.ip()
    }

    /// Where the next one begins.
    pub fn end(&self) -> u64 {
        self.0.next_ip()
    }

    /// Where control goes after it.
    pub fn flow(&self) -> Flow {
        let near = || (self.0.op0_kind() == OpKind::NearBranch64).then(|| self.0.near_branch_target());
        match self.0.flow_control() {
            // `ud2` is a BUG or a WARN, and the kernel goes on behind a WARN (asm/bug.h).
            FlowControl::Next | FlowControl::XbeginXabortXend | FlowControl::Exception => Flow::Next,
            FlowControl::Call => near().map_or(Flow::CallIndirect, Flow::Call),
            FlowControl::UnconditionalBranch => near().map_or(Flow::JumpIndirect, Flow::Jump),
            FlowControl::ConditionalBranch => near().map_or(Flow::JumpIndirect, Flow::Branch),
            FlowControl::IndirectCall => self.slot().map_or(Flow::CallIndirect, Flow::CallThrough),
            FlowControl::IndirectBranch => self.slot().map_or(Flow::JumpIndirect, Flow::JumpThrough),
            FlowControl::Return | FlowControl::Interrupt => Flow::End,
        }
    }

    /// The constant address of the memory operand of an indirect call or jump.
    fn slot(&self) -> Option<u64> {
        if self.0.op0_kind() != OpKind::Memory || self.0.memory_index() != Iced::None {
            return None;
        }
        match self.0.memory_base() {
            Iced::None => Some(self.0.memory_displacement64()),
            Iced::RIP => Some(self.0.ip_rel_memory_address()),
            _ => None,
        }
    }

    /// Its memory operand, if it has one that is based on a general register and not on the stack or on a segment of
    /// its own: where an entry of a page table may be.
    pub fn memory(&self, info: &mut InfoFactory) -> Option<MemoryAccess> {
        let insn = &self.0;
        if insn.memory_base() == Iced::None && insn.memory_index() == Iced::None {
            return None;
        }
        if matches!(insn.mnemonic(), Mnemonic::Lea | Mnemonic::Nop)
            || insn.flow_control() != FlowControl::Next
            || matches!(insn.memory_segment(), Iced::FS | Iced::GS)
        {
            return None;
        }
        let at = (0..insn.op_count()).find(|at| insn.op_kind(*at) == OpKind::Memory)?;
        let operand = self.operand()?;
        if operand.base == Some(Register::Rsp) {
            return None;
        }
        let access = match info.0.info(insn).op_access(at) {
            OpAccess::Read | OpAccess::CondRead => Access::Read,
            OpAccess::Write | OpAccess::CondWrite => Access::Write,
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => Access::ReadWrite,
            OpAccess::None | OpAccess::NoMemAccess => return None,
        };
        let size = u8::try_from(insn.memory_size().size()).ok()?;
        let stored = (access != Access::Read).then(|| self.stored());
        Some(MemoryAccess { operand, size, access, stored })
    }

    /// The address that [`Insn::memory`] would tell of, if it told of one: this is quick to ask.
    pub fn addressed(&self) -> Option<Operand> {
        if self.0.memory_base() == Iced::None && self.0.memory_index() == Iced::None {
            None
        } else {
            self.operand()
        }
    }

    /// The address of the memory operand.
    fn operand(&self) -> Option<Operand> {
        let insn = &self.0;
        let index = match insn.memory_index() {
            Iced::None => None,
            index => Some(general(index)?),
        };
        let base = match insn.memory_base() {
            Iced::None => None,
            base => Some(general(base)?),
        };
        let scale = if index.is_some() { insn.memory_index_scale() as u8 } else { 1 };
        Some(Operand { base, index, scale, displacement: insn.memory_displacement64().cast_signed() })
    }

    /// What it stores, where that is known before it runs.
    fn stored(&self) -> Value {
        let insn = &self.0;
        if !matches!(insn.mnemonic(), Mnemonic::Mov | Mnemonic::Xchg | Mnemonic::Cmpxchg) {
            return Value::Computed;
        }
        match insn.op1_kind() {
            OpKind::Register => {
                general(insn.op1_register()).map_or(Value::Computed, |register| Value::Register { register })
            }
            OpKind::Immediate8 | OpKind::Immediate16 | OpKind::Immediate32 | OpKind::Immediate64 => {
                Value::Immediate { value: insn.immediate(1).cast_signed() }
            }
            OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => Value::Immediate { value: insn.immediate(1).cast_signed() },
            _ => Value::Computed,
        }
    }

    /// What it does to pointers. `None` for all else, which ends whatever it writes to.
    pub fn moved(&self) -> Option<Move> {
        let insn = &self.0;
        let own_segment = matches!(insn.memory_segment(), Iced::FS | Iced::GS);
        if insn.op0_kind() == OpKind::Memory {
            let whole = insn.mnemonic() == Mnemonic::Mov && insn.op1_kind() == OpKind::Register;
            let from = general(insn.op1_register()).filter(|_| whole && insn.op1_register().size() == 8)?;
            return (!own_segment).then_some(Move::Store { from, operand: self.operand()? });
        }
        if insn.op0_kind() != OpKind::Register {
            return None;
        }
        let to = general(insn.op0_register())?;
        if insn.mnemonic() == Mnemonic::Xor && insn.op1_kind() == OpKind::Register {
            let wide = insn.op0_register().size() >= 4;
            return (wide && insn.op0_register() == insn.op1_register()).then_some(Move::Zero { to });
        }
        if insn.op0_register().size() != 8 {
            return None;
        }
        match (insn.mnemonic(), insn.op1_kind()) {
            (Mnemonic::Push, _) => Some(Move::Push { from: to }),
            (Mnemonic::Pop, _) => Some(Move::Pop { to }),
            (Mnemonic::Mov, OpKind::Register) => {
                Some(Move::Copy { from: general(insn.op1_register())?, to, add: 0 })
            }
            (Mnemonic::Mov, OpKind::Memory) if !own_segment => {
                Some(Move::Load { operand: self.operand()?, to })
            }
            (Mnemonic::Lea, OpKind::Memory) => Some(Move::Sum { operand: self.operand()?, to }),
            (Mnemonic::Add, OpKind::Immediate8to64 | OpKind::Immediate32to64) => {
                Some(Move::Copy { from: to, to, add: insn.immediate(1).cast_signed() })
            }
            (Mnemonic::Sub, OpKind::Immediate8to64 | OpKind::Immediate32to64) => {
                Some(Move::Copy { from: to, to, add: insn.immediate(1).cast_signed().checked_neg()? })
            }
            (Mnemonic::Add, OpKind::Register) => {
                let index = Some(general(insn.op1_register())?);
                Some(Move::Sum { operand: Operand { base: Some(to), index, scale: 1, displacement: 0 }, to })
            }
            (mnemonic, OpKind::Register) if is_choice(mnemonic) => {
                Some(Move::Choose { from: general(insn.op1_register())?, to })
            }
            _ => None,
        }
    }

    /// The address of the memory that it stores to, or may store to.
    pub fn stored_to(&self) -> Option<Operand> {
        let insn = &self.0;
        let reads = matches!(insn.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Bt | Mnemonic::Nop);
        let stores = insn.op_count() > 0 && insn.op0_kind() == OpKind::Memory && !reads;
        if stores { self.operand() } else { None }
    }

    /// Whether it stores to as much memory as a register says.
    pub fn is_string(&self) -> bool {
        self.0.is_string_instruction()
    }

    /// The registers that it writes to.
    pub fn written(&self, info: &mut InfoFactory) -> impl Iterator<Item = Register> {
        let registers = info.0.info(&self.0).used_registers().iter();
        let written = registers.filter(|used| {
            !matches!(
                used.access(),
                OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            )
        });
        let found: Vec<Register> = written.filter_map(|used| general(used.register())).collect();
        found.into_iter()
    }
}

fn is_choice(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{
        Cmova, Cmovae, Cmovb, Cmovbe, Cmove, Cmovg, Cmovge, Cmovl, Cmovle, Cmovne, Cmovno, Cmovnp, Cmovns,
        Cmovo, Cmovp, Cmovs,
    };
    matches!(
        mnemonic,
        Cmova
            | Cmovae
            | Cmovb
            | Cmovbe
            | Cmove
            | Cmovg
            | Cmovge
            | Cmovl
            | Cmovle
            | Cmovne
            | Cmovno
            | Cmovnp
            | Cmovns
            | Cmovo
            | Cmovp
            | Cmovs
    )
}

/// Working space for [`Insn::memory`], to be kept from one instruction to the next.
#[derive(Debug)]
pub struct InfoFactory(InstructionInfoFactory);

impl Default for InfoFactory {
    fn default() -> Self {
        Self(InstructionInfoFactory::new())
    }
}

fn general(register: Iced) -> Option<Register> {
    Some(match register.full_register() {
        Iced::RAX => Register::Rax,
        Iced::RBX => Register::Rbx,
        Iced::RCX => Register::Rcx,
        Iced::RDX => Register::Rdx,
        Iced::RSI => Register::Rsi,
        Iced::RDI => Register::Rdi,
        Iced::RBP => Register::Rbp,
        Iced::RSP => Register::Rsp,
        Iced::R8 => Register::R8,
        Iced::R9 => Register::R9,
        Iced::R10 => Register::R10,
        Iced::R11 => Register::R11,
        Iced::R12 => Register::R12,
        Iced::R13 => Register::R13,
        Iced::R14 => Register::R14,
        Iced::R15 => Register::R15,
        _ => return None,
    })
}
