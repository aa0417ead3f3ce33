//! Why there is no capture, and what to do about it.

use std::io;

use aya::maps::MapError;
use aya::programs::ProgramError;
use lazymmu_inspect::btf::BtfError;

/// Why a capture could not be opened, or ended. The texts fit after "failed to ".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The build has no eBPF programs, or only such as were made from other sources.
    #[error(
        "start the capture: this build of lazymmu has no eBPF object{}; make one with `cargo xtask ebpf build` \
         and build lazymmu again",
        stale_note(*.stale)
    )]
    NoObject {
        /// Why the object that was there was not used.
        stale: Option<&'static str>,
    },
    /// The process lacks privilege.
    #[error(
        "start the capture: not permitted ({reason}); run it as root, or give the binary both capabilities: \
         `setcap cap_bpf,cap_perfmon+ep`"
    )]
    NotPermitted {
        /// What is lacking, or what was refused.
        reason: String,
    },
    /// A module of the plan is loaded, and is another than the plan was made of.
    #[error(
        "use this plan: it has the module {name} with build id {wanted}, and the one that is loaded has {found}; make the \
         plan again with that one"
    )]
    OtherModule {
        /// Its name.
        name: String,
        /// The build id of the one that is loaded.
        found: String,
        /// The plan's.
        wanted: String,
    },
    /// A plan was made for a kernel with the drop-in, to be used beside its tracepoints.
    #[error(
        "use this plan: it leaves to the drop-in's tracepoints what they tell, and a capture by plan does not use \
         them; leave out --plan, or make the plan with --instructions"
    )]
    LeftToDropIn,
    /// The kernel publishes no BTF.
    #[error(
        "start the capture: this kernel has no BTF ({} is missing); build it with CONFIG_DEBUG_INFO_BTF=y, \
         and mount sysfs if it is not mounted",
        lazymmu_inspect::btf::RUNNING_KERNEL
    )]
    NoBtf,
    /// The kernel's BTF cannot be used.
    #[error("start the capture: {0}")]
    Btf(BtfError),
    /// The kernel lacks tracepoints.
    #[error("start the capture: this kernel has no tracepoint {}; {}", .missing.join(", "), missing_help(.missing))]
    NoTracepoints {
        /// Their names, `system:name`.
        missing: Vec<&'static str>,
    },
    /// A tracepoint passes other arguments than the program expects.
    #[error(
        "start the capture: tracepoint {name} of this kernel passes other arguments than {expected}; put the \
         drop-in of this version of lazymmu into the kernel's tree (`cargo xtask kernel apply DIR`) and build it again"
    )]
    Prototype {
        /// `system:name`
        name: &'static str,
        /// The prototype that the program is written for.
        expected: &'static str,
    },
    /// The BTF lacks a member that the programs read.
    #[error(
        "start the capture: struct {structure} of this kernel has no member {member}, so it is of no version that lazymmu knows"
    )]
    NoMember {
        /// The struct.
        structure: &'static str,
        /// The path of the member.
        member: &'static str,
    },
    /// The kernel lets no instruction be probed.
    #[error(
        "start the capture: this kernel has no kprobes for perf ({source}); build it with CONFIG_KPROBE_EVENTS=y, and \
         mount sysfs if it is not mounted"
    )]
    NoKprobes {
        /// What the system said.
        source: io::Error,
    },
    /// None of a plan's instructions could be probed.
    #[error(
        "start the capture: the kernel refused every probe of the plan, which may be disabled at all: see \
         /sys/kernel/debug/kprobes/enabled, and -v for what it said"
    )]
    NoProbes,
    /// Lockdown forbids programs to read kernel memory.
    #[error(
        "start the capture: kernel lockdown is in confidentiality mode, which forbids eBPF programs to read kernel \
         memory; boot without `lockdown=confidentiality`"
    )]
    Lockdown,
    /// The size that was asked for the ring is none that the kernel takes.
    #[error(
        "start the capture: a ring of {bytes} bytes cannot be made; its size must be a power of two from {least} bytes here (a page, or 2 KiB for each CPU) to 1 GiB"
    )]
    RingSize {
        /// What was asked for.
        bytes: u32,
        /// The least: a page, and 2 KiB for each CPU that there can be.
        least: u32,
    },
    /// The object could not be read, or its maps not be made.
    #[error("start the capture: load the eBPF object: {}; {}", chain(.0), FEATURES)]
    Object(#[source] Box<aya::EbpfError>),
    /// A program was refused.
    #[error("start the capture: load the program {program}: {}; {}", short(.source), FEATURES)]
    Load {
        /// The program's name.
        program: &'static str,
        /// The verifier's log is in it: [`Error::verifier_log`].
        source: Box<ProgramError>,
    },
    /// A program could not be attached.
    #[error("start the capture: attach the program {program}: {}; {}", short(.source), FEATURES)]
    Attach {
        /// The program's name.
        program: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// A map could not be opened or read.
    #[error("read the eBPF map {name}: {}", chain(.source))]
    Map {
        /// Its name.
        name: &'static str,
        /// What happened.
        source: MapError,
    },
    /// A map could not be had in our own memory.
    #[error("map the eBPF map {name}: {source}")]
    Mapping {
        /// Its name.
        name: &'static str,
        /// What happened.
        source: io::Error,
    },
    /// The object lacks something that this crate expects in it.
    #[error(
        "find {0} in the eBPF object; object and program are not of one version, which is a bug of the build"
    )]
    Mismatch(&'static str),
    /// An item in a ring of stacks is none.
    #[error("read a ring of call stacks: an item of {0} bytes is none, which is a bug")]
    Item(usize),
    /// The system refused something else.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What it said.
        source: io::Error,
    },
}

const FEATURES: &str = "this kernel may lack a feature that lazymmu needs: it wants CONFIG_BPF_SYSCALL, \
     CONFIG_BPF_EVENTS and CONFIG_DEBUG_INFO_BTF of 6.12 or later";

/// What an error means to whoever started the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The process lacks privilege.
    NotPermitted,
    /// This kernel cannot be traced, or not by this build.
    Untraceable,
    /// What was asked for makes no sense.
    Usage,
    /// A bug of lazymmu or a failure of the system while it ran.
    Internal,
}

impl Error {
    /// What the error means to whoever started the command.
    pub fn class(&self) -> Class {
        match self {
            Error::NotPermitted { .. } => Class::NotPermitted,
            Error::NoObject { .. }
            | Error::OtherModule { .. }
            | Error::NoBtf
            | Error::Btf(_)
            | Error::NoTracepoints { .. }
            | Error::Prototype { .. }
            | Error::NoMember { .. }
            | Error::Lockdown
            | Error::NoKprobes { .. }
            | Error::NoProbes
            | Error::Object(_)
            | Error::Load { .. }
            | Error::Attach { .. } => Class::Untraceable,
            Error::RingSize { .. } | Error::LeftToDropIn => Class::Usage,
            Error::Map { .. }
            | Error::Mapping { .. }
            | Error::Mismatch(_)
            | Error::Item(_)
            | Error::Io { .. } => Class::Internal,
        }
    }

    /// All that the verifier said about a program that it refused.
    pub fn verifier_log(&self) -> Option<String> {
        match self {
            Error::Load { source, .. } => match source.as_ref() {
                ProgramError::LoadError { verifier_log, .. } => Some(verifier_log.to_string()),
                _ => None,
            },
            _ => None,
        }
    }

    /// An error of loading, or [`Error::NotPermitted`] if that is what the kernel said.
    pub(crate) fn load(program: &'static str, source: ProgramError) -> Self {
        // The verifier says EACCES as well, and why.
        let verified = match &source {
            ProgramError::LoadError { verifier_log, .. } => !verifier_log.to_string().is_empty(),
            _ => false,
        };
        let refused = if verified { None } else { refused(&source, "load an eBPF program") };
        refused.unwrap_or_else(|| Error::Load { program, source: Box::new(source) })
    }

    /// The same for attaching.
    pub(crate) fn attach(program: &'static str, source: ProgramError) -> Self {
        refused(&source, "attach an eBPF program")
            .unwrap_or_else(|| Error::Attach { program, source: Box::new(source) })
    }

    /// The same for the object with its maps.
    pub(crate) fn object(source: aya::EbpfError) -> Self {
        refused(&source, "create an eBPF map").unwrap_or_else(|| Error::Object(Box::new(source)))
    }
}

/// The kernel says EPERM where the process lacks privilege in spite of its capabilities, as in a container. EACCES is what
/// the verifier says of a program.
fn refused(error: &(dyn std::error::Error + 'static), what: &str) -> Option<Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error()))
        {
            return Some(Error::NotPermitted { reason: format!("the kernel refused to {what}") });
        }
        cause = error.source();
    }
    None
}

fn stale_note(stale: Option<&'static str>) -> String {
    stale.map_or_else(String::new, |why| format!(" (the one that was there is stale: {why})"))
}

fn missing_help(missing: &[&str]) -> &'static str {
    if missing.iter().any(|name| name.starts_with("lazy_mmu:")) {
        "boot a kernel with lazymmu's drop-in: `cargo xtask kernel build` makes one, `cargo xtask kernel apply DIR` \
         puts it into a tree of yours; or trace this one by its instructions: `--plan PLAN`, or `--vmlinux` with the \
         kernel's debug information (docs/plan.md)"
    } else {
        "build it with CONFIG_BPF_EVENTS=y"
    }
}

/// An error and its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors print their cause as a part of their own text.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// The same without the verifier's log, of which only the last line before its statistics is of use at a glance.
pub(crate) fn short(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let said = log.lines().rev().map(str::trim).find(|line| {
                let figures = ["processed ", "verification time", "stack depth"];
                !line.is_empty() && !figures.iter().any(|start| line.starts_with(start))
            });
            match said {
                Some(said) => format!("{io_error}: the verifier said \"{said}\""),
                None => io_error.to_string(),
            }
        }
        other => chain(other),
    }
}
