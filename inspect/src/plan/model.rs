//! What a probe plan says: which kernel it is for, and every place where that kernel touches a page-table entry or
//! changes the lazy MMU mode, with all that a probe there has to know.
//!
//! Plain data. How it is found is in the modules beside this one, how it is stored in [`super::file`]. Fields may be
//! added in a minor version of the format, each with a default.

use std::fmt;

use lazymmu_abi::{Kind, Level, Op};
use serde::{Deserialize, Serialize};

use crate::arch::{Architecture, Operand, Register, Value};

use super::codes;

/// A place in the kernel's code, in bytes from the symbol `_text`, or from the start of a module's `.text`. It is the same
/// in the file and, whatever KASLR does, in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextOffset(pub u64);

impl fmt::Display for TextOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A probe plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The version of the format.
    pub version: Version,
    /// The kernel that it is for.
    pub kernel: Kernel,
    /// What it was made of.
    pub made_from: MadeFrom,
    /// Source `dev`: the drop-in's tracepoints that the kernel has, by name.
    pub tracepoints: Vec<String>,
    /// Source `state`: fields to be read at every event.
    pub state: Vec<StateField>,
    /// Sources `symbol` and `site`: places in the code, by address, each address once.
    pub probes: Vec<Probe>,
    /// The plans of modules of that kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Plan>,
}

/// The version of the format. A reader refuses another major one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Counts changes that make old readers wrong.
    pub major: u16,
    /// Counts additions.
    pub minor: u16,
}

impl Version {
    /// What this program writes.
    pub const CURRENT: Self = Self { major: 1, minor: 1 };
}

/// Which kernel, or which module of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// `uname -r`, if the image tells.
    pub release: Option<String>,
    /// The GNU build id in hexadecimal: that of the kernel, or of the module.
    pub build_id: Option<String>,
    /// Its architecture.
    pub architecture: Architecture,
    /// The name of the module; `None` for the kernel itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Whether the mode counts how deep it is nested (7.0 and later): then the calls behind `pv_ops` are the
    /// architecture's, not the caller's.
    pub nesting: bool,
}

/// What a plan was made of, which says what can be missing from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeFrom {
    /// `vmlinux` or `vmlinuz`; `symbols` alone; `module`.
    pub image: String,
    /// Whether there was debug information. Without it reads are not found.
    pub debug_info: bool,
    /// Where the names of functions come from: `symtab` of the image, or a `list` beside it.
    pub symbols: String,
    /// The version of the lazymmu that made it.
    pub lazymmu: String,
}

/// A field of a kernel structure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateField {
    /// As in C, from the structure on: `task_struct.lazy_mmu_state.enable_count`.
    pub field: String,
    /// Bytes from the start of the structure.
    pub offset: u32,
    /// Its size in bytes.
    pub size: u32,
}

/// One place in the code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Where. A probe there fires before the instruction runs.
    #[serde(with = "codes::hex")]
    pub address: TextOffset,
    /// The function in whose code it is, by its symbol (`copy_page_range.cold` is another one).
    pub function: String,
    /// Bytes from the start of that function.
    pub offset: u64,
    /// Which of the four sources.
    pub source: Source,
    /// What a record of it tells: a read, a write, an RMW, or a mode call.
    #[serde(with = "codes::kind")]
    pub kind: Kind,
    /// The operation.
    #[serde(with = "codes::op")]
    pub op: Op,
    /// The level of the page table; `None` for mode calls.
    #[serde(with = "codes::level", default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// How to compute the address of the entry. It may point into the entry, where the instruction looks at some of its
    /// bytes: the entry begins at the next lower multiple of 8. `None` for mode calls, and where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Operand>,
    /// Bytes that the instruction reads or writes; 8 for calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u8>,
    /// How many entries, the first of which is at `entry`.
    #[serde(default, skip_serializing_if = "Count::is_one")]
    pub count: Count,
    /// Reads and RMWs: where the value is that is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Value>,
    /// Writes and RMWs: where the value is that is going to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Value>,
    /// The inlined functions that the instruction belongs to, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inlined: Vec<String>,
    /// The source file of the function, as the compiler was given it, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How it was found; more than one if several ways lead to it.
    pub found: Vec<Evidence>,
    /// The bytes of the instruction in the image, in hexadecimal. What runs may differ where the kernel patches itself:
    /// see `patched`.
    pub code: String,
    /// Whether the kernel rewrites the instruction at boot (calls through `pv_ops`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub patched: bool,
    /// Whether to put a probe there.
    pub verdict: Verdict,
}

/// The source of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The entry of an out-of-line function.
    Symbol,
    /// An instruction inside a function.
    Site,
}

/// How many entries an operation works on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Count {
    /// One.
    #[default]
    One,
    /// As many as a register says (its lower 32 bits).
    Register(Register),
}

impl Count {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
    fn is_one(&self) -> bool {
        *self == Self::One
    }
}

/// A way by which a probe was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// A call through `pv_ops`.
    ParavirtCall,
    /// The code of an inlined accessor has the access.
    InlinedAccessor,
    /// The first load behind the place where an inlined accessor begins: the compiler merged the accessor's load
    /// into another instruction.
    BehindInlinedEntry,
    /// The base register holds a variable that points to an entry.
    TypedVariable,
    /// The base register holds a pointer to an entry that was followed to where it came from: a member of a structure,
    /// the result of a call, another variable.
    Dataflow,
    /// A call of an accessor that the compiler put out of line.
    AccessorCall,
    /// The entry of a function of that name.
    FunctionName,
}

/// Whether a probe is to be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Verdict {
    /// Yes.
    Probe,
    /// No: the kernel would refuse it.
    Refused {
        /// Why.
        reason: Refusal,
    },
    /// No: another probe of this plan tells of the same access.
    Covered {
        /// Which: the name of a function whose entry or calls are probed, or an address like `_text+0x1234`.
        by: String,
    },
}

/// Why a kernel refuses a kprobe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The function is marked notrace, as all that is `static inline` and was put out of line.
    Notrace,
    /// It is gone after boot.
    InitText,
    /// It is not there in a kernel that never ends.
    ExitText,
    /// The function is on the list that `NOKPROBE_SYMBOL` makes.
    Nokprobe,
    /// It is in one of the sections for code that must not trap: entry, noinstr, kprobes.
    ProtectedSection,
    /// It is in no section of ordinary code.
    OtherSection,
    /// No function is known there.
    NoSymbol,
    /// It is a jump label, which the kernel rewrites.
    JumpLabel,
    /// It is a static call, which the kernel rewrites.
    StaticCall,
    /// It is where ftrace patches the function.
    Ftrace,
    /// Decoding from the start of the function does not meet the address.
    InsideInstruction,
}

impl Refusal {
    /// Every reason, in the order in which tables list them.
    pub const ALL: [Self; 11] = [
        Self::Notrace,
        Self::InitText,
        Self::ExitText,
        Self::Nokprobe,
        Self::ProtectedSection,
        Self::OtherSection,
        Self::NoSymbol,
        Self::JumpLabel,
        Self::StaticCall,
        Self::Ftrace,
        Self::InsideInstruction,
    ];

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Notrace => "the function is notrace",
            Self::InitText => "init code, gone after boot",
            Self::ExitText => "exit code, never loaded",
            Self::Nokprobe => "the function is NOKPROBE",
            Self::ProtectedSection => "entry or noinstr code",
            Self::OtherSection => "not in ordinary code",
            Self::NoSymbol => "no function is known there",
            Self::JumpLabel => "a jump label",
            Self::StaticCall => "a static call",
            Self::Ftrace => "patched by ftrace",
            Self::InsideInstruction => "inside of an instruction",
        }
    }
}

impl Plan {
    /// The probes of the kernel and of its modules.
    pub fn all(&self) -> impl Iterator<Item = &Probe> {
        self.probes.iter().chain(self.modules.iter().flat_map(|module| &module.probes))
    }

    /// The probes that are to be set.
    pub fn wanted(&self) -> impl Iterator<Item = &Probe> {
        self.all().filter(|probe| probe.verdict == Verdict::Probe)
    }
}
