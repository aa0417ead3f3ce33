//! `lazymmu`: see `lazymmu --help`.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use lazymmu::cli::Cli;
use lazymmu::{ExitStatus, command};
use log::LevelFilter;

fn main() -> ExitCode {
    // In the guest of a gate this is the only program.
    if lazymmu_vm::guest::is_first_process() {
        return lazymmu_vm::guest::main();
    }
    // A fault of ours must not look like a verdict: a panicking Rust program ends with 101, which no one expects here.
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default_hook(info);
        say("this is a fault in lazymmu; please report it with the message above");
    }));
    match std::panic::catch_unwind(run) {
        Ok(status) => status.into(),
        Err(_) => ExitStatus::Bug.into(),
    }
}

fn run() -> ExitStatus {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            let status = if message.use_stderr() { ExitStatus::Usage } else { ExitStatus::Clean };
            // A closed stdout is the reader's choice.
            let _ = message.print();
            return status;
        }
    };
    // Warnings are for everybody; what the eBPF programs say of themselves is for those who ask.
    let level = match cli.verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    env_logger::Builder::new().filter_level(level).format_timestamp(None).format_target(false).init();
    command::run(&cli).unwrap_or_else(|error| {
        say(&format!("{error:#}"));
        command::status_of(&error)
    })
}

/// Nothing can be done if nobody listens: the terminal may be gone, and that is no fault.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "lazymmu: {what}");
}
