//! `cargo xtask`: everything around the product that is not the product.
//!
//! Set-up, kernels, the eBPF object, virtual machines, tests and benches. What traces or judges lives in the other
//! crates; this one only builds them, feeds them and looks at what they say.

#![forbid(unsafe_code)]

mod apt;
mod bench;
mod corpus;
mod ebpf;
mod fuzz;
mod guest;
mod kernel;
mod module;
mod mutants;
mod paths;

mod plan;
mod setup;
mod sh;
mod stock;
mod test;
mod unpacked;
mod vm;
mod xen;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Set-up, builds, tests and benches of lazymmu
#[derive(Subcommand)]
enum Command {
    /// Install what the builds and the tests need
    Setup(setup::Args),
    /// Build kernels with the drop-in, or put it into a tree
    #[command(subcommand)]
    Kernel(kernel::Command),
    /// The eBPF object
    #[command(subcommand)]
    Ebpf(ebpf::Command),
    /// Run one lazymmu command in a virtual machine; exits as it does, or with 125 if the machine fails
    Vm(vm::Args),
    /// Run every check and test
    Test(test::Args),
    /// Run the workloads in a virtual machine and show which of the kernel's lazy sections they enter
    Sections {
        /// On the variants of the kernel as well, which may have to be built
        #[arg(long)]
        all: bool,
    },
    /// Commit every hazard that there is a rule for in virtual machines, and show which are found
    Matrix,
    /// Let the drop-in and a probe plan watch the same workloads in virtual machines, and show what the plan missed
    Recall,
    /// Run a bench
    Bench(bench::Args),
    /// The probe plans of Debian's kernels that the tests use
    #[command(subcommand)]
    Plan(plan::Command),
    /// Break the engine on purpose, place by place, and see whether its tests notice
    Mutants(mutants::Args),
    /// Make up inputs for whatever reads some, and see whether it takes them
    Fuzz(fuzz::Args),
    /// Judge every scenario of hazard/corpus, and show what is found on which profile
    Corpus,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Kernel(command) => kernel::run(command).map(|()| ExitCode::SUCCESS),
        Command::Ebpf(command) => ebpf::run(&command).map(|()| ExitCode::SUCCESS),
        Command::Vm(args) => Ok(vm::run(&args)),
        Command::Test(args) => Ok(test::run(&args)),
        Command::Sections { all } => test::machines::sections(all),
        Command::Matrix => test::machines::matrix(),
        Command::Recall => test::machines::recall(),
        Command::Bench(args) => bench::run(&args),
        Command::Plan(command) => plan::run(&command).map(|()| ExitCode::SUCCESS),
        Command::Mutants(args) => mutants::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Corpus => corpus::run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
