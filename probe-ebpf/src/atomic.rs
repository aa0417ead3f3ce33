//! Atomic changes of words that programs share: `core` offers none on this target.
//!
//! An interrupt on the same CPU cannot come between the load and the store of one of these.

use core::arch::asm;

/// Adds to a word.
///
/// # Safety
///
/// `word` must be aligned memory of a map that programs may write.
#[inline(always)]
pub(crate) unsafe fn add(word: *mut u64, by: u64) {
    // SAFETY: the caller's promise; one instruction that writes nothing else.
    unsafe { asm!("lock *(u64 *)({word} + 0) += {by}", word = in(reg) word, by = in(reg) by) };
}

/// Adds to a word and returns what was there.
///
/// # Safety
///
/// As for [`add`].
#[inline(always)]
pub(crate) unsafe fn fetch_add(word: *mut u64, by: u64) -> u64 {
    let mut by = by;
    // SAFETY: the caller's promise; one instruction that writes nothing else.
    unsafe {
        asm!("{by} = atomic_fetch_add((u64 *)({word} + 0), {by})", word = in(reg) word, by = inout(reg) by);
    };
    by
}

/// Puts a value into a word and returns what was there.
///
/// # Safety
///
/// As for [`add`].
#[inline(always)]
pub(crate) unsafe fn swap(word: *mut u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: the caller's promise; one instruction that writes nothing else.
    unsafe { asm!("{value} = xchg_64({word} + 0, {value})", word = in(reg) word, value = inout(reg) value) };
    value
}

/// Puts a value into a word if that has the expected one, and returns what was there.
///
/// # Safety
///
/// As for [`add`].
#[inline(always)]
pub(crate) unsafe fn compare_and_swap(word: *mut u64, expected: u64, value: u64) -> u64 {
    let mut found = expected;
    // SAFETY: the caller's promise; one instruction that writes nothing else. It compares with r0 and leaves there what
    // it found.
    #[cfg(target_arch = "bpf")]
    unsafe {
        asm!("r0 = cmpxchg_64({word} + 0, r0, {value})", word = in(reg) word, value = in(reg) value, inout("r0") found);
    };
    // SAFETY: as above. Lints are run for a target that has no such register.
    #[cfg(not(target_arch = "bpf"))]
    unsafe {
        found ^= swap(word, value);
    }
    found
}

/// The same number. The compiler forgets what it knows of it, so that a comparison is left for the verifier to see.
#[inline(always)]
pub(crate) fn opaque(mut number: u64) -> u64 {
    // SAFETY: nothing happens.
    unsafe { asm!("{0} = {0}", inout(reg) number) };
    number
}

/// 1 if the number is 0, else 0, without a branch: the verifier follows each branch by itself.
#[inline(always)]
pub(crate) fn is_zero(number: u64) -> u64 {
    (number | opaque(number.wrapping_neg())) >> 63 ^ 1
}

/// A flag that the first program to ask for it gets.
#[repr(transparent)]
pub(crate) struct Once(core::cell::UnsafeCell<u64>);

// SAFETY: only reached through `swap`.
unsafe impl Sync for Once {}

impl Once {
    pub(crate) const fn new() -> Self {
        Self(core::cell::UnsafeCell::new(0))
    }

    /// True for the first caller.
    #[inline(always)]
    pub(crate) fn first(&self) -> bool {
        // SAFETY: a static that is not constant lies in a map of the object, aligned.
        unsafe { self.0.get().read_volatile() == 0 && swap(self.0.get(), 1) == 0 }
    }
}
