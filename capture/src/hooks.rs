//! The hooks: which program belongs to which tracepoint, and what that tracepoint must pass to it.

use aya::programs::tp_btf::BtfTracePointLink;
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf as AyaBtf, Ebpf};
use lazymmu_inspect::btf::{Argument, Btf};

use crate::Error;

/// One program and the tracepoint that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program's name, which is also the tracepoint's.
    pub program: &'static str,
    /// The tracepoint with its system.
    pub name: &'static str,
    /// The prototype that the program is written for, in C. A kernel may pass more after these arguments.
    pub prototype: &'static str,
    arguments: &'static [Argument],
}

const POINTER: Argument = Argument { size: 8, pointer: true };
const LONG: Argument = Argument { size: 8, pointer: false };
const INT: Argument = Argument { size: 4, pointer: false };
const BOOL: Argument = Argument { size: 1, pointer: false };

/// Every hook, in the order of attaching.
///
/// A write is only kept as pending until a section record flushes it. So sections come first and writes last, and
/// detaching goes the other way: whenever a write is seen, everything that could flush it is seen as well.
pub const HOOKS: [Hook; 6] = [
    Hook {
        program: "lazy_mmu_section",
        name: "lazy_mmu:lazy_mmu_section",
        prototype: "(unsigned int op, unsigned int enable_count, unsigned int pause_count, unsigned int context, \
                    unsigned long caller)",
        arguments: &[INT, INT, INT, INT, LONG],
    },
    Hook {
        program: "sched_process_exit",
        name: "sched:sched_process_exit",
        prototype: "(struct task_struct *p)",
        arguments: &[POINTER],
    },
    Hook {
        program: "sched_switch",
        name: "sched:sched_switch",
        prototype: "(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)",
        arguments: &[BOOL, POINTER, POINTER, INT],
    },
    Hook {
        program: "lazy_mmu_read",
        name: "lazy_mmu:lazy_mmu_read",
        prototype: "(void *entry, unsigned long val, unsigned int op, unsigned int context, unsigned long caller)",
        arguments: &[POINTER, LONG, INT, INT, LONG],
    },
    Hook {
        program: "lazy_mmu_rmw",
        name: "lazy_mmu:lazy_mmu_rmw",
        prototype: "(void *entry, unsigned long old, unsigned int nr, unsigned int op, unsigned long addr, \
                    unsigned int context, unsigned long caller)",
        arguments: &[POINTER, LONG, INT, INT, LONG, INT, LONG],
    },
    Hook {
        program: "lazy_mmu_write",
        name: "lazy_mmu:lazy_mmu_write",
        prototype: "(void *entry, unsigned long val, unsigned int nr, unsigned int op, unsigned long addr, \
                    unsigned int context, unsigned long caller)",
        arguments: &[POINTER, LONG, INT, INT, LONG, INT, LONG],
    },
];

/// What the kernel says about a program that it has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedHook {
    /// Which one.
    pub hook: Hook,
    /// How many instructions the verifier looked at, each as often as it did; `None` if the kernel does not tell.
    pub verified_instructions: Option<u32>,
}

/// Whether the kernel has every tracepoint, with the arguments that the programs expect.
pub(crate) fn check(btf: &Btf) -> Result<(), Error> {
    let mut missing = Vec::new();
    for hook in &HOOKS {
        match btf.tracepoint_arguments(hook.program).map_err(Error::Btf)? {
            None => missing.push(hook.name),
            Some(arguments) if !arguments.starts_with(hook.arguments) => {
                return Err(Error::Prototype { name: hook.name, expected: hook.prototype });
            }
            Some(_) => {}
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Error::NoTracepoints { missing }) }
}

/// The programs in the kernel: attached until this is dropped.
pub(crate) struct Attached {
    // In the order of attaching.
    links: Vec<BtfTracePointLink>,
    pub(crate) loaded: Vec<LoadedHook>,
}

impl Attached {
    /// Loads every program, then attaches them.
    pub(crate) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let btf = AyaBtf::from_sys_fs()
            .map_err(|source| Error::Object(Box::new(aya::EbpfError::BtfError(source))))?;
        let mut loaded = Vec::new();
        for hook in HOOKS {
            let program = program(ebpf, hook.program)?;
            program.load(hook.program, &btf).map_err(|source| Error::load(hook.program, source))?;
            let info = program.info().map_err(|source| Error::load(hook.program, source))?;
            loaded.push(LoadedHook { hook, verified_instructions: info.verified_instruction_count() });
        }
        let mut links = Vec::new();
        for hook in HOOKS {
            let program = program(ebpf, hook.program)?;
            let link = program.attach().and_then(|id| program.take_link(id));
            links.push(link.map_err(|source| Error::attach(hook.program, source))?);
        }
        Ok(Self { links, loaded })
    }

    /// Detaches every program, in the opposite order. A program that runs at this moment on another CPU goes on.
    pub(crate) fn detach(&mut self) {
        while let Some(link) = self.links.pop() {
            drop(link);
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.detach();
    }
}

/// How often the kernel has skipped a program because it was running on that CPU already, all programs together
/// (`recursion_misses` of bpf_prog_show_fdinfo in kernel/bpf/syscall.c, 6.12 and 7.2).
pub(crate) fn recursion_misses(ebpf: &mut Ebpf) -> Result<u64, Error> {
    use std::os::fd::{AsFd as _, AsRawFd as _};

    let mut sum = 0;
    for hook in HOOKS {
        let program = program(ebpf, hook.program)?;
        let fd = program.fd().map_err(|source| Error::load(hook.program, source))?;
        let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Error::Io { what: format!("read {path}"), source })?;
        // Unknown is not none: a loss must not go unseen.
        sum += misses_in(&text).ok_or_else(|| Error::Io {
            what: format!("find recursion_misses in {path}"),
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
    }
    Ok(sum)
}

fn misses_in(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut BtfTracePoint, Error> {
    let program = ebpf.program_mut(name).ok_or(Error::Mismatch(name))?;
    program.try_into().map_err(|_: ProgramError| Error::Mismatch(name))
}

#[cfg(test)]
mod tests {
    use super::{HOOKS, misses_in};

    #[test]
    fn misses_are_found_in_fdinfo() {
        let text = "pos:\t0\nprog_type:\t26\nrun_cnt:\t5\nrecursion_misses:\t7\nverified_insns:\t90\n";
        assert_eq!(misses_in(text), Some(7));
        assert_eq!(misses_in("pos:\t0\n"), None);
    }

    #[test]
    fn prototypes_name_as_many_arguments_as_are_checked() {
        for hook in HOOKS {
            assert_eq!(hook.prototype.split(',').count(), hook.arguments.len(), "{}", hook.name);
            assert!(hook.name.ends_with(hook.program));
            for (text, argument) in hook.prototype.split(',').zip(hook.arguments) {
                assert_eq!(text.contains('*'), argument.pointer, "{text}");
                assert_eq!(text.contains(" int "), argument.size == 4, "{text}");
            }
        }
    }
}
