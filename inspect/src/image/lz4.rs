//! The LZ4 format of boot images: the "legacy" frame, which `lz4 -l` writes (scripts/Makefile.lib: `cmd_lz4`).
//!
//! Behind the magic number stand blocks, each with its length in front, that have nothing to do with each other. Behind
//! the last one stands what the kernel's build appends, the length of all, which is no length of a block.

use std::io::{Error, ErrorKind, Result};

/// What a block unpacks to at most.
const BLOCK: usize = 8 << 20;

/// Unpacks a frame whose magic number has been seen. `most` is the most that is believed.
pub(super) fn decompress(frame: &[u8], most: usize) -> Result<Vec<u8>> {
    let mut rest = frame.get(4..).unwrap_or_default();
    let mut out = Vec::new();
    // What is appended stands alone: a block has at least one byte behind its length.
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        if behind.is_empty() {
            break;
        }
        let len = u32::from_le_bytes(*len) as usize;
        let block = behind.get(..len).ok_or_else(|| damaged("a block is cut"))?;
        if out.len() + BLOCK > most {
            return Err(damaged("it is too large"));
        }
        unpack_block(block, &mut out)?;
        rest = &behind[len..];
    }
    Ok(out)
}

fn damaged(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}

/// A block is a row of sequences: literal bytes, then a copy of bytes that came before, in the same block.
fn unpack_block(mut block: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    loop {
        let token = *take(&mut block, 1)?.first().ok_or_else(|| damaged("a sequence is cut"))?;
        let literals = length(token >> 4, &mut block)?;
        out.extend_from_slice(take(&mut block, literals)?);
        if block.is_empty() {
            // The last sequence ends behind its literals.
            break;
        }
        let distance = match take(&mut block, 2)? {
            [low, high] => usize::from(u16::from_le_bytes([*low, *high])),
            _ => 0,
        };
        let len = length(token & 0xf, &mut block)? + 4;
        if distance == 0 || distance > out.len() - start || out.len() - start + len > BLOCK {
            return Err(damaged("a copy is of bytes that are not there"));
        }
        copy(out, distance, len);
    }
    if out.len() - start > BLOCK { Err(damaged("a block is too large")) } else { Ok(()) }
}

/// Four bits, and if all are set as many bytes as follow, up to one that is not 255.
fn length(bits: u8, block: &mut &[u8]) -> Result<usize> {
    let mut len = usize::from(bits);
    let mut more = bits == 0xf;
    while more {
        let byte = take(block, 1)?[0];
        len += usize::from(byte);
        more = byte == 0xff;
    }
    Ok(len)
}

fn take<'a>(block: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let (taken, rest) = block.split_at_checked(len).ok_or_else(|| damaged("a sequence is cut"))?;
    *block = rest;
    Ok(taken)
}

/// The copy may reach into what it makes itself.
fn copy(out: &mut Vec<u8>, distance: usize, len: usize) {
    let mut left = len;
    while left > 0 {
        let from = out.len() - distance;
        let part = left.min(distance);
        out.extend_from_within(from..from + part);
        left -= part;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(blocks: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![0x02, 0x21, 0x4c, 0x18];
        for block in blocks {
            frame.extend((block.len() as u32).to_le_bytes());
            frame.extend_from_slice(block);
        }
        frame.extend(7_u32.to_le_bytes());
        frame
    }

    #[test]
    fn literals_and_copies_are_unpacked() {
        // "abc", then 7 bytes from 3 before, then "!".
        let first = [0x33, b'a', b'b', b'c', 3, 0, 0x10, b'!'];
        // 16 literals, which takes a byte of length; a copy of 19 and more bytes from 1 before; the end.
        let mut second = vec![0xff, 1];
        second.extend_from_slice(b"0123456789abcdef");
        second.extend([1, 0, 2, 0x00]);
        let out = decompress(&frame(&[&first, &second]), 1 << 30).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("abcabcabca!0123456789abcde{}", "f".repeat(22)));
    }

    #[test]
    fn damage_is_an_error() {
        let good = [0x33, b'a', b'b', b'c', 3, 0, 0x10, b'!'];
        for len in 1..good.len() {
            // Cut behind its literals a block is whole.
            let whole = len == 4;
            assert_eq!(decompress(&frame(&[&good[..len]]), 1 << 30).is_ok(), whole, "{len}");
        }
        let far = [0x33, b'a', b'b', b'c', 4, 0, 0x10, b'!'];
        assert!(decompress(&frame(&[&far]), 1 << 30).is_err(), "in front of the block");
        assert!(decompress(&frame(&[&good, &far]), 1 << 30).is_err(), "in the block before");
        let mut cut = frame(&[&good]);
        cut.truncate(10);
        assert!(decompress(&cut, 1 << 30).is_err());
        assert!(decompress(&frame(&[&good]), 1 << 20).is_err(), "larger than is believed");
    }
}
