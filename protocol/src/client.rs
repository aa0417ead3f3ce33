//! A client that blocks.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::{Error, Hello, Message, Request};

/// No line of a daemon is longer, or it is none.
const MAX_MESSAGE: u64 = 256 << 20;

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
    hello: Hello,
}

impl Client {
    /// Connects, and gets to know the daemon.
    ///
    /// # Errors
    ///
    /// If nobody listens there, who listens is no daemon or one of another major version, or it refuses this client.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        let what = || format!("connect to the daemon at {}", socket.display());
        let stream = UnixStream::connect(socket).map_err(|source| Error::Io { what: what(), source })?;
        let mut reader = BufReader::new(stream);
        let hello = match read(&mut reader)? {
            Some(Message::Hello(hello)) => hello,
            Some(Message::Error(refusal)) => return Err(Error::Refused(refusal)),
            _ => return Err(Error::NoHello),
        };
        hello.check()?;
        let mut this = Self { reader, hello };
        this.send(&Request::Hello(Hello::client()))?;
        Ok(this)
    }

    /// What the daemon said of itself.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// For how long [`Client::next`] waits; forever, if it is not said. What has come of a line by then is lost, so
    /// that this is for who gives up.
    ///
    /// # Errors
    ///
    /// If the system refuses it.
    pub fn set_patience(&self, patience: Option<Duration>) -> Result<(), Error> {
        let what = "set how long to wait for the daemon".to_owned();
        self.reader.get_ref().set_read_timeout(patience).map_err(|source| Error::Io { what, source })
    }

    /// Another handle to the socket: shutting it down ends a [`Client::next`] that waits on another thread.
    ///
    /// # Errors
    ///
    /// If the system refuses it.
    pub fn handle(&self) -> io::Result<UnixStream> {
        self.reader.get_ref().try_clone()
    }

    /// Asks for something. Answers come in the order of the requests, between whatever else comes.
    ///
    /// # Errors
    ///
    /// If the daemon is gone.
    pub fn send(&mut self, request: &Request) -> Result<(), Error> {
        let what = || "write to the daemon".to_owned();
        let written = self.reader.get_mut().write_all(request.line().as_bytes());
        written.map_err(|source| Error::Io { what: what(), source })
    }

    /// The next message; `None` when the daemon has closed the connection. Messages that this version does not know
    /// are left out.
    ///
    /// # Errors
    ///
    /// If the daemon cannot be understood, or patience is at its end.
    #[allow(clippy::should_implement_trait, reason = "it fails")]
    pub fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            match read(&mut self.reader)? {
                Some(Message::Unknown(_)) => {}
                message => return Ok(message),
            }
        }
    }
}

fn read(reader: &mut BufReader<UnixStream>) -> Result<Option<Message>, Error> {
    let mut line = Vec::new();
    let what = || "read from the daemon".to_owned();
    let read = reader.by_ref().take(MAX_MESSAGE).read_until(b'\n', &mut line);
    read.map_err(|source| Error::Io { what: what(), source })?;
    match line.last() {
        Some(b'\n') => {
            let text = std::str::from_utf8(&line).map_err(|error| Error::Line(error.to_string()))?;
            Message::parse(text).map(Some)
        }
        Some(_) if line.len() as u64 == MAX_MESSAGE => Err(Error::TooLong(line.len())),
        // It went away, perhaps in the middle of a line.
        None | Some(_) => Ok(None),
    }
}
