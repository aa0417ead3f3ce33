//! A running capture: from open to stop.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use lazymmu_abi::{Deferral, Kind, Record, Scope, Settings, SiteSettings};
use lazymmu_inspect::plan::Plan as ProbePlan;
use lazymmu_trace::{Kernel, Plan};
use tokio::time::{Instant, sleep_until};
use zerocopy::IntoBytes as _;

use crate::Error;
use crate::attach::{Attached, LoadedHook};
use crate::hooks::{self, HOOKS};
use crate::item::Item;
use crate::kernel::{self, Offsets};
use crate::loss::{self, COUNTERS, CounterMap, Totals};
use crate::modules;
use crate::object::object;
use crate::probes::{self, Probes};
use crate::rings::{Cpus, Layout, Rings};
use crate::sites::Table;
use crate::sorter::{SLACK, Sorter};

/// The rings are looked at at least this often.
const LOOK: Duration = Duration::from_millis(20);
/// How often the kernel is asked for the hits that it skipped.
const ASK_FOR_MISSES: Duration = Duration::from_millis(250);
/// The most items that are taken out of the rings at once.
const BATCH: usize = 1 << 16;
/// The fewest records that may wait to be sorted. If the rings hold more, so many may: then nothing is released early
/// because the rings were full.
const WAITING: usize = 1 << 16;
/// How long a program that still runs after it was detached is waited for.
const SETTLE: Duration = Duration::from_secs(1);

/// What to capture, and with how much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the rings of records together: a power of two, at least a page and 2 KiB for each CPU that there can be,
    /// at most 1 GiB. A record takes 64. Those of call stacks take a quarter of that, and a page each at least.
    pub ring_bytes: u32,
    /// Which accesses are emitted.
    pub scope: Scope,
    /// For [`Scope::Suspects`]: what the programs must know of each operation.
    pub deferral: &'static Deferral,
    /// For [`Scope::Suspects`]: how many entries may be pending at one time, a power of two. More are counted as lost.
    pub pending: u32,
    /// Whether records have call stacks.
    pub stacks: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: 16 << 20,
            scope: Scope::Sections,
            deferral: &Deferral::UNKNOWN,
            pending: 1 << 16,
            stacks: true,
        }
    }
}

impl Options {
    /// Entries are kept in sets of so many: `WAYS` of `pending` in `probe-ebpf`.
    const WAYS: u32 = 4;

    /// How many sets there are.
    pub(crate) fn pending_sets(&self) -> u32 {
        let sets = (self.pending / Self::WAYS).clamp(1, 1 << 20).next_power_of_two();
        if self.scope == Scope::Suspects { sets } else { 1 }
    }
}

/// The eBPF programs, attached. Dropping it detaches them.
pub struct Capture {
    // First, so that dropping detaches before the maps go.
    attached: Attached,
    rings: Rings,
    sorter: Sorter,
    /// Up to where the records are released once the rings are empty; `None` between two emptyings.
    floor: Option<u64>,
    logger: EbpfLogger<&'static dyn log::Log>,
    counters: CounterMap,
    ebpf: Ebpf,
    offsets: Offsets,
    /// Items that came out of the rings, `Lost` records not counted.
    seen: u64,
    /// Skipped hits that were told as a `Lost` record.
    misses: u64,
    next_look: Instant,
    next_question: Instant,
}

impl Capture {
    /// Checks what can be checked, loads the programs and attaches them.
    ///
    /// # Errors
    ///
    /// [`Error::class`] says whose fault it is.
    pub fn open(options: Options) -> Result<Self, Error> {
        Self::start(options, None)
    }

    /// The same for a kernel without the drop-in: the instructions of a plan are probed instead of its tracepoints. The
    /// plan must be of the kernel that runs.
    ///
    /// # Errors
    ///
    /// As for [`Capture::open`]. That the kernel refuses some of the instructions is none: [`Capture::plan`] says it.
    pub fn open_plan(options: Options, plan: &ProbePlan) -> Result<Self, Error> {
        leaves_nothing(plan)?;
        Self::start(options, Some(plan))
    }

    fn start(options: Options, plan: Option<&ProbePlan>) -> Result<Self, Error> {
        let object = object()?;
        let page = kernel::page_size();
        let cpus = Cpus { online: kernel::online_cpus(), possible: kernel::possible_cpus() };
        let least = Layout::least(page, cpus);
        let bytes = options.ring_bytes;
        if !bytes.is_power_of_two() || !(least..=1 << 30).contains(&bytes) {
            return Err(Error::RingSize { bytes, least });
        }
        let layout = Layout::new(bytes, page, cpus);
        let kernel::Checked { offsets, settings, missing, sites, stores } =
            kernel::check(&options, layout, plan.is_some())?;
        let modules = plan.map_or(&[][..], |plan| &plan.modules);
        let modules = modules::find(modules, Path::new(modules::DIRECTORY))?;
        let table = plan.map(|plan| Table::of(plan, stores, &modules));
        let mut loader = EbpfLoader::new();
        loader.override_global(Settings::GLOBAL, settings.as_bytes(), true);
        loader.override_global(Deferral::GLOBAL, options.deferral.as_bytes(), true);
        layout.set(&mut loader);
        loader.map_max_entries(COUNTERS, cpus.possible);
        loader.map_max_entries("PENDING", options.pending_sets());
        loader.map_max_entries("HELD", options.pending_sets() * Options::WAYS);
        if let (Some(table), Some(sites)) = (&table, &sites) {
            loader.override_global(SiteSettings::GLOBAL, sites.settings.as_bytes(), true);
            loader.map_max_entries(probes::SITES, table.len().max(1));
        }
        let mut ebpf = loader.load(object).map_err(Error::object)?;
        let logger = EbpfLogger::init(&mut ebpf).map_err(|_| Error::Mismatch("AYA_LOGS"))?;
        let rings = Rings::new(&mut ebpf, layout)?;
        let counters = CounterMap::new(ebpf.take_map(COUNTERS).ok_or(Error::Mismatch(COUNTERS))?)?;
        let mut attached = Attached::new(&mut ebpf, missing).inspect_err(|error| {
            if let Some(log) = error.verifier_log() {
                log::info!("the verifier's log:\n{log}");
            }
        })?;
        if let (Some(table), Some(sites)) = (&table, sites) {
            attached.probes = Some(Probes::new(&mut ebpf, table, sites.text).inspect_err(|error| {
                if let Some(log) = error.verifier_log() {
                    log::info!("the verifier's log:\n{log}");
                }
            })?);
        }
        let now = Instant::now();
        Ok(Self {
            attached,
            rings,
            sorter: Sorter::new(WAITING.max(bytes as usize / size_of::<Record>())),
            floor: None,
            logger,
            counters,
            ebpf,
            offsets,
            seen: 0,
            misses: 0,
            next_look: now + LOOK,
            next_question: now + ASK_FOR_MISSES,
        })
    }

    /// What a trace says of the kernel that is captured.
    pub fn kernel(&self) -> Kernel {
        kernel::describe(self.offsets)
    }

    /// What a trace says of the hooks, and why some are missing.
    pub fn plan(&self) -> Plan {
        let hooks = HOOKS.iter().zip(&self.attached.missing);
        Plan {
            hooks: hooks.filter_map(|(hook, missing)| hook.describe(missing.clone())).collect(),
            sites: self.attached.probes.as_ref().map(|probes| probes.told.clone()),
        }
    }

    /// Where call stacks begin that were taken at a probed instruction: one byte behind its beginning, as if it were a
    /// call.
    pub fn probed(&self) -> impl Iterator<Item = u64> {
        let addresses = self.attached.probes.as_ref().map(|probes| probes.addresses.as_slice());
        addresses.unwrap_or_default().iter().map(|address| address + 1)
    }

    /// What the verifier said about the programs.
    pub fn hooks(&self) -> &[LoadedHook] {
        &self.attached.loaded
    }

    /// Waits for the next items and appends them: records in the order of their times, each stack before the first
    /// record that names it. At least one comes.
    ///
    /// Items are gathered for up to 20 ms, or until an eighth of a ring has filled. The future may be dropped at
    /// any point without losing an item.
    pub async fn next_batch(&mut self, out: &mut Vec<Item>) -> Result<(), Error> {
        let before = out.len();
        loop {
            self.wait().await?;
            let emptied = self.empty(out)?;
            self.next_look = if emptied.is_break() { Instant::now() + LOOK } else { Instant::now() };
            if Instant::now() >= self.next_question {
                self.next_question = Instant::now() + ASK_FOR_MISSES;
                self.tell_misses(out)?;
            }
            if out.len() > before {
                return Ok(());
            }
        }
    }

    /// Detaches the programs, appends what is left in the ring and what was lost unnoticed, and gives the account.
    ///
    /// # Errors
    ///
    /// What was appended before the error is good.
    pub async fn stop(mut self, out: &mut Vec<Item>) -> Result<Totals, Error> {
        self.attached.detach();
        // A program that runs at this moment on another CPU finishes; it has counted its item before it sends it.
        let deadline = Instant::now() + SETTLE;
        loop {
            while self.empty(out)?.is_continue() {}
            self.tell_misses(out)?;
            let counters = self.counters.read();
            let totals = loss::totals(&counters, self.seen, self.misses, self.sorter.late());
            if totals.balanced() || Instant::now() >= deadline {
                let mut records = Vec::new();
                self.sorter.finish(&mut records);
                records.extend(loss::untold(&counters, now()));
                out.extend(records.into_iter().map(Item::Record));
                return Ok(totals);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the programs wake the reader or it is time to look.
    async fn wait(&mut self) -> Result<(), Error> {
        tokio::select! {
            woken = self.rings.woken() => woken,
            () = sleep_until(self.next_look) => Ok(()),
        }
    }

    /// Takes items out of the rings, and once all were emptied, appends the records that may be released. Breaks when
    /// that is done; else the next call goes on.
    fn empty(&mut self, out: &mut Vec<Item>) -> Result<ControlFlow<()>, Error> {
        self.logger.flush();
        let floor = if let Some(floor) = self.floor {
            floor
        } else {
            // In this order: `sorter` says why.
            let now = now();
            loss::floor(now, &self.counters.read())
        };
        self.floor = Some(floor);
        let Self { rings, sorter, seen, .. } = self;
        let mut records = Vec::new();
        let emptied = rings.empty(BATCH, |item| match item {
            Item::Record(record) => {
                *seen += u64::from(record.kind != Kind::Lost as u8);
                sorter.push(record, &mut records);
            }
            // It has no time. Who names it does so in a record that is released after the rings were emptied of it.
            Item::Stack(_) => {
                *seen += 1;
                out.push(item);
            }
        })?;
        if emptied.is_break() {
            sorter.release(floor.saturating_sub(SLACK), &mut records);
            self.floor = None;
        }
        out.extend(records.into_iter().map(Item::Record));
        Ok(emptied)
    }

    fn tell_misses(&mut self, out: &mut Vec<Item>) -> Result<(), Error> {
        let misses = self.attached.recursion_misses(&mut self.ebpf)?;
        if misses > self.misses {
            let mut records = Vec::new();
            self.sorter.push(loss::missed(misses - self.misses, now()), &mut records);
            out.extend(records.into_iter().map(Item::Record));
            self.misses = misses;
        }
        Ok(())
    }
}

/// A plan of a kernel with the drop-in leaves to its tracepoints what these tell, which a capture by plan does not hear.
fn leaves_nothing(plan: &ProbePlan) -> Result<(), Error> {
    if plan.tracepoints.is_empty() { Ok(()) } else { Err(Error::LeftToDropIn) }
}

/// Whether the running kernel has the drop-in, so that no plan is needed.
///
/// # Errors
///
/// If its BTF cannot be read.
pub fn has_drop_in() -> Result<bool, Error> {
    hooks::has_drop_in(&kernel::btf()?)
}

/// The clock of the records, `bpf_ktime_get_ns`.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Neither part of a monotonic clock is negative.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Error, ProbePlan, leaves_nothing};

    #[test]
    fn a_plan_that_leaves_accesses_to_the_drop_in_is_refused() {
        let plan = |tracepoints: &str| {
            let text = format!(
                r#"{{"version": {{"major": 1, "minor": 1}},
                "kernel": {{"release": "r", "build_id": "b", "architecture": "x86_64", "nesting": true}},
                "made_from": {{"image": "vmlinux", "debug_info": true, "symbols": "symtab", "lazymmu": "0.1.0"}},
                "tracepoints": [{tracepoints}], "state": [], "probes": []}}"#
            );
            ProbePlan::parse(text.as_bytes(), Path::new("plan")).unwrap()
        };
        assert!(leaves_nothing(&plan("")).is_ok());
        let refused = leaves_nothing(&plan(r#""lazy_mmu_read", "lazy_mmu_write""#));
        assert!(matches!(refused, Err(Error::LeftToDropIn)));
    }
}
