//! The version of the protocol.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A version. A larger minor one only adds messages and fields, which who does not know them leaves alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct Version {
    /// Another one is another language.
    pub major: u16,
    /// See above.
    pub minor: u16,
}

/// The version that this crate speaks.
pub const VERSION: Version = Version { major: 1, minor: 0 };

impl Version {
    /// Whether someone who says that it speaks this version can be understood.
    ///
    /// # Errors
    ///
    /// If not; the error names both versions.
    pub fn check(self, lazymmu: &str) -> Result<(), Error> {
        if self.major == VERSION.major {
            return Ok(());
        }
        Err(Error::Version { theirs: self, lazymmu: lazymmu.to_owned() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
