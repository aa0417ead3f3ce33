//! Tells a service manager how the daemon is doing: the protocol of sd_notify(3), datagrams to the socket that
//! `NOTIFY_SOCKET` names.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who wants to be told; nobody, if no service manager started this process.
#[derive(Debug, Default)]
pub(crate) struct Manager(Option<OsString>);

impl Manager {
    /// Whoever the environment names.
    pub(crate) fn of_environment() -> Self {
        Self(env::var_os("NOTIFY_SOCKET"))
    }

    /// The daemon serves.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// The daemon is ending.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=ending\n");
    }

    /// A manager that does not listen is no reason to stop.
    fn tell(&self, text: &str) {
        if let Some(name) = &self.0
            && let Err(error) = send(name, text)
        {
            log::warn!("failed to tell the service manager at {}: {error}", name.to_string_lossy());
        }
    }
}

fn send(name: &OsStr, text: &str) -> io::Result<()> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 200];
        let read = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_hears_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = Manager(Some(path.into_os_string()));
        manager.ready("serving");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=serving\n");
        manager.stopping();
        assert_eq!(heard(&socket), "STOPPING=1\nSTATUS=ending\n");
    }

    #[test]
    fn a_socket_without_a_file_too() {
        let name = format!("lazymmu-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Manager(Some(format!("@{name}").into())).ready("x");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=x\n");
        // Nobody there, and nobody asked for.
        drop(socket);
        Manager(Some(format!("@{name}").into())).ready("x");
        Manager(None).ready("x");
    }
}
