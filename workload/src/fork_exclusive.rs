//! `fork-exclusive`: the known hazard. A device takes exclusive access to pages, which replaces their entries by
//! marks. fork then meets the marks: `copy_nonpresent_pte` restores the parent's entry by `set_pte_at` and
//! `copy_pte_range` reads it again in the same section (mm/memory.c, 6.12 and 7.2).
//!
//! The device is the kernel's own test of such devices (lib/test_hmm.c).

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;

use crate::Outcome;
use crate::error::{Attempt, Error};
use crate::fork::{check_both, filled};
use crate::procfs::{self, Mapped};
use crate::sys::{self, Region};

/// Fewer than the 64 that one call of 6.12 takes at a time (lib/test_hmm.c, `dmirror_exclusive`).
const PAGES: usize = 32;
const DEVICE: &str = "/dev/hmm_dmirror0";
/// The driver's name in /proc/devices (lib/test_hmm.c, `hmm_dmirror_init`).
const DRIVER: &str = "HMM_DMIRROR";
/// Another CPU's list of new pages may hold a page for a moment, and the kernel then says that it is busy.
const ATTEMPTS: u32 = 10;

pub(crate) fn run() -> Result<Outcome, Error> {
    let device = open_device()?;
    let mut region = filled(PAGES)?;
    make_exclusive(&device, &region)?;
    let marks = procfs::mapped(&region)?;
    if marks != (Mapped { present: 0, swapped: PAGES }) {
        return Err(Error::no_effect(
            format!("give {DEVICE} exclusive access to {PAGES} pages"),
            format!("{} of them are still mapped", marks.present),
        ));
    }
    // Nobody touches the pages before the fork, so it is the fork that restores them.
    let attempt = || format!("fork while {DEVICE} has exclusive access to {PAGES} pages");
    sys::in_child(|| true).attempt(attempt)?;
    let restored = procfs::mapped(&region)?;
    if restored != (Mapped { present: PAGES, swapped: 0 }) {
        return Err(Error::no_effect(
            attempt(),
            format!("the fork restored {} of the parent's entries", restored.present),
        ));
    }
    make_exclusive(&device, &region)?;
    check_both(&mut region)?;
    Ok(Outcome::new(format!(
        "{PAGES} pages taken by {DEVICE}, restored by two forks, and checked in all processes"
    )))
}

fn make_exclusive(device: &File, region: &Region) -> Result<(), Error> {
    let attempt = || format!("give {DEVICE} exclusive access to {PAGES} pages");
    let mut tries = 1..=ATTEMPTS;
    loop {
        let last = tries.next().is_none();
        match sys::dmirror_exclusive(device, region) {
            Ok(pages) if pages == PAGES as u64 => return Ok(()),
            Ok(pages) => return Err(Error::no_effect(attempt(), format!("it got {pages}"))),
            Err(error) if !last && error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(source) => return Err(Error::System { attempt: attempt(), source }),
        }
    }
}

fn open_device() -> Result<File, Error> {
    let open = |path: &str| OpenOptions::new().read(true).write(true).open(path);
    let attempt = || format!("open {DEVICE}");
    match open(DEVICE) {
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
    sys::make_device_node(&path, major, 0).attempt(attempt)?;
    let device = open(&node).attempt(|| format!("open {DEVICE} as {node}"));
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
