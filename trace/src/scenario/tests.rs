//! Whole scenarios, and what is wrong with broken ones.

use lazymmu_abi::Kind::{self, Read, Rmw, Section, Switch, TaskName, Write};
use lazymmu_abi::{Context, Flags, Level, Op, Record};

use super::*;
use crate::Reader;

const FORK: &str = "
# The origin.
scenario fork of a device-exclusive range
kernel 7.2
value EXCLUSIVE = 0xefffffffb3d62400
value PRESENT = 0x800000000a138867
entry src pte
entry many pte x 16

task parent on cpu 2 in copy_pte_range < copy_page_range < dup_mmap
  enter at mm/memory.c:1275
  write src = PRESENT by set_ptes in restore_exclusive_pte@mm/memory.c:905 < copy_pte_range
  read src = EXCLUSIVE at mm/memory.c:1309
  rmw many[3] x 4 by wrprotect_ptes
  leave
switch cpu 2 from parent to idle blocked
expect read-pending on strict, xen-pv proven
";

fn parse(text: &str) -> Scenario {
    Scenario::parse("test.scn", text).unwrap()
}

fn of_kind(scenario: &Scenario, kind: Kind) -> Vec<Record> {
    scenario.records.iter().filter(|record| record.kind == kind as u8).copied().collect()
}

fn functions(scenario: &Scenario, record: &Record) -> Vec<String> {
    scenario.symbols.frames(record.stack).map(|frame| frame.function.clone()).collect()
}

#[test]
fn a_scenario_is_what_a_trace_is() {
    let scenario = parse(FORK);
    assert_eq!(scenario.title, "fork of a device-exclusive range");
    assert_eq!((scenario.header.kernel.release.as_str(), scenario.header.kernel.cpus), ("7.2", 3));
    let kinds: Vec<_> = scenario.records.iter().map(|record| Kind::try_from(record.kind).unwrap()).collect();
    assert_eq!(kinds, [TaskName, Section, Write, Read, Rmw, Section, Switch]);
    assert!(scenario.records.iter().all(|record| (record.tid, record.tgid, record.cpu) == (101, 101, 2)));
    assert!(scenario.records.is_sorted_by_key(|record| record.time));

    let sections = of_kind(&scenario, Section);
    assert_eq!([sections[0].value, sections[1].value], [1, 0]);
    assert_eq!((sections[0].op, sections[1].op), (Op::Enter as u8, Op::Leave as u8));

    let write = of_kind(&scenario, Write)[0];
    assert_eq!((write.value, write.op, write.level), (0x800000000a138867, Op::SetPtes as u8, 1));
    assert_eq!(write.flags, Flags::VALUE, "nothing was said of memory");
    assert_eq!(
        functions(&scenario, &write),
        ["restore_exclusive_pte", "copy_pte_range", "copy_page_range", "dup_mmap"]
    );
    assert_eq!(scenario.symbols.addresses(write.stack).map(|all| all[0]), Some(write.caller));

    let read = of_kind(&scenario, Read)[0];
    assert_eq!((read.entry, read.op), (write.entry, Op::PtepGet as u8));
    assert_eq!((read.known_value(), read.known_memory()), (Some(read.memory), Some(0xefffffffb3d62400)));
    let innermost = scenario.symbols.frames(read.stack).next().unwrap();
    assert_eq!((innermost.file.as_deref(), innermost.line), (Some("mm/memory.c"), Some(1309)));

    let rmw = of_kind(&scenario, Rmw)[0];
    assert_eq!((rmw.entry, rmw.count, rmw.known_value()), (write.entry + 4096 + 24, 4, None));
    assert_eq!(of_kind(&scenario, Switch)[0].op, Op::Blocked as u8);
    assert_eq!(scenario.expectations[0].line, 17);
}

#[test]
fn as_a_trace_it_reads_the_same() {
    let scenario = parse(FORK);
    let bytes = scenario.to_trace().unwrap();
    let mut reader = Reader::from_bytes(&bytes).unwrap();
    assert_eq!(reader.about.header, scenario.header);
    assert_eq!(reader.about.symbols, scenario.symbols);
    let mut records = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        records.extend_from_slice(batch);
    }
    assert_eq!(records, scenario.records);
    assert_eq!(reader.damage(), None);
}

#[test]
fn before_7_0_there_are_no_counters() {
    let scenario = parse("scenario old\nkernel 6.12.117\ntask a on cpu 0\n enter\n leave");
    for record in of_kind(&scenario, Section) {
        assert_eq!((record.value, record.memory), (u32::MAX.into(), u32::MAX.into()));
    }
}

#[test]
fn interrupts_come_into_the_task_that_runs() {
    let scenario = parse(
        "scenario softirq
         entry e pmd
         task a on cpu 1 in f
           enter
         interrupt softirq on cpu 1 in g
           enter
           write e by pmd_clear
         task a on cpu 1
           leave counters 7 2",
    );
    let sections = of_kind(&scenario, Section);
    let seen: Vec<_> =
        sections.iter().map(|record| (record.context(), record.value, record.memory)).collect();
    assert_eq!(seen, [(Context::Task, 1, 0), (Context::Softirq, 1, 0), (Context::Task, 7, 2)]);
    let write = of_kind(&scenario, Write)[0];
    assert_eq!((write.tid, write.context(), write.level), (101, Context::Softirq, Level::Pmd as u8));
    assert_eq!(functions(&scenario, &write), ["g"], "an interrupt has a path of its own");
}

#[test]
fn tasks_threads_and_losses() {
    let scenario = parse(
        "scenario threads
         task leader on cpu 0
           exit
         task a-very-long-name-of-a-task of leader on cpu 1
           fault 0xffffc90000000000 = 2
           tlb-flush 0x1000..0x3000
         lost 3 write on cpu 1
         lost some records on any cpu",
    );
    let fault = of_kind(&scenario, Kind::Fault)[0];
    assert_eq!((fault.tid, fault.tgid, fault.entry), (102, 101, 0xffffc90000000000));
    assert_eq!(fault.known_value(), Some(2));
    let flush = of_kind(&scenario, Kind::TlbFlush)[0];
    assert_eq!((flush.entry, flush.value), (0x1000, 0x3000));
    assert_ne!(flush.memory, 0, "the process, not the kernel");
    let name = of_kind(&scenario, TaskName)[1];
    assert_eq!([name.entry.to_le_bytes(), name.value.to_le_bytes()], [*b"a-very-l", *b"ong-nam\0"]);
    let lost = of_kind(&scenario, Kind::Lost);
    assert_eq!((lost[0].value, lost[0].op, lost[0].cpu), (3, Write as u8, 1));
    assert_eq!((lost[1].value, lost[1].op, lost[1].cpu), (0, 0, Record::ANY_CPU));
}

#[test]
fn an_entry_for_an_address_stands_where_its_table_has_it() {
    let scenario = parse(
        "scenario places
         entry a pte for 0xffffc90000003000
         entry b pmd x 2 for 0xffffc90000600000
         entry c pud at 0x1008
         task t on cpu 0
           write a
           write b[1]
           write c",
    );
    let entries: Vec<_> = of_kind(&scenario, Write).iter().map(|record| record.entry & 0xfff).collect();
    assert_eq!(entries, [8 * 3, 8 * 4, 8]);
}

#[test]
fn a_scenario_is_known_by_its_first_word() {
    assert!(Scenario::is_at_start_of(b"\n# why\n\n  scenario x"));
    for other in [&b"LMMUTRC"[..], b"", b"# scenario", b"scenarios x", b"\xff\xfe"] {
        assert!(!Scenario::is_at_start_of(other));
    }
}

#[test]
fn faults_say_where_and_what_was_expected() {
    let start = "scenario x\nentry e pte x 4\nvalue V = 1\ntask a on cpu 0 in f\n";
    for (line, at, what) in [
        ("scenario y", 1, "expected a statement: `kernel`"),
        ("read", 5, "expected the name of an entry, the line ends"),
        ("read f", 6, "there is no `entry f`"),
        ("read e[4]", 6, "`e` has entries 0 to 3"),
        ("read e x 5", 10, "there are only 4 entries from there on"),
        ("read e = W", 10, "expected a number or a name that a `value` line gave, found `W`"),
        ("read e by set_ptes", 11, "`set_ptes` is no read but a write"),
        ("read e by pmdp_get", 11, "`pmdp_get` works on a pmd, and the entry is a pte"),
        ("read e by nothing", 11, "there is no operation `nothing`"),
        ("rmw e = V", 10, "expected `by` and an operation of kind rmw, the line ends"),
        ("read e = V = V", 12, "expected `in PATH`, `at FILE:LINE` or the end of the line, found `=`"),
        ("read e in f g", 13, "expected `in PATH`"),
        ("read e in f <", 14, "expected a function, such as"),
        ("read e at memory.c", 11, "expected a source line, such as mm/memory.c:905, found `memory.c`"),
        ("enter counters 256 0", 16, "expected the enable count, from 0 to 255, found `256`"),
        ("entry e pte", 7, "`e` was named before"),
        ("entry g huge", 9, "expected a level"),
        ("entry g pte at 0x1004", 16, "expected an address that can be divided by 8"),
        ("entry g pte x 2 for 0x1ff000", 21, "2 entries from the one for it on are not in one table"),
        ("kernel 7.2 now", 12, "expected the end of the line, found `now`"),
        ("kernel seven", 8, "`seven` is no release"),
        ("task b on 0", 11, "expected `cpu`, found `0`"),
        ("interrupt softirq on cpu 3", 26, "no task has run on cpu 3 so far"),
        ("interrupt task on cpu 0", 11, "expected `softirq`, `hardirq` or `nmi`, found `task`"),
        (
            "switch cpu 0 from b to a blocked",
            19,
            "expected the name of a task that was on a `task` line before",
        ),
        ("switch cpu 0 from idle to a blocked", 19, "another task runs on cpu 0"),
        ("switch cpu 0 from a to idle", 28, "expected `blocked` or `preempted`, the line ends"),
        ("lost 0 write on cpu 0", 6, "expected how many, or `some`, found `0`"),
        ("lost 1 thing on cpu 0", 8, "expected a kind"),
        ("tlb-flush 5..5", 11, "expected a range of addresses"),
        ("expect read-pending", 20, "expected `on`, the line ends"),
    ] {
        let text = format!("{start}{line}");
        let error = Scenario::parse("x.scn", &text).unwrap_err().to_string();
        let place = format!("read the scenario x.scn: line 5, column {at}: ");
        let fault = error.strip_prefix(&place).unwrap_or_else(|| panic!("{line}: {error}"));
        assert!(fault.starts_with(what), "{line}: {fault}");
    }
}

#[test]
fn what_comes_too_late_or_too_early_is_refused() {
    for (text, line, what) in [
        ("", 1, "the text has no `scenario TITLE`"),
        ("kernel 7.2", 1, "expected `scenario`, found `kernel`"),
        ("scenario x\nenter", 2, "expected a `task` or `interrupt` line before the first step"),
        ("scenario x\ntask a on cpu 0\nenter\nkernel 6.12", 4, "this must stand before the first step"),
        (
            "scenario x\ntask a on cpu 0\nswitch cpu 0 from a to idle blocked\nenter",
            4,
            "expected a `task` or `interrupt` line",
        ),
        ("scenario x\ntask a on cpu 0\nenter at mm/memory.c:1", 3, "there is no function"),
    ] {
        match Scenario::parse("x.scn", text) {
            Err(ScenarioError::Syntax { line: at, fault, .. }) => {
                assert!(at == line && fault.starts_with(what), "{text}: line {at}: {fault}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn no_text_makes_it_panic() {
    let words: Vec<_> = FORK.split_inclusive(char::is_whitespace).collect();
    for left_out in 0..words.len() {
        let text: String =
            words.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, word)| *word).collect();
        let _ = Scenario::parse("x.scn", &text);
        for other in ["0xffffffffffffffff ", "x 65535 ", "\u{1f980}[ ", "= ", "[ ", "< "] {
            let mut words = words.clone();
            words[left_out] = other;
            let _ = Scenario::parse("x.scn", &words.concat());
        }
    }
}
