//! Variants of the dev kernel, each built on demand for one question that the usual one cannot answer.
//!
//! A variant differs from the usual kernel by configuration, by the compiler, or by both. The drop-in's files are in the
//! tree of each, also where the configuration leaves them out.

use anyhow::{Context, Result};

use super::source;

/// The oldest clang that builds 7.x (scripts/min-tool-version.sh, 7.2); 6.12 wants 13.
const OLDEST_CLANG: u32 = 17;

/// Newer ones are not looked for by their versioned names.
const NEWEST_CLANG: u32 = 30;

/// Which kernel of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Variant {
    /// The usual one
    #[default]
    Plain,
    /// With KASAN, whose shadow of vmalloc space is mapped inside sections
    Kasan,
    /// Compiled by clang
    Clang,
    /// Without the hooks, to be compared with
    Bare,
}

impl Variant {
    /// What goes behind the name of what belongs to it alone; nothing for the usual kernel.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Kasan => "-kasan",
            Self::Clang => "-clang",
            Self::Bare => "-bare",
        }
    }

    /// The fragment that goes on top of the usual ones.
    pub(crate) fn fragment(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Clang => None,
            Self::Kasan => Some("config-kasan.fragment"),
            Self::Bare => Some("config-bare.fragment"),
        }
    }

    /// The compiler for the kernel; what runs on the host while it is built is always compiled by gcc.
    pub(crate) fn compiler(self) -> Result<String> {
        match self {
            Self::Plain | Self::Kasan | Self::Bare => Ok("gcc".to_owned()),
            Self::Clang => newest_clang(&|name| source::which(name).is_some()).with_context(|| {
                format!(
                    "failed to find a clang from {OLDEST_CLANG} on; on Debian: `apt-get install \
                     --no-install-recommends clang-19`"
                )
            }),
        }
    }
}

/// The versioned names are unambiguous, so they go first; the unversioned one may be too old.
fn newest_clang(installed: &dyn Fn(&str) -> bool) -> Option<String> {
    let versioned = (OLDEST_CLANG..=NEWEST_CLANG).rev().map(|version| format!("clang-{version}"));
    versioned.chain(["clang".to_owned()]).find(|name| installed(name))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_newest_clang_that_is_new_enough_is_taken() {
        let find = |there: &[&str]| newest_clang(&|name| there.contains(&name));
        assert_eq!(find(&["clang-14", "clang-17", "clang-19", "clang"]).as_deref(), Some("clang-19"));
        assert_eq!(find(&["clang-14", "clang"]).as_deref(), Some("clang"));
        assert_eq!(find(&["clang-14"]), None);
    }

    #[test]
    fn variants_are_told_apart() {
        for variant in Variant::value_variants() {
            let name = variant.to_possible_value().map(|value| format!("-{}", value.get_name()));
            assert!(name.as_deref() == Some(variant.suffix()) || *variant == Variant::Plain, "{variant:?}");
        }
    }
}
