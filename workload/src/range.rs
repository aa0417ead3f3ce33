//! `mprotect`, `mremap`, `munmap`: system calls that change the entries of a range.

use std::io::Write;

use crate::error::{Attempt, Error};
use crate::fork::{filled, wrong_page};
use crate::sys::{self, Access, Region};
use crate::{Outcome, PAGES};

pub(crate) fn mprotect() -> Result<Outcome, Error> {
    let mut region = filled(PAGES)?;
    region.protect(Access::ReadOnly).attempt(|| format!("make {PAGES} pages read-only"))?;
    let refused = refused_writes(&mut region)?;
    if refused != PAGES {
        return Err(Error::no_effect(
            format!("make {PAGES} pages read-only"),
            format!("{} of them can still be written", PAGES - refused),
        ));
    }
    region.protect(Access::ReadWrite).attempt(|| format!("make {PAGES} pages writable"))?;
    let refused = refused_writes(&mut region)?;
    if refused != 0 {
        let attempt = format!("make {PAGES} pages writable");
        return Err(Error::no_effect(attempt, format!("{refused} of them still cannot be written")));
    }
    Ok(Outcome::new(format!("{PAGES} pages made read-only and writable again, and both checked")))
}

/// Lets the kernel write to each page; how many times it could not.
fn refused_writes(region: &mut Region) -> Result<usize, Error> {
    let attempt = || "write to pages through a pipe".to_owned();
    let (receiver, mut sender) = sys::pipe().attempt(attempt)?;
    let mut refused = 0;
    let mut waiting = false;
    for page in 0..region.pages() {
        // A byte that could not be delivered stays in the pipe.
        if !waiting {
            sender.write_all(&[0]).attempt(attempt)?;
            waiting = true;
        }
        match region.receive(page, &receiver) {
            Ok(()) => waiting = false,
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => refused += 1,
            Err(source) => return Err(Error::System { attempt: attempt(), source }),
        }
    }
    Ok(refused)
}

pub(crate) fn mremap() -> Result<Outcome, Error> {
    let attempt = || format!("move {PAGES} pages");
    let (region, hole) = filled(PAGES)?.relocate().attempt(attempt)?;
    if let Some(page) = wrong_page(&region) {
        return Err(Error::no_effect(attempt(), format!("page {page} lost its data")));
    }
    match hole.mapped_pages() {
        0 => Ok(Outcome::new(format!("{PAGES} pages moved to another address, and their data checked"))),
        left => Err(Error::no_effect(attempt(), format!("{left} are still at the old address"))),
    }
}

pub(crate) fn munmap() -> Result<Outcome, Error> {
    let attempt = || format!("unmap {PAGES} pages");
    let hole = filled(PAGES)?.unmap().attempt(attempt)?;
    match hole.mapped_pages() {
        0 => Ok(Outcome::new(format!("{PAGES} pages unmapped, and their addresses checked"))),
        left => Err(Error::no_effect(attempt(), format!("{left} are still mapped"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_are_refused_are_counted_one_by_one() {
        let _alone = crate::alone();
        let mut region = filled(9).unwrap();
        assert_eq!(refused_writes(&mut region).unwrap(), 0);
        region.protect(Access::ReadOnly).unwrap();
        assert_eq!(refused_writes(&mut region).unwrap(), 9);
    }
}
