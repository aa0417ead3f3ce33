//! Where a trace is written to.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// Something that a trace can be appended to.
pub trait Sink: Write {
    /// Takes back what was written after byte `len`: the torn block of a write that failed. Where this cannot be done,
    /// the reader finds the torn block and leaves it out.
    fn cut_back(&mut self, len: u64) -> io::Result<()> {
        let _ = len;
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Sink for File {
    fn cut_back(&mut self, len: u64) -> io::Result<()> {
        if !self.metadata()?.is_file() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.set_len(len)?;
        self.seek(SeekFrom::Start(len)).map(drop)
    }
}

impl Sink for Vec<u8> {
    fn cut_back(&mut self, len: u64) -> io::Result<()> {
        self.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }
}

/// A sink that only goes forward, as a pipe or a socket.
#[derive(Debug)]
pub struct Stream<W>(
    /// The other end.
    pub W,
);

impl<W: Write> Write for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Sink for Stream<W> {}
