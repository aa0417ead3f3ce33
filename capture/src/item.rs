//! What comes out of the rings.

use lazymmu_abi::{HOOK_FRAMES, Record, StackItem};
use zerocopy::FromBytes as _;

use crate::Error;

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Record(Record),
    /// A call stack, before the first record that names it. It may come again.
    Stack(Stack),
}

/// A call stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// What records call it.
    pub id: u64,
    /// Return addresses, innermost first, beginning in the function that used the accessor.
    pub addresses: Vec<u64>,
}

/// Reads a stack as it lies in its ring.
pub(crate) fn decode(bytes: &[u8]) -> Result<Stack, Error> {
    let item = StackItem::read_from_bytes(bytes).map_err(|_| Error::Item(bytes.len()))?;
    let len = usize::try_from(item.len).unwrap_or(usize::MAX).min(item.frames.len());
    Ok(Stack { id: item.id, addresses: trim(&item.frames[..len], item.caller) })
}

/// Leaves out the frames of the hook: all before `caller`. Where the kernel's unwinder did not come past `caller`,
/// that is the one frame that is known. The programs compute the id in the same way.
fn trim(frames: &[u64], caller: u64) -> Vec<u64> {
    match frames.iter().take(HOOK_FRAMES).position(|frame| *frame == caller) {
        Some(first) => frames[first..].to_vec(),
        None => vec![caller],
    }
}

#[cfg(test)]
mod tests {
    use super::{Stack, decode, trim};
    use crate::Error;
    use lazymmu_abi::{HOOK_FRAMES, STACK_FRAMES, StackItem};
    use zerocopy::IntoBytes as _;

    #[test]
    fn a_stack_begins_with_its_caller() {
        let mut frames = [0; STACK_FRAMES];
        frames[..4].copy_from_slice(&[1, 2, 3, 4]);
        let stack = StackItem { id: 5, caller: 3, len: 4, reserved: 0, frames };
        assert_eq!(decode(stack.as_bytes()).unwrap(), Stack { id: 5, addresses: vec![3, 4] });
        assert!(matches!(decode(&[0; 65]), Err(Error::Item(65))));
        assert!(matches!(decode(&[]), Err(Error::Item(0))));
    }

    #[test]
    fn a_length_that_cannot_be_is_cut() {
        let stack = StackItem { id: 5, caller: 0, len: u32::MAX, reserved: 0, frames: [0; STACK_FRAMES] };
        let stack = decode(stack.as_bytes()).unwrap();
        assert_eq!(stack.addresses.len(), STACK_FRAMES);
    }

    #[test]
    fn the_hooks_own_frames_are_left_out() {
        assert_eq!(trim(&[10, 11, 12, 13], 12), [12, 13]);
        // The first of several: a function may call itself.
        assert_eq!(trim(&[10, 12, 13, 12], 12), [12, 13, 12]);
        assert_eq!(trim(&[10, 11], 12), [12]);
        assert_eq!(trim(&[], 12), [12]);
        let deep: Vec<u64> = (0..64).collect();
        let last = HOOK_FRAMES as u64 - 1;
        assert_eq!(trim(&deep, last).len(), 64 - HOOK_FRAMES + 1);
        assert_eq!(trim(&deep, last + 1), [last + 1]);
    }
}
