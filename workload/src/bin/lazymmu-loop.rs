//! `lazymmu-loop ROUNDS`: runs the dense loop and prints the processor time of each round in nanoseconds, in one line.

use std::process::ExitCode;

fn main() -> ExitCode {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok());
    let Some(rounds) = rounds else {
        eprintln!("lazymmu-loop: failed to start: say how many rounds");
        return ExitCode::from(2);
    };
    match lazymmu_workload::dense(rounds) {
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
