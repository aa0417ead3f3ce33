//! What the facts come to: whether this kernel can be traced by this process, and what to do if not.

use lazymmu_abi::Kind;
use lazymmu_capture::Need;
use lazymmu_inspect::config::Setting;
use lazymmu_inspect::plan::{Plan, Probe};

use super::facts::{CAPABILITIES, Facts, Here, HookFact, OPTIONS, Types};
use crate::ExitStatus;

/// Something that is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// The exit status that it calls for.
    pub(crate) status: ExitStatus,
    /// What it is.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) todo: String,
}

/// The one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) status: ExitStatus,
    pub(crate) obstacles: Vec<Obstacle>,
}

impl Verdict {
    /// For people, in one line.
    pub(crate) fn summary(&self) -> &'static str {
        match self.status {
            ExitStatus::Clean => "this kernel can be traced by this process",
            ExitStatus::Inconclusive => "this kernel can be traced by this process, with gaps",
            ExitStatus::NotPermitted => "this kernel can be traced, but not by this process",
            _ => "this kernel cannot be traced",
        }
    }
}

/// How much of a kind of event a capture would see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Covered {
    /// Places that are hooked.
    pub(crate) hooked: usize,
    /// Places that are known and have to be told by a hook of their own.
    pub(crate) known: usize,
}

/// Reads, writes and mode calls, as a plan has them.
pub(crate) fn coverage(plan: &Plan) -> [(&'static str, Covered); 3] {
    let of = |kinds: &[Kind]| {
        let tally = plan.tally(|probe: &Probe| kinds.contains(&probe.kind));
        Covered { hooked: tally.probe, known: tally.found - tally.covered }
    };
    [
        ("reads", of(&[Kind::Read])),
        ("writes", of(&[Kind::Write, Kind::Rmw])),
        ("mode calls", of(&[Kind::Section])),
    ]
}

/// Judges. What the kernel lacks outweighs what the process lacks: no privilege helps there.
pub(crate) fn judge(facts: &Facts) -> Verdict {
    let mut obstacles = Vec::new();
    let mut add = |status, what: String, todo: &str| {
        obstacles.push(Obstacle { status, what, todo: todo.to_owned() });
    };
    if !facts.object {
        add(
            ExitStatus::CannotTrace,
            "this build of lazymmu has no eBPF programs".to_owned(),
            "run `cargo xtask ebpf build` and build lazymmu again",
        );
    }
    kernel(facts, &mut add);
    hooks(facts, &mut add);
    process(facts, &mut add);
    let severity = |status: &ExitStatus| match status {
        ExitStatus::CannotTrace => 3,
        ExitStatus::NotPermitted => 2,
        ExitStatus::Inconclusive => 1,
        _ => 0,
    };
    obstacles.sort_by_key(|obstacle| std::cmp::Reverse(severity(&obstacle.status)));
    let status = obstacles.first().map_or(ExitStatus::Clean, |worst| worst.status);
    Verdict { status, obstacles }
}

type Add<'a> = &'a mut dyn FnMut(ExitStatus, String, &str);

fn kernel(facts: &Facts, add: Add<'_>) {
    match &facts.types {
        Types::Read(_) => {}
        Types::Missing => add(
            ExitStatus::CannotTrace,
            "the kernel has no BTF".to_owned(),
            "build it with CONFIG_DEBUG_INFO_BTF=y, and mount sysfs if it is not mounted",
        ),
        Types::Forbidden => add(
            ExitStatus::NotPermitted,
            "this process may not read the kernel's BTF".to_owned(),
            "run lazymmu as root",
        ),
        Types::Unusable(why) => add(
            ExitStatus::CannotTrace,
            format!("the kernel's BTF cannot be used: {why}"),
            "use a kernel of 6.1 or later, or a later lazymmu",
        ),
    }
    if facts.lockdown.as_deref() == Some("confidentiality") {
        add(
            ExitStatus::CannotTrace,
            "kernel lockdown is in confidentiality mode, which forbids eBPF programs to read kernel memory"
                .to_owned(),
            "boot without `lockdown=confidentiality`",
        );
    }
    for (option, setting) in OPTIONS.iter().zip(facts.options.iter().flat_map(|(_, settings)| settings)) {
        // Type information that is there has been built, whatever a list beside it says.
        let there = option.name == "DEBUG_INFO_BTF" && !matches!(facts.types, Types::Missing);
        if option.essential && *setting == Setting::Off && !there {
            let todo = format!("build the kernel with CONFIG_{}=y", option.name);
            add(
                ExitStatus::CannotTrace,
                format!("CONFIG_{} is off: no {}", option.name, option.purpose),
                &todo,
            );
        }
    }
}

fn hooks(facts: &Facts, add: Add<'_>) {
    let Types::Read(hooks) = &facts.types else { return };
    for (fact, missing) in hooks {
        if let (Here::No, Need::Coverage, Some(missing)) = (fact.here, fact.hook.need, missing) {
            let what = format!("{} is not seen: {missing}", fact.hook.name);
            add(ExitStatus::Inconclusive, what, "use a kernel whose BTF has it");
        }
    }
    if facts.has_dropin() {
        return;
    }
    // A plan takes the place of the drop-in's tracepoints, and of no other.
    let own = |fact: &HookFact| fact.hook.name.starts_with(DROPIN);
    for (fact, missing) in hooks.iter().filter(|(fact, _)| fact.hook.need == Need::Capture && !own(fact)) {
        if let (Here::No, Some(missing)) = (fact.here, missing) {
            let what = format!("{} cannot be hooked: {missing}", fact.hook.name);
            add(ExitStatus::CannotTrace, what, "use a kernel that has it");
        }
    }
    stock(facts, add);
}

/// How the names of the drop-in's tracepoints begin.
const DROPIN: &str = "lazy_mmu:";

/// A kernel without the drop-in.
fn stock(facts: &Facts, add: Add<'_>) {
    const APPLY: &str =
        "put the drop-in into the kernel's tree (`cargo xtask kernel apply DIR`) and build it";
    if !facts.takes_plan {
        let what = "the kernel has not the drop-in's tracepoints".to_owned();
        return add(ExitStatus::CannotTrace, what, APPLY);
    }
    let option = |name| {
        let at = OPTIONS.iter().position(|option| option.name == name)?;
        facts.options.as_ref().map(|(_, settings)| settings[at])
    };
    if option("KPROBES") == Some(Setting::Off) || option("KPROBE_EVENTS") == Some(Setting::Off) {
        let what =
            "the kernel has neither the drop-in's tracepoints nor kprobes, which a plan needs".to_owned();
        return add(
            ExitStatus::CannotTrace,
            what,
            "build it with CONFIG_KPROBE_EVENTS=y, or with the drop-in",
        );
    }
    if facts.kprobes_on == Some(false) {
        let todo = "switch them on: `echo 1 > /sys/kernel/debug/kprobes/enabled`";
        return add(ExitStatus::CannotTrace, "kprobes are switched off".to_owned(), todo);
    }
    let plan = match &facts.plan {
        Ok(plan) => plan,
        Err(why) => {
            let what =
                format!("the kernel has not the drop-in's tracepoints, and there is no plan of it: {why}");
            let todo = "make one with `lazymmu plan --vmlinux FILE -o PLAN`, and name it with --plan";
            return add(ExitStatus::CannotTrace, what, todo);
        }
    };
    if !plan.made_from.debug_info {
        let what = "the plan was made without debug information: it has not all reads".to_owned();
        add(ExitStatus::Inconclusive, what, "make one of a vmlinux with debug information");
    }
    for (name, Covered { hooked, known }) in coverage(plan) {
        if hooked < known {
            let what = format!("{} of {known} places of {name} cannot be hooked", known - hooked);
            add(ExitStatus::Inconclusive, what, "take a kernel with the drop-in, where all are seen");
        }
    }
    // Debian's kernels ask for it at a level that others do not have (docs/plan.md).
    let paranoid = facts.privileges.paranoid.filter(|level| *level > 2);
    if let (Some(level), Some(false)) = (paranoid, facts.privileges.has(SYS_ADMIN)) {
        let what = format!(
            "while kernel.perf_event_paranoid is {level}, it may take CAP_SYS_ADMIN to set the probes of a plan"
        );
        add(ExitStatus::NotPermitted, what, "run lazymmu as root, or `sysctl kernel.perf_event_paranoid=2`");
    }
    let wanted = plan.wanted().count() as u64 + 64;
    if let Some((_, most)) = facts.privileges.files.filter(|(_, most)| *most < wanted) {
        let what = format!("the plan takes {wanted} open files, and this process may have {most}");
        add(ExitStatus::NotPermitted, what, "raise the limit: `ulimit -Hn` as root");
    }
    let what =
        "the kernel has not the drop-in's tracepoints; the sites of a plan take their place".to_owned();
    add(ExitStatus::Inconclusive, what, "`lazymmu plan -o PLAN`, then `lazymmu live --plan PLAN`");
}

/// CAP_SYS_ADMIN
const SYS_ADMIN: u32 = 21;

fn process(facts: &Facts, add: Add<'_>) {
    let missing = CAPABILITIES[..2].iter().filter(|(_, bit)| facts.privileges.has(*bit) == Some(false));
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        add(
            ExitStatus::NotPermitted,
            format!("the process lacks {}", missing.join(" and ")),
            "run lazymmu as root, or give it both: `setcap cap_bpf,cap_perfmon+ep $(command -v lazymmu)`",
        );
    }
}
