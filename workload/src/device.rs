//! The kernel's own test of a device with memory and page tables of its own (lib/test_hmm.c).

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;

use crate::error::{Attempt, Error};
use crate::sys;

pub(crate) const DEVICE: &str = "/dev/hmm_dmirror0";
/// The driver's name in /proc/devices (lib/test_hmm.c, `hmm_dmirror_init`).
const DRIVER: &str = "HMM_DMIRROR";

pub(crate) fn open() -> Result<File, Error> {
    let open_path = |path: &str| OpenOptions::new().read(true).write(true).open(path);
    let attempt = || format!("open {DEVICE}");
    match open_path(DEVICE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result.attempt(attempt),
    }
    // Without devtmpfs there is no node even if the driver is there.
    let devices = std::fs::read_to_string("/proc/devices").attempt(|| "read /proc/devices".to_owned())?;
    let Some(major) = major_of(&devices, DRIVER) else {
        let lacking = "the kernel has no such device; it must be built with CONFIG_TEST_HMM=y (or its module \
                       test_hmm be loaded)";
        return Err(Error::Missing { attempt: attempt(), lacking: lacking.to_owned() });
    };
    let folder = Some(std::env::temp_dir()).filter(|folder| folder.is_dir()).unwrap_or_else(|| "/".into());
    let node = folder.join(format!("lazymmu-hmm_dmirror0-{}", std::process::id()));
    let node = node.to_string_lossy().into_owned();
    let attempt = || format!("make the node of {DEVICE} as {node}");
    let path = CString::new(node.as_str()).map_err(io::Error::from).attempt(attempt)?;
    sys::device::make_node(&path, major, 0).attempt(attempt)?;
    let device = open_path(&node).attempt(|| format!("open {DEVICE} as {node}"));
    // The open file is enough.
    let removed = std::fs::remove_file(&node).attempt(|| format!("remove {node}"));
    device.and_then(|device| removed.map(|()| device))
}

/// The number of a character device's driver in /proc/devices, which lists the block devices after them.
fn major_of(devices: &str, driver: &str) -> Option<u32> {
    let characters = devices.lines().skip(1).take_while(|line| !line.starts_with("Block devices"));
    let mut fields = characters.filter_map(|line| line.trim().split_once(' '));
    fields.find(|(_, name)| *name == driver).and_then(|(major, _)| major.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_found_by_its_name() {
        let devices =
            "Character devices:\n  1 mem\n243 HMM_DMIRROR\n\nBlock devices:\n259 blkext\n  7 loop\n";
        assert_eq!(major_of(devices, "HMM_DMIRROR"), Some(243));
        assert_eq!(major_of(devices, "loop"), None, "a block device");
        assert_eq!(major_of("", "mem"), None);
    }
}
