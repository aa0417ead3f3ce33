//! A loop that does little else than change page-table entries, to measure what watching it costs.

use std::time::Duration;

use crate::PAGES;
use crate::error::{Attempt, Error};
use crate::fork::filled;
use crate::sys::{Access, thread_time};

/// Makes many pages read-only and writable again, as often as is said, and gives the processor time of each time. One
/// before them is not counted: it fills what caches there are.
///
/// # Errors
///
/// If the system refuses.
pub fn dense(rounds: usize) -> Result<Vec<Duration>, Error> {
    let region = filled(PAGES)?;
    let mut times = Vec::with_capacity(rounds);
    for round in 0..=rounds {
        let start = thread_time();
        region.protect(Access::ReadOnly).attempt(|| format!("make {PAGES} pages read-only"))?;
        region.protect(Access::ReadWrite).attempt(|| format!("make {PAGES} pages writable"))?;
        let time = thread_time().saturating_sub(start);
        if round > 0 {
            times.push(time);
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_its_time() {
        let _alone = crate::alone();
        let times = dense(3).unwrap();
        assert_eq!(times.len(), 3);
        assert!(times.iter().all(|time| *time > Duration::ZERO), "{times:?}");
    }
}
