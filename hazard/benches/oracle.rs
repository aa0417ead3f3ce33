//! The engine against the simulated machine over a million programs, other ones than the test's.
//!
//! Prints how fast that went, how often the two agreed by rule and architecture, and every difference by its name. Fails
//! at the first difference that has none, and prints the program that shows it, made small.
//!
//! `cargo xtask bench oracle [-- PROGRAMS]`

#[path = "../tests/oracle/arch.rs"]
mod arch;
#[path = "../tests/oracle/check.rs"]
mod check;
#[path = "../tests/oracle/differ.rs"]
mod differ;
#[path = "../tests/oracle/extras.rs"]
mod extras;
#[path = "../tests/oracle/kernel.rs"]
mod kernel;
#[path = "../tests/oracle/losses.rs"]
mod losses;
#[path = "../tests/oracle/machine.rs"]
mod machine;
#[path = "../tests/oracle/naive.rs"]
mod naive;
#[path = "../tests/oracle/program.rs"]
mod program;
#[path = "../tests/oracle/runner.rs"]
mod runner;
#[path = "../tests/oracle/shape.rs"]
mod shape;
#[path = "../tests/oracle/states.rs"]
mod states;
#[path = "../tests/oracle/tally.rs"]
mod tally;
#[path = "../tests/oracle/trace.rs"]
mod trace;
#[path = "../tests/oracle/values.rs"]
mod values;

use std::process::ExitCode;
use std::time::Instant;

const PROGRAMS: u64 = 1_000_000;

fn main() -> ExitCode {
    // Cargo hands `--bench` to a bench without a harness.
    let wanted = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(PROGRAMS);
    let start = Instant::now();
    match runner::run(runner::IN_TESTS..runner::IN_TESTS + wanted) {
        Ok(tally) => {
            let seconds = start.elapsed().as_secs_f64();
            print!("{}", tally.shown());
            println!(
                "\n{wanted} programs in {:.0} s, {:.0} each second",
                seconds,
                per_second(wanted, seconds)
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}
