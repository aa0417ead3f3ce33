//! The probes at the instructions of a plan: set in bulk, armed at once, and how often the kernel skipped them.
//!
//! That the kernel refuses one is normal, and told. What is probed sends nothing before all are set, so that no task is
//! seen to enter the mode and not to leave it because a probe was missing in between.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Instant;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::{KProbe, Program, ProgramError};
use lazymmu_inspect::address::RuntimeAddr;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::Error;
use crate::attach::{misses_in, program};
use crate::sites::{Refusals, Table};
use crate::sys::kprobe::{Link, Unit};
use crate::tuning::Tuning;

/// The table of what is probed.
pub(crate) const SITES: &str = "SITES";
/// Whether the programs send.
const ARMED: &str = "ARMED";

/// The program for accesses, and the one for mode calls.
const ACCESS: &str = "site_access";
const SECTION: &str = "site_section";

/// Descriptors for everything else.
const OTHERS: u64 = 256;

/// [`lazymmu_abi::Site`] as words, which aya can write by itself.
type Words = [u64; size_of::<lazymmu_abi::Site>() / 8];

/// The probes, until they are dropped.
pub(crate) struct Probes {
    links: Vec<Link>,
    armed: Array<MapData, u32>,
    tuning: Tuning,
    /// What became of the plan's instructions.
    pub(crate) told: lazymmu_trace::Sites,
    /// Where in memory the instructions of the plan are.
    pub(crate) addresses: Vec<u64>,
    /// What the kernel had skipped when they were armed.
    skipped_before: u64,
}

impl Probes {
    /// Loads both programs, probes every instruction of the table, and arms them.
    pub(crate) fn new(ebpf: &mut Ebpf, table: &Table, text: RuntimeAddr) -> Result<Self, Error> {
        let unit = Unit::of_running_kernel().map_err(|source| Error::NoKprobes { source })?;
        for name in [ACCESS, SECTION] {
            let program = kprobe(ebpf, name)?;
            program.load().map_err(|source| Error::load(name, source))?;
            let count = program.info().ok().and_then(|info| info.verified_instruction_count());
            if let Some(count) = count {
                log::info!("the verifier looked at {count} instructions of {name}");
            }
        }
        fill(ebpf, table)?;
        let armed = Array::try_from(ebpf.take_map(ARMED).ok_or(Error::Mismatch(ARMED))?)
            .map_err(|source| Error::Map { name: ARMED, source })?;
        raise_limit(table.entries.len() as u64 + OTHERS);
        let tuning = Tuning::start();
        let started = Instant::now();
        let (links, refused) = attach(ebpf, table, unit, text)?;
        let seconds = started.elapsed().as_secs_f32();
        log::info!("{} probes were set in {seconds:.1} s", links.len());
        tuning.hurry(false);
        let mut told = table.describe(refused);
        if links.first().is_some_and(|link| link.missed().is_none()) {
            told.blind.push("hits that the kernel skipped, which it does not count before 6.7".to_owned());
        }
        let addresses = table.entries.iter().map(|entry| entry.at(text)).collect();
        let mut probes = Self { links, armed, tuning, told, addresses, skipped_before: 0 };
        probes.skipped_before = probes.skipped(ebpf)?;
        probes.arm(true)?;
        Ok(probes)
    }

    fn arm(&mut self, on: bool) -> Result<(), Error> {
        self.armed.set(0, u32::from(on), 0).map_err(|source| Error::Map { name: ARMED, source })
    }

    /// Lets them send nothing more.
    pub(crate) fn disarm(&mut self) {
        // The map is there, and a probe that goes on sending is only seen longer.
        let _ = self.arm(false);
    }

    /// How many hits the kernel has skipped since they were armed: as another probe was being handled on that CPU, or
    /// a program of the same kind was running. A kernel before 6.7 does not tell, and gives 0.
    pub(crate) fn misses(&self, ebpf: &mut Ebpf) -> Result<u64, Error> {
        Ok(self.skipped(ebpf)?.saturating_sub(self.skipped_before))
    }

    fn skipped(&self, ebpf: &mut Ebpf) -> Result<u64, Error> {
        let mut sum: u64 = self.links.iter().filter_map(Link::missed).sum();
        for name in [ACCESS, SECTION] {
            let fd =
                kprobe(ebpf, name)?.fd().map_err(|source| Error::load(name, source))?.as_fd().as_raw_fd();
            let path = format!("/proc/self/fdinfo/{fd}");
            let text = fs::read_to_string(&path)
                .map_err(|source| Error::Io { what: format!("read {path}"), source })?;
            sum += misses_in(&text).unwrap_or(0);
        }
        Ok(sum)
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.disarm();
        self.tuning.hurry(true);
        while let Some(link) = self.links.pop() {
            drop(link);
        }
    }
}

fn kprobe<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut KProbe, Error> {
    match program(ebpf, name)? {
        Program::KProbe(program) => Ok(program),
        _ => Err(Error::Mismatch(name)),
    }
}

/// Tells the programs what each probe stands at.
fn fill(ebpf: &mut Ebpf, table: &Table) -> Result<(), Error> {
    let failed = |source| Error::Map { name: SITES, source };
    let map = ebpf.map_mut(SITES).ok_or(Error::Mismatch(SITES))?;
    let mut sites: Array<&mut MapData, Words> = Array::try_from(map).map_err(failed)?;
    for (index, entry) in (0..).zip(&table.entries) {
        let words = Words::read_from_bytes(entry.site.as_bytes()).map_err(|_| Error::Mismatch(SITES))?;
        sites.set(index, words, 0).map_err(failed)?;
    }
    Ok(())
}

/// What a process may do by perf events without privilege.
const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// Why the kernel may have refused the first of all probes. Debian's kernels have a level above those of the kernel's own
/// source, and set it: `perf_paranoid_any()`, kernel/events/core.c:12851 of 6.12.117 and :13886 of 7.2.13.
fn refusal(paranoid: Option<&str>) -> String {
    let level = paranoid.and_then(|text| text.trim().parse::<i32>().ok()).filter(|level| *level > 2);
    level.map_or_else(
        || "the kernel refused to set a kprobe".to_owned(),
        |level| {
            format!(
                "the kernel refused to set a kprobe: while kernel.perf_event_paranoid is {level}, it may want \
                 CAP_SYS_ADMIN for that; at 2 CAP_PERFMON is enough"
            )
        },
    )
}

/// Sets the probes. One that the kernel refuses is left out.
fn attach(
    ebpf: &mut Ebpf,
    table: &Table,
    unit: Unit,
    text: RuntimeAddr,
) -> Result<(Vec<Link>, Refusals), Error> {
    let mut descriptor = |name| {
        let fd = kprobe(ebpf, name)?.fd().and_then(|fd| Ok(fd.try_clone()?));
        fd.map_err(|source: ProgramError| Error::load(name, source))
    };
    let (access, section) = (descriptor(ACCESS)?, descriptor(SECTION)?);
    let mut links = Vec::new();
    let mut refused = Refusals::default();
    for (cookie, entry) in (0..).zip(&table.entries) {
        let program = if entry.is_section() { section.as_fd() } else { access.as_fd() };
        match Link::attach(program, unit, entry.at(text), cookie) {
            Ok(link) => links.push(link),
            // Nothing of the instruction: no other would do.
            Err(error) if links.is_empty() && error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::NotPermitted {
                    reason: refusal(fs::read_to_string(PARANOID).ok().as_deref()),
                });
            }
            Err(source) if matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                return Err(Error::Io { what: "set a kprobe".to_owned(), source });
            }
            Err(error) => {
                log::info!(
                    "the kernel refused a probe at {}{} in {}: {error}",
                    crate::sites::TEXT,
                    format_args!("+{}", entry.address),
                    entry.function
                );
                refused.add(&error.to_string(), false, &entry.function);
            }
        }
    }
    if links.is_empty() {
        return Err(Error::NoProbes);
    }
    Ok((links, refused))
}

/// Each probe keeps a descriptor.
fn raise_limit(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = [Rlimit { current: Some(wanted), maximum }, Rlimit { current: limit.maximum, ..limit }];
    // With privilege beyond what is the most, without it up to that; then what does not fit is an error of its own.
    if !raised.into_iter().any(|limit| setrlimit(Resource::Nofile, limit).is_ok()) {
        log::info!("failed to raise the limit of open files to {wanted}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_only_debian_has_is_named() {
        assert!(refusal(Some("3\n")).contains("CAP_SYS_ADMIN"));
        for other in [Some("2\n"), Some("-1\n"), Some("?"), None] {
            assert!(!refusal(other).contains("CAP_SYS_ADMIN"), "{other:?}");
        }
    }
}
