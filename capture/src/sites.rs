//! The instructions of a probe plan: what the programs are told of each, where it is in memory, and what became of it.

use std::collections::BTreeMap;

use lazymmu_abi::{Kind, Op, Site, SiteSettings};
use lazymmu_inspect::address::RuntimeAddr;
use lazymmu_inspect::arch::{Register, Value, x86};
use lazymmu_inspect::plan::{Count, Plan, Probe, Source, TextOffset, Verdict};
use lazymmu_trace::{Refused, Sites};

/// The symbol that a plan's addresses are counted from.
pub(crate) const TEXT: &str = "_text";

/// The most functions of one reason that a trace names.
const FUNCTIONS: usize = 32;

/// The instructions of a plan that are to be probed.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// In the order of attaching; the index is the cookie.
    pub(crate) entries: Vec<Entry>,
    /// What becomes of the others.
    told: Sites,
}

/// One that is to be probed.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where it is.
    pub(crate) address: TextOffset,
    /// From where that is counted, if it is in a module.
    pub(crate) module: Option<RuntimeAddr>,
    /// The function that it is in.
    pub(crate) function: String,
    /// What the program is told.
    pub(crate) site: Site,
}

impl Entry {
    /// Which program it gets.
    pub(crate) fn is_section(&self) -> bool {
        self.site.kind == Kind::Section as u8
    }

    pub(crate) fn at(&self, text: RuntimeAddr) -> u64 {
        self.module.unwrap_or(text).0.wrapping_add(self.address.0)
    }
}

impl Table {
    /// What the functions of a Xen PV guest tell, if they are hooked, is not probed. `modules`: where the code of each of the
    /// plan's modules is, if it is loaded.
    pub(crate) fn of(plan: &Plan, stores: bool, modules: &[Option<RuntimeAddr>]) -> Self {
        let mut told = Sites { found: plan.all().count() as u64, blind: blind(plan), ..Sites::default() };
        let mut refusals = Refusals::default();
        let mut entries = Vec::new();
        let parts = plan.modules.iter().zip(modules).map(|(module, place)| (module, *place));
        let all = std::iter::once((plan, None)).chain(parts);
        for (part, module, probe) in
            all.flat_map(|(part, module)| part.probes.iter().map(move |probe| (part, module, probe)))
        {
            if let (Verdict::Probe, Some(name), None) = (&probe.verdict, &part.kernel.module, module) {
                refusals.add(&format!("the module {name} is not loaded"), false, &probe.function);
                continue;
            }
            match &probe.verdict {
                Verdict::Covered { .. } => told.covered += 1,
                _ if stores && is_xen_store(probe) => told.covered += 1,
                Verdict::Refused { reason } => refusals.add(reason.text(), true, &probe.function),
                Verdict::Probe => match site(probe) {
                    Some(site) => {
                        let function = probe.function.clone();
                        entries.push(Entry { address: probe.address, module, function, site });
                    }
                    None => told.unaddressed += 1,
                },
            }
        }
        // As hooks are: what could flush a write, and what comes upon it, is seen before the write is.
        entries.sort_by_key(|entry| match entry.site.kind {
            kind if kind == Kind::Section as u8 => 0,
            kind if kind == Kind::Read as u8 => 1,
            kind if kind == Kind::Rmw as u8 => 2,
            _ => 3,
        });
        told.refused = refusals.into_list();
        Self { entries, told }
    }

    /// How many the map must hold.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// What became of all of them, given what the kernel said to some.
    pub(crate) fn describe(&self, refused: Refusals) -> Sites {
        let mut told = self.told.clone();
        let refused = refused.into_list();
        let count: u64 = refused.iter().map(|refused| refused.count).sum();
        told.hooked = (self.entries.len() as u64).saturating_sub(count);
        told.refused.extend(refused);
        told
    }
}

/// Refused instructions, by reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(BTreeMap<(String, bool), (u64, Vec<String>)>);

impl Refusals {
    pub(crate) fn add(&mut self, why: &str, foreseen: bool, function: &str) {
        let (count, functions) = self.0.entry((why.to_owned(), foreseen)).or_default();
        *count += 1;
        if functions.len() < FUNCTIONS && !functions.iter().any(|known| known == function) {
            functions.push(function.to_owned());
        }
    }

    fn into_list(self) -> Vec<Refused> {
        let list = self.0.into_iter();
        list.map(|((why, foreseen), (count, functions))| Refused { why, foreseen, count, functions })
            .collect()
    }
}

/// Whether what is probed leads to one of the functions by which a Xen PV guest stores: every write but a plain store,
/// which `set_pud_at` is too (arch/x86/include/asm/pgtable.h:1213, 7.2.13).
fn is_xen_store(probe: &Probe) -> bool {
    probe.kind == Kind::Write && !matches!(probe.op, Op::RawWrite | Op::SetPudAt)
}

/// What the program is told; `None` if it could not tell which entry is accessed.
fn site(probe: &Probe) -> Option<Site> {
    let mut site = Site {
        base: Site::NO_REGISTER,
        index: Site::NO_REGISTER,
        scale: 1,
        value: Site::NO_REGISTER,
        count: Site::NO_REGISTER,
        kind: probe.kind as u8,
        op: probe.op as u8,
        level: probe.level.map_or(0, |level| level as u8),
        flags: if probe.source == Source::Symbol { Site::FUNCTION } else { 0 },
        ..Site::default()
    };
    if probe.kind == Kind::Section {
        return Some(site);
    }
    let entry = probe.entry?;
    site.base = entry.base.map_or(Site::NO_REGISTER, word);
    site.index = entry.index.map_or(Site::NO_REGISTER, word);
    site.scale = entry.scale;
    site.displacement = entry.displacement.cast_unsigned();
    if let Count::Register(register) = probe.count {
        site.count = word(register);
    }
    match probe.written {
        Some(Value::Register { register }) => site.value = word(register),
        Some(Value::Immediate { value }) => {
            site.immediate = value.cast_unsigned();
            site.flags |= Site::IMMEDIATE;
        }
        Some(Value::Memory | Value::Computed) | None => {}
    }
    Some(site)
}

/// Where `struct pt_regs` has a register, in words.
fn word(register: Register) -> u8 {
    (x86::pt_regs_offset(register) / 8) as u8
}

/// What no plan of this kind can tell.
fn blind(plan: &Plan) -> Vec<String> {
    let mut blind = Vec::new();
    if plan.is_of_symbols() {
        blind.push("reads, and changes in one step, as nothing but symbols was known".to_owned());
        blind.push("levels above PUD".to_owned());
        return blind;
    }
    if !plan.made_from.debug_info {
        blind.push("reads that were inlined, as the plan was made without debug information".to_owned());
    }
    blind.push("accesses through pointers that no variable holds where they are used".to_owned());
    let names: Vec<&str> = plan.modules.iter().filter_map(|module| module.kernel.module.as_deref()).collect();
    blind.push(match names.as_slice() {
        [] => "modules, and levels above PUD".to_owned(),
        names => format!("modules other than {}, and levels above PUD", names.join(", ")),
    });
    blind
}

/// What the programs must know of the running kernel besides.
pub(crate) fn settings(symbols: &str, preempt_count_in_hot: Option<u32>) -> SiteSettings {
    let address = |name| address_of(symbols, name);
    let preempt_count = address("__preempt_count").or_else(|| {
        // 6.2 to 6.13 have it in a struct (arch/x86/include/asm/current.h).
        Some(address("pcpu_hot")?.wrapping_add(u64::from(preempt_count_in_hot?)))
    });
    match (address("__per_cpu_offset").filter(|address| *address != 0), preempt_count) {
        (Some(per_cpu), Some(preempt_count)) => {
            SiteSettings { per_cpu, preempt_count, ..SiteSettings::default() }
        }
        _ => SiteSettings::default(),
    }
}

/// Where a symbol of any kind is, in the text of /proc/kallsyms.
pub(crate) fn address_of(symbols: &str, name: &str) -> Option<u64> {
    let line = symbols.lines().find(|line| line.ends_with(name) && line.split(' ').nth(2) == Some(name))?;
    u64::from_str_radix(line.split(' ').next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use lazymmu_inspect::arch::Operand;
    use lazymmu_inspect::plan::Refusal;

    use super::*;

    const PLAN: &str = r#"{
        "version": {"major": 1, "minor": 0},
        "kernel": {"release": "7.2.13", "build_id": "00", "architecture": "x86_64", "nesting": true},
        "made_from": {"image": "vmlinux", "debug_info": true, "symbols": "symtab", "lazymmu": "0.1.0"},
        "tracepoints": [], "state": [], "probes": [
        {"address": "0x10", "function": "f", "offset": 0, "source": "site", "kind": "write", "op": "set_ptes",
         "level": "pte", "entry": {"base": "rdi", "scale": 1, "displacement": 0}, "size": 8,
         "count": {"register": "r8"}, "written": {"in": "register", "register": "rsi"}, "found": [], "code": "",
         "verdict": {"do": "probe"}},
        {"address": "0x20", "function": "f", "offset": 16, "source": "site", "kind": "read", "op": "ptep_get",
         "level": "pte", "entry": {"base": "rbx", "index": "rcx", "scale": 8, "displacement": -16}, "size": 8,
         "read": {"in": "memory"}, "found": [], "code": "", "verdict": {"do": "probe"}},
        {"address": "0x30", "function": "g", "offset": 0, "source": "symbol", "kind": "rmw", "op": "ptep_clear_flush",
         "level": "pte", "entry": {"base": "rdx", "scale": 1, "displacement": 0}, "size": 8,
         "read": {"in": "memory"}, "written": {"in": "immediate", "value": 0}, "found": [], "code": "",
         "verdict": {"do": "probe"}},
        {"address": "0x40", "function": "g", "offset": 8, "source": "site", "kind": "section", "op": "enter",
         "found": [], "code": "", "verdict": {"do": "probe"}},
        {"address": "0x50", "function": "h", "offset": 8, "source": "site", "kind": "write", "op": "set_ptes",
         "level": "pte", "size": 8, "written": {"in": "computed"}, "found": [], "code": "",
         "verdict": {"do": "probe"}},
        {"address": "0x60", "function": "h", "offset": 16, "source": "site", "kind": "read", "op": "ptep_get",
         "level": "pte", "found": [], "code": "", "verdict": {"do": "refused", "reason": "notrace"}},
        {"address": "0x70", "function": "h", "offset": 24, "source": "site", "kind": "read", "op": "ptep_get",
         "level": "pte", "found": [], "code": "", "verdict": {"do": "covered", "by": "g"}}
        ]
    }"#;

    fn plan() -> Plan {
        Plan::parse(PLAN.as_bytes(), std::path::Path::new("plan")).unwrap()
    }

    fn table() -> Table {
        Table::of(&plan(), false, &[])
    }

    /// What a program computes of a site, given the words of `struct pt_regs`.
    fn entry(site: &Site, words: &[u64]) -> u64 {
        let get = |word: u8| words.get(usize::from(word)).copied().unwrap_or(0);
        let index = get(site.index).wrapping_mul(u64::from(site.scale));
        get(site.base).wrapping_add(index).wrapping_add(site.displacement)
    }

    #[test]
    fn sections_come_first_and_writes_last() {
        let order: Vec<u64> = table().entries.iter().map(|entry| entry.address.0).collect();
        assert_eq!(order, [0x40, 0x20, 0x30, 0x10]);
        assert!(table().entries[0].is_section() && !table().entries[1].is_section());
        assert_eq!(table().entries[1].at(RuntimeAddr(0x1000)), 0x1020);
    }

    #[test]
    fn a_site_computes_what_its_operand_says() {
        let words: Vec<u64> =
            (0..lazymmu_abi::REGISTER_WORDS as u64).map(|word| 0x1000 * (word + 1)).collect();
        let operand =
            Operand { base: Some(Register::Rbx), index: Some(Register::Rcx), scale: 8, displacement: -16 };
        let said = operand.evaluate(|register| words[usize::from(word(register))]);
        assert_eq!(entry(&table().entries[1].site, &words), said);
    }

    #[test]
    fn what_is_in_a_module_is_counted_from_there() {
        let mut plan = plan();
        let module = Plan {
            kernel: lazymmu_inspect::plan::Kernel { module: Some("m".into()), ..plan.kernel.clone() },
            ..plan.clone()
        };
        plan.modules = vec![module];
        let table = Table::of(&plan, false, &[Some(RuntimeAddr(0x9000))]);
        let mut places: Vec<u64> = table.entries.iter().map(|entry| entry.at(RuntimeAddr(0x1000))).collect();
        places.sort_unstable();
        assert_eq!(places, [0x1010, 0x1020, 0x1030, 0x1040, 0x9010, 0x9020, 0x9030, 0x9040]);
        let table = Table::of(&plan, false, &[None]);
        let told = table.describe(Refusals::default());
        assert_eq!((told.found, told.hooked), (14, 4));
        let absent = told.refused.iter().find(|refused| refused.why == "the module m is not loaded").unwrap();
        // One that could not tell its entry is not set in any case.
        assert_eq!((absent.count, absent.foreseen), (5, false));
        assert!(told.blind.iter().any(|blind| blind.contains("modules other than m")), "{:?}", told.blind);
    }

    #[test]
    fn what_is_written_is_told_where_it_is_known() {
        let table = table();
        let write = table.entries[3].site;
        assert_eq!((write.value, write.count), (word(Register::Rsi), word(Register::R8)));
        assert_eq!(write.flags, 0);
        let rmw = table.entries[2].site;
        assert_eq!((rmw.flags, rmw.immediate), (Site::IMMEDIATE | Site::FUNCTION, 0));
        assert_eq!((rmw.value, rmw.count), (Site::NO_REGISTER, Site::NO_REGISTER));
    }

    #[test]
    fn what_xen_tells_is_not_probed() {
        let table = Table::of(&plan(), true, &[]);
        assert!(table.entries.iter().all(|entry| entry.site.kind != Kind::Write as u8));
        let told = table.describe(Refusals::default());
        assert_eq!((told.found, told.hooked, told.covered, told.unaddressed), (7, 3, 3, 0));
    }

    #[test]
    fn every_place_is_counted_once() {
        let mut refused = Refusals::default();
        refused.add("Invalid argument", false, "f");
        let told = table().describe(refused);
        assert_eq!((told.found, told.hooked, told.covered, told.unaddressed), (7, 3, 1, 1));
        assert_eq!(told.refused() + told.hooked + told.covered + told.unaddressed, told.found);
        let foreseen = told.refused.iter().find(|refused| refused.foreseen).unwrap();
        assert_eq!(
            (foreseen.why.as_str(), &foreseen.functions[..]),
            (Refusal::Notrace.text(), &["h".to_owned()][..])
        );
    }

    #[test]
    fn preempt_count_is_found_where_kernels_have_it() {
        let new = "ffffffff82000000 D __per_cpu_offset\nffffffff83001000 D __preempt_count\n";
        assert_eq!(
            settings(new, None),
            SiteSettings {
                per_cpu: 0xffffffff82000000,
                preempt_count: 0xffffffff83001000,
                ..SiteSettings::default()
            }
        );
        let older = "0000000000020000 A pcpu_hot\nffffffff82000000 D __per_cpu_offset\n";
        assert_eq!(settings(older, Some(8)).preempt_count, 0x20008);
        assert_eq!(settings(older, None), SiteSettings::default());
        assert_eq!(settings("0000000000000000 D x__per_cpu_offset\n", Some(8)), SiteSettings::default());
    }
}
