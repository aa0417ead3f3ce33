//! A running capture: from open to stop.

use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use lazymmu_abi::{Kind, Record, Scope, Settings};
use lazymmu_trace::{Kernel, Plan};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};
use zerocopy::IntoBytes as _;

use crate::attach::{Attached, LoadedHook};
use crate::hooks::HOOKS;
use crate::item::{self, Item};
use crate::kernel::{self, Offsets};
use crate::loss::{self, COUNTERS, CounterMap, Totals};
use crate::object::object;
use crate::{Error, sys};

/// The ring is looked at at least this often, so no item waits longer.
const LOOK: Duration = Duration::from_millis(20);
/// How often the kernel is asked for the hits that it skipped.
const ASK_FOR_MISSES: Duration = Duration::from_millis(250);
/// The programs wake the reader each time another part of the ring, one in so many, is filled.
const PARTS: u32 = 8;
/// The most items of one batch, which bounds memory when the programs are faster than the reader for long.
const BATCH: usize = 1 << 16;
/// How long a program that still runs after it was detached is waited for.
const SETTLE: Duration = Duration::from_secs(1);

const RING: &str = "RING";

/// What to capture, and with how much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the ring: a power of two, at least a page, at most 1 GiB. A record takes 72, a stack 544.
    pub ring_bytes: u32,
    /// Which accesses are emitted.
    pub scope: Scope,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes: 16 << 20, scope: Scope::Sections }
    }
}

/// The eBPF programs, attached. Dropping it detaches them.
pub struct Capture {
    // First, so that dropping detaches before the maps go.
    attached: Attached,
    ring: AsyncFd<RingBuf<MapData>>,
    logger: EbpfLogger<&'static dyn log::Log>,
    counters: CounterMap,
    ebpf: Ebpf,
    offsets: Offsets,
    /// Items that came out of the ring, `Lost` records not counted.
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
        let object = object()?;
        let least = kernel::page_size();
        let bytes = options.ring_bytes;
        if !bytes.is_power_of_two() || !(least..=1 << 30).contains(&bytes) {
            return Err(Error::RingSize { bytes, least });
        }
        let kernel::Checked { offsets, settings, missing } = kernel::check(options.scope, bytes / PARTS)?;
        let mut ebpf = EbpfLoader::new()
            .override_global(Settings::GLOBAL, settings.as_bytes(), true)
            .map_max_entries(RING, bytes)
            .load(object)
            .map_err(Error::object)?;
        let logger = EbpfLogger::init(&mut ebpf).map_err(|_| Error::Mismatch("AYA_LOGS"))?;
        let map = ebpf.take_map(RING).ok_or(Error::Mismatch(RING))?;
        let ring = RingBuf::try_from(map).map_err(|source| Error::Map { name: RING, source })?;
        let ring =
            sys::watch(ring).map_err(|source| Error::Io { what: "watch the ring".to_owned(), source })?;
        let counters = CounterMap::new(ebpf.take_map(COUNTERS).ok_or(Error::Mismatch(COUNTERS))?)?;
        let attached = Attached::new(&mut ebpf, missing).inspect_err(|error| {
            if let Some(log) = error.verifier_log() {
                log::info!("the verifier's log:\n{log}");
            }
        })?;
        let now = Instant::now();
        Ok(Self {
            attached,
            ring,
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
        Plan { hooks: hooks.map(|(hook, missing)| hook.describe(missing.clone())).collect() }
    }

    /// What the verifier said about the programs.
    pub fn hooks(&self) -> &[LoadedHook] {
        &self.attached.loaded
    }

    /// Waits for the next items and appends them, in the order of the ring. At least one comes.
    ///
    /// Items are gathered for up to 20 ms, or until an eighth of the ring has filled. The future may be dropped at
    /// any point without losing an item.
    pub async fn next_batch(&mut self, out: &mut Vec<Item>) -> Result<(), Error> {
        let before = out.len();
        loop {
            self.wait().await?;
            let more = self.drain(out, BATCH)?;
            self.next_look = if more { Instant::now() } else { Instant::now() + LOOK };
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
            while self.drain(out, BATCH)? {}
            self.tell_misses(out)?;
            let counters = self.counters.read()?;
            let totals = loss::totals(&counters, self.seen, self.misses);
            if totals.balanced() || Instant::now() >= deadline {
                out.extend(loss::untold(&counters, now()).map(Item::Record));
                return Ok(totals);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the programs wake the reader or it is time to look.
    async fn wait(&mut self) -> Result<(), Error> {
        tokio::select! {
            guard = self.ring.readable() => {
                let mut guard = guard.map_err(|source| Error::Io { what: "watch the ring".to_owned(), source })?;
                // Before the ring is drained: a wake-up that comes meanwhile is kept.
                guard.clear_ready();
            }
            () = sleep_until(self.next_look) => {}
        }
        Ok(())
    }

    /// Appends what is in the ring now, up to `most` items. True if that many came.
    fn drain(&mut self, out: &mut Vec<Item>, most: usize) -> Result<bool, Error> {
        self.logger.flush();
        let ring = self.ring.get_mut();
        for _ in 0..most {
            let Some(bytes) = ring.next() else { return Ok(false) };
            let item = item::decode(&bytes)?;
            if !matches!(item, Item::Record(Record { kind, .. }) if kind == Kind::Lost as u8) {
                self.seen += 1;
            }
            out.push(item);
        }
        Ok(true)
    }

    fn tell_misses(&mut self, out: &mut Vec<Item>) -> Result<(), Error> {
        let misses = self.attached.recursion_misses(&mut self.ebpf)?;
        if misses > self.misses {
            out.push(Item::Record(loss::missed(misses - self.misses, now())));
            self.misses = misses;
        }
        Ok(())
    }
}

/// The clock of the records, `bpf_ktime_get_ns`.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Neither part of a monotonic clock is negative.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
