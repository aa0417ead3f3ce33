//! `lazymmu-loop LOOP ROUNDS`: runs the loop `handover`, `lives` or `dense` and prints the processor time of each round in
//! nanoseconds, in one line.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let run = match arguments.next().as_deref() {
        Some("handover") => lazymmu_workload::handover,
        Some("lives") => lazymmu_workload::lives,
        Some("dense") => lazymmu_workload::dense,
        _ => return usage(),
    };
    let Some(rounds) = arguments.next().and_then(|rounds| rounds.parse().ok()) else { return usage() };
    match run(rounds) {
        Ok(times) => {
            let times: Vec<String> = times.iter().map(|time| time.as_nanos().to_string()).collect();
            println!("rounds: {}", times.join(" "));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lazymmu-loop: failed to {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "lazymmu-loop: failed to start: say which loop, `handover`, `lives` or `dense`, and how many rounds"
    );
    ExitCode::from(2)
}
