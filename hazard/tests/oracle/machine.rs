//! A naive deferring MMU: words of memory, a queue of stores, and no cleverness.
//!
//! Every word knows which event put it there, so "older" is a comparison of two numbers. One machine plays one
//! architecture; it is right by being simple, and it checks itself where it can.

use lazymmu_abi::{Context, Kind, Op};
use lazymmu_hazard::Arch;
use lazymmu_hazard::profile::ProfileId;

use crate::arch::{self, Does, Store};
use crate::kernel::{Event, What};
use crate::program::{CPUS, ENTRIES, Program};

/// The machines on which traces are made, and how their values are to be read. The third stands for x86 on bare metal:
/// nothing waits.
pub(crate) const TRACED: [(ProfileId, Arch); 6] = [
    (ProfileId::XenPv, Arch::X86_64),
    (ProfileId::Strict, Arch::X86_64),
    (ProfileId::PowerpcHash, Arch::X86_64),
    (ProfileId::S390, Arch::Other),
    (ProfileId::Sparc64, Arch::Other),
    (ProfileId::Arm64, Arch::Other),
];

/// What an entry holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    /// The order in time of the change that put it there; 0 for what was there at first.
    stamp: u32,
    /// False if it was made from a value that was too old already.
    whole: bool,
    value: u64,
}

/// A store that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The event that queued it.
    write: u32,
    entry: u8,
    /// When it was queued.
    queued: u32,
    cell: Cell,
}

/// Why a store landed although nothing happened that the engine counts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Early {
    BatchFull,
    NotActive,
}

/// An access that was wrong because of a write, at one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Wrong {
    pub(crate) access: u32,
    pub(crate) write: u32,
    pub(crate) entry: u8,
}

/// What the accessor saw at its first entry, and what memory held afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) value: u64,
    pub(crate) stamp: u32,
    pub(crate) memory: u64,
}

/// One machine.
pub(crate) struct Machine {
    profile: ProfileId,
    batch: Option<usize>,
    memory: [Cell; ENTRIES],
    /// The newest change of each entry, in memory or not.
    newest: [u32; ENTRIES],
    /// Stores done at once, by entry: stamp and event.
    at_once: [Vec<(u32, u32)>; ENTRIES],
    /// By owner: see [`Machine::owner`].
    queues: Vec<Vec<Waiting>>,
    /// What left a queue early, until the queue is flushed for good.
    early: Vec<Vec<(u32, u8, Early)>>,
    /// By task: entries that are stored, but whose barriers have not been issued, with the write.
    unfenced: Vec<Vec<(u32, u8)>>,
    /// By entry: the flushes of the TLB after each of which it was loaded again, and whose they were.
    loaded: [Vec<(u32, u8)>; ENTRIES],
    /// Everything that went wrong.
    pub(crate) wrong: Vec<Wrong>,
    /// Looks into a queue that were older than memory: the entry was overtaken before, and that was told.
    pub(crate) shadowed: u64,
    /// Queued stores that landed over a newer queued store of another queue.
    pub(crate) races: u64,
    /// What each event saw.
    pub(crate) seen: Vec<Seen>,
    /// By event: its task.
    tasks: Vec<u8>,
}

/// Whether the value maps a page of the kernel.
fn maps_kernel(value: u64) -> bool {
    value & 0b101 == 1
}

/// The order of an event's change in time. Even, so that an operation of two halves has room for the first.
pub(crate) fn stamp(event: u32) -> u32 {
    2 * (event + 1)
}

impl Machine {
    /// A machine whose queues are empty. With a `batch`, that of Xen flushes when so many stores are in it.
    pub(crate) fn new(profile: ProfileId, program: &Program) -> Self {
        let owners = CPUS + crate::kernel::ALL_TASKS;
        let first = |entry| match (program.kernel_half, entry % 2) {
            (false, _) => 0x1_0000_0067 + ((entry as u64) << 20),
            (true, 0) => 0x1_0000_0063 + ((entry as u64) << 20),
            // What the kernel has not mapped yet.
            (true, _) => 0,
        };
        Self {
            profile,
            batch: program.batch.filter(|_| profile == ProfileId::XenPv),
            memory: std::array::from_fn(|entry| Cell { stamp: 0, whole: true, value: first(entry) }),
            newest: [0; ENTRIES],
            at_once: std::array::from_fn(|_| Vec::new()),
            queues: vec![Vec::new(); owners],
            early: vec![Vec::new(); owners],
            unfenced: vec![Vec::new(); crate::kernel::ALL_TASKS],
            loaded: std::array::from_fn(|_| Vec::new()),
            wrong: Vec::new(),
            shadowed: 0,
            races: 0,
            seen: Vec::new(),
            tasks: Vec::new(),
        }
    }

    /// Whose queue an event uses. Xen's multicalls are per CPU. So is the cache of s390, but preemption is off while it
    /// is in use: a program that is preempted all the same is played as if the CPU stayed with the task. The contract
    /// names no queue; what waits, waits for its task.
    fn owner(&self, event: &Event) -> usize {
        match self.profile {
            ProfileId::XenPv => usize::from(event.cpu),
            _ => CPUS + usize::from(event.task),
        }
    }

    /// Plays the events.
    pub(crate) fn play(&mut self, events: &[Event]) {
        for (number, event) in events.iter().enumerate() {
            self.seen.push(Seen::default());
            self.tasks.push(event.task);
            self.step(number as u32, event);
        }
    }

    /// Everything lands in the end.
    pub(crate) fn drain(&mut self) {
        for owner in 0..self.queues.len() {
            self.flush(owner);
        }
    }

    fn step(&mut self, number: u32, event: &Event) {
        let owner = self.owner(event);
        match event.what {
            What::Mode { flushes: true, .. } | What::Exit => {
                self.flush(owner);
                self.unfenced[usize::from(event.task)].clear();
            }
            What::Switch { .. } => {
                // xen_start_context_switch(): pauses the mode of the task that goes.
                if self.profile == ProfileId::XenPv {
                    self.flush(owner);
                }
                // A dsb at each switch, arch/arm64/kernel/process.c:750.
                self.unfenced[usize::from(event.task)].clear();
            }
            What::Mode { .. } | What::Arch { .. } => {}
            What::Use { entry } => self.used(number, event, entry),
            What::TlbFlush { entry, count } => {
                for entry in entry..entry + count {
                    self.loaded[usize::from(entry)].push((number, event.task));
                }
            }
            What::Walk { entry, dirty } => {
                let cell = &mut self.memory[usize::from(entry)];
                if cell.value & 1 != 0 {
                    cell.value |= arch::YOUNG | if dirty { arch::DIRTY } else { 0 };
                }
            }
            What::Access { op, entry, count, value } => {
                self.flush_by_interrupt(event, owner, op);
                for index in 0..count {
                    // A clear is a clear at every entry; anything else goes on with the next page.
                    let argument = arch::page_after(value, u64::from(index));
                    let seen = self.access(number, event, owner, op, entry + index, argument);
                    if index == 0 {
                        self.seen[number as usize] = seen;
                    }
                }
                let memory = self.memory[usize::from(entry)].value;
                self.seen[number as usize].memory = memory;
            }
        }
    }

    /// A use of the mapping: the walk finds memory, which lacks what the task itself has put there.
    fn used(&mut self, number: u32, event: &Event, entry: u8) {
        // Only a range of a process goes to the cache: arch_enter_lazy_mmu_mode_with_ptes().
        let cached = self.profile == ProfileId::S390;
        let memory = self.memory[usize::from(entry)];
        self.seen[number as usize] = Seen { value: memory.value, stamp: memory.stamp, memory: memory.value };
        let own = |write: u32| self.tasks[write as usize] == event.task;
        let waits =
            self.queues.iter().flatten().filter(|waiting| waiting.entry == entry && own(waiting.write));
        if let Some(waiting) = waits.max_by_key(|waiting| waiting.cell.stamp)
            && maps_kernel(waiting.cell.value)
            && !cached
            && (memory.stamp < waiting.cell.stamp || !memory.whole)
        {
            self.wrong.push(Wrong { access: number, write: waiting.write, entry });
        }
        let unfenced = &self.unfenced[usize::from(event.task)];
        if let Some((write, _)) = unfenced.iter().rev().find(|(_, at)| *at == entry)
            && memory.stamp == stamp(*write)
        {
            self.wrong.push(Wrong { access: number, write: *write, entry });
        }
    }

    /// arch/x86/xen/mmu_pv.c:293, :383, :477: these issue the whole batch if the mode is off for them.
    fn flush_by_interrupt(&mut self, event: &Event, owner: usize, op: Op) {
        let issues = matches!(
            op,
            Op::ModifyProtCommit | Op::SetPmd | Op::SetPmdAt | Op::PmdClear | Op::SetPud | Op::PudClear
        );
        if issues && !event.active && self.profile == ProfileId::XenPv {
            if event.context == Context::Task {
                self.flush_early(owner, Early::NotActive);
            } else {
                self.flush(owner);
            }
        }
    }

    fn access(&mut self, number: u32, event: &Event, owner: usize, op: Op, entry: u8, argument: u64) -> Seen {
        let at = usize::from(entry);
        let outside = if op.info().kind == Kind::Read { Does::Look } else { Does::Memory };
        let inside = arch::does(self.profile, op);
        // The cache of s390 is that of the CPU, for interrupts too: is_lazy_mmu_active() looks at a count in lowcore.
        let active = if self.profile == ProfileId::S390 { event.section_on } else { event.active };
        let does = if active || inside == Does::Nothing { inside } else { outside };
        let in_queue = self.queues[owner].iter().rposition(|waiting| waiting.entry == entry);
        let in_queue = in_queue.filter(|_| does == Does::Cache);
        let found = in_queue.map_or(self.memory[at], |place| self.queues[owner][place].cell);

        // A plain write does not look at what it replaces.
        let looks = op.info().kind != Kind::Write && does != Does::Nothing;
        let old = looks && (found.stamp != self.newest[at] || !found.whole);
        if old {
            self.blame(number, entry, found, in_queue.is_some());
        }
        let seen = Seen { value: found.value, stamp: found.stamp, memory: 0 };
        // ptep_modify_prot_start() of Xen only looks, in a section or not.
        let only_looks = matches!(does, Does::Look | Does::Nothing) || inside == Does::Look;
        let (value, whole) = match arch::store(op, found.value, argument, only_looks) {
            Store::No => return seen,
            Store::New(value) => (value, true),
            // What its own queue held is in order with its task; that it was overtaken was told.
            Store::Derived(value) => (value, !old || in_queue.is_some()),
        };
        let mut cell = Cell { stamp: stamp(number), whole, value };
        self.newest[at] = cell.stamp;
        match does {
            Does::Memory | Does::Look | Does::Nothing => {
                self.memory[at] = cell;
                self.at_once[at].push((cell.stamp, number));
                // arch/arm64/include/asm/pgtable.h:366: after a valid kernel entry was set.
                let set = op.info().kind == Kind::Write && !op.is_raw() && maps_kernel(cell.value);
                if set && event.active && self.profile == ProfileId::Arm64 {
                    self.unfenced[usize::from(event.task)].push((number, entry));
                }
            }
            Does::Queue | Does::Cache => {
                if op == Op::ClearYoungDirty && does == Does::Queue {
                    // ptep_get_and_clear(), then set_pte_at(): none until the second has landed.
                    self.memory[at] = Cell { stamp: cell.stamp - 1, whole: true, value: 0 };
                }
                if self.profile == ProfileId::XenPv && value & 1 != 0 {
                    // The hypervisor has its own mind about it.
                    cell.value ^= arch::GLOBAL;
                }
                // The cache of s390 has one place for an entry. That it is two here makes no difference: the later is the
                // one that is found, and lands last.
                let queued = cell.stamp;
                self.queues[owner].push(Waiting { write: number, entry, queued, cell });
                if self.batch.is_some_and(|batch| self.queues[owner].len() >= batch) {
                    self.flush_early(owner, Early::BatchFull);
                }
            }
        }
        seen
    }

    /// Something older than the newest change was found at the entry: the newest that waits was missed.
    fn blame(&mut self, access: u32, entry: u8, found: Cell, in_queue: bool) {
        let here = self.queues.iter().flatten().filter(|waiting| waiting.entry == entry);
        let newest = here.max_by_key(|waiting| waiting.cell.stamp);
        match newest {
            Some(waiting) if waiting.cell.stamp > found.stamp || !found.whole => {
                self.wrong.push(Wrong { access, write: waiting.write, entry });
            }
            _ => {
                assert!(in_queue, "memory is old, and nothing waits for entry {entry}");
                self.shadowed += 1;
            }
        }
    }

    fn flush_early(&mut self, owner: usize, why: Early) {
        let left: Vec<_> =
            self.queues[owner].iter().map(|waiting| (waiting.write, waiting.entry, why)).collect();
        self.land(owner);
        self.early[owner].extend(left);
    }

    fn flush(&mut self, owner: usize) {
        self.land(owner);
        self.early[owner].clear();
    }

    /// The stores of a queue reach memory, in their order.
    fn land(&mut self, owner: usize) {
        let queue = std::mem::take(&mut self.queues[owner]);
        for (place, waiting) in queue.iter().enumerate() {
            let at = usize::from(waiting.entry);
            // What was stored at once after this was queued is gone now, if no later store of this very queue is in
            // between: then it is that one which replaces it.
            let later = queue[place + 1..].iter().filter(|later| later.entry == waiting.entry);
            let until = later.map(|later| later.queued).min().unwrap_or(u32::MAX);
            for (stored, access) in &self.at_once[at] {
                if (waiting.queued..until).contains(stored) {
                    self.wrong.push(Wrong { access: *access, write: waiting.write, entry: waiting.entry });
                }
            }
            for (flush, task) in &self.loaded[at] {
                // The TLB has the old entry from then on, and nothing flushes it.
                if (waiting.queued..until).contains(&stamp(*flush))
                    && self.tasks[waiting.write as usize] == *task
                    && !self.flushes_with_stores()
                {
                    self.wrong.push(Wrong { access: *flush, write: waiting.write, entry: waiting.entry });
                }
            }
            let memory = self.memory[at];
            self.memory[at] = Cell { whole: true, ..waiting.cell };
            if memory.stamp > waiting.cell.stamp {
                // The first half of clear_young_dirty_ptes() is odd; its second half follows.
                let told = memory.stamp % 2 == 1
                    || self.at_once[at].iter().any(|(stored, _)| *stored == memory.stamp);
                self.races += u64::from(!told);
                // The newer change is lost; what is left of the entry's history begins here. It was told at the access
                // that lost.
                let waits = queue[place + 1..].iter().chain(self.queues.iter().flatten());
                let newest =
                    waits.filter(|other| other.entry == waiting.entry).map(|other| other.cell.stamp).max();
                self.newest[at] = newest.unwrap_or(0).max(waiting.cell.stamp);
            }
        }
    }

    /// Whether a flush of the TLB comes after the stores before it. Xen queues it behind them (mmu_pv.c:1369); s390
    /// stores with IPTE, which flushes the entry.
    fn flushes_with_stores(&self) -> bool {
        matches!(self.profile, ProfileId::XenPv | ProfileId::S390)
    }

    /// Whether the write still waits for the entry, or its barriers do.
    pub(crate) fn waits(&self, write: u32, entry: u8) -> bool {
        self.unfenced.iter().flatten().any(|late| *late == (write, entry))
            || self.queues.iter().flatten().any(|waiting| waiting.write == write && waiting.entry == entry)
    }

    /// Whether memory has something newer than the write.
    pub(crate) fn overtaken(&self, write: u32, entry: u8) -> bool {
        self.memory[usize::from(entry)].stamp > stamp(write)
    }

    /// Whether a newer write waits for the entry.
    pub(crate) fn newer_waits(&self, write: u32, entry: u8) -> bool {
        self.queues
            .iter()
            .flatten()
            .any(|waiting| waiting.entry == entry && waiting.cell.stamp > stamp(write))
    }

    /// Whether a newer write of the entry left its queue early.
    pub(crate) fn newer_early(&self, write: u32, entry: u8) -> bool {
        self.early.iter().flatten().any(|(newer, at, _)| *at == entry && *newer > write)
    }

    /// Whether the write left its queue early.
    pub(crate) fn early(&self, write: u32, entry: u8) -> Option<Early> {
        let mut all = self.early.iter().flatten();
        all.find(|(number, at, _)| *number == write && *at == entry).map(|(.., why)| *why)
    }
}
