//! The eBPF object that was built in, if one was.

use crate::Error;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lazymmu.bpf.o"));

/// Said by the build script: `embedded`, `missing`, or why there was one that must not be used.
const STATE: &str = env!("LAZYMMU_BPF_STATE");

/// Whether this build can capture at all.
pub fn has_object() -> bool {
    !OBJECT.is_empty()
}

/// The object.
pub(crate) fn object() -> Result<&'static [u8], Error> {
    match STATE {
        "embedded" => Ok(OBJECT),
        "missing" => Err(Error::NoObject { stale: None }),
        why => Err(Error::NoObject { stale: Some(why) }),
    }
}
