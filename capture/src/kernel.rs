//! The running kernel: whether it can be traced, what the programs must be told of it, what a trace says of it.
//!
//! The checks are cheap and come before the first bpf() call, so that the message names the cause. Nothing is
//! loaded here.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use lazymmu_abi::{Code, Settings, SiteSettings};
use lazymmu_inspect::address::RuntimeAddr;
use lazymmu_inspect::btf::{Btf, BtfError, RUNNING_KERNEL};
use lazymmu_inspect::build_id::BuildId;
use lazymmu_inspect::kallsyms::Kallsyms;
use lazymmu_trace::Kernel;

use crate::hooks::Accesses;
use crate::rings::{Cpus, Layout};
use crate::{Error, Hook, Options, hooks, sites};

/// Bits of the capability sets (include/uapi/linux/capability.h).
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What the programs read in structs of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// `lazy_mmu_state.enable_count` and `lazy_mmu_state.pause_count`; `None` before 7.0.
    pub(crate) state: Option<(u32, u32)>,
    /// `pid`
    pub(crate) pid: u32,
    /// The instruction pointer in `struct pt_regs`; `None` on an architecture whose name for it is not known here.
    pub(crate) instruction: Option<u32>,
}

/// What is known of this kernel before anything is loaded.
pub(crate) struct Checked {
    pub(crate) offsets: Offsets,
    /// What the programs are told.
    pub(crate) settings: Settings,
    /// What is missing for a hook, in the order of [`hooks::HOOKS`].
    pub(crate) missing: [Option<String>; hooks::HOOKS.len()],
    /// Where a plan's instructions are; `None` if there is no plan.
    pub(crate) sites: Option<Sites>,
    /// Whether stores are seen in functions of Xen, and need not be in the plan.
    pub(crate) stores: bool,
}

/// What must be known of the kernel to probe instructions.
pub(crate) struct Sites {
    /// What the programs are told.
    pub(crate) settings: SiteSettings,
    /// Where the kernel's code begins.
    pub(crate) text: RuntimeAddr,
}

const TASK: &str = "task_struct";
const ENABLE_COUNT: &str = "lazy_mmu_state.enable_count";
const PAUSE_COUNT: &str = "lazy_mmu_state.pause_count";
const PID: &str = "pid";
const REGISTERS: &str = "pt_regs";
/// arch/x86/include/asm/ptrace.h, 6.12 and 7.2.
const INSTRUCTION: &str = "ip";
const STACK_POINTER: &str = "sp";

/// The functions that trace the scheduler: `sched_switch` (kernel/sched/core.c) and `sched_process_exit` (do_exit in
/// kernel/exit.c), 6.12 and 7.2.
const SCHEDULE: &str = "__schedule";
const EXIT: &str = "do_exit";

/// The functions of a Xen PV guest before 7.0 that call the mode for their own sake: arch/x86/xen/{mmu,enlighten}_pv.c of 6.12,
/// arch/x86/kernel/paravirt.c of 6.1.
const OWN: [[&str; 2]; SiteSettings::OWN] = [
    ["xen_flush_lazy_mmu", "paravirt_flush_lazy_mmu"],
    ["xen_start_context_switch", "paravirt_start_context_switch"],
    ["xen_end_context_switch", "paravirt_end_context_switch"],
];

/// Says why this process cannot capture on this kernel, or what the programs must know.
pub(crate) fn check(options: &Options, layout: Layout, plan: bool) -> Result<Checked, Error> {
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        check_capabilities(&status)?;
    }
    let btf = btf()?;
    let offsets = Offsets::find(&btf)?;
    let code = codes();
    let mut settings =
        Settings { schedule: code(SCHEDULE), exit: code(EXIT), ..offsets.settings(options, layout) };
    let accesses = Accesses::of(plan, is_xen_pv_guest());
    let missing = hooks::check(&btf, &settings, accesses)?;
    settings.by_cpu = hooks::tells_of_cpus(&missing).into();
    if let Ok(lockdown) = fs::read_to_string("/sys/kernel/security/lockdown") {
        check_lockdown(&lockdown)?;
    }
    let sites = if plan { Some(sites(&btf, code)?) } else { None };
    Ok(Checked { offsets, settings, missing, sites, stores: accesses == Accesses::PlanAndStores })
}

/// Whether this is a Xen PV guest, the first one too (Documentation/ABI/testing/sysfs-hypervisor-xen).
pub fn is_xen_pv_guest() -> bool {
    fs::read_to_string("/sys/hypervisor/guest_type").is_ok_and(|kind| kind.trim() == "PV")
}

/// What the running kernel says of its types.
pub(crate) fn btf() -> Result<Btf, Error> {
    Btf::from_file(RUNNING_KERNEL).map_err(|error| match error {
        BtfError::Missing(_) => Error::NoBtf,
        BtfError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            Error::NotPermitted { reason: format!("the process may not read {RUNNING_KERNEL}") }
        }
        other => Error::Btf(other),
    })
}

/// Where what a plan's instructions need is in memory.
fn sites(btf: &Btf, code: impl Fn(&str) -> Code) -> Result<Sites, Error> {
    const SYMBOLS: &str = "/proc/kallsyms";
    let symbols = fs::read_to_string(SYMBOLS)
        .map_err(|source| Error::Io { what: format!("read {SYMBOLS}"), source })?;
    // Zero is what a reader without privilege gets.
    let text = sites::address_of(&symbols, sites::TEXT).filter(|address| *address != 0);
    let text = text.ok_or_else(|| Error::NotPermitted {
        reason: format!("{SYMBOLS} does not tell where the kernel is; see kernel.kptr_restrict"),
    })?;
    let stack_pointer = btf.member_offset(REGISTERS, STACK_POINTER).map_err(Error::Btf)?.unwrap_or_default();
    let hot = btf.member_offset("pcpu_hot", "preempt_count").map_err(Error::Btf)?;
    // A kernel has one of the two. Where there is none, the mode is no state of a CPU.
    let own = OWN.map(|names| names.map(&code).into_iter().find(|code| code.len != 0).unwrap_or_default());
    let settings =
        SiteSettings { stack_pointer: stack_pointer.into(), own, ..sites::settings(&symbols, hot) };
    Ok(Sites { settings, text: RuntimeAddr(text) })
}

/// What a kernel has for each hook, told from its type information alone: `None` if all that it wants, else what is missing.
/// Nothing is asked of the running kernel.
///
/// # Errors
///
/// If the type information is damaged, or of no kernel that this crate knows.
pub fn examine(btf: &Btf) -> Result<Vec<(&'static Hook, Option<String>)>, Error> {
    let least = page_size();
    let settings = Offsets::find(btf)?.settings(&Options::default(), Layout::new(least, least, Cpus::ONE));
    hooks::reasons(btf, &settings)
}

/// Where functions of this kernel lie, by name; nothing for what is not known.
fn codes() -> impl Fn(&str) -> Code {
    let symbols = Kallsyms::of_running_kernel().ok();
    move |name| {
        let extent = symbols.as_ref().and_then(|symbols| symbols.extent_of(name));
        extent.map_or(Code::default(), |(start, len)| Code { start: start.0, len })
    }
}

/// An unreadable status says nothing; then the kernel's own answer to bpf() decides.
fn check_capabilities(status: &str) -> Result<(), Error> {
    let Some(effective) = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
    else {
        return Ok(());
    };
    let has = |capability: u32| effective & (1 << capability) != 0;
    // CAP_SYS_ADMIN stands for both (bpf_capable and perfmon_capable in include/linux/capability.h).
    if has(CAP_SYS_ADMIN) {
        return Ok(());
    }
    let missing: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter_map(|(capability, name)| (!has(capability)).then_some(name))
        .collect();
    match missing.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::NotPermitted { reason: format!("the process lacks {one}") }),
        _ => Err(Error::NotPermitted { reason: format!("the process lacks {}", missing.join(" and ")) }),
    }
}

/// The mode in force stands in brackets. Only confidentiality locks bpf_probe_read_kernel()
/// (LOCKDOWN_BPF_READ_KERNEL in include/linux/security.h, 6.12 and 7.2).
fn check_lockdown(modes: &str) -> Result<(), Error> {
    if modes.contains("[confidentiality]") { Err(Error::Lockdown) } else { Ok(()) }
}

impl Offsets {
    fn find(btf: &Btf) -> Result<Self, Error> {
        let offset = |member| btf.member_offset(TASK, member).map_err(Error::Btf);
        let state = match (offset(ENABLE_COUNT)?, offset(PAUSE_COUNT)?) {
            (Some(enable), Some(pause)) => Some((enable, pause)),
            (None, None) => None,
            (None, _) => return Err(Error::NoMember { structure: TASK, member: ENABLE_COUNT }),
            (_, None) => return Err(Error::NoMember { structure: TASK, member: PAUSE_COUNT }),
        };
        let pid = offset(PID)?.ok_or(Error::NoMember { structure: TASK, member: PID })?;
        let instruction = btf.member_offset(REGISTERS, INSTRUCTION).map_err(Error::Btf)?;
        Ok(Self { state, pid, instruction })
    }

    /// What the programs are told.
    pub(crate) fn settings(self, options: &Options, layout: Layout) -> Settings {
        let (enable_count, pause_count) = self.state.unwrap_or((Settings::NO_OFFSET, Settings::NO_OFFSET));
        let instruction = self.instruction.unwrap_or(Settings::NO_OFFSET);
        Settings {
            scope: options.scope as u32,
            enable_count,
            pause_count,
            pid: self.pid,
            wake_step: layout.wake_step(),
            instruction,
            ring_mask: layout.mask(),
            ring_places: layout.places(),
            ring_limit: layout.limit(),
            pending_mask: options.pending_sets() - 1,
            stacks: options.stacks.into(),
            by_cpu: 0,
            schedule: Code::default(),
            exit: Code::default(),
        }
    }

    fn by_name(self) -> BTreeMap<String, u32> {
        let mut offsets = BTreeMap::from([(format!("{TASK}.{PID}"), self.pid)]);
        if let Some((enable, pause)) = self.state {
            offsets.insert(format!("{TASK}.{ENABLE_COUNT}"), enable);
            offsets.insert(format!("{TASK}.{PAUSE_COUNT}"), pause);
        }
        if let Some(instruction) = self.instruction {
            offsets.insert(format!("{REGISTERS}.{INSTRUCTION}"), instruction);
        }
        offsets
    }
}

/// Bytes of a page.
pub(crate) fn page_size() -> u32 {
    // Page sizes are at most 64 KiB on every architecture.
    u32::try_from(rustix::param::page_size()).unwrap_or(4096)
}

/// What a trace says of this kernel.
pub(crate) fn describe(offsets: Offsets) -> Kernel {
    let name = rustix::system::uname();
    let architecture = name.machine().to_string_lossy().into_owned();
    Kernel {
        release: name.release().to_string_lossy().into_owned(),
        version: name.version().to_string_lossy().into_owned(),
        build_id: BuildId::of_running_kernel().ok().map(|id| id.to_string()),
        pte_layout: architecture.clone(),
        architecture,
        page_size: page_size(),
        cpus: cpus_in(Path::new("/sys/devices/system/cpu/possible")),
        btf_offsets: offsets.by_name(),
    }
}

/// As many CPUs as may run programs now.
pub(crate) fn online_cpus() -> u32 {
    cpus_in(Path::new("/sys/devices/system/cpu/online"))
}

/// One more than the highest number that a CPU can have, those among them that are added while the kernel runs.
pub(crate) fn possible_cpus() -> u32 {
    cpus_in(Path::new("/sys/devices/system/cpu/possible"))
}

fn cpus_in(path: &Path) -> u32 {
    let listed = fs::read_to_string(path).ok().and_then(|list| highest_in(&list));
    listed.map_or(1, |highest| highest + 1)
}

/// The highest number in a list like `0-3,8`.
fn highest_in(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Cpus, Layout, Offsets, check_capabilities, check_lockdown, highest_in};
    use crate::{Class, Error, Options};
    use lazymmu_abi::Settings;

    fn status(effective: u64) -> String {
        format!("Name:\tcat\nCapPrm:\tffffffffffffffff\nCapEff:\t{effective:016x}\nCapBnd:\t0\n")
    }

    #[test]
    fn the_capabilities_that_are_missing_are_named() {
        for (effective, wanted) in [
            (0, Some("the process lacks CAP_BPF and CAP_PERFMON")),
            (1 << 39, Some("the process lacks CAP_PERFMON")),
            (1 << 38, Some("the process lacks CAP_BPF")),
            (3 << 38, None),
            (1 << 21, None),
        ] {
            match (check_capabilities(&status(effective)), wanted) {
                (Ok(()), None) => {}
                (Err(error), Some(wanted)) => {
                    assert!(error.to_string().contains(wanted), "{error}");
                    assert_eq!(error.class(), Class::NotPermitted);
                }
                (other, _) => panic!("{effective:x}: {other:?}"),
            }
        }
        assert!(check_capabilities("Name:\tcat\n").is_ok());
    }

    #[test]
    fn only_confidentiality_stops_a_capture() {
        assert!(check_lockdown("[none] integrity confidentiality\n").is_ok());
        assert!(check_lockdown("none [integrity] confidentiality\n").is_ok());
        assert!(matches!(check_lockdown("none integrity [confidentiality]\n"), Err(Error::Lockdown)));
    }

    #[test]
    fn a_kernel_without_counters_gives_no_offsets() {
        let old = Offsets { state: None, pid: 1000, instruction: None };
        let settings = old.settings(&Options::default(), Layout::new(4096, 4096, Cpus::ONE));
        assert_eq!((settings.enable_count, settings.pause_count), (Settings::NO_OFFSET, Settings::NO_OFFSET));
        assert_eq!(settings.instruction, Settings::NO_OFFSET);
        assert_eq!(old.by_name().len(), 1);
        let new = Offsets { state: Some((2000, 2001)), pid: 1000, instruction: Some(128) };
        assert_eq!(new.settings(&Options::default(), Layout::new(4096, 4096, Cpus::ONE)).pause_count, 2001);
        assert_eq!(new.by_name()["pt_regs.ip"], 128);
        assert_eq!(new.by_name()["task_struct.lazy_mmu_state.enable_count"], 2000);
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(highest_in("0\n"), Some(0));
        assert_eq!(highest_in("0-3\n"), Some(3));
        assert_eq!(highest_in("0-3,8,12-15\n"), Some(15));
        assert_eq!(highest_in("\n"), None);
    }
}
