//! The engine against a simulated machine, over random programs.
//!
//! `arch` says what each architecture does with each operation, `machine` does it with real memory and a real queue,
//! `kernel` is the layer above, `program` makes what runs on it, `trace` writes the records that the hooks would, and
//! `check` compares. None of them shares code with the engine.
//!
//! `LAZYMMU_ORACLE_PROGRAM=N cargo test -p lazymmu-hazard --test oracle -- --nocapture` repeats one program;
//! `LAZYMMU_ORACLE_SORTS=N` in its place shows one of each sort of failure among N programs.

mod arch;
mod check;
mod differ;
mod extras;
mod kernel;
mod losses;
mod machine;
mod naive;
mod program;
mod runner;
mod shape;
mod states;
mod tally;
mod trace;
mod values;

use lazymmu_abi::{Context, Kind, Op};
use lazymmu_hazard::profile::{Ops, ProfileId};

#[test]
fn the_engine_says_what_the_hardware_does() {
    if let Some(number) = std::env::var("LAZYMMU_ORACLE_PROGRAM").ok().and_then(|text| text.parse().ok()) {
        let tally = runner::run(number..number + 1).unwrap_or_else(|failure| panic!("{failure}"));
        println!("{}\n{}", program::program(number), tally.shown());
        return;
    }
    if let Some(numbers) = std::env::var("LAZYMMU_ORACLE_SORTS").ok().and_then(|text| text.parse().ok()) {
        for (sort, (count, number, _)) in runner::sorts(0..numbers) {
            println!("==== {count} times: {sort}\n{}\n", runner::failure(number));
        }
        return;
    }
    let tally = runner::run(0..runner::IN_TESTS).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{}", tally.shown());
    for rule in ["read-pending", "rmw-pending"] {
        assert!(tally.agreed_on(rule) > runner::IN_TESTS / 10, "the programs hardly meet {rule}");
    }
    assert!(tally.lossy[1] > runner::IN_TESTS / 20, "hardly anything is found when records are lost");
    let [same, different, _] = tally.proofs;
    assert!(same.min(different) > runner::IN_TESTS / 50, "the values are hardly compared");
}

/// A call, the counters after it, and what it makes the architecture do.
type Transition = (Op, (u8, u8), Option<Does>);

/// What the generic layer calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Enter,
    Leave,
    Flush,
}

/// The table in the message of the commit that lets sections nest, whole, in its order: "enable/pause represent the values
/// after the call". "[PATCH v6 09/14] mm: enable lazy_mmu sections to nest",
/// <20251215150323.2218608-10-kevin.brodsky@arm.com>.
const COMMIT: [Transition; 6] = [
    (Op::Enter, (1, 0), Some(Does::Enter)),
    (Op::Enter, (2, 0), None),
    (Op::Pause, (2, 1), Some(Does::Leave)),
    (Op::Resume, (2, 0), Some(Does::Enter)),
    (Op::Leave, (1, 0), Some(Does::Flush)),
    (Op::Leave, (0, 0), Some(Does::Leave)),
];

/// The calls of mm/tests/lazy_mmu_mode_kunit.c (7.2.13:17 to 58), whole, in its order. It only asks whether the mode is on;
/// what else stands here follows from include/linux/pgtable.h:261 to 387.
const KUNIT: [Transition; 10] = [
    (Op::Enter, (1, 0), Some(Does::Enter)),
    // "Nested section"
    (Op::Enter, (2, 0), None),
    (Op::Leave, (1, 0), Some(Does::Flush)),
    // "Paused section"
    (Op::Pause, (1, 1), Some(Does::Leave)),
    // "No effect (paused)"
    (Op::Enter, (1, 1), None),
    (Op::Leave, (1, 1), None),
    (Op::Pause, (1, 2), None),
    (Op::Resume, (1, 1), None),
    (Op::Resume, (1, 0), Some(Does::Enter)),
    (Op::Leave, (0, 0), Some(Does::Leave)),
];
/// What that test expects of is_lazy_mmu_mode_active() after each call; before the first it expects "not".
const KUNIT_ACTIVE: [bool; 10] = [true, true, true, false, false, false, false, false, true, false];

#[test]
fn the_machine_has_the_kernels_own_transition_tables() {
    let active = |table: &[Transition]| {
        table.iter().map(|(_, counters, _)| counters.0 > 0 && counters.1 == 0).collect()
    };
    let expected: Vec<bool> = active(&KUNIT);
    assert_eq!(expected, KUNIT_ACTIVE);
    transitions(&KUNIT, &KUNIT_ACTIVE);
    let expected: Vec<bool> = active(&COMMIT);
    transitions(&COMMIT, &expected);
}

#[allow(clippy::panic, reason = "a part of a test")]
fn transitions(table: &[Transition], active: &[bool]) {
    let step = |what| program::Step { cpu: 0, context: Context::Task, what };
    let program = program::Program {
        layer: program::Layer::Counters,
        traced: 0,
        batch: None,
        kernel_half: false,
        told: true,
        careless: false,
        broken: false,
        steps: table.iter().map(|(op, ..)| step(program::Do::Mode(*op))).collect(),
    };
    let events = kernel::events(&program);
    let mut calls = events.iter();
    for ((op, counters, does), on) in table.iter().zip(active) {
        let mut told = None;
        let event = calls.by_ref().find(|event| match event.what {
            kernel::What::Arch { op, .. } => {
                told = Some(if op == Op::ArchEnter { Does::Enter } else { Does::Leave });
                false
            }
            _ => true,
        });
        let event = event.unwrap_or_else(|| panic!("no call {op:?}"));
        // The flush of an inner leave is told of no architecture.
        assert_eq!(told, does.filter(|does| *does != Does::Flush), "{op:?}");
        let flushes = matches!(does, Some(Does::Leave | Does::Flush));
        assert_eq!(event.what, kernel::What::Mode { op: *op, flushes, counters: Some(*counters) });
        assert_eq!(event.active, *on, "{op:?}");
    }
    // And the engine agrees with a write and a read behind each call.
    let access = |op| program::Do::Access { op, entry: 0, count: 1, value: 0x8000_0000_0001_0067 };
    for calls in 0..=table.len() {
        let mut steps = vec![step(access(Op::SetPte)), step(access(Op::PtepGet))];
        for (op, ..) in &table[..calls] {
            steps.extend([step(program::Do::Mode(*op)), step(access(Op::SetPte)), step(access(Op::PtepGet))]);
        }
        let program = program::Program { steps, ..program.clone() };
        let tally = check::examine(&program, 0, &lazymmu_hazard::Engine::new)
            .unwrap_or_else(|error| panic!("{error}"));
        let on = active[..calls].iter().filter(|on| **on).count() as u64;
        assert_eq!(tally.agreed_on("read-pending"), 2 * on, "strict and xen-pv, while it is on");
    }
}

/// Both were written from the kernel's source. This also holds the rows that no access can tell apart.
#[test]
fn the_tables_say_what_the_machine_does() {
    for profile in ProfileId::ALL {
        let table = profile.profile();
        for op in Op::ALL.iter().filter(|op| matches!(op.info().kind, Kind::Read | Kind::Write | Kind::Rmw)) {
            let row = table.rows.iter().find(|row| match row.ops {
                Ops::These(ops) => ops.contains(op),
                Ops::Rest(kind) => kind == op.info().kind,
            });
            let expected: &[&str] = match arch::does(profile, *op) {
                arch::Does::Queue => &["Queues"],
                arch::Does::Memory => &["AtOnce"],
                arch::Does::Look => &["ReadsMemory"],
                arch::Does::Cache => &["InOrder"],
                arch::Does::Nothing => &["Nothing", "InOrder"],
            };
            let given = row.map(|row| format!("{:?}", row.does)).unwrap_or_default();
            assert!(expected.contains(&given.as_str()), "{} on {}: {given}", op.name(), table.name);
        }
        let flushes: Vec<_> = table.flushes.iter().map(|row| format!("{:?}", row.on)).collect();
        let flushes: Vec<_> = flushes.iter().map(|name| name.split('(').next().unwrap_or(name)).collect();
        let expected: &[&str] = match profile {
            ProfileId::Strict | ProfileId::S390 => &[],
            ProfileId::XenPv => &["ContextSwitch", "BatchFull", "InterruptWrite"],
            ProfileId::PowerpcHash | ProfileId::Sparc64 => &["BatchFull"],
            ProfileId::Arm64 => &["ContextSwitch"],
        };
        assert_eq!(flushes, expected, "{}", table.name);
    }
}
