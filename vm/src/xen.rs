//! A kernel as the first PV guest of Xen: what QEMU boots is the hypervisor, a multiboot image, and the kernel and its
//! initramfs are modules that it is given.

use std::fs;
use std::io::Read;
use std::path::Path;

use crate::error::Error;

/// The hypervisor's command line: it keeps the first serial port for itself and for the guest's console.
pub(crate) const APPEND: &str = "console=com1 com1=115200,8n1";

/// Where a kernel under Xen prints, from its first line on.
pub(crate) const CONSOLE: &str = "console=hvc0 earlyprintk=xen";

/// What the CPU must not have: with it, Xen does not come up on QEMU's translator.
pub(crate) const CPU: &str = ",-smap";

/// The first word of a multiboot header, which begins in the first 8 KiB of a file (Multiboot Specification 0.6.96, 3.1).
const MULTIBOOT: [u8; 4] = 0x1bad_b002_u32.to_le_bytes();
const HEADER_WITHIN: u64 = 8192;

/// The modules, as QEMU takes them: separated by commas, of which two mean one; the first space ends the file's name.
pub(crate) fn modules(kernel: &Path, append: &str, initrd: &Path) -> String {
    let kernel = format!("{} {append}", kernel.display());
    [kernel, initrd.display().to_string()].map(|module| module.replace(',', ",,")).join(",")
}

/// QEMU would start whatever it is given, so the files are looked at first.
pub(crate) fn check(hypervisor: &Path, kernel: &Path) -> Result<(), Error> {
    let not = |why: &str| Error::NotAHypervisor { path: hypervisor.to_owned(), why: why.to_owned() };
    let mut start = Vec::new();
    fs::File::open(hypervisor)
        .and_then(|file| file.take(HEADER_WITHIN).read_to_end(&mut start))
        .map_err(|error| not(&error.to_string()))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Err(not("it is compressed"));
    }
    if !start.chunks_exact(4).any(|word| word == MULTIBOOT) {
        return Err(not("it has no multiboot header"));
    }
    if kernel.display().to_string().contains(' ') {
        let why = "a module of Xen cannot have a space in its path".to_owned();
        return Err(Error::NotAKernel { path: kernel.to_owned(), why });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_separated_by_single_commas() {
        let modules = modules(Path::new("/k,1/vmlinuz"), "a=b,c d", Path::new("/tmp/i"));
        assert_eq!(modules, "/k,,1/vmlinuz a=b,,c d,/tmp/i");
    }

    #[test]
    fn what_is_no_hypervisor_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let why = |kernel: &str| check(file.path(), Path::new(kernel)).err().map(|error| error.to_string());
        assert!(why("/k").unwrap().contains("no multiboot header"));
        fs::write(file.path(), [0x1f, 0x8b, 0, 0]).unwrap();
        assert!(why("/k").unwrap().contains("compressed"));
        fs::write(file.path(), [&[0; 12][..], &MULTIBOOT].concat()).unwrap();
        assert_eq!(why("/k"), None);
        assert!(why("/k 1").unwrap().contains("space"));
    }
}
