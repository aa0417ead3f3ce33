//! The rings of records, which user space maps and empties by itself.

/// The most rings that there can be, of records as of call stacks.
pub const MAX_RINGS: u32 = 16;

/// Where a ring of records stands: a value of the map `HEADS`, whose index is the number of the ring.
///
/// A ring has a power of two of places, each a [`crate::Record`], and numbers are those of places as if it never ended. A
/// program takes the next number by adding to `given`; fills in everything but the time; and then, behind all that, the
/// time. The reader takes a record whose time is there, puts 0 there instead, and only then says by `taken` that the place
/// is free.
///
/// Whether there is a free place, a program looks before it adds, at `taken` first, and others may do so at the same time.
/// Each of these can be one too many, so [`Head::SPARE_PLACES`] for each CPU that shares the ring are kept for them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Head {
    /// How many numbers the programs took.
    pub given: u64,
    /// To two lines of the cache, which some processors fetch together: the reader writes what comes next.
    pub spare: [u64; 15],
    /// How many records the reader took out.
    pub taken: u64,
    /// The same.
    pub spare_too: [u64; 15],
}

impl Head {
    /// So many programs of one CPU, each of which interrupted the one before, can be between their look and their
    /// addition.
    pub const SPARE_PLACES: u32 = crate::RUNNERS as u32;
}

const _: () = assert!(size_of::<Head>() == 256 && core::mem::offset_of!(Head, taken) == 128);
