//! What stands beside the records: stacks, and the names of their addresses.
//!
//! Both are written along the way, so that a recording that was killed still has its call paths. A later entry for the
//! same stack or address replaces the earlier one.

use serde::{Deserialize, Serialize};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::{MAX_FRAMES, MAX_SYMBOL_MEMORY};
use crate::{Frame, Symbols};

/// What precedes the return addresses of a stack.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct StackHead {
    id: U64,
    len: U32,
    reserved: U32,
}

/// Appends a stack, without the outermost frames beyond the format's limit.
pub(crate) fn put_stack(out: &mut Vec<u8>, id: u64, addresses: &[u64]) {
    let addresses = addresses.get(..MAX_FRAMES).unwrap_or(addresses);
    let head = StackHead { id: id.into(), len: (addresses.len() as u32).into(), reserved: 0.into() };
    out.extend_from_slice(head.as_bytes());
    for address in addresses {
        out.extend_from_slice(&address.to_le_bytes());
    }
}

/// Takes the stacks of a payload, until one does not fit the rest of it. Returns how many there were, `None` if
/// bytes are left over.
pub(crate) fn take_stacks(
    mut payload: &[u8],
    mut each: impl FnMut(u64, Vec<u64>) -> Result<(), OverBudget>,
) -> Result<Option<u32>, OverBudget> {
    let mut count = 0;
    while !payload.is_empty() {
        let Ok((head, rest)) = StackHead::read_from_prefix(payload) else { return Ok(None) };
        let len = head.len.get() as usize;
        if len > MAX_FRAMES {
            return Ok(None);
        }
        let Ok((addresses, rest)) = <[U64]>::ref_from_prefix_with_elems(rest, len) else { return Ok(None) };
        each(head.id.get(), addresses.iter().map(|address| address.get()).collect())?;
        count += 1;
        payload = rest;
    }
    Ok(Some(count))
}

/// One line of a frames block.
#[derive(Deserialize)]
struct Line {
    address: u64,
    frames: Vec<Frame>,
}

#[derive(Serialize)]
struct LineRef<'a> {
    address: u64,
    frames: &'a [Frame],
}

/// Appends the frames of an address.
pub(crate) fn put_frames(out: &mut Vec<u8>, address: u64, frames: &[Frame]) -> serde_json::Result<()> {
    serde_json::to_writer(&mut *out, &LineRef { address, frames })?;
    out.push(b'\n');
    Ok(())
}

/// Takes the frames of a payload, until a line is none. Returns as [`take_stacks`] does.
pub(crate) fn take_frames(
    payload: &[u8],
    mut each: impl FnMut(u64, Vec<Frame>) -> Result<(), OverBudget>,
) -> Result<Option<u32>, OverBudget> {
    let mut count = 0;
    for line in payload.split_inclusive(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<Line>(line) else { return Ok(None) };
        each(line.address, line.frames)?;
        count += 1;
    }
    Ok(Some(count))
}

/// The stacks and frames of a trace need more memory than any honest trace does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverBudget;

/// What a [`Frame`] takes beside its texts. A constant, for the limit belongs to the format and not to a platform.
const FRAME_MEMORY: usize = 112;
const _: () = assert!(size_of::<Frame>() <= FRAME_MEMORY);

/// How much memory stacks and frames may still take. The writer keeps to it as well, so that a reader never has to
/// stop at it in a trace that lazymmu wrote.
pub(crate) struct Budget {
    left: u64,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { left: MAX_SYMBOL_MEMORY }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), OverBudget> {
        self.left = self.left.checked_sub(bytes as u64).ok_or(OverBudget)?;
        Ok(())
    }

    /// Accounts for a stack: its addresses, its place in the map and the allocation's own needs.
    pub(crate) fn stack(&mut self, addresses: &[u64]) -> Result<(), OverBudget> {
        self.spend(64 + size_of_val(addresses))
    }

    /// Accounts for the frames of an address.
    pub(crate) fn frames(&mut self, frames: &[Frame]) -> Result<(), OverBudget> {
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| 16 + text.len());
        let each =
            |frame: &Frame| FRAME_MEMORY + frame.function.len() + text(&frame.module) + text(&frame.file);
        self.spend(64 + frames.iter().map(each).sum::<usize>())
    }
}

/// Gathers stacks and frames within a budget.
pub(crate) struct Gatherer {
    pub(crate) symbols: Symbols,
    budget: Budget,
}

impl Gatherer {
    pub(crate) fn new() -> Self {
        Self { symbols: Symbols::default(), budget: Budget::new() }
    }

    pub(crate) fn stacks(&mut self, payload: &[u8]) -> Result<Option<u32>, OverBudget> {
        take_stacks(payload, |id, addresses| {
            self.budget.stack(&addresses)?;
            self.symbols.insert_stack(id, addresses);
            Ok(())
        })
    }

    pub(crate) fn frames(&mut self, payload: &[u8]) -> Result<Option<u32>, OverBudget> {
        take_frames(payload, |address, frames| {
            self.budget.frames(&frames)?;
            self.symbols.insert_frames(address, frames);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_deeper_than_the_limit_keeps_its_inner_frames() {
        let mut out = Vec::new();
        let deep: Vec<u64> = (0..2000).collect();
        put_stack(&mut out, 1, &deep);
        let mut gatherer = Gatherer::new();
        assert_eq!(gatherer.stacks(&out), Ok(Some(1)));
        assert_eq!(gatherer.symbols.addresses(1), Some(&deep[..MAX_FRAMES]));
    }

    #[test]
    fn a_torn_payload_gives_what_is_whole_and_says_that_something_is_missing() {
        let mut out = Vec::new();
        put_stack(&mut out, 1, &[10, 11]);
        let whole = out.len();
        put_stack(&mut out, 2, &[20]);
        for cut in whole + 1..out.len() {
            let mut gatherer = Gatherer::new();
            assert_eq!(gatherer.stacks(&out[..cut]), Ok(None));
            assert_eq!(gatherer.symbols.stacks().count(), 1);
        }
    }

    #[test]
    fn a_length_that_the_payload_does_not_have_allocates_nothing() {
        let head = StackHead { id: 1.into(), len: u32::MAX.into(), reserved: 0.into() };
        assert_eq!(Gatherer::new().stacks(head.as_bytes()), Ok(None));
    }

    #[test]
    fn unknown_fields_of_a_frame_are_ignored() {
        let line = br#"{"address":5,"frames":[{"function":"f","offset":1,"column":7}],"later":[]}"#;
        let mut gatherer = Gatherer::new();
        assert_eq!(gatherer.frames(line), Ok(Some(1)));
        assert_eq!(gatherer.symbols.frames_at(5)[0].function, "f");
    }

    #[test]
    fn call_paths_beyond_the_budget_are_refused() {
        let mut gatherer = Gatherer { symbols: Symbols::default(), budget: Budget { left: 200 } };
        let mut out = Vec::new();
        for id in 0..3 {
            put_stack(&mut out, id, &[1, 2]);
        }
        assert_eq!(gatherer.stacks(&out), Err(OverBudget));
        assert_eq!(gatherer.symbols.stacks().count(), 2);
    }
}
