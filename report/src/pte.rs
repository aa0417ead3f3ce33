//! What the bits of a page-table entry say, for people. The only place of this crate that knows an architecture.

use lazymmu_abi::Level;
use serde::Serialize;

/// How the bits of an entry are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PteLayout {
    /// x86, 64 bit.
    X86_64,
    /// Not known here: values are shown, not decoded.
    Unknown,
}

/// An entry's bits in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decoded {
    /// The value as a whole, for instance `none`, `present` or `swap`.
    pub kind: &'static str,
    /// The page frame number in hexadecimal, if the entry maps something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pfn: Option<String>,
    /// The bits that are set, by name.
    pub bits: Vec<&'static str>,
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
            Self::X86_64 => Some(x86_64(value, level)),
            Self::Unknown => None,
        }
    }
}

/// arch/x86/include/asm/pgtable_types.h, 6.12 and 7.2.
const X86_BITS: [(u32, &str); 12] = [
    (1, "write"),
    (2, "user"),
    (3, "write-through"),
    (4, "uncached"),
    (5, "accessed"),
    (6, "dirty"),
    (7, "huge"),
    (8, "global"),
    (9, "soft1"),
    (10, "soft2"),
    (11, "soft3"),
    (63, "no-exec"),
];

fn x86_64(value: u64, _level: Option<Level>) -> Decoded {
    let bits = X86_BITS.iter().filter(|(bit, _)| value >> bit & 1 != 0).map(|(_, name)| *name).collect();
    let kind = if value == 0 {
        return Decoded { kind: "none", pfn: None, bits: Vec::new() };
    } else if value & 1 != 0 {
        "present"
    } else {
        return Decoded { kind: "not present", pfn: None, bits: Vec::new() };
    };
    Decoded { kind, pfn: Some(format!("{:#x}", (value & 0x000f_ffff_ffff_f000) >> 12)), bits }
}
