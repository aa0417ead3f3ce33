//! What the bits of a page-table entry say, for people. The only place of this crate that knows an architecture.

use lazymmu_abi::Level;
use serde::{Deserialize, Serialize};

use crate::words::Word;

/// How the bits of an entry are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PteLayout {
    /// x86, 64 bit.
    X86_64,
    /// Not known here: values are shown, not decoded.
    Unknown,
}

/// An entry's bits in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Decoded {
    /// What the entry is: `none`, `present`, `table`, `prot-none` or `swap` (which stands for all that is neither none
    /// nor a mapping: migration, device-exclusive, markers and so on).
    pub kind: Word,
    /// The page frame number of what it maps or points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// The type of a swap entry; its meaning depends on the kernel's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_type: Option<u64>,
    /// The offset of a swap entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_offset: Option<String>,
    /// The bits that are set, by name.
    pub bits: Vec<Word>,
}

impl PteLayout {
    /// From the name in the trace's header.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        if name == "x86_64" { Self::X86_64 } else { Self::Unknown }
    }

    /// The bits of `value` in words; `None` if the layout is not known.
    #[must_use]
    pub fn decode(self, value: u64, level: Option<Level>) -> Option<Decoded> {
        match self {
            Self::X86_64 => Some(x86::decode(value, level)),
            Self::Unknown => None,
        }
    }
}

impl Decoded {
    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut words = vec![self.kind.to_string()];
        words.extend(self.bits.iter().map(ToString::to_string));
        words.extend(self.frame.iter().map(|frame| format!("frame {frame}")));
        words.extend(self.swap_type.iter().map(|number| format!("type {number}")));
        words.extend(self.swap_offset.iter().map(|offset| format!("offset {offset}")));
        words.join(" ")
    }
}

/// arch/x86/include/asm/pgtable_types.h:10-47 and pgtable_64.h:190-224 (7.2.13; the same in 6.12.117).
mod x86 {
    use super::{Decoded, Level, Word};

    const PRESENT: u64 = 1;
    const HUGE: u64 = 1 << 7;
    /// `_PAGE_BIT_PROTNONE`, which is the global bit where the entry is not present.
    const PROT_NONE: u64 = 1 << 8;
    const FRAME: u64 = 0x000f_ffff_ffff_f000;
    const SWAP_TYPE_BITS: u32 = 5;
    const SWAP_OFFSET_SHIFT: u32 = 9 + SWAP_TYPE_BITS;

    /// Bit 52 is Xen's, by which it knows the entries of a PV guest's kernel (xen/arch/x86/include/asm/x86_64/page.h).
    const BITS: [(u64, &str); 13] = [
        (1 << 1, "write"),
        (1 << 2, "user"),
        (1 << 3, "write-through"),
        (1 << 4, "uncached"),
        (1 << 5, "accessed"),
        (1 << 6, "dirty"),
        (1 << 8, "global"),
        (1 << 9, "special"),
        (1 << 10, "uffd-wp"),
        (1 << 11, "soft-dirty"),
        (1 << 52, "xen-kernel"),
        (1 << 58, "saved-dirty"),
        (1 << 63, "no-exec"),
    ];

    pub(super) fn decode(value: u64, level: Option<Level>) -> Decoded {
        let upper = level.is_some_and(|level| level != Level::Pte);
        let named = |except: u64| {
            BITS.iter().filter(move |(bit, _)| value & bit & !except != 0).map(|(_, name)| Word::from(*name))
        };
        let frame = |value: u64| Some(format!("{:#x}", (value & FRAME) >> 12));
        if value == 0 {
            Decoded { kind: "none".into(), ..Decoded::default() }
        } else if value & PRESENT != 0 {
            let huge = value & HUGE != 0;
            let kind = if upper && !huge { "table" } else { "present" }.into();
            let size = match (upper, huge) {
                (true, true) => Some("huge"),
                (false, true) => Some("pat"),
                _ => None,
            };
            Decoded {
                kind,
                frame: frame(value),
                bits: named(0).chain(size.map(Word::from)).collect(),
                ..Decoded::default()
            }
        } else if value & PROT_NONE != 0 {
            // The frame number of an entry that is not present is stored inverted (pgtable-invert.h).
            let bits = named(PROT_NONE).collect();
            Decoded { kind: "prot-none".into(), frame: frame(!value), bits, ..Decoded::default() }
        } else {
            let offset = !value << SWAP_TYPE_BITS >> SWAP_OFFSET_SHIFT;
            Decoded {
                kind: "swap".into(),
                swap_type: Some(value >> (64 - SWAP_TYPE_BITS)),
                swap_offset: Some(format!("{offset:#x}")),
                ..Decoded::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: u64, level: Level) -> String {
        PteLayout::X86_64.decode(value, Some(level)).unwrap().line()
    }

    #[test]
    fn entries_in_words() {
        for (value, level, expected) in [
            (0, Level::Pte, "none"),
            (
                0x8000_0000_0123_4867,
                Level::Pte,
                "present write user accessed dirty soft-dirty no-exec frame 0x1234",
            ),
            (
                0x8000_0000_0120_00e7,
                Level::Pmd,
                "present write user accessed dirty no-exec huge frame 0x1200",
            ),
            (0x0000_0000_0432_1067, Level::Pmd, "table write user accessed dirty frame 0x4321"),
        ] {
            assert_eq!(line(value, level), expected);
        }
    }

    #[test]
    fn what_is_not_present_is_inverted() {
        let none = (!0x0123_4000 & 0x000f_ffff_ffff_f000) | 0x100;
        assert_eq!(line(none, Level::Pte), "prot-none frame 0x1234");
        // __swp_entry(29, 0x5678) of pgtable_64.h.
        let swap = (!0x5678u64 << 14 >> 5) | (29 << 59);
        assert_eq!(line(swap, Level::Pte), "swap type 29 offset 0x5678");
    }

    #[test]
    fn an_unknown_layout_is_left_alone() {
        assert_eq!(PteLayout::from_name("s390x").decode(7, None), None);
    }
}
