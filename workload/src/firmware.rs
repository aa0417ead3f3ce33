//! `ioremap`: the kernel maps device memory for itself, page by page, to let a process read it (`vmap_pte_range` in
//! mm/vmalloc.c, 7.2). The memory is the firmware's image below 1 MiB, which every PC has.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::error::{Attempt, Error};
use crate::{Outcome, PAGES, sys};

const MEMORY: &str = "/dev/mem";

/// The last 64 KiB below 1 MiB: reserved in every PC's memory map, so never the kernel's own memory.
const START: u64 = 0xf_0000;
const BYTES: usize = 0x1_0000;

pub(crate) fn run() -> Result<Outcome, Error> {
    let file = File::open(MEMORY).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            attempt: format!("open {MEMORY}"),
            lacking: "the kernel must be built with CONFIG_DEVMEM=y".to_owned(),
        },
        _ => Error::System { attempt: format!("open {MEMORY}, which takes root"), source },
    })?;
    let first = image(&file)?;
    if first.iter().all(|byte| *byte == first[0]) {
        return Err(Error::Missing {
            attempt: format!("read the firmware's image through {MEMORY}"),
            lacking: "there is none; it takes a PC, or a virtual one".to_owned(),
        });
    }
    let rounds = PAGES / (BYTES / sys::page_size());
    for _ in 1..rounds {
        if image(&file)? != first {
            return Err(Error::no_effect(
                format!("read the firmware's image through {MEMORY}"),
                "it is not the same each time",
            ));
        }
    }
    Ok(Outcome::new(format!(
        "{PAGES} pages of the firmware's image mapped by the kernel for itself, and compared"
    )))
}

fn image(file: &File) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; BYTES];
    file.read_exact_at(&mut bytes, START)
        .attempt(|| format!("read {BYTES} bytes at {START:#x} of {MEMORY}"))?;
    Ok(bytes)
}
