//! What is replayed: a machine whose CPUs fork, unmap, move and protect memory.
//!
//! Sections over parts of page tables, as the kernel's own loops make them, with what stands between them in a real
//! trace: context switches, flushes of the TLB, faults, names of tasks. Every so many sections has a hazard. The same
//! every time, so that each peer gets the same records.

use std::collections::BTreeSet;

use lazymmu_abi::{Flags, Kind, Level, Op, Record};
use lazymmu_trace::{Frame, Sink, WriteError, Writer};

pub(crate) const CPUS: u16 = 4;

/// A machine whose CPUs run sections in turns of a few dozen records.
pub(crate) struct Machine {
    random: u64,
    time: u64,
    records: Vec<Record>,
    /// By CPU: what is left to be delivered of the section that runs there.
    running: Vec<std::vec::IntoIter<Record>>,
    /// By CPU: the task that runs there.
    current: Vec<u32>,
    named: BTreeSet<u32>,
    hazards: u64,
}

/// A place in the kernel that calls an accessor, and one of the ways there. The ids of call paths are hashes and look
/// like it.
#[derive(Clone, Copy)]
struct Site {
    number: u64,
    path: u64,
}

/// Ways to each place: as many as there are tasks on a CPU.
const PATHS: u64 = 3;
/// Frames of a call path.
const DEPTH: u64 = 9;

impl Site {
    fn stack(self) -> u64 {
        (self.number + self.path * 1000).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
    }

    fn caller(self) -> u64 {
        0xffff_ffff_8120_0000 + self.number * 0x4c3
    }

    fn all() -> impl Iterator<Item = Self> {
        let numbers = (0..4).flat_map(|kind| (0..5).map(move |site| kind * 10 + site)).chain([91, 92]);
        numbers.flat_map(|number| (0..PATHS).map(move |path| Self { number, path }))
    }

    /// Return addresses from the place outward.
    fn addresses(self) -> Vec<u64> {
        let outer = |depth| 0xffff_ffff_8140_0000 + (self.path * DEPTH + depth) * 0x5e1;
        std::iter::once(self.caller()).chain((1..DEPTH).map(outer)).collect()
    }
}

/// Every function that is on a call path, with where it begins.
pub(crate) fn functions() -> Vec<(u64, String)> {
    let mut functions: Vec<_> = Site::all()
        .flat_map(Site::addresses)
        .map(|address| (address - 0x40, format!("function_at_{address:x}")))
        .collect();
    functions.sort();
    functions.dedup();
    functions
}

/// Writes the call paths of everything that the machine does.
pub(crate) fn write_stacks<S: Sink>(writer: &mut Writer<S>) -> Result<(), WriteError> {
    for site in Site::all() {
        writer.stack(site.stack(), &site.addresses())?;
    }
    for (start, function) in functions() {
        let frame = Frame { function, offset: 0x40, module: None, file: None, line: None, inlined: false };
        writer.frames(start + 0x40, &[frame])?;
    }
    Ok(())
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self {
            random: 0x2545_f491_4f6c_dd1d,
            time: 90_000_000_000,
            records: Vec::new(),
            running: (0..CPUS).map(|_| Vec::new().into_iter()).collect(),
            current: vec![0; usize::from(CPUS)],
            named: BTreeSet::new(),
            hazards: 0,
        }
    }

    /// How many hazards there were so far.
    pub(crate) fn hazards(&self) -> u64 {
        self.hazards
    }

    /// Some records more.
    pub(crate) fn next(&mut self) -> &[Record] {
        self.records.clear();
        self.turn();
        &self.records
    }

    /// xorshift64: the same trace each time.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Lets each CPU deliver some records.
    fn turn(&mut self) {
        for cpu in 0..CPUS {
            let burst = 8 + self.random(57);
            for _ in 0..burst {
                let record = self.running[usize::from(cpu)].next();
                let record = record.unwrap_or_else(|| {
                    let mut section = self.section(cpu).into_iter();
                    let first = section.next().unwrap_or_default();
                    self.running[usize::from(cpu)] = section;
                    first
                });
                self.time += 30 + self.random(200);
                self.records.push(Record { time: self.time, ..record });
            }
        }
    }

    /// One section of a system call, over part of a page table, and what stands around it.
    fn section(&mut self, cpu: u16) -> Vec<Record> {
        let path = self.random(PATHS);
        let tid = 1000 + u32::from(cpu) * 50 + path as u32;
        let who = Record { tid, tgid: tid, cpu, level: Level::Pte as u8, count: 1, ..Record::default() };
        let mut out = self.before(who);
        let most = if self.random(4) == 0 { 512 } else { 48 };
        let pages = 1 + self.random(most);
        // No table is in use on two CPUs, or twice on one: the only hazards are those that are put in.
        let tables = [0, 1].map(|side| self.random(1 << 17) << 3 | u64::from(cpu) << 1 | side);
        let [source, target] = tables.map(|table| 0xffff_8880_0000_0000 + (table << 12));
        let kind = self.random(4);
        let large = self.random(8) == 0;
        let site = |number| Site { number, path };
        out.push(mode(who, Op::Enter, 1, site(kind * 10)));
        let mut page = 0;
        while page < pages {
            // A large folio is handled in one go.
            let count = if large { 16.min(pages - page) } else { 1 };
            let frame = 0x100_0000 + self.random(0x40_0000);
            let value = 0x8000_0000_0000_0867 | frame << 12;
            let site = |number| site(kind * 10 + number);
            let from = Record { entry: source + 8 * page, ..who };
            let to = Record { entry: target + 8 * page, count: count as u16, ..who };
            let all = Record { count: count as u16, ..from };
            out.push(read(from, value, site(1)));
            match kind {
                // copy_pte_range(): write-protect the parent's, set the child's.
                0 => {
                    out.push(rmw(all, Op::WrprotectPtes, value, site(2)));
                    out.push(write(to, Op::SetPtes, value & !2, site(3)));
                }
                // change_pte_range()
                1 => {
                    out.push(rmw(all, Op::ModifyProtStart, value, site(2)));
                    out.push(write(all, Op::ModifyProtCommit, value & !2, site(3)));
                }
                // zap_pte_range()
                2 => out.push(rmw(all, Op::GetAndClearFullPtes, value, site(2))),
                // move_ptes()
                _ => {
                    out.push(rmw(all, Op::GetAndClearFullPtes, value, site(2)));
                    out.push(write(to, Op::SetPtes, value, site(3)));
                }
            }
            page += count;
        }
        // One section in two thousand has the hazard.
        if self.random(2000) == 0 {
            let entry = Record { entry: source, ..who };
            out.push(write(entry, Op::SetPtes, 0x8000_0000_0123_4867, site(91)));
            out.push(read(entry, 0x8000_0000_0123_4867, site(92)));
            self.hazards += 1;
        }
        out.push(mode(who, Op::Leave, 0, site(kind * 10 + 4)));
        if self.random(2) == 0 {
            let start = 0x7f00_0000_0000 + (tables[0] << 21);
            out.push(Record { entry: start, value: start + (pages << 12), ..other(who, Kind::TlbFlush, 0) });
        }
        out
    }

    /// What brings the task to the section: a switch to it, its name if it is new, now and then a fault.
    fn before(&mut self, who: Record) -> Vec<Record> {
        let mut out = Vec::new();
        let last = std::mem::replace(&mut self.current[usize::from(who.cpu)], who.tid);
        if last != who.tid {
            let op = if self.random(3) == 0 { Op::Preempted } else { Op::Blocked };
            let switch = other(Record { tid: last, tgid: last, ..who }, Kind::Switch, op as u8);
            out.push(Record { value: who.tid.into(), ..switch });
        }
        if self.named.insert(who.tid) {
            let name = u64::from_le_bytes(*b"worker-\0");
            out.push(Record { entry: name, ..other(who, Kind::TaskName, 0) });
        }
        if self.random(100) == 0 {
            let address = 0xffff_c900_0000_0000 + (self.random(1 << 20) << 12);
            out.push(Record { entry: address, ..other(who, Kind::Fault, 0) });
        }
        out
    }
}

/// A record that is about no entry and no call.
fn other(who: Record, kind: Kind, op: u8) -> Record {
    Record { kind: kind as u8, op, level: 0, count: 0, flags: Flags::VALUE, ..who }
}

fn mode(who: Record, op: Op, enable: u64, site: Site) -> Record {
    let flags = Flags::VALUE | Flags::MEMORY;
    let (stack, caller) = (site.stack(), site.caller());
    Record {
        kind: Kind::Section as u8,
        op: op as u8,
        level: 0,
        count: 0,
        value: enable,
        flags,
        stack,
        caller,
        ..who
    }
}

fn read(at: Record, value: u64, site: Site) -> Record {
    access(at, Kind::Read, Op::PtepGet, value, value, site)
}

fn write(at: Record, op: Op, value: u64, site: Site) -> Record {
    access(at, Kind::Write, op, value, value, site)
}

fn rmw(at: Record, op: Op, old: u64, site: Site) -> Record {
    access(at, Kind::Rmw, op, old, old & !2, site)
}

fn access(at: Record, kind: Kind, op: Op, value: u64, memory: u64, site: Site) -> Record {
    let flags = Flags::VALUE | Flags::MEMORY;
    let (stack, caller) = (site.stack(), site.caller());
    Record { kind: kind as u8, op: op as u8, value, memory, flags, stack, caller, ..at }
}
