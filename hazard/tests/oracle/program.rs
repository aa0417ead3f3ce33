//! Random programs: what every CPU of a small machine does, step by step.
//!
//! A program is a list of steps that any kernel could take, in the order of time; a step that makes no sense where it
//! stands (a leave outside a section, a switch to a task that runs elsewhere) does nothing, so every part of a program
//! is a program, and one that fails can be shrunk by leaving out steps.

use std::fmt;

use lazymmu_abi::{Context, Kind, Level, Op};

use crate::arch;

/// CPUs of the machine.
pub(crate) const CPUS: usize = 3;
/// Tasks, besides an idle task for each CPU.
pub(crate) const TASKS: usize = 4;
/// Entries of the three levels: the first of each, and how many.
pub(crate) const ENTRIES: usize = 11;
pub(crate) const PTES: (u8, u8) = (0, 6);
const PMDS: (u8, u8) = (6, 3);
const PUDS: (u8, u8) = (9, 2);

/// What a CPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Do {
    /// A call of the mode.
    Mode(Op),
    /// An access to `count` entries from `entry` on.
    Access { op: Op, entry: u8, count: u8, value: u64 },
    /// The CPU goes on with another task; the CPU's own idle task is 0.
    Switch { to: u8, blocked: bool },
    /// The task ends; the idle task goes on.
    Exit,
    /// The processor uses the entry and sets its accessed bit, and for a write the dirty bit.
    Walk { entry: u8, dirty: bool },
    /// The task switches softirqs off (or on again).
    Softirqs { off: bool },
    /// The kernel uses what the entry maps.
    Use { entry: u8 },
    /// The TLB is flushed for what these PTEs map.
    TlbFlush { entry: u8, count: u8 },
    /// The architecture's own enter or leave is called where nobody should.
    Arch(Op),
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) cpu: u8,
    /// Task, or an interrupt that came into it.
    pub(crate) context: Context,
    pub(crate) what: Do,
}

/// Which kernel runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// 7.0 and later: counters in each task, sections nest, can be paused.
    Counters,
    /// Before: on and off.
    OnOff,
}

/// A program and the machine on which its trace is made.
#[allow(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) layer: Layer,
    /// Which machine is traced: its values are in the records.
    pub(crate) traced: usize,
    /// How many stores fill a batch; `None` if a queue never flushes but by what the engine counts on.
    pub(crate) batch: Option<usize>,
    /// Whether the tables map the kernel's half of the address space.
    pub(crate) kernel_half: bool,
    /// Whether the architecture's own enter and leave are told.
    pub(crate) told: bool,
    /// Whether the architecture forgets to leave and enter at a context switch.
    pub(crate) careless: bool,
    /// Whether tasks make calls that do not pair.
    pub(crate) broken: bool,
    pub(crate) steps: Vec<Step>,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same numbers everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// True `times` times of a hundred.
    pub(crate) fn percent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// The operations by level and kind, the common ones more than once.
struct Menu {
    reads: Vec<Op>,
    writes: Vec<Op>,
    rmws: Vec<Op>,
}

fn menu(level: Level) -> Menu {
    let of = |kind| {
        let fits = |op: &&Op| op.info().level == Some(level) && op.info().kind == kind;
        Op::ALL.iter().filter(fits).copied().collect()
    };
    Menu { reads: of(Kind::Read), writes: of(Kind::Write), rmws: of(Kind::Rmw) }
}

/// The program of that number. The same number is the same program for ever.
pub(crate) fn program(number: u64) -> Program {
    let mut random = Random::new(number);
    let menus = [menu(Level::Pte), menu(Level::Pmd), menu(Level::Pud)];
    let layer = if random.percent(75) { Layer::Counters } else { Layer::OnOff };
    // Few CPUs, tasks and entries, so that they meet.
    let cpus = 1 + random.below(CPUS);
    let level = if random.percent(60) { Some(0) } else { None };
    let softirqs = random.percent(8);
    let mut steps: Vec<Step> = (0..cpus as u8)
        .map(|cpu| Step { cpu, context: Context::Task, what: Do::Switch { to: cpu + 1, blocked: false } })
        .collect();
    let length = 4 + random.below(44);
    for _ in 0..length {
        let cpu = random.below(cpus) as u8;
        let context = if random.percent(8) {
            random.pick(&[Context::Softirq, Context::Hardirq, Context::Nmi])
        } else {
            Context::Task
        };
        let what = match random.below(100) {
            0..16 => Do::Mode(Op::Enter),
            16..24 => Do::Mode(Op::Leave),
            24..27 => Do::Mode(Op::Flush),
            27..30 => Do::Mode(Op::Pause),
            30..34 => Do::Mode(Op::Resume),
            34..41 => Do::Switch { to: random.below(TASKS + 1) as u8, blocked: random.percent(50) },
            41 => Do::Exit,
            42..45 => Do::Walk { entry: random.below(ENTRIES) as u8, dirty: random.percent(50) },
            45..47 if softirqs => Do::Softirqs { off: random.percent(60) },
            _ => access(&mut random, &menus, level),
        };
        steps.push(Step { cpu, context, what });
    }
    let traced = random.below(crate::machine::TRACED.len());
    let batch = random.percent(25).then(|| 1 + random.below(6));
    let program = Program {
        layer,
        traced,
        batch,
        kernel_half: false,
        told: false,
        careless: false,
        broken: false,
        steps,
    };
    crate::extras::add(program, number)
}

fn access(random: &mut Random, menus: &[Menu; 3], level: Option<usize>) -> Do {
    let level = level.unwrap_or_else(|| random.below(3));
    let (first, entries) = [PTES, PMDS, PUDS][level];
    let menu = &menus[level];
    let op = match random.below(10) {
        0..4 => random.pick(&menu.writes),
        4..7 => random.pick(&menu.reads),
        _ => random.pick(&menu.rmws),
    };
    let entry = first + random.below(usize::from(entries)) as u8;
    let left = first + entries - entry;
    let many = arch::takes_many(op) && random.percent(40);
    let count = if many { 1 + random.below(usize::from(left)) as u8 } else { 1 };
    // A page that no other write has; now and then one that is not present, or nothing at all.
    let page = (1 + (random.next() >> 40)) << 16;
    let value = match random.below(10) {
        0 => 0,
        1 => page | 0x100,
        _ => page | 0x8000_0000_0000_0005 | (random.next() & 0x62),
    };
    Do::Access { op, entry, count, value }
}

/// Makes a failing program as small as it gets and still fails.
pub(crate) fn shrink(program: &Program, fails: &dyn Fn(&Program) -> bool) -> Program {
    let mut best = program.clone();
    loop {
        let smaller = shrink_once(&best, fails);
        if smaller == best {
            return best;
        }
        best = smaller;
    }
}

fn shrink_once(program: &Program, fails: &dyn Fn(&Program) -> bool) -> Program {
    let mut best = program.clone();
    let mut size = best.steps.len();
    while size > 0 {
        let mut start = 0;
        while start < best.steps.len() {
            let mut smaller = best.clone();
            smaller.steps.drain(start..(start + size).min(best.steps.len()));
            if fails(&smaller) {
                best = smaller;
            } else {
                start += size;
            }
        }
        size /= 2;
    }
    let keep = |best: &mut Program, change: &dyn Fn(&mut Program)| {
        let mut other = best.clone();
        change(&mut other);
        if other != *best && fails(&other) {
            *best = other;
        }
    };
    keep(&mut best, &|program| program.batch = None);
    keep(&mut best, &|program| program.layer = Layer::Counters);
    keep(&mut best, &|program| program.told = false);
    keep(&mut best, &|program| program.careless = false);
    keep(&mut best, &|program| program.broken = false);
    for index in 0..best.steps.len() {
        keep(&mut best, &|program| program.steps[index].context = Context::Task);
        keep(&mut best, &|program| program.steps[index].cpu = 0);
        keep(&mut best, &|program| {
            if let Do::Access { count, .. } = &mut program.steps[index].what {
                *count = 1;
            }
        });
    }
    best
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (profile, arch) = crate::machine::TRACED[self.traced];
        let batch = self.batch.map_or("never full".to_owned(), |batch| format!("full at {batch}"));
        writeln!(
            f,
            "kernel {:?}, traced on {} ({arch:?}), batches {batch}",
            self.layer,
            profile.profile().name
        )?;
        let half = if self.kernel_half { "the kernel's half" } else { "a process" };
        let told = match (self.told, self.careless) {
            (false, _) => "not told",
            (true, false) => "told",
            (true, true) => "told, and forgotten at switches",
        };
        writeln!(f, "tables of {half}, the architecture's calls are {told}")?;
        for (number, Step { cpu, context, what }) in self.steps.iter().enumerate() {
            write!(f, "{number:>4}  cpu {cpu} ")?;
            if *context != Context::Task {
                write!(f, "({context:?}) ")?;
            }
            match what {
                Do::Mode(op) => write!(f, "{}", op.name())?,
                Do::Access { op, entry, count, value } => {
                    write!(f, "{} entry {entry}", op.name())?;
                    if *count > 1 {
                        write!(f, " and {} more", count - 1)?;
                    }
                    if op.info().kind != Kind::Read {
                        write!(f, " value {value:#x}")?;
                    }
                }
                Do::Switch { to: 0, .. } => write!(f, "switches to its idle task")?,
                Do::Switch { to, .. } => write!(f, "switches to task {to}")?,
                Do::Exit => write!(f, "its task ends")?,
                Do::Walk { entry, dirty } => {
                    write!(f, "the processor uses entry {entry}{}", if *dirty { " to write" } else { "" })?;
                }
                Do::Softirqs { off } => write!(f, "softirqs {}", if *off { "off" } else { "on" })?,
                Do::Use { entry } => write!(f, "uses what entry {entry} maps")?,
                Do::TlbFlush { entry, count } => {
                    write!(f, "flushes the TLB for {count} entries from {entry} on")?;
                }
                Do::Arch(op) => write!(f, "{} by mistake", op.name())?,
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
