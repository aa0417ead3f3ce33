//! What the eBPF programs count, so that no loss goes unseen.

/// Slots of a counter by kind: the index is a [`crate::Kind`], 0 where the kind is not known.
pub const KINDS: usize = 12;

/// Slots of [`Counters::running`]: one for each program, and some to spare.
pub const RUNNERS: usize = 16;

/// One CPU's counters: a value of the map `COUNTERS`, whose index is the number of the CPU.
///
/// `produced` is counted before the ring is asked for room, so at rest, of all CPUs together,
/// produced = items in the rings or read from them + lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Counters {
    /// Items that each program wanted to send. `Lost` records are not counted.
    pub produced: [u64; RUNNERS],
    /// Those for which the ring had no room. Slot 0: sections that the table of sections had no room for.
    pub lost: [u64; KINDS],
    /// The part of `lost` that no `Lost` record in the ring tells yet.
    pub untold: [u64; KINDS],
    /// The sum of `untold`, so that the usual path tests one word.
    pub untold_total: u64,
    /// Bytes that were sent, those without room among them. Only tells when to wake the reader.
    pub sent: u64,
    /// For each program, the time of the hit that it is working on: what it has still to send, if anything, is of that
    /// time. 0 while it does not run, [`Counters::STARTING`] before it has taken the time.
    pub running: [u64; RUNNERS],
    /// To whole lines of the cache, so that no CPU writes to a line of another's.
    pub spare: [u64; 6],
}

impl Counters {
    /// The program runs, and its time will be later than this moment.
    pub const STARTING: u64 = 1;
}

const _: () = {
    assert!(
        size_of::<Counters>() == 8 * (2 * KINDS + 2 + 2 * RUNNERS + 6)
            && size_of::<Counters>().is_multiple_of(128)
    );
    let mut i = 0;
    while i < crate::Kind::ALL.len() {
        assert!((crate::Kind::ALL[i] as usize) < KINDS);
        i += 1;
    }
};
