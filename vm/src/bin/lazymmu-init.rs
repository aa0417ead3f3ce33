//! The first process of lazymmu's virtual machines. Everything it does stands in [`lazymmu_vm::guest`].

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    lazymmu_vm::guest::main()
}
