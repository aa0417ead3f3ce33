//! The first file system of the guest, which is also its only one.
//!
//! It is not compressed: QEMU hands it over in memory, and the emulated CPU copies faster than it decompresses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use crate::cpio::{Archive, Node};
use crate::error::Error;
use crate::job::Job;
use crate::{guest, libraries};

/// Directories that the first process mounts something on, or that programs expect.
const DIRECTORIES: &[&str] = &["bin", "dev", "etc", "out", "proc", "root", "run", "sys", "tmp"];

struct File {
    data: Vec<u8>,
    mode: u32,
}

/// What a guest runs as its first process where [`Initramfs::new`] was not given another.
const INIT: &str = "/init";

/// The files of a guest.
pub struct Initramfs {
    files: BTreeMap<PathBuf, File>,
    links: BTreeMap<PathBuf, String>,
}

impl Initramfs {
    /// With this program as the first process: `lazymmu-init`, built static.
    pub fn new(init: &Path) -> Result<Self, Error> {
        let mut this = Self::without_init();
        this.add_file(INIT, init, 0o755)?;
        Ok(this)
    }

    /// With this program as the first process, under a path at which the job finds it as well. It has to begin with
    /// [`guest::main`] where [`guest::is_first_process`] says so. It may use shared libraries, which come along.
    pub fn with_program(guest: &str, host: &Path) -> Result<Self, Error> {
        let mut this = Self::without_init();
        this.add_program(guest, host)?;
        this.links
            .insert(PathBuf::from(INIT.trim_start_matches('/')), guest.trim_start_matches('/').to_owned());
        Ok(this)
    }

    /// Without a first process. No kernel can do anything with it; for tests of what then happens.
    pub fn without_init() -> Self {
        Self { files: BTreeMap::new(), links: BTreeMap::new() }
    }

    /// Adds a program of the host and the shared libraries that it uses, those under the paths that they have there.
    pub fn add_program(&mut self, guest: impl AsRef<Path>, host: &Path) -> Result<(), Error> {
        let needs = libraries::of(host).map_err(|source| Error::Prepare {
            what: format!("find the libraries of {}", host.display()),
            source,
        })?;
        for path in needs {
            if !self.files.contains_key(path.strip_prefix("/").unwrap_or(&path)) {
                self.add_file(&path, &path, 0o755)?;
            }
        }
        self.add_file(guest, host, 0o755)
    }

    /// Adds a file of the host under a path in the guest.
    pub fn add_file(&mut self, guest: impl AsRef<Path>, host: &Path, mode: u32) -> Result<(), Error> {
        let data = fs::read(host)
            .map_err(|source| Error::Prepare { what: format!("read {}", host.display()), source })?;
        self.add(guest, data, mode);
        Ok(())
    }

    /// Adds all that is below a directory of the host, as below the guest's root. What is neither a file, a link nor a
    /// directory with something in it is left out.
    pub fn add_tree(&mut self, host: &Path) -> Result<(), Error> {
        self.add_below(host, host).map_err(|source| Error::Prepare {
            what: format!("read what is below {}", host.display()),
            source,
        })
    }

    fn add_below(&mut self, root: &Path, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let guest = path.strip_prefix(root).unwrap_or(&path).to_owned();
            if kind.is_dir() {
                self.add_below(root, &path)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(&path)?;
                let target = target.to_str().ok_or_else(|| io::Error::other("a link that is not UTF-8"))?;
                self.links.insert(guest, target.to_owned());
            } else if kind.is_file() {
                self.add(guest, fs::read(&path)?, entry.metadata()?.mode() & 0o7777);
            }
        }
        Ok(())
    }

    /// Adds a link. One that had the same path is replaced.
    pub fn add_link(&mut self, guest: &str, target: &str) {
        self.links.insert(PathBuf::from(guest.trim_start_matches('/')), target.to_owned());
    }

    /// Adds a file with this content. One that had the same path is replaced.
    pub fn add(&mut self, guest: impl AsRef<Path>, data: impl Into<Vec<u8>>, mode: u32) {
        // "/a/./b", "a/b" and "/a/b" are one name; a path cannot leave the root, as in a real file system.
        let mut name = PathBuf::new();
        for component in guest.as_ref().components() {
            match component {
                Component::Normal(part) => name.push(part),
                Component::ParentDir => {
                    name.pop();
                }
                Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
            }
        }
        self.files.insert(name, File { data: data.into(), mode });
    }

    /// The archive, with the job in it.
    pub(crate) fn pack(&self, job: &Job) -> Result<Vec<u8>, Error> {
        let job = serde_json::to_vec(job).map_err(|error| Error::Prepare {
            what: "write down the job".to_owned(),
            source: error.into(),
        })?;
        let job_file = File { data: job, mode: 0o644 };
        let job_path = Path::new(guest::JOB_PATH.trim_start_matches('/'));
        let mut files: BTreeMap<&Path, &File> =
            self.files.iter().map(|(path, file)| (&**path, file)).collect();
        files.insert(job_path, &job_file);

        let mut directories: BTreeSet<PathBuf> = DIRECTORIES.iter().map(PathBuf::from).collect();
        for path in files.keys().copied().chain(self.links.keys().map(PathBuf::as_path)) {
            directories.extend(path.ancestors().skip(1).map(Path::to_path_buf));
        }
        directories.remove(Path::new(""));

        let mut archive = Archive::default();
        // A set of paths has each directory before what is in it.
        for directory in &directories {
            archive.add(&name(directory)?, &Node::Directory);
        }
        // The kernel opens it for the first process before anything is mounted (console_on_rootfs(), init/main.c).
        archive.add("dev/console", &Node::CharDevice { major: 5, minor: 1 });
        for (path, target) in &self.links {
            archive.add(&name(path)?, &Node::Link { target });
        }
        for (path, file) in files {
            archive.add(&name(path)?, &Node::File { data: &file.data, mode: file.mode });
        }
        Ok(archive.finish())
    }
}

fn name(path: &Path) -> Result<String, Error> {
    path.to_str().map(str::to_owned).ok_or_else(|| Error::Prepare {
        what: format!("pack {}", path.display()),
        source: io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in an archive, in their order.
    fn names(bytes: &[u8]) -> Vec<String> {
        let field = |at: usize, index: usize| {
            let digits = std::str::from_utf8(&bytes[at + 6 + 8 * index..at + 14 + 8 * index]).unwrap();
            usize::from_str_radix(digits, 16).unwrap()
        };
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let (size, name_size) = (field(at, 6), field(at, 11));
            names.push(String::from_utf8(bytes[at + 110..at + 109 + name_size].to_vec()).unwrap());
            at = (at + 110 + name_size).next_multiple_of(4) + size.next_multiple_of(4);
        }
        names
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let mut initramfs = Initramfs::without_init();
        initramfs.add("/usr/lib/debug/.build-id/ab/cdef.debug", "x", 0o644);
        let names = names(&initramfs.pack(&Job::default()).unwrap());
        let position = |name: &str| names.iter().position(|other| other == name).unwrap();
        assert!(position("usr") < position("usr/lib"));
        assert!(position("usr/lib/debug/.build-id/ab") < position("usr/lib/debug/.build-id/ab/cdef.debug"));
        assert!(position("dev") < position("dev/console"));
        assert!(names.contains(&"etc/job.json".to_owned()));
        assert_eq!(names.last().unwrap(), "TRAILER!!!");
    }

    #[test]
    fn one_path_is_one_file() {
        let mut initramfs = Initramfs::without_init();
        initramfs.add("/a/../b", "1", 0o644);
        initramfs.add("b", "2", 0o644);
        initramfs.add("/../b", "3", 0o644);
        let names = names(&initramfs.pack(&Job::default()).unwrap());
        assert_eq!(names.iter().filter(|name| *name == "b").count(), 1, "{names:?}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Initramfs::new(Path::new("/nowhere/lazymmu-init")).err().unwrap();
        assert!(error.to_string().contains("/nowhere/lazymmu-init"), "{error}");
    }
}
