//! Small histories with everything that a trace has: header, call stacks with names, records.

#![allow(dead_code, reason = "not every test that has these histories wants each of them")]

use lazymmu_abi::{Flags, Kind, Level, Op, Record};
use lazymmu_hazard::{Arch, Config, Engine, Gap, Outcome};
use lazymmu_trace::{Damage, Fault, Frame, Header, Hook, LostRecords, Reader, Symbols};

pub(crate) struct Scenario {
    pub(crate) header: Header,
    pub(crate) symbols: Symbols,
    pub(crate) outcome: Outcome,
    pub(crate) damage: Option<Damage>,
}

const ENTER: u64 = 11;
const WRITE: u64 = 12;
const READ: u64 = 13;
const RMW: u64 = 14;
const ENTRY: u64 = 0xffff_8880_04bc_5238;
const EXCLUSIVE: u64 = 0xefff_ffff_b3d6_2400;
const PRESENT: u64 = 0x8000_0000_0a13_8867;

fn header() -> Header {
    let mut header = Header::default();
    "7.2.13".clone_into(&mut header.kernel.release);
    "#1 SMP PREEMPT_DYNAMIC".clone_into(&mut header.kernel.version);
    header.kernel.build_id = Some("2f1d9a7c40b2e6d8".to_owned());
    "sections".clone_into(&mut header.capture.level);
    for name in ["read", "write", "rmw", "section"] {
        let name = format!("lazy_mmu:lazy_mmu_{name}");
        header.plan.hooks.push(Hook { name, source: "dev".to_owned(), missing: None });
    }
    header
}

fn frame(function: &str, offset: u64, line: u32, inlined: bool) -> Frame {
    let file = Some("mm/memory.c".to_owned());
    Frame { function: function.to_owned(), offset, module: None, file, line: Some(line), inlined }
}

/// The call paths of the fork, with the lines of 7.2.13.
fn symbols() -> Symbols {
    let mut symbols = Symbols::default();
    let addresses = [
        (0x100, vec![frame("copy_pte_range", 0x1f3, 1275, false)]),
        (
            0x200,
            vec![
                frame("restore_exclusive_pte", 0, 905, true),
                frame("try_restore_exclusive_pte", 0, 926, true),
                frame("copy_nonpresent_pte", 0, 1033, true),
                frame("copy_pte_range", 0x6ac, 1297, false),
            ],
        ),
        (0x300, vec![frame("copy_pte_range", 0x734, 1309, false)]),
        (
            0x400,
            vec![
                frame("__copy_present_ptes", 0, 1106, true),
                frame("copy_present_ptes", 0, 1197, true),
                frame("copy_pte_range", 0x8b1, 1319, false),
            ],
        ),
        (0x500, vec![frame("copy_page_range", 0x2d0, 1498, false)]),
        (
            0x600,
            vec![Frame {
                function: "dmirror_exclusive".to_owned(),
                offset: 0x44,
                module: Some("test_hmm".to_owned()),
                file: None,
                line: None,
                inlined: false,
            }],
        ),
    ];
    for (address, frames) in addresses {
        symbols.insert_frames(address, frames);
    }
    for (stack, address) in [(ENTER, 0x100), (WRITE, 0x200), (READ, 0x300), (RMW, 0x400)] {
        symbols.insert_stack(stack, vec![address, 0x500, 0x600, 0xffff_ffff_8110_2030]);
    }
    symbols
}

fn record(kind: Kind, op: Op, stack: u64) -> Record {
    let level = op.info().level.map_or(0, |level| level as u8);
    Record {
        tid: 77,
        tgid: 77,
        cpu: 1,
        kind: kind as u8,
        op: op as u8,
        stack,
        level,
        flags: Flags::VALUE,
        ..Record::default()
    }
}

fn mode(op: Op, enable: u64) -> Record {
    Record { value: enable, flags: Flags::VALUE | Flags::MEMORY, ..record(Kind::Section, op, ENTER) }
}

fn write(entry: u64, value: u64) -> Record {
    Record { entry, value, count: 1, ..record(Kind::Write, Op::SetPtes, WRITE) }
}

fn read(entry: u64, value: u64) -> Record {
    let flags = Flags::VALUE | Flags::MEMORY;
    Record { entry, value, memory: value, count: 1, flags, ..record(Kind::Read, Op::PtepGet, READ) }
}

fn rmw(entry: u64, value: u64) -> Record {
    Record { entry, value, count: 1, ..record(Kind::Rmw, Op::WrprotectPtes, RMW) }
}

fn name() -> Record {
    Record {
        entry: u64::from_le_bytes(*b"fork-exc"),
        value: u64::from_le_bytes(*b"lusive\0\0"),
        tid: 77,
        kind: Kind::TaskName as u8,
        ..Record::default()
    }
}

fn lost(cpu: u16, kind: Kind, value: u64) -> Record {
    Record { cpu, value, op: kind as u8, kind: Kind::Lost as u8, ..Record::default() }
}

fn run(mut records: Vec<Record>, gaps: &[Gap]) -> Outcome {
    for (number, record) in records.iter_mut().enumerate() {
        record.time = 4_000_000_000 + 640 * number as u64;
    }
    let mut engine = Engine::new(Config { arch: Arch::X86_64, ..Config::default() });
    engine.process_all(&records);
    for gap in gaps {
        engine.gap(*gap);
    }
    engine.finish()
}

/// What a trace file says.
pub(crate) fn of_trace(path: &str) -> Scenario {
    let mut reader = Reader::open(path).unwrap();
    let arch = Arch::from_machine(&reader.about.header.kernel.architecture);
    let mut engine = Engine::new(Config { arch, ..Config::default() });
    while let Some(batch) = reader.next_batch().unwrap() {
        engine.process_all(batch);
    }
    let damage = reader.damage();
    let Reader { about, .. } = reader;
    Scenario { header: about.header, symbols: about.symbols, outcome: engine.finish(), damage }
}

/// The fork: three entries are restored, read back, and write-protected.
pub(crate) fn fork_exclusive() -> Scenario {
    let mut records = vec![name(), mode(Op::Enter, 1)];
    for index in 0..3 {
        let (entry, value) = (ENTRY + 8 * index, PRESENT + (index << 12));
        records.extend([read(entry, EXCLUSIVE), write(entry, value), read(entry, value), rmw(entry, value)]);
    }
    records.push(mode(Op::Leave, 0));
    Scenario { header: header(), symbols: symbols(), outcome: run(records, &[]), damage: None }
}

/// Two sections in which nothing is read back.
pub(crate) fn clean() -> Scenario {
    let section = [mode(Op::Enter, 1), read(ENTRY, 0), write(ENTRY, PRESENT), mode(Op::Leave, 0)];
    let records = section.iter().chain(&section).copied().collect();
    Scenario { header: header(), symbols: symbols(), outcome: run(records, &[]), damage: None }
}

/// A kernel that defers: the read gets the old value. The trace is torn, and the stack of the read is lost.
pub(crate) fn proven_and_lossy() -> Scenario {
    let mut header = header();
    let hook = &mut header.plan.hooks[2];
    hook.missing = Some("this kernel's drop-in is older than the tracepoint".to_owned());
    let unknown = Record { stack: 99, ..read(ENTRY, EXCLUSIVE) };
    let pmd = Record { level: Level::Pmd as u8, op: Op::PmdpGet as u8, ..read(ENTRY + 64, 0) };
    let set_pmd = Record { op: Op::SetPmd as u8, level: Level::Pmd as u8, ..write(ENTRY + 64, 0x0a13_8067) };
    let records = vec![
        mode(Op::Enter, 1),
        write(ENTRY, PRESENT),
        unknown,
        set_pmd,
        pmd,
        lost(0, Kind::Read, 30),
        lost(1, Kind::Stack, 4),
        mode(Op::Leave, 0),
    ];
    let damage = Damage {
        at: 4096,
        fault: Fault::Torn,
        places: 1,
        bytes: 100,
        file_bytes: 4196,
        records: LostRecords::AtMost(12),
        call_paths: false,
        unfinished: true,
    };
    Scenario { header, symbols: symbols(), outcome: run(records, &[Gap::CutOff]), damage: Some(damage) }
}

/// Nothing found, and not everything seen.
pub(crate) fn inconclusive() -> Scenario {
    let records = vec![
        mode(Op::Enter, 1),
        write(ENTRY, PRESENT),
        Record { cpu: Record::ANY_CPU, ..lost(0, Kind::Lost, 0) },
        lost(0, Kind::Section, 2),
        read(ENTRY, PRESENT),
        Record { kind: 200, ..Record::default() },
    ];
    Scenario {
        header: header(),
        symbols: Symbols::default(),
        outcome: run(records, &[Gap::Coverage]),
        damage: None,
    }
}

/// The fork on a kernel whose names and files were chosen to get out of every form that a report has.
pub(crate) fn hostile() -> Scenario {
    let mut scenario = fork_exclusive();
    let name =
        "x</script><script>alert(1)</script>\"'&{{7*7}}]]>\n::error::#  # SKIP\nok 1 - y\u{1b}[31m\u{2028}";
    for (address, function) in [(0x300, name), (0x500, "../../<b>&amp;")] {
        let mut frame = frame(function, 3, 0, false);
        frame.file = Some("mm/a b?<i>\n,:%é.c".to_owned());
        scenario.symbols.insert_frames(address, vec![frame]);
    }
    let header = &mut scenario.header;
    "6.6.6\n<img src=x onerror=alert(2)>".clone_into(&mut header.kernel.release);
    "#1 </style><style>*{display:none}".clone_into(&mut header.kernel.version);
    scenario
}
