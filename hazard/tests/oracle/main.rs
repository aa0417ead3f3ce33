//! The engine against a simulated machine, over random programs.
//!
//! `arch` says what each architecture does with each operation, `machine` does it with real memory and a real queue,
//! `kernel` is the layer above, `program` makes what runs on it, `trace` writes the records that the hooks would, and
//! `check` compares. None of them shares code with the engine.
//!
//! `LAZYMMU_ORACLE_PROGRAM=N cargo test -p lazymmu-hazard --test oracle -- --nocapture` repeats one program.

mod arch;
mod check;
mod differ;
mod kernel;
mod machine;
mod program;
mod runner;
mod tally;
mod trace;

use lazymmu_abi::{Context, Kind, Op};
use lazymmu_hazard::profile::{Ops, ProfileId};

#[test]
fn the_engine_says_what_the_hardware_does() {
    if let Some(number) = std::env::var("LAZYMMU_ORACLE_PROGRAM").ok().and_then(|text| text.parse().ok()) {
        let tally = runner::run(number..number + 1).unwrap_or_else(|failure| panic!("{failure}"));
        println!("{}\n{}", program::program(number), tally.shown());
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

/// The transition table of the kernel: mm/tests/lazy_mmu_mode_kunit.c (7.2.13), call by call, with the counters after each,
/// whether the mode is on, and whether arch_leave or arch_flush was called.
#[test]
fn the_machine_has_the_kernels_own_transition_table() {
    let table = [
        (Op::Enter, (1, 0), true, false),
        (Op::Enter, (2, 0), true, false),
        (Op::Leave, (1, 0), true, true),
        (Op::Pause, (1, 1), false, true),
        (Op::Enter, (1, 1), false, false),
        (Op::Leave, (1, 1), false, false),
        (Op::Pause, (1, 2), false, false),
        (Op::Resume, (1, 1), false, false),
        (Op::Resume, (1, 0), true, false),
        (Op::Leave, (0, 0), false, true),
    ];
    let step = |what| program::Step { cpu: 0, context: Context::Task, what };
    let program = program::Program {
        layer: program::Layer::Counters,
        traced: 0,
        batch: None,
        steps: table.iter().map(|(op, ..)| step(program::Do::Mode(*op))).collect(),
    };
    let events = kernel::events(&program);
    assert_eq!(events.len(), table.len());
    for (event, (op, counters, on, flushes)) in events.iter().zip(table) {
        assert_eq!(event.what, kernel::What::Mode { op, flushes, counters: Some(counters) });
        assert_eq!(event.active, on, "{op:?}");
    }
    // And the engine agrees with a write and a read behind each call.
    let access = |op| program::Do::Access { op, entry: 0, count: 1, value: 0x8000_0000_0001_0067 };
    for calls in 0..=table.len() {
        let mut steps = Vec::new();
        for (op, ..) in &table[..calls] {
            steps.extend([step(program::Do::Mode(*op)), step(access(Op::SetPte)), step(access(Op::PtepGet))]);
        }
        let program = program::Program { steps, ..program.clone() };
        let tally = check::examine(&program, 0, &lazymmu_hazard::Engine::new)
            .unwrap_or_else(|error| panic!("{error}"));
        let on = table[..calls].iter().filter(|(_, _, on, _)| *on).count() as u64;
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
