//! The 48 bytes before each block's payload.
//!
//! They have a checksum of their own, so that the lengths and counts in them can be trusted, and a reader can step
//! over a block, even where the payload is damaged. Sequence and record count tell what a hole in the file swallowed.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::{MAX_PAYLOAD, MAX_RECORDS};

/// The first bytes of every block, by which the next one is found after damage.
pub(crate) const MARKER: [u8; 4] = *b"\xb1lmb";

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Type {
    Header = 1,
    Records = 2,
    Stacks = 3,
    Frames = 4,
    Counters = 5,
    Index = 6,
}

impl Type {
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Type::Header, Type::Records, Type::Stacks, Type::Frames, Type::Counters, Type::Index]
            .into_iter()
            .find(|known| *known as u8 == code)
    }
}

/// How a payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Codec {
    Raw = 0,
    Zstd = 1,
}

/// As it stands in the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    marker: [u8; 4],
    block_type: u8,
    codec: u8,
    reserved: U16,
    sequence: U64,
    records_before: U64,
    items: U32,
    raw_len: U32,
    stored_len: U32,
    payload_crc: U32,
    reserved2: U32,
    crc: U32,
}

pub(crate) const BLOCK_HEADER_LEN: usize = size_of::<Layout>();
const _: () = assert!(BLOCK_HEADER_LEN == 48);

/// The header of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// A [`Type`], unless a newer version wrote it.
    pub(crate) block_type: u8,
    /// A [`Codec`], unless a newer version wrote it.
    pub(crate) codec: u8,
    /// The number of the block, from 0.
    pub(crate) sequence: u64,
    /// How many records the blocks before it hold.
    pub(crate) records_before: u64,
    /// How many records, stacks, addresses or spans it holds.
    pub(crate) items: u32,
    /// Bytes of the payload after decompression.
    pub(crate) raw_len: u32,
    /// Bytes of the payload in the file.
    pub(crate) stored_len: u32,
    /// CRC-32 of the payload in the file.
    pub(crate) payload_crc: u32,
}

impl BlockHeader {
    pub(crate) fn to_bytes(self) -> [u8; BLOCK_HEADER_LEN] {
        let mut layout = Layout {
            marker: MARKER,
            block_type: self.block_type,
            codec: self.codec,
            reserved: 0.into(),
            sequence: self.sequence.into(),
            records_before: self.records_before.into(),
            items: self.items.into(),
            raw_len: self.raw_len.into(),
            stored_len: self.stored_len.into(),
            payload_crc: self.payload_crc.into(),
            reserved2: 0.into(),
            crc: 0.into(),
        };
        layout.crc = layout.checksum().into();
        zerocopy::transmute!(layout)
    }

    /// The header at the start of `bytes`, if there is one, whole and within the limits.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (layout, _) = Layout::read_from_prefix(bytes).ok()?;
        if layout.marker != MARKER || layout.crc.get() != layout.checksum() {
            return None;
        }
        let header = Self {
            block_type: layout.block_type,
            codec: layout.codec,
            sequence: layout.sequence.get(),
            records_before: layout.records_before.get(),
            items: layout.items.get(),
            raw_len: layout.raw_len.get(),
            stored_len: layout.stored_len.get(),
            payload_crc: layout.payload_crc.get(),
        };
        header.within_limits().then_some(header)
    }

    /// What a checksum cannot promise in a file that was made to harm: that the lengths are sane.
    fn within_limits(&self) -> bool {
        let fits = |len: u32| usize::try_from(len).is_ok_and(|len| len <= MAX_PAYLOAD);
        fits(self.raw_len)
            && fits(self.stored_len)
            && (self.block_type != Type::Records as u8
                || usize::try_from(self.items).is_ok_and(|items| items <= MAX_RECORDS))
    }

    /// How many records it holds.
    pub(crate) fn records(&self) -> u64 {
        if self.block_type == Type::Records as u8 { self.items.into() } else { 0 }
    }

    /// Bytes that the block takes in the file.
    pub(crate) fn len(&self) -> u64 {
        BLOCK_HEADER_LEN as u64 + u64::from(self.stored_len)
    }
}

impl Layout {
    fn checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        crc32fast::hash(bytes.get(..BLOCK_HEADER_LEN - size_of::<U32>()).unwrap_or(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: BlockHeader = BlockHeader {
        block_type: Type::Records as u8,
        codec: Codec::Zstd as u8,
        sequence: 3,
        records_before: 4096,
        items: 2,
        raw_len: 128,
        stored_len: 40,
        payload_crc: 0x1234_5678,
    };

    #[test]
    fn a_header_is_read_back() {
        assert_eq!(BlockHeader::parse(&SAMPLE.to_bytes()), Some(SAMPLE));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = SAMPLE.to_bytes();
        for bit in 0..good.len() * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BlockHeader::parse(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn lengths_over_the_limits_are_refused_although_the_checksum_matches() {
        let over = MAX_PAYLOAD as u32 + 1;
        for bad in [
            BlockHeader { raw_len: over, ..SAMPLE },
            BlockHeader { stored_len: over, ..SAMPLE },
            BlockHeader { items: MAX_RECORDS as u32 + 1, ..SAMPLE },
            BlockHeader { stored_len: u32::MAX, raw_len: u32::MAX, ..SAMPLE },
        ] {
            assert_eq!(BlockHeader::parse(&bad.to_bytes()), None, "{bad:?}");
        }
    }
}
