//! Gives up what a capture needs no more once it is attached.
//!
//! What a process may do belongs to each of its threads, so each of them gives it up for itself.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// What is left: to read the rings and counters, and to take the programs away.
const LEFT: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// Leaves this thread, and those that it starts, with what `LEFT` says of what it has. There is no way back, not by
/// running another program either.
///
/// # Errors
///
/// If the kernel refuses it, which it does to nobody who gives up.
pub(crate) fn give_up() -> io::Result<()> {
    set_no_new_privs(true)?;
    // Only who may change its own bounding set can, and it does not matter to who cannot: see above.
    for capability in CapabilitySet::all().difference(LEFT).iter() {
        let _ = remove_capability_from_bounding_set(capability);
    }
    clear_ambient_capability_set()?;
    let has = rustix::thread::capabilities(None)?;
    let left = LEFT.intersection(has.permitted);
    set_capabilities(
        None,
        CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_two_and_another_all() {
        let before = rustix::thread::capabilities(None).unwrap();
        std::thread::spawn(|| {
            let before = rustix::thread::capabilities(None).unwrap();
            give_up().unwrap();
            let after = rustix::thread::capabilities(None).unwrap();
            assert_eq!(after.effective, LEFT.intersection(before.permitted));
            assert_eq!(after.permitted, after.effective);
            assert!(after.inheritable.is_empty());
            assert!(rustix::thread::no_new_privs().unwrap());
            assert!(std::fs::read_to_string("/proc/thread-self/status").unwrap().contains("NoNewPrivs:\t1"));
            // What it starts has no more.
            let started = std::thread::spawn(|| rustix::thread::capabilities(None).unwrap());
            assert_eq!(started.join().unwrap().permitted, after.permitted);
        })
        .join()
        .unwrap();
        assert_eq!(rustix::thread::capabilities(None).unwrap(), before, "others have what they had");
    }
}
