//! A plan of a Xen PV guest of which nothing is known but its symbols: no image, no debug information.
//!
//! Before 7.0 the mode is entered, left and flushed in functions there, and what may be deferred is stored in functions,
//! so their entries tell of sections, batches and flushes. Reads are inlined; of them nothing is known.

use super::accessors::{BEHIND_PV_OPS, PV_OPS};
use super::candidates::Candidate;
use super::make::state;
use super::model::{
    Evidence, Kernel, MadeFrom, Plan, Probe, Source, StateField, TextOffset, Verdict, Version,
};
use crate::address::RuntimeAddr;
use crate::arch::Architecture;
use crate::btf::{Btf, BtfError};
use crate::build_id::BuildId;
use crate::kallsyms::Kallsyms;

/// What such a plan says that it was made of.
const SYMBOLS: &str = "symbols";

/// What a Xen PV guest has behind a member of `pv_ops` that its plan must have, newer names first: 6.12 has the functions of
/// the mode in arch/x86/xen/mmu_pv.c, 6.1 all but that for leaving in arch/x86/kernel/paravirt.c.
const XEN: [&[&str]; 8] = [
    &["xen_enter_lazy_mmu", "paravirt_enter_lazy_mmu"],
    &["xen_leave_lazy_mmu"],
    &["xen_flush_lazy_mmu", "paravirt_flush_lazy_mmu"],
    &["xen_set_pte"],
    &["xen_set_pmd"],
    &["xen_set_pud"],
    &["xen_ptep_modify_prot_start"],
    &["xen_ptep_modify_prot_commit"],
];

/// How many of them are of the mode. Without these there is no plan.
const OF_THE_MODE: usize = 3;

impl Plan {
    /// Of a Xen PV guest, by the symbols of the kernel that runs. `None` if they do not tell where the mode is entered, left
    /// and flushed, as in 7.0 and later.
    ///
    /// # Errors
    ///
    /// If the kernel's type information is damaged.
    pub fn of_symbols(
        symbols: &Kallsyms,
        btf: &Btf,
        release: String,
        build_id: &BuildId,
    ) -> Result<Option<Self>, BtfError> {
        let fields: Vec<StateField> = state(Some(btf))?;
        let text = symbols.address_of("_text");
        let found: Vec<_> = XEN.iter().map(|names| of_function(names, symbols)).collect();
        let whole = found[..OF_THE_MODE].iter().all(Option::is_some);
        let (true, true, Some(text)) = (fields.is_empty(), whole, text) else { return Ok(None) };
        let mut probes: Vec<Probe> = found
            .into_iter()
            .flatten()
            .map(|(name, at, candidate)| probe(name, at, text, candidate))
            .collect();
        probes.sort_by_key(|probe| probe.address);
        Ok(Some(Self {
            version: Version::CURRENT,
            kernel: Kernel {
                release: Some(release),
                build_id: Some(build_id.to_string()),
                architecture: Architecture::X86_64,
                module: None,
                nesting: false,
            },
            made_from: MadeFrom {
                image: SYMBOLS.to_owned(),
                debug_info: false,
                symbols: "list".to_owned(),
                lazymmu: env!("CARGO_PKG_VERSION").to_owned(),
            },
            tracepoints: Vec::new(),
            state: fields,
            probes,
            modules: Vec::new(),
        }))
    }

    /// Whether it was made of nothing but the symbols of a Xen PV guest.
    pub fn is_of_symbols(&self) -> bool {
        self.made_from.image == SYMBOLS
    }
}

/// The first of some names that the kernel has, where that function is, and what a call of it does.
fn of_function(names: &[&'static str], symbols: &Kallsyms) -> Option<(&'static str, RuntimeAddr, Candidate)> {
    let (name, address) = names.iter().find_map(|name| Some((*name, symbols.address_of(name)?)))?;
    let (_, member) = BEHIND_PV_OPS.iter().find(|(known, _)| *known == name)?;
    let pv = PV_OPS.iter().find(|pv| pv.member == *member)?;
    Some((name, address, Candidate::call(&pv.accessor, Source::Symbol, Evidence::FunctionName)))
}

fn probe(name: &str, address: RuntimeAddr, text: RuntimeAddr, candidate: Candidate) -> Probe {
    Probe {
        address: TextOffset(address.0.wrapping_sub(text.0)),
        function: name.to_owned(),
        offset: 0,
        source: candidate.source,
        kind: candidate.kind,
        op: candidate.op,
        level: candidate.level,
        entry: candidate.entry,
        size: candidate.size,
        count: candidate.count,
        read: candidate.read,
        written: candidate.written,
        inlined: Vec::new(),
        file: None,
        found: candidate.found,
        code: String::new(),
        patched: false,
        verdict: Verdict::Probe,
    }
}

#[cfg(test)]
mod tests {
    use lazymmu_abi::Op;

    use super::*;

    fn symbols(names: &[&str]) -> Kallsyms {
        let line = |(index, name): (usize, &&str)| format!("{:016x} t {name}\n", 0x1000 + 0x100 * index);
        let text: String = names.iter().enumerate().map(line).collect();
        Kallsyms::parse(text.as_bytes(), std::path::Path::new("symbols")).unwrap()
    }

    /// BTF that tells of nothing, as of no counters in a task.
    fn empty() -> Btf {
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        bytes.extend([24, 0, 0, 0, 1].into_iter().flat_map(u32::to_le_bytes));
        bytes.push(0);
        Btf::from_bytes(bytes).unwrap()
    }

    fn plan(names: &[&str]) -> Option<Plan> {
        let id = BuildId::new(vec![0, 0xff]);
        Plan::of_symbols(&symbols(names), &empty(), "6.1".to_owned(), &id).unwrap()
    }

    #[test]
    fn each_kernel_has_its_names() {
        let older = ["_text", "paravirt_enter_lazy_mmu", "xen_leave_lazy_mmu", "paravirt_flush_lazy_mmu"];
        let newer =
            ["_text", "xen_enter_lazy_mmu", "xen_leave_lazy_mmu", "xen_flush_lazy_mmu", "xen_set_pte"];
        for (names, count) in [(&older[..], 3), (&newer[..], 4)] {
            let plan = plan(names).unwrap();
            assert_eq!(plan.wanted().count(), count);
            let ops: Vec<Op> = plan.probes.iter().map(|probe| probe.op).collect();
            assert_eq!(ops[..3], [Op::Enter, Op::Leave, Op::Flush]);
            assert_eq!(plan.probes[0].address, TextOffset(0x100));
            assert!(plan.is_of_symbols());
        }
        let store = &plan(&newer).unwrap().probes[3];
        assert_eq!((store.op, store.entry.is_some(), store.written.is_some()), (Op::SetPte, true, true));
    }

    #[test]
    fn without_the_mode_there_is_none() {
        assert!(plan(&["_text", "xen_flush_lazy_mmu", "xen_set_pte"]).is_none());
        assert!(plan(&["xen_enter_lazy_mmu", "xen_leave_lazy_mmu", "xen_flush_lazy_mmu"]).is_none());
    }
}
