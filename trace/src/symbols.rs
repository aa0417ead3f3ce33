//! Call stacks and the names of their addresses, as the trace carries them.
//!
//! This module only holds them. Where the names come from is `lazymmu-inspect`'s matter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One function at one address. An address has several where the compiler inlined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The function's name as the kernel's symbol table or debug information has it.
    pub function: String,
    /// Bytes from the start of the out-of-line function to the address; 0 for an inlined one.
    pub offset: u64,
    /// The module that the address belongs to; `None` for the kernel's own text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Source file, relative to the kernel's tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in that file: of the access in the innermost frame, of the call in the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Whether the compiler inlined this function into the frame after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inlined: bool,
}

/// The call stacks of a trace and what is known of their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    stacks: BTreeMap<u64, Vec<u64>>,
    frames: BTreeMap<u64, Vec<Frame>>,
}

impl Symbols {
    /// Keeps the return addresses of a stack, innermost first. Returns false if the stack was there before.
    pub fn insert_stack(&mut self, id: u64, addresses: Vec<u64>) -> bool {
        self.stacks.insert(id, addresses).is_none()
    }

    /// Keeps the frames of a return address: inlined ones first, the function that holds the text last.
    pub fn insert_frames(&mut self, address: u64, frames: Vec<Frame>) {
        self.frames.insert(address, frames);
    }

    /// Whether the frames of an address were kept, if only that it has none.
    pub fn is_known(&self, address: u64) -> bool {
        self.frames.contains_key(&address)
    }

    /// The return addresses of a stack, innermost first; `None` if that stack was lost.
    pub fn addresses(&self, stack: u64) -> Option<&[u64]> {
        self.stacks.get(&stack).map(Vec::as_slice)
    }

    /// The frames at a return address; empty if it was never symbolized.
    pub fn frames_at(&self, address: u64) -> &[Frame] {
        self.frames.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Every frame of a stack, innermost first. Addresses without a name are left out.
    pub fn frames(&self, stack: u64) -> impl Iterator<Item = &Frame> {
        self.addresses(stack).unwrap_or(&[]).iter().flat_map(|address| self.frames_at(*address))
    }

    /// Every stack with its addresses, by id.
    pub fn stacks(&self) -> impl Iterator<Item = (u64, &[u64])> {
        self.stacks.iter().map(|(id, addresses)| (*id, addresses.as_slice()))
    }

    /// Every symbolized address with its frames, by address.
    pub fn symbolized(&self) -> impl Iterator<Item = (u64, &[Frame])> {
        self.frames.iter().map(|(address, frames)| (*address, frames.as_slice()))
    }
}
