//! The rings of records, as the reader has them: `lazymmu_abi::Head` says how they work.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapData;
use lazymmu_abi::{Head, Record};

use super::MappedArray;

/// The programs are told of free places at least this often while a ring is emptied: a power of two.
const STEP: u64 = 256;

/// Rings of the same size, one behind the other.
pub(crate) struct RecordRings {
    heads: MappedArray<Head>,
    places: MappedArray<Record>,
    /// Places of a ring: a power of two.
    each: u64,
}

impl RecordRings {
    /// Maps them.
    pub(crate) fn new(heads: MapData, places: MapData) -> io::Result<Self> {
        Self::of(MappedArray::to_write(heads)?, MappedArray::to_write(places)?)
    }

    fn of(heads: MappedArray<Head>, places: MappedArray<Record>) -> io::Result<Self> {
        let each = places.len().checked_div(heads.len()).unwrap_or(0);
        if !each.is_power_of_two() || each * heads.len() != places.len() {
            return Err(io::Error::other("the places are not divided among the rings"));
        }
        Ok(Self { heads, places, each: each as u64 })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.heads.len()
    }

    /// How many places of a ring were ever given out.
    pub(crate) fn given(&self, ring: usize) -> u64 {
        self.heads.place(ring).map_or(0, |head| {
            // SAFETY: it is a word of a value that is mapped as long as this lives, and that programs change.
            let given = unsafe { AtomicU64::from_ptr(&raw mut (*head.as_ptr()).given) };
            given.load(Ordering::Acquire)
        })
    }

    /// Takes records out of a ring until it stands at that number, at one that is not there yet, or has taken so many.
    /// Gives where it stands.
    pub(crate) fn take(&mut self, ring: usize, until: u64, most: usize, mut take: impl FnMut(Record)) -> u64 {
        let Some(head) = self.heads.place(ring) else { return until };
        // SAFETY: it is a word of a value that is mapped as long as this lives.
        let taken = unsafe { AtomicU64::from_ptr(&raw mut (*head.as_ptr()).taken) };
        // Nobody else writes it.
        let mut at = taken.load(Ordering::Relaxed);
        let end = until.min(at.saturating_add(most as u64));
        while at < end
            && let Some(place) = self.place(ring, at)
            && let Some(record) = take_out(place)
        {
            take(record);
            at += 1;
            if at.is_multiple_of(STEP) {
                taken.store(at, Ordering::Release);
            }
        }
        taken.store(at, Ordering::Release);
        at
    }

    fn place(&self, ring: usize, number: u64) -> Option<NonNull<Record>> {
        self.places.place(usize::try_from(ring as u64 * self.each + number % self.each).ok()?)
    }
}

/// Takes the record out of a place that a program has given away, if it is there already.
fn take_out(place: NonNull<Record>) -> Option<Record> {
    let place = place.as_ptr();
    // SAFETY: it is a word of a value that is mapped, and that is written by atomics alone while it may be read.
    let its = unsafe { AtomicU64::from_ptr(&raw mut (*place).time) };
    let time = its.load(Ordering::Acquire);
    if time == 0 {
        return None;
    }
    // SAFETY: no program writes to the place until it is told that it is free.
    let record = Record { time, ..unsafe { place.read() } };
    its.store(0, Ordering::Relaxed);
    Some(record)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use lazymmu_abi::{Head, Record};

    use super::{MappedArray, RecordRings};

    fn rings(count: usize, each: usize) -> RecordRings {
        let heads = MappedArray::<Head>::zeroed(count).unwrap();
        RecordRings::of(heads, MappedArray::zeroed(count * each).unwrap()).unwrap()
    }

    /// What a program does: takes a place, fills it in, and shows it.
    struct Writer {
        head: *mut Head,
        places: *mut Record,
        each: u64,
        limit: i64,
    }

    // SAFETY: what it points to lives longer than the threads that have it.
    unsafe impl Send for Writer {}

    impl Writer {
        fn new(rings: &RecordRings, ring: usize, spare: u64) -> Self {
            Self {
                head: rings.heads.place(ring).unwrap().as_ptr(),
                places: rings.place(ring, 0).unwrap().as_ptr(),
                each: rings.each,
                limit: (rings.each - spare).cast_signed(),
            }
        }

        fn give(&self) -> Option<*mut Record> {
            // SAFETY: the rings are still there.
            let (given, taken) = unsafe {
                (
                    AtomicU64::from_ptr(&raw mut (*self.head).given),
                    AtomicU64::from_ptr(&raw mut (*self.head).taken),
                )
            };
            let taken = taken.load(Ordering::Acquire);
            if given.load(Ordering::Relaxed).wrapping_sub(taken).cast_signed() >= self.limit {
                return None;
            }
            let at = given.fetch_add(1, Ordering::SeqCst);
            // SAFETY: there are so many places.
            Some(unsafe { self.places.add(usize::try_from(at % self.each).unwrap()) })
        }

        fn show(place: *mut Record, time: u64) {
            // SAFETY: the place was given to the caller.
            unsafe { AtomicU64::from_ptr(&raw mut (*place).time) }.swap(time, Ordering::SeqCst);
        }

        fn send(&self, value: u64) -> bool {
            let Some(place) = self.give() else { return false };
            // SAFETY: the place was given to this one.
            unsafe {
                assert_eq!((*place).time, 0, "a place is given that is not free");
                ((*place).value, (*place).entry) = (value, !value);
            }
            Self::show(place, value + 1);
            true
        }
    }

    fn drain(rings: &mut RecordRings, ring: usize) -> Vec<u64> {
        let mut values = Vec::new();
        let until = rings.given(ring);
        rings.take(ring, until, usize::MAX, |record| {
            assert_eq!((record.entry, record.time), (!record.value, record.value + 1));
            values.push(record.value);
        });
        values
    }

    #[test]
    fn a_full_ring_takes_no_more_until_it_is_emptied() {
        let mut rings = rings(2, 4);
        let (first, second) = (Writer::new(&rings, 0, 0), Writer::new(&rings, 1, 0));
        for round in 0..5 {
            let sent: Vec<bool> = (0..6).map(|value| first.send(round * 10 + value)).collect();
            assert_eq!(sent, [true, true, true, true, false, false]);
            assert!(second.send(99));
            assert_eq!(drain(&mut rings, 0), [0, 1, 2, 3].map(|value| round * 10 + value));
            assert_eq!(drain(&mut rings, 1), [99]);
        }
        assert!(drain(&mut rings, 0).is_empty());
        assert_eq!((rings.count(), rings.given(0)), (2, 20));
    }

    #[test]
    fn what_is_not_shown_yet_holds_up_what_is_behind_it() {
        let mut rings = rings(1, 4);
        let writer = Writer::new(&rings, 0, 0);
        assert!(writer.send(1));
        let slow = writer.give().unwrap();
        assert!(writer.send(2));
        assert_eq!(drain(&mut rings, 0), [1]);
        assert!(drain(&mut rings, 0).is_empty());
        // SAFETY: the place was given to this test.
        unsafe { ((*slow).value, (*slow).entry) = (7, !7) };
        Writer::show(slow, 8);
        assert_eq!(drain(&mut rings, 0), [7, 2]);
    }

    #[test]
    fn no_more_is_taken_than_was_asked_for() {
        let mut rings = rings(1, 8);
        let writer = Writer::new(&rings, 0, 0);
        (0..8).for_each(|value| assert!(writer.send(value)));
        let mut seen = Vec::new();
        assert_eq!(rings.take(0, 8, 3, |record| seen.push(record.value)), 3);
        assert_eq!(rings.take(0, 5, 9, |record| seen.push(record.value)), 5);
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert_eq!(rings.take(7, 5, 9, |_| panic!("there is no such ring")), 5);
    }

    #[test]
    fn rings_that_do_not_fit_are_refused() {
        let heads = |count| MappedArray::<Head>::zeroed(count).unwrap();
        for (count, places) in [(1, 3), (2, 5), (4, 2)] {
            assert!(
                RecordRings::of(heads(count), MappedArray::zeroed(places).unwrap()).is_err(),
                "{count} {places}"
            );
        }
    }

    #[test]
    fn writers_side_by_side_lose_nothing_and_overwrite_nothing() {
        const WRITERS: u64 = 3;
        const EACH: u64 = 20_000;
        let mut rings = rings(1, 64);
        let writers: Vec<Writer> = (0..WRITERS).map(|_| Writer::new(&rings, 0, WRITERS)).collect();
        let mut seen = Vec::new();
        std::thread::scope(|scope| {
            let run = |(number, writer): (u64, Writer)| {
                scope.spawn(move || {
                    let writer = writer;
                    for value in 0..EACH {
                        while !writer.send(number << 32 | value) {
                            std::thread::yield_now();
                        }
                    }
                })
            };
            let running: Vec<_> = (0..WRITERS).zip(writers).map(run).collect();
            while !running.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                seen.extend(drain(&mut rings, 0));
                std::thread::yield_now();
            }
            seen.extend(drain(&mut rings, 0));
        });
        for number in 0..WRITERS {
            let its = seen.iter().filter(|value| *value >> 32 == number).copied();
            assert!(
                its.eq((0..EACH).map(|value| number << 32 | value)),
                "those of {number} are not what was sent"
            );
        }
        assert!(drain(&mut rings, 0).is_empty());
    }
}
