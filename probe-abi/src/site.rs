//! What user space tells the program for probed instructions about each of them, before it is attached.

use crate::Code;

/// One instruction that is probed: the value of the map `SITES`, at the index that is the probe's cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
pub struct Site {
    /// What is added to the registers for the address of the entry, modulo 2^64.
    pub displacement: u64,
    /// The value that is written, with [`Site::IMMEDIATE`].
    pub immediate: u64,
    /// The register that is added as it is: its word in `struct pt_regs`; [`Site::NO_REGISTER`] if there is none.
    pub base: u8,
    /// The register that is multiplied, in the same way.
    pub index: u8,
    /// What it is multiplied with.
    pub scale: u8,
    /// The register with the value that is written; [`Site::NO_REGISTER`] if it is in none.
    pub value: u8,
    /// The register whose lower 32 bits say how many entries; [`Site::NO_REGISTER`] for one.
    pub count: u8,
    /// A [`crate::Kind`].
    pub kind: u8,
    /// An [`crate::Op`].
    pub op: u8,
    /// A [`crate::Level`]; 0 for a mode call.
    pub level: u8,
    /// See the constants.
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<Site>() == 32);

impl Site {
    /// Where a register is named: none.
    pub const NO_REGISTER: u8 = u8::MAX;
    /// The value that is written is [`Site::immediate`].
    pub const IMMEDIATE: u8 = 1;
    /// It is the entry of a function: who called that made the access.
    pub const FUNCTION: u8 = 2;
}

/// The global `SITE_SETTINGS` of the eBPF object.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
pub struct SiteSettings {
    /// The kernel's table of what to add to the address of a variable that each CPU has, for each CPU; 0 if it is not
    /// known.
    pub per_cpu: u64,
    /// The address of `preempt_count` before that is added.
    pub preempt_count: u64,
    /// Byte offset of the stack pointer in `struct pt_regs`.
    pub stack_pointer: u64,
    /// The architecture's own functions that leave the mode and enter it again: what they call at its entry
    /// ([`Site::FUNCTION`]) is no call of a task.
    pub own: [Code; Self::OWN],
}

impl SiteSettings {
    /// The name of the global in the object.
    pub const GLOBAL: &str = "SITE_SETTINGS";
    /// How many functions of the architecture's own there may be.
    pub const OWN: usize = 3;
}

/// Words of `struct pt_regs` that the program copies: all of x86-64 (arch/x86/include/asm/ptrace.h, 6.1 to 7.2).
pub const REGISTER_WORDS: usize = 21;
