//! What is put into the programs besides accesses through the accessors and the mode's calls: plain loads and stores,
//! uses of mappings, flushes of the TLB, calls that do not pair, an architecture that loses track of its CPUs.
//!
//! It has random numbers of its own, so a program is what it would be without these steps, and they are in between.

use lazymmu_abi::{Context, Op};

use crate::program::{CPUS, Do, ENTRIES, PTES, Program, Random, Step};

/// A present entry that user space may use.
const USER_PAGE: u64 = 0x5;

/// Adds to the program of that number.
pub(crate) fn add(mut program: Program, number: u64) -> Program {
    let mut random = Random::new(number ^ 0x5851_f42d_4c95_7f2d);
    program.kernel_half = random.percent(40);
    if program.kernel_half {
        for step in &mut program.steps {
            if let Do::Access { value, .. } = &mut step.what
                && *value & USER_PAGE == USER_PAGE
            {
                *value &= !4;
            }
        }
    }
    if random.percent(35) {
        return program;
    }
    program.told = random.percent(30);
    program.careless = random.percent(30);
    program.broken = random.percent(25);
    let cpus = 1 + program.steps.iter().map(|step| step.cpu).max().unwrap_or_default();
    let often = 5 + random.below(20);
    let base = std::mem::take(&mut program.steps);
    for step in base {
        program.steps.push(step);
        if program.steps.len() > CPUS && random.percent(often) {
            let cpu = random.below(usize::from(cpus)) as u8;
            let context = if random.percent(10) {
                random.pick(&[Context::Softirq, Context::Hardirq, Context::Nmi])
            } else {
                Context::Task
            };
            let what = extra(&mut random, program.kernel_half, program.told);
            program.steps.push(Step { cpu, context, what });
        }
    }
    program
}

fn extra(random: &mut Random, kernel_half: bool, told: bool) -> Do {
    let entry = random.below(ENTRIES) as u8;
    let (first, ptes) = PTES;
    match random.below(100) {
        0..25 => Do::Access { op: Op::RawRead, entry, count: 1, value: 0 },
        25..45 => {
            let user = if kernel_half { 0 } else { 4 };
            let page = (1 + (random.next() >> 40)) << 16;
            let value = random.pick(&[0, page | 0x8000_0000_0000_0001 | user]);
            Do::Access { op: Op::RawWrite, entry, count: 1, value }
        }
        45..70 => Do::Use { entry },
        70..93 => {
            let entry = first + random.below(usize::from(ptes)) as u8;
            Do::TlbFlush { entry, count: 1 + random.below(usize::from(first + ptes - entry)) as u8 }
        }
        _ if told => Do::Arch(random.pick(&[Op::ArchEnter, Op::ArchLeave])),
        _ => Do::Use { entry },
    }
}
