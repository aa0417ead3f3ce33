//! A vmlinuz: the boot image that holds a compressed vmlinux, stripped of its symbols.
//!
//! For x86 the header says where the payload is (Documentation/arch/x86/boot.rst, protocol 2.08 and later). Payloads of
//! gzip, zstd, xz, lzma and lz4 are unpacked; of others the error says what they are.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lzma_rust2::{LzmaReader, XzReader};

use super::lz4;

/// No kernel is larger unpacked; a stream that claims more is damaged.
const MAX_UNPACKED: u64 = 1 << 30;
/// Memory for what xz and lzma look back to; builds take 128 MiB of it (scripts/xz_wrap.sh, 7.2).
const MAX_DICTIONARY_KIB: u32 = 256 << 10;
/// Up to where the boot header may reach.
const HEADER: usize = 0x250;

/// Why a boot image cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It could not be read.
    #[error("read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is a boot image of another architecture.
    #[error("use {}: it is a boot image for {architecture}; plans can be made for x86_64", .path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// Which one.
        architecture: &'static str,
    },
    /// It is cut or damaged.
    #[error("unpack {}: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its payload is compressed in a way that is not known here.
    #[error(
        "unpack {}: its kernel is compressed with {how}, which is not supported; unpack it with the kernel's \
         scripts/extract-vmlinux and use what that prints",
        .path.display()
    )]
    Compression {
        /// The file.
        path: PathBuf,
        /// The compression.
        how: &'static str,
    },
}

/// A kernel out of its boot image.
pub(super) struct Unpacked {
    /// The ELF file.
    pub(super) vmlinux: Arc<[u8]>,
    /// `uname -r`, if the boot image tells.
    pub(super) release: Option<String>,
}

/// Unpacks a boot image. `None` if the file is none.
pub(super) fn unpack(path: &Path) -> Result<Option<Unpacked>, UnpackError> {
    let io = |source| UnpackError::Io { path: path.to_owned(), source };
    let damaged = |reason: String| UnpackError::Damaged { path: path.to_owned(), reason };
    let file = File::open(path).map_err(io)?;
    let mut header = [0; HEADER];
    // A file too short to be a boot image is none.
    if !file.metadata().map_err(io)?.is_file() || file.read_exact_at(&mut header, 0).is_err() {
        return Ok(None);
    }
    if &header[0x38..0x3c] == b"ARM\x64" {
        return Err(UnpackError::Architecture { path: path.to_owned(), architecture: "arm64" });
    }
    if &header[0x202..0x206] != b"HdrS" {
        return Ok(None);
    }
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 2)) << 16;
    if half(0x206) < 0x208 {
        return Err(damaged("its boot protocol is older than 2.08".to_owned()));
    }
    let start = (u64::from(header[0x1f1]) + 1) * 512 + word(0x248);
    let len = word(0x24c);
    let mut payload = vec![0; usize::try_from(len.min(MAX_UNPACKED)).unwrap_or(0)];
    file.read_exact_at(&mut payload, start)
        .map_err(|_| damaged("it ends before its payload does: the file is cut".to_owned()))?;
    let vmlinux = match decompress(&payload) {
        Ok(Ok(vmlinux)) => vmlinux.into(),
        Ok(Err(how)) => return Err(UnpackError::Compression { path: path.to_owned(), how }),
        Err(error) => return Err(damaged(format!("its payload is damaged: {error}"))),
    };
    Ok(Some(Unpacked { vmlinux, release: release(&file, u64::from(half(0x20e))) }))
}

/// The kernel in a payload, or the name of the compression if that is not supported.
fn decompress(payload: &[u8]) -> std::io::Result<Result<Vec<u8>, &'static str>> {
    // The last word is the length of what was packed (scripts/Makefile.lib: size_append).
    let len = payload.last_chunk::<4>().map_or(0, |len| u64::from(u32::from_le_bytes(*len)));
    let mut out = Vec::with_capacity(usize::try_from(len.min(MAX_UNPACKED / 4)).unwrap_or(0));
    let decoder: Box<dyn Read> = match payload {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::GzDecoder::new(payload)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(payload)?.single_frame()),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            Box::new(XzReader::new_mem_limit(payload, false, MAX_DICTIONARY_KIB))
        }
        [0x5d, 0, 0, ..] => Box::new(LzmaReader::new_mem_limit(payload, MAX_DICTIONARY_KIB, None)?),
        [0x02, 0x21, 0x4c, 0x18, ..] => return lz4::decompress(payload, MAX_UNPACKED as usize).map(Ok),
        [0x89, b'L', b'Z', b'O', ..] => return Ok(Err("lzo")),
        [b'B', b'Z', b'h', ..] => return Ok(Err("bzip2")),
        _ => return Ok(Err("something unknown")),
    };
    decoder.take(MAX_UNPACKED).read_to_end(&mut out)?;
    Ok(Ok(out))
}

/// `kernel_version` of the header: a text that begins with the release, 0x200 bytes behind where it says.
fn release(file: &File, at: u64) -> Option<String> {
    if at == 0 {
        return None;
    }
    let mut text = [0; 128];
    let read = file.read_at(&mut text, at + 0x200).ok()?;
    let end = text[..read].iter().position(|byte| matches!(byte, b' ' | 0))?;
    String::from_utf8(text[..end].to_vec()).ok().filter(|release| !release.is_empty())
}
