//! The fixed part of the format: the prelude at the start of the file, version numbers and limits.
//!
//! The prelude never changes, whatever the major version, so that every lazymmu can say which lazymmu it takes to
//! read a file. What stands in blocks is in [`crate::block`].

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ReadError;

/// The version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Changes when an older reader would misread the file; such a reader refuses it.
    pub major: u16,
    /// Changes when something was added that an older reader can leave out.
    pub minor: u16,
}

impl Version {
    /// The version that this crate writes, and the newest that it knows in full.
    pub const CURRENT: Version = Version { major: 1, minor: 0 };
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The least lazymmu that reads what this crate writes.
pub const LEAST_LAZYMMU: &str = "0.1.0";

/// First bytes of every trace. As with PNG, a byte over 127, both line ends and the end mark of DOS show a copy that
/// was taken for text.
pub(crate) const MAGIC: [u8; 8] = *b"\x89LMT\r\n\x1a\n";

/// The most bytes of a block's payload, as stored or decompressed.
pub(crate) const MAX_PAYLOAD: usize = 1 << 20;
/// The most records of one block.
pub(crate) const MAX_RECORDS: usize = MAX_PAYLOAD / size_of::<lazymmu_abi::Record>();
/// The most return addresses of one stack.
pub(crate) const MAX_FRAMES: usize = 1024;
/// The most memory that the stacks and frames of one trace may take, as estimated by [`crate::side`].
pub(crate) const MAX_SYMBOL_MEMORY: u64 = 256 << 20;

/// The first 32 bytes of a trace.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Prelude {
    magic: [u8; 8],
    major: U16,
    minor: U16,
    least_lazymmu: [u8; 16],
    crc: U32,
}

pub(crate) const PRELUDE_LEN: usize = size_of::<Prelude>();
const _: () = assert!(PRELUDE_LEN == 32 && LEAST_LAZYMMU.len() <= 16);

impl Prelude {
    pub(crate) fn current() -> Self {
        Self::new(Version::CURRENT, LEAST_LAZYMMU)
    }

    pub(crate) fn new(version: Version, least: &str) -> Self {
        let mut least_lazymmu = [0; 16];
        for (to, from) in least_lazymmu.iter_mut().zip(least.bytes()) {
            *to = from;
        }
        let mut prelude = Self {
            magic: MAGIC,
            major: version.major.into(),
            minor: version.minor.into(),
            least_lazymmu,
            crc: 0.into(),
        };
        prelude.crc = prelude.checksum().into();
        prelude
    }

    fn checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        crc32fast::hash(bytes.get(..PRELUDE_LEN - size_of::<U32>()).unwrap_or(bytes))
    }

    /// Checks the first bytes of a file, of which there may be fewer than a prelude has.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Version, ReadError> {
        let name = || name.to_owned();
        if bytes.is_empty() {
            return Err(ReadError::Empty { name: name() });
        }
        if bytes.iter().zip(&MAGIC).any(|(is, want)| is != want) {
            return Err(ReadError::NotATrace { name: name() });
        }
        let Ok((prelude, _)) = Self::read_from_prefix(bytes) else {
            return Err(ReadError::Header { name: name(), what: "the file ends within it".into() });
        };
        if prelude.crc.get() != prelude.checksum() {
            let what = "the checksum of its first 32 bytes does not match".into();
            return Err(ReadError::Header { name: name(), what });
        }
        let version = Version { major: prelude.major.get(), minor: prelude.minor.get() };
        if version.major > Version::CURRENT.major {
            let least = String::from_utf8_lossy(&prelude.least_lazymmu);
            let least = least.trim_end_matches('\0').escape_default().to_string();
            return Err(ReadError::Newer { name: name(), version, least });
        }
        if version.major < Version::CURRENT.major {
            let what = format!("it gives format {version}, which no lazymmu ever wrote");
            return Err(ReadError::Header { name: name(), what });
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prelude_is_read_back() {
        assert_eq!(Prelude::parse("t", Prelude::current().as_bytes()).unwrap(), Version::CURRENT);
    }

    #[test]
    fn a_newer_major_version_names_the_lazymmu_that_reads_it() {
        let prelude = Prelude::new(Version { major: 9, minor: 4 }, "3.1.0");
        let error = Prelude::parse("t.lmt", prelude.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("9.4") && error.contains("lazymmu 3.1.0"), "{error}");
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let good = Prelude::current();
        for bit in 0..PRELUDE_LEN * 8 {
            let mut bytes = good.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Prelude::parse("t", &bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_is_short_or_foreign_is_told_apart() {
        let good = Prelude::current();
        assert!(matches!(Prelude::parse("t", &[]), Err(ReadError::Empty { .. })));
        assert!(matches!(Prelude::parse("t", b"\x7fELF"), Err(ReadError::NotATrace { .. })));
        for len in 1..PRELUDE_LEN {
            let cut = Prelude::parse("t", &good.as_bytes()[..len]);
            assert!(matches!(cut, Err(ReadError::Header { .. })), "{len}");
        }
    }
}
