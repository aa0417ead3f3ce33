//! The frames on the second serial port, the way from the guest to the host.
//!
//! ```text
//! kind: u8 | length of the payload: u32 | CRC-32 of kind, length and payload: u32 | payload
//! ```
//!
//! Numbers are little-endian. A serial port of QEMU loses nothing, so there is no way to ask again: a frame that
//! does not check is an error.

use std::io::{self, Read, Write};

/// The largest payload. Larger content is cut into several frames.
pub(crate) const MAX_PAYLOAD: usize = 1 << 16;

const HEADER: usize = 9;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The first process runs; the payload is the kernel's release.
    Hello = 1,
    /// Bytes that the running step wrote to its standard output.
    Stdout = 2,
    /// Bytes that it wrote to its standard error.
    Stderr = 3,
    /// The running step ended; the payload is a [`crate::StepStatus`] as text.
    StepEnd = 4,
    /// A file begins: its size (u64), then its path below `/out`.
    FileStart = 5,
    /// A piece of that file.
    FileData = 6,
    /// All is sent; the payload is the status line.
    Status = 7,
}

impl Kind {
    fn from_code(code: u8) -> Option<Self> {
        [
            Kind::Hello,
            Kind::Stdout,
            Kind::Stderr,
            Kind::StepEnd,
            Kind::FileStart,
            Kind::FileData,
            Kind::Status,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == code)
    }
}

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The payload as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

fn checksum(kind: u8, length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Writes one frame; the payload must not be longer than [`MAX_PAYLOAD`].
pub(crate) fn write(to: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    if payload.len() > MAX_PAYLOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the payload is too long for a frame"));
    }
    let length = payload.len() as u32;
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.push(kind as u8);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum(kind as u8, length, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    to.write_all(&bytes)
}

/// Reads the next frame; `None` where the stream ends between two.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER];
    let first = loop {
        match from.read(&mut header[..1]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut header[1..])?;
    let [code, l0, l1, l2, l3, c0, c1, c2, c3] = header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let kind = Kind::from_code(code).ok_or_else(|| damaged(format!("a frame of the unknown kind {code}")))?;
    if length as usize > MAX_PAYLOAD {
        return Err(damaged(format!("a frame of {length} bytes")));
    }
    let mut payload = vec![0; length as usize];
    from.read_exact(&mut payload)?;
    if checksum(code, length, &payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(damaged(format!("a {kind:?} frame of {length} bytes whose checksum is wrong")));
    }
    Ok(Some(Frame { kind, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::Hello, b"7.2.13").unwrap();
        write(&mut bytes, Kind::Stdout, &[0xff; 300]).unwrap();
        write(&mut bytes, Kind::Status, b"").unwrap();
        bytes
    }

    fn read_all(mut bytes: &[u8]) -> io::Result<Vec<Frame>> {
        let mut frames = Vec::new();
        while let Some(frame) = read(&mut bytes)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_back() {
        let frames = read_all(&stream()).unwrap();
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[0].text(), "7.2.13");
        assert_eq!(frames[1], Frame { kind: Kind::Stdout, payload: vec![0xff; 300] });
        assert!(frames[2].payload.is_empty());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = stream();
        for position in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[position / 8] ^= 1 << (position % 8);
            assert!(read_all(&bad).is_err(), "bit {position}");
        }
    }

    #[test]
    fn a_cut_is_noticed_but_for_the_end_of_a_frame() {
        let good = stream();
        let ends = [9 + 6, 9 + 6 + 9 + 300, good.len()];
        for cut in 1..=good.len() {
            assert_eq!(read_all(&good[..cut]).is_ok(), ends.contains(&cut), "cut at {cut}");
        }
    }

    #[test]
    fn a_payload_that_is_too_long_is_refused() {
        assert!(write(&mut Vec::new(), Kind::Stdout, &vec![0; MAX_PAYLOAD + 1]).is_err());
    }
}
