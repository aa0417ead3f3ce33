//! What holds of every table, and the masks that are made of them.

use super::ProfileId::{Arm64, PowerpcHash, S390, Strict, XenPv};
use super::*;

#[test]
fn tables_stand_where_their_id_says() {
    for (index, id) in ProfileId::ALL.into_iter().enumerate() {
        assert_eq!(id as usize, index);
        assert_eq!(id.profile().id, id);
    }
}

#[test]
fn every_operation_on_entries_is_in_every_table() {
    for profile in &PROFILES {
        for op in Op::ALL {
            let on_entries = matches!(op.info().kind, Kind::Read | Kind::Write | Kind::Rmw);
            let row = row_of(profile, *op);
            assert_eq!(on_entries, !std::ptr::eq(row, &raw const NO_ENTRY), "{}: {op:?}", profile.name);
        }
    }
}

#[test]
fn rows_fit_the_kind_of_their_operations() {
    for profile in &PROFILES {
        for op in Op::ALL {
            let does = row_of(profile, *op).does;
            match op.info().kind {
                Kind::Read => assert!(matches!(does, Does::ReadsMemory | Does::InOrder), "{op:?}"),
                Kind::Write => assert!(!matches!(does, Does::ReadsMemory), "{op:?}"),
                _ => {}
            }
        }
    }
}

#[test]
fn no_profile_queues_what_strict_does_not() {
    let masks = Masks::new();
    for op in Op::ALL {
        let queues = masks.queues[*op as usize];
        assert!(queues.is_empty() || queues.has(Strict), "{op:?}");
    }
}

#[test]
fn what_breaks_anywhere_breaks_the_contract() {
    for row in PROFILES.iter().flat_map(|profile| profile.events).filter(|row| row.breaks) {
        assert!(broken_by(row.on).has(Strict), "{row:?}");
    }
}

#[test]
fn no_event_is_named_twice() {
    for profile in &PROFILES {
        for (number, row) in profile.events.iter().enumerate() {
            let twice = profile.events[..number].iter().any(|other| other.on == row.on);
            assert!(!twice && !row.why.is_empty(), "{}: {row:?}", profile.name);
        }
    }
}

#[test]
fn every_row_says_why_and_where_from() {
    for row in PROFILES.iter().flat_map(|profile| profile.rows) {
        let (Source::Kernel(source) | Source::Mail(source) | Source::Unverified(source)) = row.source;
        assert!(!row.why.is_empty() && !source.is_empty(), "{row:?}");
    }
}

#[test]
fn masks() {
    let masks = Masks::new();
    let of = |masks: &[ProfileMask; 256], op: Op, id| masks[op as usize].has(id);
    for (op, id, queues, sees) in [
        (Op::SetPtes, Strict, true, true),
        (Op::SetPtes, XenPv, true, true),
        (Op::SetPtes, S390, true, true),
        (Op::SetPtes, Arm64, false, true),
        (Op::SetPmd, S390, false, true),
        (Op::SetPudAt, XenPv, false, true),
        (Op::PtepGet, Strict, false, true),
        (Op::PtepGet, S390, false, false),
        (Op::WrprotectPtes, XenPv, false, true),
        (Op::WrprotectPtes, S390, false, false),
        (Op::PtepClearFlush, S390, false, true),
        (Op::PtepClear, PowerpcHash, false, true),
        (Op::ModifyProtStart, XenPv, false, true),
    ] {
        assert_eq!(of(&masks.queues, op, id), queues, "{op:?} queued on {id:?}");
        assert_eq!(of(&masks.sees_memory, op, id), sees, "{op:?} sees memory on {id:?}");
    }
    assert_eq!(masks.on_switch, ProfileMask::NONE.with(XenPv).with(Arm64));
}

#[test]
fn only_changes_are_stored_or_join_a_queue() {
    let masks = Masks::new();
    for op in Op::ALL.iter().filter(|op| !matches!(op.info().kind, Kind::Write | Kind::Rmw)) {
        for of in [&masks.joins, &masks.joins_in_interrupt, &masks.stores, &masks.stores_outside] {
            assert!(of[*op as usize].is_empty(), "{op:?}");
        }
    }
    let outside = |op: Op, id| masks.stores_outside[op as usize].has(id);
    assert!(outside(Op::WrprotectPtes, S390) && outside(Op::ModifyProtStart, Strict));
    assert!(!outside(Op::ModifyProtStart, XenPv), "it only reads");
    assert!(!outside(Op::PtepTrySet, S390), "it does nothing");
}

#[test]
fn only_where_no_store_waits_something_is_late() {
    assert_eq!(Masks::new().late, ProfileMask::NONE.with(Arm64));
}

#[test]
fn no_operation_empties_a_queue_that_the_kernel_side_keeps() {
    // With suspects, an access that comes upon nothing is not told. Where one flushes what is elsewhere, it must be.
    for profile in &PROFILES {
        assert!(profile.rows.iter().all(|row| row.does != Does::FlushesFirst), "{}", profile.name);
    }
}

#[test]
fn what_the_kernel_side_is_told_fits_its_byte() {
    assert!(ProfileId::ALL.len() < 8, "the highest bit is taken");
    let deferral = deferral();
    assert_ne!(deferral.waits[Op::SetPtes as usize] & Deferral::COUNTED, 0);
    assert_eq!(deferral.waits[Op::PtepGetAndClear as usize] & Deferral::COUNTED, 0);
    assert_eq!(deferral.waits[Op::PtepGet as usize], 0);
    assert_ne!(deferral.sees[Op::PtepGet as usize], 0);
}
