//! The values that a finding shows must be those that the traced machine had.

use lazymmu_abi::Kind;
use lazymmu_hazard::{Arch, Hazard, Proof};

use crate::arch;
use crate::check::{pair, shown};
use crate::kernel::{Event, What};
use crate::machine::{Machine, stamp};
use crate::tally::Tally;
use crate::trace::{self, FIRST_STACK};

/// The values of a finding must be those that the traced machine had.
pub(crate) fn examples(
    hazard: &Hazard,
    events: &[Event],
    traced: &Machine,
    arch: Arch,
    tally: &mut Tally,
) -> Result<(), String> {
    let (access, write) = pair(hazard);
    let (earlier, later) = (&events[write as usize], &events[access as usize]);
    let example = &hazard.example;
    let place = format!("event {access} on the write of event {write}");
    let (Some(touched), Some((op, written))) = (later.touched(), earlier.access()) else {
        return Err(format!("{place}: no accesses"));
    };
    let Some(entry) =
        touched.clone().find(|entry| Some(trace::address(*entry)) == example.entry.map(|entry| entry.0))
    else {
        return Err(format!("{place}: entry {:?} is not one of them", example.entry));
    };
    let index = u64::from(entry - written.start);
    let pending = match earlier.what {
        What::Access { .. } if op.info().kind != Kind::Write => None,
        What::Access { .. } if arch::clears(op) => Some(0),
        What::Access { value, .. } if arch == Arch::X86_64 || index == 0 => {
            Some(arch::page_after(value, index))
        }
        _ => None,
    };
    // What uses a mapping or flushes the TLB got no value of an entry.
    let first = entry == touched.start && later.access().is_some();
    let seen = traced.seen[access as usize];
    let pending =
        if arch::clears(op) && index > 0 && arch == Arch::Other { example.pending } else { pending };
    let changed = events[write as usize + 1..access as usize].iter().any(|event| {
        let writes = event.kind().is_some_and(|kind| kind != Kind::Read);
        writes && event.access().is_some_and(|(_, entries)| entries.contains(&entry))
    });
    let value = if later.kind() == Some(Kind::Write) { None } else { first.then_some(seen.value) };
    let proof = match (pending, value) {
        (Some(pending), Some(seen)) if !changed && arch == Arch::X86_64 => {
            // Accessed, dirty and global come and go by themselves.
            let soft = !(arch::YOUNG | arch::DIRTY | arch::GLOBAL);
            if pending & soft == seen & soft { Proof::Same } else { Proof::Different }
        }
        _ => Proof::NotCompared,
    };
    let opener = earlier.opener.map_or(0, |opener| FIRST_STACK + u64::from(opener));
    let expected = (pending, value, first.then_some(seen.memory), opener);
    let given =
        (example.pending, example.seen, example.memory, hazard.place.opener.map_or(0, |opener| opener.0));
    if expected != given {
        return Err(format!("{place}: pending, seen, memory, opener are {given:x?}, expected {expected:x?}"));
    }
    if later.kind().is_none_or(|kind| kind == Kind::Write) {
        return Ok(());
    }
    if example.proof != proof {
        return Err(format!("{place}: the values are called {:?}, expected {proof:?}", example.proof));
    }
    if proof == Proof::Different && seen.stamp >= stamp(write) {
        return Err(format!("{place}: called proven, but the machine had done the write\n{}", shown(events)));
    }
    tally.proofs[match proof {
        Proof::Same => 0,
        Proof::Different => 1,
        Proof::NotCompared => 2,
    }] += 1;
    Ok(())
}
