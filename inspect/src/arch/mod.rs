//! What depends on the architecture of a kernel: how its instructions are decoded, what its registers are called and
//! where the kernel keeps them, how arguments are passed.
//!
//! One module for each architecture that a probe plan can be made for. What stands outside of this folder knows
//! addresses, registers by name, and operands; it decodes nothing.

pub mod x86;

use serde::{Deserialize, Serialize};

/// An architecture that a probe plan can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Architecture {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
}

/// The architecture is one that nothing is known about here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is for {0}; plans can be made for x86_64")]
pub struct OtherArchitecture(pub String);

impl Architecture {
    /// By the number in an ELF header.
    pub fn of_elf(machine: object::elf::Machine) -> Result<Self, OtherArchitecture> {
        use object::elf;
        let other = match machine {
            elf::EM_X86_64 => return Ok(Self::X86_64),
            elf::EM_386 => "i386",
            elf::EM_AARCH64 => "arm64",
            elf::EM_ARM => "arm",
            elf::EM_S390 => "s390",
            elf::EM_PPC64 => "powerpc64",
            elf::EM_PPC => "powerpc",
            elf::EM_SPARCV9 => "sparc64",
            elf::EM_RISCV => "riscv",
            elf::EM_LOONGARCH => "loongarch",
            elf::EM_MIPS => "mips",
            other => return Err(OtherArchitecture(format!("ELF machine {}", other.0))),
        };
        Err(OtherArchitecture(other.to_owned()))
    }

    /// As `uname -m` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
        }
    }
}

/// A general register. The names are unique across architectures, so a plan need not say it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "their names are the architecture's")]
pub enum Register {
    Rax,
    Rbx,
    Rcx,
    Rdx,
    Rsi,
    Rdi,
    Rbp,
    Rsp,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Register {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Rax,
        Self::Rbx,
        Self::Rcx,
        Self::Rdx,
        Self::Rsi,
        Self::Rdi,
        Self::Rbp,
        Self::Rsp,
        Self::R8,
        Self::R9,
        Self::R10,
        Self::R11,
        Self::R12,
        Self::R13,
        Self::R14,
        Self::R15,
    ];
}

/// An address as an instruction gives it: `base + index * scale + displacement`, with the registers as they are before
/// the instruction runs, modulo 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Operand {
    /// The register that is added as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Register>,
    /// The register that is multiplied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Register>,
    /// What the index is multiplied with: 1, 2, 4 or 8; 1 where there is none.
    pub scale: u8,
    /// What is added at the end.
    pub displacement: i64,
}

impl Operand {
    /// The address that a register holds, as where it is the argument of a call.
    pub fn register(register: Register) -> Self {
        Self { base: Some(register), index: None, scale: 1, displacement: 0 }
    }

    /// The address, given what the registers hold. This is the arithmetic that a probe has to do.
    pub fn evaluate(&self, mut value: impl FnMut(Register) -> u64) -> u64 {
        let base = self.base.map_or(0, &mut value);
        let index = self.index.map_or(0, &mut value);
        base.wrapping_add(index.wrapping_mul(u64::from(self.scale))).wrapping_add_signed(self.displacement)
    }
}

/// Where a value stands at the moment before an instruction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "in", rename_all = "lowercase")]
pub enum Value {
    /// In the entry itself: what memory holds before the instruction.
    Memory,
    /// In a register.
    Register {
        /// Which.
        register: Register,
    },
    /// In the instruction.
    Immediate {
        /// The constant, widened to 64 bits.
        value: i64,
    },
    /// Nowhere: the instruction makes it of what memory holds (`lock btr`, `lock and`).
    Computed,
}

/// What an instruction does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It loads.
    Read,
    /// It stores.
    Write,
    /// It loads and stores in one step.
    ReadWrite,
}

/// The memory operand of one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAccess {
    /// Its address.
    pub operand: Operand,
    /// How many bytes.
    pub size: u8,
    /// What is done.
    pub access: Access,
    /// What is stored, where the instruction stores.
    pub stored: Option<Value>,
}

/// Where control goes after an instruction. Addresses are where the code is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction.
    Next,
    /// To a function, and back.
    Call(u64),
    /// To a function whose address is read from memory at a constant address, and back.
    CallThrough(u64),
    /// To a function whose address is in a register or read from elsewhere, and back.
    CallIndirect,
    /// Elsewhere.
    Jump(u64),
    /// Elsewhere, through memory at a constant address.
    JumpThrough(u64),
    /// Elsewhere, nobody knows where.
    JumpIndirect,
    /// To the next instruction or elsewhere.
    Branch(u64),
    /// Back, or nowhere: what follows is reached only by a jump.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operand_is_evaluated_modulo_the_width_of_an_address() {
        let operand =
            Operand { base: Some(Register::Rbx), index: Some(Register::Rcx), scale: 8, displacement: -16 };
        let value = |register| match register {
            Register::Rbx => 0xffff888000001000,
            Register::Rcx => 3,
            _ => unreachable!(),
        };
        assert_eq!(operand.evaluate(value), 0xffff888000001008);
        assert_eq!(Operand { index: None, ..operand }.evaluate(|_| 8), u64::MAX - 7);
    }

    #[test]
    fn other_architectures_are_named() {
        assert_eq!(Architecture::of_elf(object::elf::EM_X86_64), Ok(Architecture::X86_64));
        let error = Architecture::of_elf(object::elf::EM_AARCH64).unwrap_err();
        assert_eq!(error.to_string(), "it is for arm64; plans can be made for x86_64");
    }
}
