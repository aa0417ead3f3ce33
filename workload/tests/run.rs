//! Every workload, run for real on the kernel of this machine, in a process with one thread.

#![allow(clippy::panic, reason = "a test")]

use lazymmu_workload::{Error, list, run};

fn main() {
    let has_device = std::fs::read_to_string("/proc/devices").is_ok_and(|list| list.contains("HMM_DMIRROR"));
    for workload in list() {
        match (workload.name, run(workload.name)) {
            (name, Ok(outcome)) => {
                assert!(name != "fork-exclusive" || has_device, "it cannot work without the device");
                println!("{name}: {}", outcome.summary);
            }
            ("fork-exclusive", Err(error)) if !has_device => {
                assert!(matches!(error, Error::Missing { .. }), "{error}");
                let message = error.to_string();
                assert!(message.starts_with("open /dev/hmm_dmirror0: "), "{message}");
                assert!(message.contains("CONFIG_TEST_HMM"), "{message}");
                println!("fork-exclusive: this kernel lacks the device, and that is what it says");
            }
            (name, Err(error)) => panic!("{name} failed to {error}"),
        }
    }
}
