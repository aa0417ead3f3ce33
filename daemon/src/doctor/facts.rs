//! What there is to know about tracing on this machine. It is read from files that everybody may read, or may not: what
//! cannot be read is not known, and that is said. Nothing is loaded or attached.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use lazymmu_capture::{Hook, Need};
use lazymmu_inspect::btf::{self, Btf, BtfError};
use lazymmu_inspect::build_id::{BuildId, RUNNING_KERNEL_NOTES};
use lazymmu_inspect::config::{KernelConfig, Setting};
use lazymmu_inspect::plan::Plan;

/// One hook of `live` and `record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HookFact {
    pub(crate) hook: &'static Hook,
    pub(crate) here: Here,
}

/// Whether a hook finds what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    Yes,
    /// Nothing to be hooked: on this kernel what it tells of does not happen.
    NotNeeded,
    No,
}

/// The kernel's type information.
#[derive(Debug)]
pub(crate) enum Types {
    /// It is there, and each hook with what is missing for it.
    Read(Vec<(HookFact, Option<String>)>),
    /// The kernel has none.
    Missing,
    /// This process may not read it.
    Forbidden,
    /// It is there and of no use.
    Unusable(String),
}

/// An option of the kernel that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: &'static str,
    /// What does not work without it.
    pub(crate) purpose: &'static str,
    /// Whether nothing can be traced without it.
    pub(crate) essential: bool,
}

const fn wanted(name: &'static str, purpose: &'static str, essential: bool) -> Wanted {
    Wanted { name, purpose, essential }
}

/// In the order of the table.
pub(crate) const OPTIONS: [Wanted; 8] = [
    wanted("BPF_SYSCALL", "eBPF programs", true),
    wanted("BPF_EVENTS", "eBPF programs at tracepoints and kprobes", true),
    wanted("DEBUG_INFO_BTF", "offsets in the kernel's structures", true),
    wanted("KPROBES", "sites of a plan", false),
    wanted("KPROBE_EVENTS", "sites of a plan", false),
    wanted("FTRACE", "entries of functions", false),
    wanted("KALLSYMS", "names of functions", false),
    wanted("KALLSYMS_ALL", "where pv_ops is", false),
];

/// A capability, and its bit (include/uapi/linux/capability.h).
pub(crate) const CAPABILITIES: [(&str, u32); 4] =
    [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_SYSLOG", 34), ("CAP_SYS_ADMIN", 21)];

/// What this process may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// The effective capabilities, if known.
    pub(crate) effective: Option<u64>,
    /// How many files it may have open, and up to where it may raise that.
    pub(crate) files: Option<(u64, u64)>,
    /// `kernel.perf_event_paranoid`
    pub(crate) paranoid: Option<i64>,
    /// `kernel.kptr_restrict`
    pub(crate) restrict: Option<i64>,
}

impl Privileges {
    /// Whether it has a capability, or the one that stands for all of tracing; `None` if that is not known.
    pub(crate) fn has(&self, bit: u32) -> Option<bool> {
        // CAP_SYS_ADMIN stands for the others but CAP_SYSLOG (bpf_capable and perfmon_capable, include/linux/capability.h).
        let all = if bit == 34 { 0 } else { 1 << 21 };
        Some(self.effective? & (1 << bit | all) != 0)
    }
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) release: String,
    pub(crate) architecture: String,
    pub(crate) build_id: Option<String>,
    /// Whether this build of lazymmu has its eBPF programs.
    pub(crate) object: bool,
    /// Whether `live` and `record` can use a plan.
    pub(crate) takes_plan: bool,
    pub(crate) types: Types,
    /// Where the options come from, and each of [`OPTIONS`].
    pub(crate) options: Option<(PathBuf, [Setting; OPTIONS.len()])>,
    /// The mode that is in force; `None` where the kernel has no lockdown or does not tell.
    pub(crate) lockdown: Option<String>,
    /// How many functions the kernel keeps kprobes away from, and whether they are switched on.
    pub(crate) blacklist: Option<usize>,
    pub(crate) kprobes_on: Option<bool>,
    pub(crate) privileges: Privileges,
    /// The plan of this kernel, or why there is none.
    pub(crate) plan: Result<Plan, String>,
}

impl Facts {
    /// Whether the drop-in's tracepoints tell of all accessors and mode calls.
    pub(crate) fn has_dropin(&self) -> bool {
        let Types::Read(hooks) = &self.types else { return false };
        hooks.iter().all(|(fact, _)| fact.hook.need != Need::Capture || fact.here == Here::Yes)
    }

    /// Reads what can be read below `root`, which is `/` except in tests.
    pub(crate) fn read(
        root: &Path,
        release: String,
        architecture: String,
        plan: Result<Plan, String>,
    ) -> Self {
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        let text = |path: &str| fs::read_to_string(below(path)).ok();
        let number = |path: &str| text(path)?.trim().parse::<i64>().ok();
        let config = KernelConfig::of_running_kernel(&release, root);
        Self {
            architecture,
            build_id: BuildId::from_notes_file(&below(RUNNING_KERNEL_NOTES)).ok().map(|id| id.to_string()),
            object: lazymmu_capture::has_object(),
            takes_plan: false,
            types: types(&below(btf::RUNNING_KERNEL)),
            options: config
                .map(|config| (config.path().to_owned(), OPTIONS.map(|option| config.get(option.name)))),
            lockdown: text("/sys/kernel/security/lockdown").and_then(|modes| in_force(&modes)),
            blacklist: text("/sys/kernel/debug/kprobes/blacklist").map(|list| list.lines().count()),
            kprobes_on: number("/sys/kernel/debug/kprobes/enabled").map(|on| on != 0),
            privileges: Privileges {
                effective: text("/proc/self/status").and_then(|status| effective(&status)),
                files: text("/proc/self/limits").and_then(|limits| open_files(&limits)),
                paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
                restrict: number("/proc/sys/kernel/kptr_restrict"),
            },
            plan,
            release,
        }
    }
}

fn types(path: &Path) -> Types {
    let btf = match Btf::from_file(path) {
        Ok(btf) => btf,
        Err(BtfError::Missing(_)) => return Types::Missing,
        Err(BtfError::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
            return Types::Forbidden;
        }
        Err(error) => return Types::Unusable(format!("could not {error}")),
    };
    match lazymmu_capture::examine(&btf) {
        Ok(hooks) => Types::Read(
            hooks
                .into_iter()
                .map(|(hook, missing)| {
                    let here = match &missing {
                        None => Here::Yes,
                        Some(_) if hook.need == Need::Nothing => Here::NotNeeded,
                        Some(_) => Here::No,
                    };
                    (HookFact { hook, here }, missing)
                })
                .collect(),
        ),
        Err(error) => Types::Unusable(format!("could not {error}")),
    }
}

/// The mode in brackets: `none [integrity] confidentiality`.
fn in_force(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode.to_owned())
}

fn effective(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// `Max open files  1024  1048576  files`, soft and hard.
fn open_files(limits: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    });
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_understood() {
        assert_eq!(in_force("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(in_force("none"), None);
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some((1 << 41) - 1));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 unlimited            files\n";
        assert_eq!(open_files(limits), Some((1024, u64::MAX)));
    }

    #[test]
    fn where_nothing_can_be_read_nothing_is_known() {
        let root = tempfile::tempdir().unwrap();
        let facts = Facts::read(root.path(), "r".into(), "x86_64".into(), Err("none".into()));
        assert!(matches!(facts.types, Types::Missing));
        assert!(facts.options.is_none() && facts.lockdown.is_none() && facts.blacklist.is_none());
        assert_eq!(facts.privileges, Privileges::default());
        assert_eq!(facts.privileges.has(39), None);
        assert!(!facts.has_dropin());
    }

    #[test]
    fn what_the_files_say_is_known() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/kernel/btf/vmlinux", b"no BTF at all");
        write("sys/kernel/security/lockdown", b"none integrity [confidentiality]\n");
        write("sys/kernel/debug/kprobes/blacklist", b"0x1-0x2\ta\n0x3-0x4\tb\n");
        write("sys/kernel/debug/kprobes/enabled", b"0\n");
        write("boot/config-r", b"CONFIG_BPF_SYSCALL=y\n");
        write("proc/self/status", b"CapEff:\t0000008000000000\n");
        write("proc/sys/kernel/perf_event_paranoid", b"3\n");
        let facts = Facts::read(root.path(), "r".into(), "x86_64".into(), Err("none".into()));
        assert!(matches!(&facts.types, Types::Unusable(why) if why.contains("BTF")), "{:?}", facts.types);
        assert_eq!(facts.lockdown.as_deref(), Some("confidentiality"));
        assert_eq!((facts.blacklist, facts.kprobes_on), (Some(2), Some(false)));
        let (path, options) = facts.options.unwrap();
        assert!(path.ends_with("boot/config-r"));
        assert_eq!((options[0], options[1]), (Setting::On, Setting::Off));
        let privileges = facts.privileges;
        assert_eq!(
            (privileges.has(39), privileges.has(38), privileges.paranoid),
            (Some(true), Some(false), Some(3))
        );
    }
}
