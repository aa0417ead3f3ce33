//! The programs in the kernel: loaded, attached, detached, and how often it skipped them.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::programs::links::FdLink;
use aya::programs::{Program, ProgramError};
use aya::{Btf as AyaBtf, Ebpf};

use crate::Error;
use crate::error::short;
use crate::hooks::{HOOKS, Hook, Need};
use crate::probes::Probes;

/// What the kernel says about a program that it has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedHook {
    /// Which one.
    pub hook: Hook,
    /// How many instructions the verifier looked at, each as often as it did; `None` if the kernel does not tell.
    pub verified_instructions: Option<u32>,
}

/// The programs in the kernel: attached until this is dropped.
pub(crate) struct Attached {
    // In the order of attaching.
    links: Vec<FdLink>,
    pub(crate) loaded: Vec<LoadedHook>,
    /// Why a hook is not there, in the order of [`HOOKS`].
    pub(crate) missing: [Option<String>; HOOKS.len()],
    /// The probed instructions, if there are some.
    pub(crate) probes: Option<Probes>,
}

impl Attached {
    /// Loads every program for which nothing is missing, then attaches them. What the kernel refuses is missing as
    /// well, if there is a capture without it.
    pub(crate) fn new(ebpf: &mut Ebpf, mut missing: [Option<String>; HOOKS.len()]) -> Result<Self, Error> {
        let btf = AyaBtf::from_sys_fs()
            .map_err(|source| Error::Object(Box::new(aya::EbpfError::BtfError(source))))?;
        let mut loaded = Vec::new();
        for (hook, missing) in HOOKS.into_iter().zip(&mut missing) {
            if missing.is_some() {
                continue;
            }
            match load(program(ebpf, hook.program)?, hook, &btf) {
                Ok(verified_instructions) => {
                    if let Some(count) = verified_instructions {
                        log::info!("the verifier looked at {count} instructions of {}", hook.program);
                    }
                    loaded.push(LoadedHook { hook, verified_instructions });
                }
                Err(source) if hook.need == Need::Capture => return Err(Error::load(hook.program, source)),
                Err(source) => {
                    *missing = Some(format!("the kernel does not load its program: {}", short(&source)));
                }
            }
        }
        let mut links = Vec::new();
        for (hook, missing) in HOOKS.into_iter().zip(&mut missing) {
            if missing.is_some() {
                continue;
            }
            match attach(program(ebpf, hook.program)?) {
                Ok(link) => links.push(link),
                Err(source) if hook.need == Need::Capture => return Err(Error::attach(hook.program, source)),
                Err(source) => {
                    *missing = Some(format!("the kernel does not attach its program: {}", short(&source)));
                }
            }
        }
        Ok(Self { links, loaded, missing, probes: None })
    }

    /// How often the kernel has skipped a program because it was running on that CPU already, all programs together
    /// (`recursion_misses` of bpf_prog_show_fdinfo in kernel/bpf/syscall.c, 6.12 and 7.2).
    pub(crate) fn recursion_misses(&self, ebpf: &mut Ebpf) -> Result<u64, Error> {
        let mut sum = 0;
        for LoadedHook { hook, .. } in &self.loaded {
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
        if let Some(probes) = &self.probes {
            sum += probes.misses(ebpf)?;
        }
        Ok(sum)
    }

    /// Detaches every program, in the opposite order. A program that runs at this moment on another CPU goes on. Probed
    /// instructions only send nothing any more; they are let go when this is dropped, which takes its time.
    pub(crate) fn detach(&mut self) {
        if let Some(probes) = &mut self.probes {
            probes.disarm();
        }
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

pub(crate) fn misses_in(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
}

pub(crate) fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, Error> {
    ebpf.program_mut(name).ok_or(Error::Mismatch(name))
}

/// Gives how many instructions the verifier looked at.
fn load(program: &mut Program, hook: Hook, btf: &AyaBtf) -> Result<Option<u32>, ProgramError> {
    match program {
        Program::BtfTracePoint(program) => program.load(hook.program, btf)?,
        Program::FEntry(program) => program.load(hook.name, btf)?,
        Program::FExit(program) => program.load(hook.name, btf)?,
        _ => return Err(ProgramError::UnexpectedProgramType),
    }
    Ok(program.info()?.verified_instruction_count())
}

fn attach(program: &mut Program) -> Result<FdLink, ProgramError> {
    match program {
        Program::BtfTracePoint(program) => {
            program.attach().and_then(|id| program.take_link(id)).map(FdLink::from)
        }
        Program::FEntry(program) => program.attach().and_then(|id| program.take_link(id)).map(FdLink::from),
        Program::FExit(program) => program.attach().and_then(|id| program.take_link(id)).map(FdLink::from),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

#[cfg(test)]
mod tests {
    use super::misses_in;

    #[test]
    fn misses_are_found_in_fdinfo() {
        let text = "pos:\t0\nprog_type:\t26\nrun_cnt:\t5\nrecursion_misses:\t7\nverified_insns:\t90\n";
        assert_eq!(misses_in(text), Some(7));
        assert_eq!(misses_in("pos:\t0\n"), None);
    }
}
