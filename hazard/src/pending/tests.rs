//! What the table keeps, and what it costs.

use super::*;

fn write(first: u64, count: u16) -> Write {
    Write {
        owner: TaskId::of(&lazymmu_abi::Record { tid: 1, ..Default::default() }),
        process: ProcessId(1),
        cpu: CpuId(0),
        time: Nanos(0),
        first: EntryAddr(first),
        count,
        op: 0,
        level: 0,
        value: None,
        stack: StackId::NONE,
        opener: StackId::NONE,
        waits: ProfileMask::ALL,
        late: ProfileMask::NONE,
        counted: true,
    }
}

#[test]
fn a_write_covers_all_its_entries_across_chunks() {
    let mut table = Table::new(10_000);
    let id = table.insert(write(0x1ff0, 1030)).unwrap();
    assert_eq!(table.len(), 1030);
    for inside in [0x1ff0, 0x1ff8, 0x2000, 0x2ff8, 0x3000, 0x1ff0 + 1029 * 8] {
        assert_eq!(table.at(EntryAddr(inside)).map(|p| p.write), Some(id), "{inside:#x}");
    }
    for outside in [0x1fe8, 0x1ff0 + 1030 * 8] {
        assert_eq!(table.at(EntryAddr(outside)), None, "{outside:#x}");
    }
    assert_eq!(table.remove(id), 1030);
    assert!(table.is_empty());
    assert_eq!(table.chunks.len(), 0);
    assert_eq!(table.at(EntryAddr(0x2000)), None);
}

#[test]
fn the_later_write_hides_the_earlier() {
    let mut table = Table::new(100);
    let old = table.insert(write(0x1000, 4)).unwrap();
    table.disturb(EntryAddr(0x1008), 1);
    let new = table.insert(write(0x1008, 1)).unwrap();
    assert_eq!(
        table.at(EntryAddr(0x1008)),
        Some(Pending { write: new, disturbed: false, hides: false, behind: false })
    );
    assert_eq!(table.remove(old), 3);
    assert_eq!(table.at(EntryAddr(0x1000)), None);
    assert_eq!(table.at(EntryAddr(0x1008)).map(|p| p.write), Some(new));
    assert_eq!(table.remove(new), 1);
}

#[test]
fn the_writes_of_two_tasks_wait_side_by_side() {
    let mut table = Table::new(100);
    let other = |first, count| {
        let record = lazymmu_abi::Record { tid: 2, ..Default::default() };
        Write { owner: TaskId::of(&record), ..write(first, count) }
    };
    let old = table.insert(write(0x1000, 4)).unwrap();
    let new = table.insert(other(0x1008, 2)).unwrap();
    assert_eq!(
        table.at(EntryAddr(0x1008)),
        Some(Pending { write: new, disturbed: false, hides: true, behind: false })
    );
    let behind = Pending { write: old, disturbed: false, hides: false, behind: true };
    assert_eq!(table.hidden_at(EntryAddr(0x1008)), [behind]);
    assert_eq!(table.len(), 4);
    assert_eq!(table.remove(new), 2, "it is the last of its task at both");
    let back = Pending { write: old, disturbed: false, hides: false, behind: true };
    assert_eq!(table.at(EntryAddr(0x1008)), Some(back), "and gives way to the earlier");
    assert_eq!(table.len(), 4);
    let new = table.insert(other(0x1008, 2)).unwrap();
    assert_eq!(table.remove(old), 4);
    assert_eq!(
        table.at(EntryAddr(0x1008)),
        Some(Pending { write: new, disturbed: false, hides: false, behind: false })
    );
    assert_eq!((table.len(), table.remove(new)), (2, 2));
    assert!(table.is_empty() && table.hidden.is_empty() && table.hidden_len == 0);
}

#[test]
fn what_does_not_count_is_not_counted() {
    let mut table = Table::new(100);
    let quiet = |first| Write { counted: false, waits: ProfileMask::NONE, ..write(first, 1) };
    let before = table.insert(quiet(0x1000)).unwrap();
    let loud = table.insert(write(0x1000, 1)).unwrap();
    assert!(!table.at(EntryAddr(0x1000)).unwrap().hides, "the later one is all that it was");
    let after = table.insert(quiet(0x1000)).unwrap();
    assert!(table.at(EntryAddr(0x1000)).unwrap().hides, "the earlier is more than this");
    assert_eq!(table.len(), 1);
    assert_eq!((table.remove(before), table.remove(loud), table.remove(after)), (0, 1, 0));
    assert_eq!((table.len(), table.is_empty()), (0, true));
}

#[test]
fn disturbing_touches_only_what_is_pending() {
    let mut table = Table::new(100);
    let id = table.insert(write(0x1010, 2)).unwrap();
    table.disturb(EntryAddr(0x1000), 3);
    assert_eq!(
        table.at(EntryAddr(0x1010)),
        Some(Pending { write: id, disturbed: true, hides: false, behind: false })
    );
    assert_eq!(
        table.at(EntryAddr(0x1018)),
        Some(Pending { write: id, disturbed: false, hides: false, behind: false })
    );
    assert_eq!(table.at(EntryAddr(0x1000)), None);
    assert_eq!(table.remove(id), 2, "a disturbed entry goes with its write");
}

#[test]
fn a_full_table_says_so_and_recovers() {
    let mut table = Table::new(4);
    let id = table.insert(write(0x1000, 3)).unwrap();
    assert_eq!(table.insert(write(0x2000, 2)), None);
    assert!(table.insert(write(0x2000, 1)).is_some());
    table.remove(id);
    assert!(table.insert(write(0x2008, 2)).is_some());
}

#[test]
fn rewriting_one_entry_for_ever_is_bounded_too() {
    let mut table = Table::new(4);
    let kept = (0..100).filter(|_| table.insert(write(0x1000, 1)).is_some()).count();
    assert_eq!(kept, 4);
}

#[test]
fn a_chunk_that_was_given_back_is_not_found_by_its_old_address() {
    let mut table = Table::new(100);
    let first = table.insert(write(0x1000, 1)).unwrap();
    table.remove(first);
    let again = table.insert(write(0x1000, 1)).unwrap();
    let other = table.insert(write(0x5000, 1)).unwrap();
    assert_eq!(table.at(EntryAddr(0x1000)).map(|p| p.write), Some(again));
    assert_eq!(table.remove(again), 1);
    assert_eq!(table.at(EntryAddr(0x1000)), None);
    assert_eq!(table.at(EntryAddr(0x5000)).map(|p| p.write), Some(other));
}

#[test]
fn memory_is_used_again() {
    let mut table = Table::new(10_000);
    for round in 0..1000 {
        let id = table.insert(write(round * 0x10_0000, 512)).unwrap();
        table.remove(id);
    }
    assert_eq!(table.chunks.made(), 1);
    assert_eq!(table.writes.len(), 1);
}

#[test]
fn the_end_of_the_address_space_wraps() {
    let mut table = Table::new(10_000);
    let id = table.insert(write(!7, 600)).unwrap();
    assert_eq!(table.remove(id), 600);
}

fn of(tid: u32, write: Write) -> Write {
    Write { owner: TaskId::of(&lazymmu_abi::Record { tid, ..Default::default() }), ..write }
}

/// Counts, but waits on fewer profiles than others, so it replaces none.
fn less(first: u64) -> Write {
    Write { waits: ProfileMask::NONE.with(crate::profile::ProfileId::Strict), ..write(first, 1) }
}

fn quiet(first: u64) -> Write {
    Write { counted: false, ..less(first) }
}

#[test]
fn a_write_that_is_late_elsewhere_is_kept_behind_the_later() {
    let late = ProfileMask::NONE.with(crate::profile::ProfileId::Arm64);
    for (later, hides) in [(ProfileMask::NONE, true), (late, false)] {
        let mut table = Table::new(100);
        table.insert(Write { late, ..write(0x1000, 1) }).unwrap();
        table.insert(Write { late: later, ..write(0x1000, 1) }).unwrap();
        assert_eq!(table.at(EntryAddr(0x1000)).unwrap().hides, hides, "{later:?}");
    }
}

#[test]
fn what_is_hidden_is_bounded_too() {
    let mut table = Table::new(4);
    let kept: Vec<_> = (1..=4).map(|tid| table.insert(of(tid, write(0x1000, 2))).is_some()).collect();
    assert_eq!((kept, table.hidden_len), (vec![true, true, true, false], 4));
}

#[test]
fn forgetting_a_write_forgets_what_is_behind_it() {
    for top in [of(2, write(0x1000, 1)), of(2, quiet(0x1000))] {
        let mut table = Table::new(100);
        let old = table.insert(write(0x1000, 2)).unwrap();
        let new = table.insert(top).unwrap();
        assert_eq!((table.len(), table.hidden_len), (2, 1));
        table.forget(new);
        assert_eq!(table.at(EntryAddr(0x1000)), None);
        assert_eq!(table.at(EntryAddr(0x1008)).map(|at| at.write), Some(old), "there it is alone");
        assert_eq!((table.len(), table.hidden_len, table.hidden.len()), (1, 0, 0));
        assert_eq!(table.remove(old), 1);
        assert_eq!((table.is_empty(), table.len()), (true, 0));
    }
}

#[test]
fn forgetting_a_write_behind_another_leaves_the_others() {
    let mut table = Table::new(100);
    let ids: Vec<_> = (1..=3).map(|tid| table.insert(of(tid, write(0x1000, 1))).unwrap()).collect();
    table.forget(ids[1]);
    let top = table.at(EntryAddr(0x1000)).unwrap();
    let chain: Vec<_> = table.chain(EntryAddr(0x1000), top).map(|at| at.write).collect();
    assert_eq!(chain, [ids[2], ids[0]]);
    assert_eq!((table.len(), table.hidden_len), (1, 1));
}

#[test]
fn an_entry_is_flushed_with_the_last_write_of_its_task_that_counts() {
    let mut table = Table::new(100);
    let first = table.insert(write(0x1000, 1)).unwrap();
    let second = table.insert(less(0x1000)).unwrap();
    assert_eq!(table.remove(first), 0, "a later one is on top");
    let other = table.insert(of(2, write(0x1000, 1))).unwrap();
    let third = table.insert(less(0x1000)).unwrap();
    let top = table.insert(of(2, less(0x1000))).unwrap();
    assert_eq!(table.remove(second), 0, "a later one is behind another task's");
    assert_eq!((table.remove(third), table.remove(other), table.remove(top)), (1, 0, 1));
    assert_eq!((table.len(), table.hidden_len, table.is_empty()), (0, 0, true));
}

#[test]
fn what_does_not_count_flushes_nothing() {
    let mut table = Table::new(100);
    let below = table.insert(of(2, quiet(0x1000))).unwrap();
    let middle = table.insert(quiet(0x1000)).unwrap();
    assert_eq!(table.len(), 0);
    let top = table.insert(of(2, Write { waits: ProfileMask::NONE, ..quiet(0x1000) })).unwrap();
    assert_eq!((table.len(), table.remove(middle), table.remove(top), table.remove(below)), (0, 0, 0, 0));
    assert!(table.is_empty());
}

#[test]
fn what_was_disturbed_is_so_when_it_is_the_latest_again() {
    let mut table = Table::new(100);
    let old = table.insert(write(0x1000, 1)).unwrap();
    table.disturb(EntryAddr(0x1000), 1);
    let new = table.insert(of(2, write(0x1000, 1))).unwrap();
    table.remove(new);
    let back = Pending { write: old, disturbed: true, hides: false, behind: true };
    assert_eq!(table.at(EntryAddr(0x1000)), Some(back));
}

#[test]
fn entries_far_apart_cost_no_more_than_so_many_chunks() {
    let mut table = Table::new(1 << 15);
    let far = |number: u64| number * 4096;
    let ids: Vec<_> = (0..512).map(|number| table.insert(write(far(number), 1)).unwrap()).collect();
    assert_eq!(table.insert(write(far(512), 1)), None, "a table more");
    assert_eq!(table.insert(write(far(511) + 4088, 2)), None, "half of it in a table more");
    let beside = table.insert(write(far(3) + 8, 3)).unwrap();
    assert_eq!((table.len(), table.chunks.made()), (515, 512));
    table.remove(ids[7]);
    let other = table.insert(write(far(512), 1)).unwrap();
    assert_eq!(table.chunks.made(), 512, "it has the memory of what went");
    for id in ids.into_iter().enumerate().filter_map(|(number, id)| (number != 7).then_some(id)) {
        table.remove(id);
    }
    assert_eq!((table.remove(beside), table.remove(other), table.is_empty()), (3, 1, true));
}

#[test]
fn the_largest_write_fits_a_small_table_of_chunks() {
    let mut table = Table::new(usize::from(u16::MAX));
    let id = table.insert(write(0x1ff8, u16::MAX)).unwrap();
    assert_eq!(table.remove(id), usize::from(u16::MAX));
}

#[test]
fn single_writes_are_as_bounded_as_others_and_leave_their_places() {
    let mut table = Table::new(3);
    for _ in 0..10 {
        let ids: Vec<_> = (0..3).map(|place| table.insert(write(0x1000 + 8 * place, 1)).unwrap()).collect();
        for id in ids {
            table.remove(id);
        }
    }
    assert_eq!(table.writes.len(), 3);
    let pair = table.insert(write(0x1000, 2)).unwrap();
    let (id, place) = table.place_for_one(EntryAddr(0x1010), 1, true).unwrap();
    *place = write(0x1010, 1);
    assert!(table.place_for_one(EntryAddr(0x1018), 1, true).is_none(), "three entries wait");
    assert_eq!((table.remove(id), table.remove(pair), table.is_empty()), (1, 2, true));
}
