//! The call stack that travels beside the records.

/// The most frames that a stack keeps; deeper ones are cut at the outer end.
pub const STACK_FRAMES: usize = 64;

/// A call stack on its ring, sent once for each new hash.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct StackItem {
    /// [`StackHash`] of the frames from `caller` on: the [`crate::Record::stack`] of every record that has this
    /// stack.
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

/// How many frames of a stack may belong to the hook. On x86 it is 3 with 6.12 and 7.2: the program, its dispatcher
/// and the hook's out-of-line function. Another listener, another unwinder or no static calls add some.
pub const HOOK_FRAMES: usize = 12;

/// The hash that names a stack, fed with its return addresses from `caller` outward.
///
/// Both sides of the kernel line need the same arithmetic, so it is here: multiply and fold, a word at a time,
/// which is cheap in eBPF (no 128-bit product, no rotate) and spreads addresses that differ in few bits.
#[derive(Clone, Copy, Debug)]
pub struct StackHash(u64);

impl StackHash {
    /// The hash of nothing.
    pub const NEW: StackHash = StackHash(0x9E37_79B9_7F4A_7C15);

    /// The hash of the same frames and one more.
    #[inline(always)]
    #[must_use]
    pub const fn push(self, address: u64) -> StackHash {
        let mixed = (self.0 ^ address).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        StackHash(mixed ^ (mixed >> 32))
    }

    /// The id of a stack. Never 0, which means that no stack was taken.
    #[inline(always)]
    #[must_use]
    pub const fn id(self) -> u64 {
        if self.0 == 0 { 1 } else { self.0 }
    }

    /// The id of the stack with these return addresses, innermost first.
    #[must_use]
    pub fn of(addresses: &[u64]) -> u64 {
        addresses.iter().fold(StackHash::NEW, |hash, address| hash.push(*address)).id()
    }
}

#[cfg(test)]
mod tests {
    use super::StackHash;

    #[test]
    fn order_length_and_every_bit_count() {
        let base = [0xffff_ffff_8100_1234, 0xffff_ffff_8100_5678, 0];
        let id = StackHash::of(&base);
        assert_ne!(id, StackHash::of(&base[..2]));
        assert_ne!(id, StackHash::of(&[base[1], base[0], base[2]]));
        for frame in 0..base.len() {
            for bit in 0..64 {
                let mut other = base;
                other[frame] ^= 1 << bit;
                assert_ne!(id, StackHash::of(&other), "frame {frame} bit {bit}");
            }
        }
    }

    #[test]
    fn id_is_never_zero() {
        // `push` of the hash's own state gives 0, which `id` must not hand out.
        let StackHash(state) = StackHash::NEW;
        assert_eq!(StackHash::of(&[state]), 1);
    }
}
