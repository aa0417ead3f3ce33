//! Writes a file whole or not at all: who reads it while it is written, or after a full disk, sees the old one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{ExitStatus, Failure};

/// Writes the text to a file, in the place of the one that is there.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let result = match fs::metadata(path) {
        // A device or a pipe is no file that could be replaced.
        Ok(there) if !there.is_file() && !there.is_dir() => {
            File::options().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()))
        }
        Ok(there) => replace(path, text, Some(&there)),
        Err(_) => replace(path, text, None),
    };
    result.map_err(|error| Failure::to(ExitStatus::Usage, format!("write {}: {error}", path.display())))
}

fn replace(path: &Path, text: &str, there: Option<&fs::Metadata>) -> io::Result<()> {
    if there.is_some_and(fs::Metadata::is_dir) {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    // What a link points to is replaced, not the link.
    let path = if there.is_some() { fs::canonicalize(path)? } else { path.to_owned() };
    let temporary = beside(&path)?;
    let written = fill(&temporary, text, there).and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn fill(temporary: &Path, text: &str, there: Option<&fs::Metadata>) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(temporary)?;
    if let Some(there) = there {
        file.set_permissions(there.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A name in the same folder, so that it can be renamed, that no other process takes.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("this is no name of a file"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let names =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        write(&file, "old").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        let link = directory.path().join("link");
        symlink("a", &link).unwrap();
        write(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(directory.path()), ["a", "link"]);
    }

    #[test]
    fn what_cannot_be_written_is_said_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        for (path, why) in [
            (PathBuf::from("/dev/full"), "No space left on device"),
            (directory.path().join("no/such/folder"), "No such file or directory"),
            (directory.path().to_owned(), "is a directory"),
        ] {
            let error = write(&path, "x").unwrap_err();
            assert_eq!(error.status, ExitStatus::Usage);
            let text = error.to_string();
            assert!(text.starts_with(&format!("failed to write {}: ", path.display())), "{text}");
            assert!(text.contains(why), "{text}");
        }
        assert_eq!(names(directory.path()), Vec::<String>::new());
    }
}
