//! What user space tells the eBPF programs before it loads them.

/// The global `SETTINGS` of the eBPF object. Constant while the programs run, so that the verifier drops the
/// branches that they rule out.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
pub struct Settings {
    /// A [`Scope`].
    pub scope: u32,
    /// Byte offset of `lazy_mmu_state.enable_count` in `struct task_struct` of the running kernel;
    /// [`Settings::NO_OFFSET`] if that kernel keeps none (before 7.0).
    pub enable_count: u32,
    /// The same for `lazy_mmu_state.pause_count`.
    pub pause_count: u32,
    /// Byte offset of `pid` in `struct task_struct`.
    pub pid: u32,
    /// Wake the reader each time a CPU has sent this many bytes. A power of two.
    pub wake_step: u32,
    /// Byte offset of the instruction pointer in `struct pt_regs`; [`Settings::NO_OFFSET`] if it is not known, and
    /// then the program for page faults is not loaded.
    pub instruction: u32,
    /// The ring of a CPU is its number under this mask: how many rings there are, a power of two, less one.
    pub ring_mask: u32,
    /// How many records a ring has place for: a power of two.
    pub ring_places: u32,
    /// How many of them may be taken: see [`crate::Head`].
    pub ring_limit: u32,
    /// For [`Scope::Suspects`]: the sets of places for pending entries, a power of two, less one.
    pub pending_mask: u32,
    /// Whether records have call stacks: 0 or 1.
    pub stacks: u32,
    /// Whether the architecture's own calls of the mode are hooked, where it may be a state of each CPU: 0 or 1.
    pub by_cpu: u32,
    /// The function in which the tracepoint `sched_switch` is.
    pub schedule: Code,
    /// The function in which the tracepoint `sched_process_exit` is.
    pub exit: Code,
}

/// Where a function of the kernel lies. A call stack that is taken inside of it begins there; if the length is 0
/// because that is not known, it begins with the hook's own frames.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
pub struct Code {
    /// Its first address.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
}

const _: () = assert!(size_of::<Settings>() == 80);

impl Settings {
    /// The name of the global in the object.
    pub const GLOBAL: &str = "SETTINGS";
    /// The offset of a member that the running kernel does not have.
    pub const NO_OFFSET: u32 = u32::MAX;
}

/// Which accesses the programs emit.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those of a task that is in a section, and those of interrupts that came inside one.
    #[default]
    Sections = 0,
    /// Every access.
    All = 1,
    /// Of those of a task that is in a section: what comes upon a pending write, and that write. The rest is counted.
    Suspects = 2,
}

/// The global `DEFERRAL` of the eBPF object, by the byte of an operation: what the programs must know of each to tell
/// with [`Scope::Suspects`] what may do harm. Bits are profiles, whichever they are.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
pub struct Deferral {
    /// Where its store waits in a queue, in order or not. [`Deferral::COUNTED`]: by the written contract.
    pub waits: [u8; 256],
    /// Where it looks at memory although the queue of its own section has something for the entry.
    pub sees: [u8; 256],
}

impl Deferral {
    /// The name of the global in the object.
    pub const GLOBAL: &str = "DEFERRAL";
    /// The bit of [`Deferral::waits`] that is no profile.
    pub const COUNTED: u8 = 1 << 7;
    /// Nothing is known: every access is told that comes upon a pending write, and every write may wait.
    pub const UNKNOWN: Self = Self { waits: [0xff; 256], sees: [0xff; 256] };
}
