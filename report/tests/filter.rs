//! Filters over histories made at random: a reduced trace gives the same findings as the whole one.

use lazymmu_abi::{Context, Flags, Kind, Level, Op, Record};
use lazymmu_hazard::rules::Severity;
use lazymmu_hazard::{Arch, Config, Engine, Outcome};
use lazymmu_report::Filter;
use lazymmu_report::filter::{Reducer, Selection};
use lazymmu_trace::{Frame, Symbols};
use proptest::prelude::*;

/// Stacks 1 to 6, each of one function.
const FUNCTIONS: [&str; 6] = ["enter_a", "enter_b", "write_a", "write_b.isra.0", "read_a", "read_b"];

fn symbols() -> Symbols {
    let mut symbols = Symbols::default();
    for (id, function) in (1..).zip(FUNCTIONS) {
        let function = function.to_owned();
        let frame = Frame { function, offset: 1, module: None, file: None, line: None, inlined: false };
        symbols.insert_frames(0x1000 * id, vec![frame]);
        symbols.insert_stack(id, vec![0x1000 * id]);
    }
    symbols
}

fn engine() -> Engine {
    Engine::new(Config { arch: Arch::X86_64, ..Config::default() })
}

#[derive(Clone, Debug)]
enum Step {
    Mode {
        task: usize,
        op: Op,
        stack: u64,
    },
    Access {
        task: usize,
        op: Op,
        entry: u64,
        count: u16,
        value: u64,
        stack: u64,
        context: Context,
    },
    Switch {
        task: usize,
    },
    Move {
        task: usize,
        cpu: u16,
    },
    Name {
        task: usize,
        name: &'static str,
    },
    Exit {
        task: usize,
    },
    Lost {
        cpu: u16,
        kind: Kind,
    },
    /// A mode call that no record tells of.
    Unseen {
        task: usize,
    },
    Unknown {
        task: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let task = || 0..4usize;
    let modes = prop::sample::select(vec![
        Op::Enter,
        Op::Enter,
        Op::Leave,
        Op::Leave,
        Op::Flush,
        Op::Pause,
        Op::Resume,
    ]);
    let accesses = prop::sample::select(vec![
        Op::PtepGet,
        Op::PtepGet,
        Op::SetPtes,
        Op::SetPtes,
        Op::WrprotectPtes,
        Op::PteClear,
        Op::PmdpGet,
        Op::SetPmd,
        Op::PtepSetAccessFlags,
    ]);
    let contexts = prop::sample::select(vec![Context::Task, Context::Task, Context::Task, Context::Hardirq]);
    let access = (task(), accesses, 0..6u64, 1..3u16, 1..3u64, 3..7u64, contexts).prop_map(
        |(task, op, entry, count, value, stack, context)| Step::Access {
            task,
            op,
            entry,
            count,
            value,
            stack,
            context,
        },
    );
    prop_oneof![
        8 => (task(), modes, 1..3u64).prop_map(|(task, op, stack)| Step::Mode { task, op, stack }),
        24 => access,
        1 => task().prop_map(|task| Step::Switch { task }),
        1 => (task(), 0..2u16).prop_map(|(task, cpu)| Step::Move { task, cpu }),
        1 => (task(), prop::sample::select(vec!["sh", "cat"])).prop_map(|(task, name)| Step::Name { task, name }),
        1 => task().prop_map(|task| Step::Exit { task }),
        1 => (0..2u16, prop::sample::select(vec![Kind::Read, Kind::Write, Kind::Section, Kind::Stack]))
            .prop_map(|(cpu, kind)| Step::Lost { cpu, kind }),
        1 => task().prop_map(|task| Step::Unseen { task }),
        1 => task().prop_map(|task| Step::Unknown { task }),
    ]
}

#[derive(Clone, Copy, Default)]
struct Task {
    enable: u64,
    pause: u64,
    cpu: u16,
}

/// What a kernel of 7.0 or later would have sent.
fn records(steps: &[Step]) -> Vec<Record> {
    records_of(steps, true)
}

/// The same for a kernel that keeps the task's counters, or one that does not (before 7.0).
fn records_of(steps: &[Step], counters: bool) -> Vec<Record> {
    let mut tasks = [Task::default(); 4];
    let mut records: Vec<Record> = Vec::new();
    for step in steps {
        let of = |task: usize, tasks: &[Task; 4]| Record {
            time: 1_000_000 + 1_000 * records.len() as u64,
            tid: 10 + task as u32,
            tgid: 10 + (task / 2 * 2) as u32,
            cpu: tasks[task].cpu,
            ..Record::default()
        };
        let record = match *step {
            Step::Mode { task, op, stack } => {
                let Task { enable, pause, .. } = &mut tasks[task];
                match op {
                    Op::Enter if *pause == 0 => *enable += 1,
                    Op::Leave if *pause == 0 && *enable > 0 => *enable -= 1,
                    Op::Pause => *pause += 1,
                    Op::Resume => *pause = pause.saturating_sub(1),
                    _ => {}
                }
                let unknown = u64::from(u32::MAX);
                let (value, memory) = if counters { (*enable, *pause) } else { (unknown, unknown) };
                let flags = Flags::VALUE | Flags::MEMORY;
                let (kind, op) = (Kind::Section as u8, op as u8);
                Record { kind, op, value, memory, flags, stack, ..of(task, &tasks) }
            }
            Step::Access { task, op, entry, count, value, stack, context } => Record {
                kind: op.info().kind as u8,
                op: op as u8,
                level: op.info().level.map_or(0, |level: Level| level as u8),
                entry: 0x8000 + 8 * entry,
                count,
                value: value << 12 | 1,
                stack,
                flags: Flags::VALUE | context as u8,
                ..of(task, &tasks)
            },
            Step::Switch { task } => {
                Record { kind: Kind::Switch as u8, op: Op::Preempted as u8, ..of(task, &tasks) }
            }
            Step::Move { task, cpu } => {
                tasks[task].cpu = cpu;
                continue;
            }
            Step::Name { task, name } => {
                let mut bytes = [0; 8];
                bytes[..name.len()].copy_from_slice(name.as_bytes());
                Record { kind: Kind::TaskName as u8, entry: u64::from_le_bytes(bytes), ..of(task, &tasks) }
            }
            Step::Exit { task } => {
                let record = Record { kind: Kind::TaskExit as u8, ..of(task, &tasks) };
                tasks[task] = Task::default();
                record
            }
            Step::Lost { cpu, kind } => {
                Record { kind: Kind::Lost as u8, op: kind as u8, cpu, value: 2, ..of(0, &tasks) }
            }
            Step::Unseen { task } => {
                tasks[task].enable += 1;
                continue;
            }
            Step::Unknown { task } => Record { kind: Kind::Read as u8, op: 31, ..of(task, &tasks) },
        };
        records.push(record);
    }
    records
}

fn term() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "pid=10",
        "pid=12",
        "tid=11",
        "tid=13",
        "comm=sh",
        "comm=c*",
        "cpu=0",
        "cpu=1",
        "time=..40us",
        "time=20us..60us",
        "rule=read-pending",
        "rule=rmw*",
        "function=enter_a",
        "function=write_b",
        "function=read_*",
        "level=pte",
        "level=pmd,pud",
    ])
    .prop_map(str::to_owned)
}

fn expression() -> impl Strategy<Value = String> {
    term().prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| format!("not ({inner})")),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" and "))),
            prop::collection::vec(inner, 2..4).prop_map(|parts| format!("({})", parts.join(" or "))),
        ]
    })
}

fn judge(records: &[Record], selection: Selection, symbols: &Symbols) -> Outcome {
    let (mut engine, mut selection) = (engine(), selection);
    engine.watch();
    for record in records {
        engine.process(record);
        selection.take(&mut engine);
    }
    engine.end();
    selection.take(&mut engine);
    selection.outcome(engine.finish(), symbols)
}

fn reduce(records: &[Record], filter: &Filter, symbols: Option<&Symbols>) -> Vec<Record> {
    let mut reducer = Reducer::new(filter.clone(), engine());
    let mut kept = Vec::new();
    for record in records {
        reducer.push(record, symbols, &mut kept);
    }
    reducer.finish(symbols, &mut kept);
    kept
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn a_reduced_trace_gives_the_same_findings(
        steps in prop::collection::vec(step(), 1..120),
        text in expression(),
        counters: bool,
    ) {
        let (records, symbols) = (records_of(&steps, counters), symbols());
        let filter: Filter = text.parse().unwrap();
        let mut whole = judge(&records, Selection::new(filter.clone()), &symbols);
        whole.occurrences.retain(|found| found.place.rule.info().severity != Severity::Advice);
        for names in [Some(&symbols), None] {
            let kept = reduce(&records, &filter, names);
            let reduced = judge(&kept, Selection::new(filter.clone()).of_reduced(), &symbols);
            prop_assert_eq!(&whole.occurrences, &reduced.occurrences);
            prop_assert_eq!(whole.reasons(), reduced.reasons());
            prop_assert_eq!(whole.verdict(), reduced.verdict());
            prop_assert_eq!(&whole.losses, &reduced.losses);
        }
    }

    #[test]
    fn a_filter_that_selects_all_changes_nothing(steps in prop::collection::vec(step(), 1..120)) {
        let (records, symbols) = (records(&steps), symbols());
        let all: Filter = "cpu=0,1".parse().unwrap();
        let mut engine = engine();
        engine.process_all(&records);
        prop_assert_eq!(judge(&records, Selection::new(all), &symbols), engine.finish());
    }

    #[test]
    fn every_expression_reads_back(text in expression()) {
        let filter: Filter = text.parse().unwrap();
        prop_assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z=!,()\". *0-9éns\\\\]{0,60}") {
        let _ = text.parse::<Filter>();
    }
}

fn section(task: usize, entry: u64) -> [Step; 4] {
    let access =
        |op, stack| Step::Access { task, op, entry, count: 1, value: 1, stack, context: Context::Task };
    [
        Step::Mode { task, op: Op::Enter, stack: 1 },
        access(Op::SetPtes, 3),
        access(Op::PtepGet, 5),
        Step::Mode { task, op: Op::Leave, stack: 1 },
    ]
}

#[test]
fn what_is_not_selected_is_left_out() {
    let steps: Vec<_> = [section(0, 0), section(2, 1), section(3, 2), section(2, 3)].concat();
    let records = records(&steps);
    let tids = |text: &str| {
        let kept = reduce(&records, &text.parse().unwrap(), Some(&symbols()));
        let (calls, accesses): (Vec<&Record>, Vec<&Record>) =
            kept.iter().partition(|record| record.kind == Kind::Section as u8);
        assert_eq!(calls.len(), 8, "mode calls always stay");
        accesses.iter().map(|record| record.tid).step_by(2).collect::<Vec<_>>()
    };
    assert_eq!(tids("tid=13"), [13]);
    assert_eq!(tids("pid=12"), [12, 13, 12]);
    assert_eq!(tids("time=12us.."), [12]);
    assert_eq!(tids("function=no_such"), [0; 0]);
    assert_eq!(tids("rule=read-pending and not tid=12"), [10, 13]);
}

#[test]
fn a_section_that_touches_a_kept_one_is_kept_with_it() {
    let [enter, write, _, leave] = section(2, 1);
    let [other_enter, other_write, _, other_leave] = section(3, 1);
    let steps = [enter, write, other_enter, other_write, other_leave, leave];
    let kept = reduce(&records(&steps), &"tid=13".parse().unwrap(), Some(&symbols()));
    assert_eq!(kept.len(), 6, "both or none");
}

#[test]
fn who_wrote_an_entry_first_still_counts_when_the_next_writer_is_done() {
    let [enter, write, _, _] = section(2, 1);
    let [other_enter, other_write, _, other_leave] = section(3, 1);
    let outside =
        |op| Step::Access { task: 0, op, entry: 1, count: 1, value: 1, stack: 3, context: Context::Task };
    let steps =
        [enter, write, other_enter, other_write, other_leave, outside(Op::SetPtes), outside(Op::PtepGet)];
    let kept = reduce(&records(&steps), &"level=pte".parse().unwrap(), Some(&symbols()));
    assert_eq!(kept.len(), steps.len(), "the write outside bears on what the read finds");
}

#[test]
fn a_section_without_end_does_not_hold_up_the_rest() {
    let access = Step::Access {
        task: 1,
        op: Op::SetPtes,
        entry: 5,
        count: 1,
        value: 1,
        stack: 3,
        context: Context::Task,
    };
    let mut steps = vec![Step::Mode { task: 1, op: Op::Enter, stack: 1 }, access];
    steps.extend(section(3, 1));
    let mut records = records(&steps);
    let kept = |records: &[Record]| {
        let mut reducer = Reducer::new("tid=13".parse().unwrap(), engine());
        let mut kept = Vec::new();
        for record in records {
            reducer.push(record, None, &mut kept);
        }
        kept.len()
    };
    assert_eq!(kept(&records), 1, "the open section may still turn out to be wanted");
    records[5].time += 3_000_000_000;
    assert_eq!(kept(&records), 6, "what waited too long is kept");
}
