//! Calls, found in the bytes of the code: those through `pv_ops`, and those of accessors that the compiler put out of
//! line. No debug information is needed for either.
//!
//! The code is searched for the bytes that such a call has. A hit counts if decoding the function from its start
//! meets it.

use lazymmu_abi::Op;
use rustc_hash::FxHashMap;

use super::accessors::{Accessor, PV_OPS, PvOp};
use crate::address::LinkAddr;
use crate::arch::Flow;
use crate::arch::x86::Instructions;
use crate::btf::Btf;
use crate::image::{Code, Image};

/// The members of `pv_ops` that matter, by the address of the pointer.
#[derive(Debug, Default)]
pub(super) struct PvTable {
    slots: FxHashMap<u64, &'static PvOp>,
    /// Whether the mode counts its nesting in this kernel.
    nesting: bool,
}

impl PvTable {
    pub(super) fn of(image: &Image, btf: Option<&Btf>, nesting: bool) -> Self {
        let mut table = Self { slots: FxHashMap::default(), nesting };
        let (Some((start, _)), Some(btf)) = (image.functions().mark("pv_ops"), btf) else { return table };
        for op in &PV_OPS {
            let Ok(Some(offset)) = btf.member_offset("paravirt_patch_template", op.member) else { continue };
            table.slots.insert(start.0.wrapping_add(u64::from(offset)), op);
        }
        table
    }

    /// What a call through this address does.
    pub(super) fn at(&self, slot: u64) -> Option<&'static PvOp> {
        self.slots.get(&slot).copied()
    }

    /// Whether the mode counts its nesting in this kernel.
    pub(super) fn nests(&self) -> bool {
        self.nesting
    }

    /// The operation that a record of it tells.
    pub(super) fn op(&self, pv: &PvOp) -> Op {
        if self.nesting { pv.nested } else { pv.accessor.op }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// A call that was found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Called {
    /// Through `pv_ops`.
    Paravirt(&'static PvOp),
    /// Of the copy that begins at this address.
    Copy(LinkAddr, &'static Accessor),
}

/// Every call of interest in the image.
pub(super) fn find(
    image: &Image,
    pv: &PvTable,
    copies: &FxHashMap<u64, &'static Accessor>,
) -> Vec<(LinkAddr, Called)> {
    let mut found = Vec::new();
    for code in image.code() {
        let mut hits = hits(code, pv, copies);
        hits.sort_unstable();
        confirm(image, &hits, |address, flow| {
            let called = match flow {
                Flow::CallThrough(slot) | Flow::JumpThrough(slot) => pv.at(slot).map(Called::Paravirt),
                Flow::Call(to) | Flow::Jump(to) | Flow::Branch(to) => {
                    // A jump inside of the copy itself is none.
                    let own = image.functions().at(address).is_some_and(|own| own.start.0 == to);
                    let copy = copies.get(&to).filter(|_| !own);
                    copy.map(|accessor| Called::Copy(LinkAddr(to), accessor))
                }
                _ => None,
            };
            found.extend(called.map(|called| (address, called)));
        });
    }
    found
}

/// Where bytes look like a call of interest.
fn hits(code: &Code, pv: &PvTable, copies: &FxHashMap<u64, &'static Accessor>) -> Vec<u64> {
    let bytes = &code.bytes;
    let mut found = Vec::new();
    let lowest = copies.keys().copied().min().unwrap_or(u64::MAX);
    let highest = copies.keys().copied().max().unwrap_or(0);
    let constant = |at: usize| {
        let word = bytes.get(at..at.checked_add(4)?)?;
        Some(i64::from(i32::from_le_bytes(word.try_into().ok()?)))
    };
    let address = |at: usize| code.start.0.wrapping_add(at as u64);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            // call or jmp through memory at a constant address, or relative to the next instruction.
            0xff if !pv.is_empty() => {
                let slot = match bytes.get(at + 1..at + 3) {
                    Some([0x14 | 0x24, 0x25]) => constant(at + 3).map(i64::cast_unsigned),
                    Some([0x15 | 0x25, _]) => {
                        constant(at + 2).map(|add| address(at + 6).wrapping_add_signed(add))
                    }
                    _ => None,
                };
                if slot.is_some_and(|slot| pv.at(slot).is_some()) {
                    found.push(address(at));
                }
            }
            // call, jmp, and (0f 8x) conditional jumps, relative to the next instruction.
            0xe8 | 0xe9 | 0x80..=0x8f => {
                let Some(add) = constant(at + 1) else { continue };
                let target = address(at + 5).wrapping_add_signed(add);
                if target < lowest || target > highest || !copies.contains_key(&target) {
                    continue;
                }
                let conditional = *byte < 0xe0;
                if !conditional {
                    found.push(address(at));
                } else if at > 0 && bytes[at - 1] == 0x0f {
                    found.push(address(at - 1));
                }
            }
            _ => {}
        }
    }
    found
}

/// Decodes the functions that hold hits, from their starts, and hands on what really is an instruction.
fn confirm(image: &Image, hits: &[u64], mut hand_on: impl FnMut(LinkAddr, Flow)) {
    let mut hits = hits.iter().copied().peekable();
    while let Some(hit) = hits.next() {
        let Some(function) = image.functions().at(LinkAddr(hit)) else { continue };
        let mut wanted = vec![hit];
        while let Some(more) = hits.next_if(|next| *next < function.end.0) {
            wanted.push(more);
        }
        let Some(code) = image.text(function.start, function.end) else { continue };
        for insn in Instructions::new(code, function.start.0) {
            // A prefix may stand before the bytes that were found.
            if wanted.iter().any(|hit| (insn.address()..insn.end()).contains(hit)) {
                hand_on(LinkAddr(insn.address()), insn.flow());
            }
        }
    }
}
