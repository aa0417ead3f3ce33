//! The socket: whom it lets in, and that only one daemon is behind it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::process::Gid;

use crate::{ExitStatus, Failure};

/// Owner and group may talk to the daemon, nobody else.
const MODE: u32 = 0o660;

/// A socket that is listened at. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    group: Option<Gid>,
}

impl Socket {
    /// Listens at this path. A socket that nobody listens at any more is replaced.
    ///
    /// # Errors
    ///
    /// If somebody listens there, the group is not known, or the system refuses it.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, Failure> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            let what = format!("failed to {what} {}: {error}", path.display());
            Failure::new(ExitStatus::Usage, what)
        };
        if UnixStream::connect(path).is_ok() {
            return Err(failed("listen at", &"another daemon does; --socket names another path"));
        }
        let group = group.map(|name| group_id(name).map_err(|error| failed("serve", &error))).transpose()?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| failed("make a folder for", &error))?;
        }
        // Under another name until it lets in whom it should, and no one else.
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let new = path.with_file_name(name);
        let made = || -> io::Result<(UnixListener, u64)> {
            let listener = UnixListener::bind(&new)?;
            fs::set_permissions(&new, Permissions::from_mode(MODE))?;
            if let Some(group) = group {
                chown(&new, None, Some(group.as_raw()))?;
            }
            let inode = fs::symlink_metadata(&new)?.ino();
            fs::rename(&new, path)?;
            listener.set_nonblocking(true)?;
            Ok((listener, inode))
        };
        let (listener, inode) = made().map_err(|error| {
            let _ = fs::remove_file(&new);
            failed("listen at", &error)
        })?;
        Ok(Self { listener, path: path.to_owned(), inode, group })
    }

    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    pub(super) fn group(&self) -> Option<Gid> {
        self.group
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Someone else's by now, perhaps.
        if fs::symlink_metadata(&self.path).is_ok_and(|about| about.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The number of a group, by its name in /etc/group or as a number.
fn group_id(name: &str) -> Result<Gid, String> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    let id = named.or_else(|| name.parse::<u32>().ok());
    id.map(Gid::from_raw).ok_or_else(|| format!("there is no group {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_a_socket_and_the_dead_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/daemon.sock");
        let socket = Socket::bind(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        let error = Socket::bind(&path, None).unwrap_err();
        assert!(error.to_string().contains("another daemon"), "{error}");
        assert!(path.exists(), "who was refused took nothing away");
        // One that was killed leaves its socket.
        let left = path.with_file_name("left.sock");
        drop(UnixListener::bind(&left).unwrap());
        assert!(left.exists());
        let next = Socket::bind(&left, None).unwrap();
        UnixStream::connect(&left).unwrap();
        drop(next);
        assert!(!left.exists());
        drop(socket);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_socket_of_someone_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = Socket::bind(&path, None).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn groups_by_name_and_number() {
        assert_eq!(group_id("root").unwrap(), Gid::ROOT);
        assert_eq!(group_id("4711").unwrap().as_raw(), 4711);
        assert!(group_id("no such group").is_err());
    }
}
