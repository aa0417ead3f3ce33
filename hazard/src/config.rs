//! What the engine must be told before the first record.

/// The architecture of the traced kernel, as far as the values of its page-table entries go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arch {
    /// x86, 64 bit.
    X86_64,
    /// Any other: values are kept and shown, but never compared.
    #[default]
    Other,
}

impl Arch {
    /// From the machine name that `uname -m` gives, which the trace header carries.
    #[must_use]
    pub fn from_machine(machine: &str) -> Self {
        match machine {
            "x86_64" => Self::X86_64,
            _ => Self::Other,
        }
    }
}

/// The engine's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The architecture of the traced kernel.
    pub arch: Arch,
    /// The most entries with a pending write that are kept at once. Further writes are not watched; that is
    /// counted and leaves the verdict open.
    pub max_pending: usize,
}

impl Default for Config {
    fn default() -> Self {
        // A section seldom covers more than one page table of 512 entries: room for thousands of tasks at once.
        Self { arch: Arch::default(), max_pending: 1 << 20 }
    }
}
