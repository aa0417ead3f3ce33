//! Kernel addresses: as the linker gave them and as the running kernel has them. KASLR makes the difference, and
//! the types keep the two apart.

use std::fmt;

/// An address in the running kernel: what a call stack holds and what /proc/kallsyms lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuntimeAddr(pub u64);

/// An address in the file vmlinux: what its symbol table and debug information hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkAddr(pub u64);

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileOffset(pub u64);

/// How far the running kernel was moved from where it was linked. Zero without KASLR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slide(u64);

impl Slide {
    /// The slide that brings one symbol from its place in the file to its place in memory.
    pub fn between(link: LinkAddr, runtime: RuntimeAddr) -> Self {
        Self(runtime.0.wrapping_sub(link.0))
    }

    /// The place in memory of what the file has at `address`.
    #[must_use]
    pub fn to_runtime(self, address: LinkAddr) -> RuntimeAddr {
        RuntimeAddr(address.0.wrapping_add(self.0))
    }

    /// The place in the file of what stands at `address` in memory.
    #[must_use]
    pub fn to_link(self, address: RuntimeAddr) -> LinkAddr {
        LinkAddr(address.0.wrapping_sub(self.0))
    }
}

impl RuntimeAddr {
    /// An address inside the call instruction before this return address. The return address itself may belong
    /// to the next line, or to the next function if the callee never returns.
    #[must_use]
    pub fn before_return(self) -> Self {
        Self(self.0.wrapping_sub(1))
    }
}

impl fmt::Display for RuntimeAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::Display for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {:#x} of the file", self.0)
    }
}

impl fmt::Display for LinkAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slide_goes_both_ways() {
        let up = Slide::between(LinkAddr(0xffffffff81000000), RuntimeAddr(0xffffffff9c200000));
        assert_eq!(up.to_link(RuntimeAddr(0xffffffff9c200123)), LinkAddr(0xffffffff81000123));
        assert_eq!(up.to_runtime(LinkAddr(0xffffffff81000123)), RuntimeAddr(0xffffffff9c200123));
        // arm64 may also place the kernel below its link address.
        let down = Slide::between(LinkAddr(0xffff800080000000), RuntimeAddr(0xffff800000000000));
        assert_eq!(down.to_link(RuntimeAddr(0xffff800000000010)), LinkAddr(0xffff800080000010));
    }
}
