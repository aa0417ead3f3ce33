//! Nodes of devices, and the requests of the kernel's test device.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::{Region, check};

/// Makes the node of a character device.
pub(crate) fn make_node(path: &std::ffi::CStr, major: u32, minor: u32) -> io::Result<()> {
    let mode = libc::S_IFCHR | 0o600;
    // SAFETY: the path is a C string.
    check(unsafe { libc::mknod(path.as_ptr(), mode, libc::makedev(major, minor)) })
}

/// What the test device can be asked to do with pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `HMM_DMIRROR_MIGRATE_TO_DEV`: take them into the device's memory.
    MigrateToDevice = 2,
    /// `HMM_DMIRROR_MIGRATE_TO_SYS`: give them back.
    MigrateToSystem = 3,
    /// `HMM_DMIRROR_EXCLUSIVE`: access them while no CPU does.
    Exclusive = 5,
}

/// `struct hmm_dmirror_cmd` (lib/test_hmm_uapi.h, 6.12 and 7.2).
#[repr(C)]
#[derive(Debug, Default)]
struct DmirrorCommand {
    addr: u64,
    ptr: u64,
    npages: u64,
    cpages: u64,
    faults: u64,
}

/// Sends a request for a region's pages. Returns how many pages the device then read through its own page table,
/// or has given back.
pub(crate) fn dmirror(device: &File, request: Request, region: &Region) -> io::Result<u64> {
    let mut copy = vec![0u8; region.bytes()];
    let mut command = DmirrorCommand {
        addr: region.address() as u64,
        ptr: copy.as_mut_ptr() as u64,
        npages: region.pages() as u64,
        ..DmirrorCommand::default()
    };
    let number = libc::_IOWR::<DmirrorCommand>(u32::from(b'H'), request as u32);
    // SAFETY: the number carries the size of the struct, which lives through the call; the driver writes at most
    // `npages` pages to `ptr`, and `copy` has that room. It moves the pages of a region, whose contents stay.
    check(unsafe { libc::ioctl(device.as_raw_fd(), number, &raw mut command) })?;
    Ok(command.cpages)
}
