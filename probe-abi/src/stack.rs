//! The call stack that travels beside the records.

/// The most frames that a stack keeps; deeper ones are cut at the outer end.
pub const STACK_FRAMES: usize = 64;

/// A call stack on the ring, sent once for each new hash. It is told from a [`crate::Record`] by its length.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct StackItem {
    /// Hash of the frames from `caller` on: the [`crate::Record::stack`] of every record that has this stack.
    pub id: u64,
    /// Where the stack really begins; the frames before it belong to the hook.
    pub caller: u64,
    /// How many frames are filled, those of the hook included.
    pub len: u32,
    /// Zero.
    pub reserved: u32,
    /// Return addresses, innermost first.
    pub frames: [u64; STACK_FRAMES],
}

const _: () = assert!(size_of::<StackItem>() == 24 + 8 * STACK_FRAMES);
