//! The file systems of the guest, and the few settings that tracing needs.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

/// Kind, place, and whether a guest can do without it.
const MOUNTS: &[(&str, &str, bool)] = &[
    ("sysfs", "/sys", false),
    ("devtmpfs", "/dev", false),
    ("tmpfs", "/tmp", false),
    ("tmpfs", "/run", false),
    ("tmpfs", "/out", false),
    // A kernel without tracing or BPF is one of the things to be tested.
    ("debugfs", "/sys/kernel/debug", true),
    ("tracefs", "/sys/kernel/tracing", true),
    ("bpf", "/sys/fs/bpf", true),
];

/// Mounts procfs.
pub(super) fn proc() -> Result<(), String> {
    one("proc", Path::new("/proc"), "")
}

/// Mounts everything else and lets root read the kernel's addresses.
pub(super) fn all() -> Result<(), String> {
    for (kind, target, optional) in MOUNTS {
        let target = Path::new(target);
        if *optional && !target.exists() {
            continue;
        }
        match one(kind, target, "") {
            Err(_) if *optional => {}
            other => other?,
        }
    }
    let (path, text) = ("/proc/sys/kernel/kptr_restrict", "0");
    fs::write(path, text).map_err(|error| format!("write {text} to {path}: {error}"))
}

/// Mounts one file system, and makes the directory if it is missing.
pub(super) fn one(kind: &str, target: &Path, options: &str) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("mount {kind} on {}: {error}", target.display());
    fs::create_dir_all(target).map_err(|error| failed(&error))?;
    let options = CString::new(options).map_err(|error| failed(&error))?;
    mount(kind, target, kind, MountFlags::empty(), Some(&*options)).map_err(|error| failed(&error))
}
