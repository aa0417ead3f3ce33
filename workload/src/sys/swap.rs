//! Swap space on a device.

use std::ffi::CStr;
use std::io;

use super::check;

/// Lets the kernel swap to a device that has been made ready for it.
pub(crate) fn on(device: &CStr) -> io::Result<()> {
    // SAFETY: the path is a C string; the kernel refuses what is no swap space.
    check(unsafe { libc::swapon(device.as_ptr(), 0) })
}

/// Brings back what is on the device and uses it no more.
pub(crate) fn off(device: &CStr) -> io::Result<()> {
    // SAFETY: the path is a C string; nothing that was swapped out is lost.
    check(unsafe { libc::swapoff(device.as_ptr()) })
}
