//! What the kernel refuses to put a kprobe on, told from the image alone: the same tables that the kernel asks when it
//! runs.
//!
//! `check_kprobe_address_safe` and `__register_kprobe` (kernel/kprobes.c), `within_notrace_func`
//! (kernel/trace/trace_kprobe.c), `can_probe` and `arch_within_kprobe_blacklist` (arch/x86/kernel/kprobes/core.c), read in
//! 6.1, 6.12 and 7.2. What is built with `CONFIG_KPROBE_EVENTS_ON_NOTRACE` would let notrace functions through; no
//! distribution sets it.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::model::Refusal;
use crate::address::LinkAddr;
use crate::arch::x86::Instructions;
use crate::image::{Function, Image};

/// Bytes of a static call and of the call to ftrace, and the most of a jump label (arch/x86/include/asm/text-patching.h).
const PATCHED: u64 = 5;

/// Places that the kernel patches, sorted: where each begins and ends.
type Places = Vec<(u64, u64)>;

/// The kernel's own tables.
pub(super) struct Refusals<'a> {
    image: &'a Image,
    ftrace: Places,
    blacklist: FxHashSet<u64>,
    jumps: Places,
    static_calls: Places,
    protected: Vec<(u64, u64)>,
}

impl<'a> Refusals<'a> {
    pub(super) fn read(image: &'a Image) -> Self {
        let ftrace = words(&image.table("__start_mcount_loc", "__stop_mcount_loc").1);
        let ftrace = places(ftrace, |_| PATCHED);
        let blacklist = image.table("__start_kprobe_blacklist", "__stop_kprobe_blacklist").1;
        // `struct jump_entry`: code, target (4 bytes each, relative to themselves), key.
        let jumps = relative(image.table("__start___jump_table", "__stop___jump_table"), 16);
        let jumps = places(jumps, |at| jump_size(image, at));
        // `struct static_call_site`: address, key (4 bytes each, relative to themselves).
        let static_calls = relative(image.table("__start_static_call_sites", "__stop_static_call_sites"), 8);
        let static_calls = places(static_calls, |_| PATCHED);
        let sections = ["kprobes", "noinstr", "entry"].iter().filter_map(|name| {
            let mark = |end| image.functions().mark(&format!("__{name}_text_{end}")).map(|(at, _)| at.0);
            Some((mark("start")?, mark("end")?))
        });
        let protected = sections.collect();
        let blacklist = words(&blacklist).into_iter().collect();
        Self { image, ftrace, blacklist, jumps, static_calls, protected }
    }

    /// Whether the kernel tells which functions can be traced.
    pub(super) fn knows_notrace(&self) -> bool {
        !self.ftrace.is_empty()
    }

    /// Why a probe at this address would be refused.
    pub(super) fn check(&self, address: LinkAddr) -> Option<Refusal> {
        let Some(function) = self.image.functions().at(address) else { return Some(Refusal::NoSymbol) };
        match self.image.section_of(address).map(|code| code.name.as_str()) {
            Some(".text") => {}
            Some(name) if name.starts_with(".init") => return Some(Refusal::InitText),
            Some(name) if name.starts_with(".exit") => return Some(Refusal::ExitText),
            _ => return Some(Refusal::OtherSection),
        }
        if self.protected.iter().any(|(start, end)| (*start..*end).contains(&address.0)) {
            return Some(Refusal::ProtectedSection);
        }
        if self.blacklist.contains(&function.start.0) {
            return Some(Refusal::Nokprobe);
        }
        if within(&self.jumps, address) {
            return Some(Refusal::JumpLabel);
        }
        if within(&self.static_calls, address) {
            return Some(Refusal::StaticCall);
        }
        // At its first byte ftrace itself serves the probe.
        if within(&self.ftrace, address) && !begins_in(&self.ftrace, address.0, address.0.saturating_add(1)) {
            return Some(Refusal::Ftrace);
        }
        if self.knows_notrace() && !self.is_traced(function) {
            return Some(Refusal::Notrace);
        }
        (!self.is_boundary(function, address)).then_some(Refusal::InsideInstruction)
    }

    fn is_traced(&self, function: Function<'_>) -> bool {
        let has = |function: Function<'_>| begins_in(&self.ftrace, function.start.0, function.end.0);
        // A part that the compiler split off is judged by what it was split from.
        let whole = function.name.split_once('.').map(|(name, _)| name);
        has(function) || whole.and_then(|name| self.image.functions().named(name)).is_some_and(has)
    }

    /// Decodes from the start of the function, as the kernel does.
    fn is_boundary(&self, function: Function<'_>, address: LinkAddr) -> bool {
        let Some(code) = self.image.text(function.start, function.end) else { return false };
        let starts = Instructions::new(code, function.start.0).map(|insn| insn.address());
        starts.take_while(|start| *start <= address.0).last() == Some(address.0)
    }
}

/// Whether an address is in one of the patched places.
fn within(places: &[(u64, u64)], address: LinkAddr) -> bool {
    let after = places.partition_point(|(start, _)| *start <= address.0);
    after.checked_sub(1).and_then(|last| places.get(last)).is_some_and(|(_, end)| address.0 < *end)
}

/// Whether one of the patched places begins between two addresses.
fn begins_in(places: &[(u64, u64)], from: u64, to: u64) -> bool {
    places.get(places.partition_point(|(start, _)| *start < from)).is_some_and(|(start, _)| *start < to)
}

fn places(starts: Vec<u64>, size: impl Fn(u64) -> u64) -> Places {
    let mut places: Places = starts.into_iter().map(|at| (at, at.saturating_add(size(at)))).collect();
    places.sort_unstable();
    places
}

/// Bytes of a jump label. It may be short, and it is as long as the instruction that the image has there.
fn jump_size(image: &Image, at: u64) -> u64 {
    let rest = image.section_of(LinkAddr(at)).and_then(|code| code.bytes.get((at - code.start.0) as usize..));
    let jump = rest.and_then(|rest| Instructions::new(&rest[..rest.len().min(PATCHED as usize)], at).next());
    jump.map_or(PATCHED, |jump| jump.end() - at)
}

fn words(table: &[u8]) -> Vec<u64> {
    table.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?))).collect()
}

/// The first member of each entry of a table, which is relative to itself.
fn relative((start, table): (LinkAddr, Arc<[u8]>), size: usize) -> Vec<u64> {
    let mut at = start.0;
    let mut found = Vec::with_capacity(table.len() / size);
    for entry in table.chunks_exact(size) {
        if let Some(first) = entry.first_chunk::<4>() {
            found.push(at.wrapping_add_signed(i64::from(i32::from_le_bytes(*first))));
        }
        at = at.wrapping_add(size as u64);
    }
    found
}
