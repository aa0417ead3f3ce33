//! Which sources an eBPF object was made from: written by `cargo xtask ebpf build`, checked by `build.rs`.
//!
//! Included by both, and by the tests of the crate, so it uses `std` alone. It neither compiles nor loads anything.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The object, below the root of the checkout. Beside it lies its stamp.
pub(crate) const OBJECT: &str = "probe-ebpf/object/lazymmu.bpf.o";

/// What the object is made from, below the root of the checkout: files, and directories with all that is in them.
pub(crate) const SOURCES: [&str; 6] = [
    "probe-abi/Cargo.toml",
    "probe-abi/src",
    "probe-ebpf/.cargo/config.toml",
    "probe-ebpf/Cargo.lock",
    "probe-ebpf/Cargo.toml",
    "probe-ebpf/src",
];

/// FNV-1a of 128 bits. It guards against mistakes, not against malice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u128);

impl Digest {
    const EMPTY: Digest = Digest(0x6c62272e07bb014262b821756295c58d);

    /// The digest of some bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::EMPTY.and(bytes)
    }

    fn and(self, bytes: &[u8]) -> Self {
        let prime = 0x0000000001000000000000000000013b;
        Self(bytes.iter().fold(self.0, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(prime)))
    }

    /// The digest of the present sources: of each file's path, length and contents.
    pub(crate) fn of_sources(root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for source in SOURCES {
            list(&root.join(source), &mut files)?;
        }
        files.sort();
        files.iter().try_fold(Self::EMPTY, |digest, file| {
            let contents = fs::read(file)?;
            let name = file.strip_prefix(root).unwrap_or(file).to_string_lossy();
            let head = format!("{name}\n{}\n", contents.len());
            Ok(digest.and(head.as_bytes()).and(&contents))
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            list(&entry?.path(), files)?;
        }
    } else {
        files.push(path.to_owned());
    }
    Ok(())
}

/// What is written beside an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The digest of the sources.
    pub(crate) sources: String,
    /// The digest of the object.
    pub(crate) object: String,
    /// The compiler and the linker, for people.
    pub(crate) made_with: String,
}

impl Stamp {
    /// Where the stamp of an object lies.
    pub(crate) fn path(object: &Path) -> PathBuf {
        object.with_extension("toml")
    }

    /// The text of the file. A part of TOML: three strings.
    // The build script only reads it.
    #[allow(dead_code)]
    pub(crate) fn to_text(&self) -> String {
        let made_with = self.made_with.replace(['"', '\\', '\n'], " ");
        format!("sources = \"{}\"\nobject = \"{}\"\nmade_with = \"{made_with}\"\n", self.sources, self.object)
    }

    /// Reads that text; `None` if a string is missing.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let string = |name: &str| {
            text.lines().find_map(|line| {
                let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim();
                Some(value.strip_prefix('"')?.strip_suffix('"')?.to_owned())
            })
        };
        Some(Self { sources: string("sources")?, object: string("object")?, made_with: string("made_with")? })
    }
}

/// What there is to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An object of the present sources.
    Fresh(Vec<u8>),
    /// No object.
    Missing,
    /// An object that must not be used, and why.
    Stale(&'static str),
}

impl Found {
    /// Looks at an object. `root` is the root of the checkout, whose sources the object has to be of.
    pub(crate) fn look(root: &Path, object: &Path) -> Self {
        let Ok(bytes) = fs::read(object) else { return Found::Missing };
        let Some(stamp) =
            fs::read_to_string(Stamp::path(object)).ok().and_then(|text| Stamp::from_text(&text))
        else {
            return Found::Stale("nothing tells which sources it was made from");
        };
        if stamp.object != Digest::of(&bytes).to_string() {
            return Found::Stale("it was changed after it was made");
        }
        match Digest::of_sources(root) {
            Ok(sources) if sources.to_string() == stamp.sources => Found::Fresh(bytes),
            Ok(_) => Found::Stale("it was made from other sources"),
            Err(_) => Found::Stale("its sources are not in this checkout"),
        }
    }
}
