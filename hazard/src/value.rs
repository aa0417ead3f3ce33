//! What the values of page-table entries mean, as far as two of them are compared.
//!
//! The only place of the engine that knows an architecture's bits. An architecture that is not here is never
//! compared, so nothing is ever called proven on it.

use lazymmu_abi::Level;

use crate::config::Arch;
use crate::types::{EntryAddr, VirtRange};

/// x86 bits, arch/x86/include/asm/pgtable_types.h (6.12 and 7.2): accessed (5) and dirty (6) are set by the
/// processor; global (8) is added and removed by Xen PV.
const X86_HARDWARE_BITS: u64 = (1 << 5) | (1 << 6) | (1 << 8);
const X86_PRESENT: u64 = 1;
/// The page may be used from user space; set at every level above a page of a process, never in the kernel's half, but
/// for what Xen makes of it.
const X86_USER: u64 = 1 << 2;
/// Xen gives the user bit to a PV guest's own entries, too, as the guest's kernel does not run in ring 0, and tells these by
/// a bit that Linux leaves alone (`_PAGE_GUEST_KERNEL`, bit 12 of 24 flags; xen/arch/x86/include/asm/x86_64/page.h).
const X86_XEN_KERNEL: u64 = 1 << 52;
/// Addresses with this bit are the kernel's.
const X86_KERNEL_HALF: u64 = 1 << 63;
const X86_PAGE_SHIFT: u32 = 12;
/// 512 entries to a table.
const X86_TABLE_SHIFT: u32 = 9;

impl Arch {
    /// Whether the two values are the same but for the bits that hardware or a hypervisor changes; `None` if
    /// this architecture's values are not understood.
    pub(crate) const fn same_entry(self, left: u64, right: u64) -> Option<bool> {
        match self {
            Self::X86_64 => Some((as_written(left) ^ as_written(right)) & !X86_HARDWARE_BITS == 0),
            Self::Other => None,
        }
    }

    /// Whether an entry at that address can map a part of the range. The address tells only the place in its table, so
    /// one of 512 unrelated entries can as well. Nothing is said of other architectures, whose tables differ.
    pub(crate) const fn may_map(self, entry: EntryAddr, level: Level, range: VirtRange) -> bool {
        let shift = X86_PAGE_SHIFT + X86_TABLE_SHIFT * (level as u32 - 1);
        match self {
            Self::X86_64 if shift < u64::BITS && range.start < range.end => {
                let (first, last) = (range.start >> shift, (range.end - 1) >> shift);
                let index = entry.0 / EntryAddr::SIZE;
                // How far the entry is behind that of the first address, around the table.
                index.wrapping_sub(first) % (1 << X86_TABLE_SHIFT) <= last - first
            }
            _ => false,
        }
    }

    /// Whether the value makes a mapping in the half of the address space that the range is in; `None` if it makes none,
    /// or none that is understood.
    pub(crate) const fn maps_in_half_of(self, value: u64, range: VirtRange) -> Option<bool> {
        match self {
            Self::X86_64 if value & X86_PRESENT != 0 => {
                Some((as_written(value) & X86_USER == 0) == (range.start & X86_KERNEL_HALF != 0))
            }
            _ => None,
        }
    }

    /// The value that a multi-entry write puts `index` entries after the first, whose value is `first`.
    pub(crate) const fn advance(self, first: u64, index: u64) -> Option<u64> {
        match self {
            _ if index == 0 => Some(first),
            // pte_advance_pfn() and __pte_needs_invert(), arch/x86/include/asm/pgtable.h (7.2:951) and
            // pgtable-invert.h:16: the page frame number of an entry that is not present is stored inverted.
            Self::X86_64 if first != 0 && first & X86_PRESENT == 0 => {
                Some(first.wrapping_sub(index << X86_PAGE_SHIFT))
            }
            Self::X86_64 => Some(first.wrapping_add(index << X86_PAGE_SHIFT)),
            Self::Other => None,
        }
    }
}

/// The value without what Xen adds to a mapping of a PV guest's kernel.
const fn as_written(value: u64) -> u64 {
    const ADDED: u64 = X86_XEN_KERNEL | X86_USER;
    if value & X86_PRESENT != 0 && value & ADDED == ADDED { value & !ADDED } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_bits_do_not_count() {
        let clean = 0x8000000000abc025;
        assert_eq!(Arch::X86_64.same_entry(clean, clean ^ 0x160), Some(true));
        assert_eq!(Arch::X86_64.same_entry(clean, clean ^ 0x2), Some(false), "writable counts");
        assert_eq!(Arch::X86_64.same_entry(clean, clean ^ 0x1000), Some(false), "the page counts");
        assert_eq!(Arch::Other.same_entry(clean, clean), None);
    }

    #[test]
    fn what_xen_adds_does_not_count() {
        let same = |left, right| Arch::X86_64.same_entry(left, right).unwrap();
        assert!(same(0x2226_0061, 0x10_0000_2226_0065), "a page of the kernel");
        assert!(!same(0x2226_0061, 0x2226_0065), "a page of a process is another thing");
        assert!(!same(0x2226_0061, 0x10_0000_2226_0061), "only both bits are Xen's");
        assert!(!same(0x2226_0060, 0x10_0000_2226_0064), "and only of a mapping");
    }

    #[test]
    fn pages_after_none_are_counted_up() {
        // __pte_needs_invert() of 7.2: "val && !(val & _PAGE_PRESENT)".
        assert_eq!(Arch::X86_64.advance(0, 2), Some(0x2000));
    }

    #[test]
    fn an_entry_maps_what_its_place_in_the_table_says() {
        let range = |start, end| VirtRange { start, end };
        let may = |index: u64, level, range| {
            Arch::X86_64.may_map(EntryAddr(0xffff_8880_0400_0000 + 8 * index), level, range)
        };
        let page = 0xffff_c900_0000_5000;
        assert!(may(5, Level::Pte, range(page, page + 1)));
        assert!(!may(6, Level::Pte, range(page, page + 0x1000)));
        assert!(may(6, Level::Pte, range(page, page + 0x1001)));
        assert!(may(0, Level::Pte, range(page, page + (508 << 12))), "around the end of the table");
        assert!(!may(4, Level::Pte, range(page, page + (508 << 12))));
        assert!(may(4, Level::Pte, range(page, u64::MAX)));
        assert!(may(0, Level::Pmd, range(page, page + 1)) && !may(5, Level::Pmd, range(page, page + 1)));
        assert!(!may(5, Level::Pte, range(page, page)), "an empty range");
        assert!(!Arch::Other.may_map(EntryAddr(40), Level::Pte, range(0x5000, 0x6000)));
    }

    #[test]
    fn a_page_of_a_process_is_not_the_kernels() {
        let half = |start| VirtRange { start, end: start + 1 };
        let (process, kernel) = (half(0x7f00_0000_5000), half(0xffff_c900_0000_5000));
        assert_eq!(Arch::X86_64.maps_in_half_of(0x3f61_9867, process), Some(true));
        assert_eq!(Arch::X86_64.maps_in_half_of(0x3f61_9867, kernel), Some(false));
        assert_eq!(Arch::X86_64.maps_in_half_of(0x3f61_9163, kernel), Some(true));
        assert_eq!(Arch::X86_64.maps_in_half_of(0x3f61_9163, process), Some(false));
        assert_eq!(
            Arch::X86_64.maps_in_half_of(0x10_0000_2226_0025, kernel),
            Some(true),
            "read back under Xen"
        );
        assert_eq!(Arch::X86_64.maps_in_half_of(0x10_0000_2226_0025, process), Some(false));
        assert_eq!(Arch::X86_64.maps_in_half_of(0, kernel), None);
        assert_eq!(Arch::Other.maps_in_half_of(0x3f61_9163, kernel), None);
    }

    #[test]
    fn the_page_goes_up_or_down_when_inverted() {
        assert_eq!(Arch::X86_64.advance(0x1000_0067, 3), Some(0x1000_3067));
        // PROT_NONE (bit 8 without present): the frame number is inverted, so it goes down.
        let none = (!0x1000_0000u64 & 0x000f_ffff_ffff_f000) | 0x100;
        let expected = (!0x1000_2000u64 & 0x000f_ffff_ffff_f000) | 0x100;
        assert_eq!(Arch::X86_64.advance(none, 2), Some(expected));
        assert_eq!(Arch::Other.advance(5, 0), Some(5));
        assert_eq!(Arch::Other.advance(5, 1), None);
    }
}
