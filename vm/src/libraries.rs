//! The shared libraries that a program of the host needs, so that it can run in a guest that has nothing.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every file that the program needs to start, by the paths of the host: the dynamic loader and what that would load.
/// None of a static program.
pub(crate) fn of(program: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(loader) = interpreter(&mut File::open(program)?)? else { return Ok(Vec::new()) };
    // What ldd(1) does, without a shell.
    let output = Command::new(&loader).arg("--list").arg(program.canonicalize()?).output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!(
            "{} ended with {}: {}",
            loader.display(),
            output.status,
            why.trim()
        )));
    }
    let mut needs = listed(&String::from_utf8_lossy(&output.stdout))?;
    if !needs.contains(&loader) {
        needs.push(loader);
    }
    Ok(needs)
}

/// The lines are `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`, `/lib64/ld-linux-x86-64.so.2 (0x...)` and one of
/// the kernel's own, which has no path.
fn listed(text: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in text.lines() {
        let (name, place) = line.split_once("=>").unwrap_or(("", line));
        let path = place.trim().split(" (").next().unwrap_or_default();
        if path == "not found" {
            return Err(io::Error::other(format!("it needs {}, which is not installed", name.trim())));
        }
        if path.starts_with('/') {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

/// The loader that a dynamic program names (`PT_INTERP`); none if the program is static.
fn interpreter(file: &mut (impl Read + Seek)) -> io::Result<Option<PathBuf>> {
    let no_program = || io::Error::new(io::ErrorKind::InvalidData, "it is no 64-bit ELF program");
    let mut header = [0; 64];
    file.read_exact(&mut header).map_err(|_| no_program())?;
    // Little-endian, as all hosts that boot x86-64 guests are.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(no_program());
    }
    let (table, size, count) = (long(&header, 32), short(&header, 54), short(&header, 56));
    for number in 0..u64::from(count) {
        let mut entry = [0; 56];
        file.seek(SeekFrom::Start(table.saturating_add(number * u64::from(size))))?;
        file.read_exact(&mut entry).map_err(|_| no_program())?;
        if entry.starts_with(&3u32.to_le_bytes()) {
            let (at, len) = (long(&entry, 8), long(&entry, 32));
            let mut name = Vec::new();
            file.seek(SeekFrom::Start(at))?;
            file.take(len.min(4096)).read_to_end(&mut name)?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            return Ok(Some(Path::new(std::ffi::OsStr::from_bytes(name)).to_owned()));
        }
    }
    Ok(None)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn short(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn what_this_test_itself_needs_is_there() {
        let program = std::env::current_exe().unwrap();
        let needs = of(&program).unwrap();
        // A static test has none.
        if interpreter(&mut File::open(&program).unwrap()).unwrap().is_some() {
            assert!(needs.iter().any(|path| path.to_string_lossy().contains("libc.so")), "{needs:?}");
            assert!(needs.iter().all(|path| path.is_file()), "{needs:?}");
        }
    }

    #[test]
    fn the_list_of_the_loader_is_read() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/a/libm.so.6 (0x00007f)\n\t/lib64/ld.so.2 (0x7f)\n";
        assert_eq!(listed(text).unwrap(), [Path::new("/lib/a/libm.so.6"), Path::new("/lib64/ld.so.2")]);
        let error = listed("\tlibgone.so.1 => not found\n").unwrap_err();
        assert_eq!(error.to_string(), "it needs libgone.so.1, which is not installed");
        assert_eq!(listed("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for bytes in [&b""[..], b"#!/bin/sh\nexit 0\n", &[0x7f; 200]] {
            let error = interpreter(&mut Cursor::new(bytes)).unwrap_err();
            assert_eq!(error.to_string(), "it is no 64-bit ELF program");
        }
    }
}
