//! Call stacks: taken, named by a hash, sent once.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_stack;
use lazymmu_abi::{HOOK_FRAMES, STACK_FRAMES, StackHash, StackItem};

use crate::emit;
use crate::maps::{SCRATCH, SENT};

/// The scratch memory of a program. Programs nest in each other, so each has its own.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    Read,
    Write,
    Rmw,
    Section,
}

/// How many slots there are.
pub(crate) const SLOTS: u32 = Slot::Section as u32 + 1;

/// Takes the call stack that begins at `caller` and sends it if it is new. Returns its id.
///
/// Where the unwinder did not come past `caller`, the stack is `caller` alone.
#[inline(always)]
pub(crate) fn take(ctx: &impl EbpfContext, slot: Slot, caller: u64) -> u64 {
    let Some(item) = SCRATCH.get_ptr_mut(slot as u32) else { return 0 };
    // SAFETY: `item` is this program's own on this CPU; the helper fills what it is given or clears it.
    let id = unsafe {
        let bytes =
            bpf_get_stack(ctx.as_ptr(), (&raw mut (*item).frames).cast(), (8 * STACK_FRAMES) as u32, 0);
        let mut len = usize::try_from(bytes).unwrap_or(0) / 8;
        let id = hash(item, len, caller).unwrap_or_else(|| {
            len = 0;
            StackHash::NEW.push(caller).id()
        });
        (*item).id = id;
        (*item).caller = caller;
        (*item).len = len as u32;
        (*item).reserved = 0;
        id
    };
    // SAFETY: as above.
    if SENT.get_ptr(id).is_none() && emit::send_stack(unsafe { &*item }) {
        // If this fails the stack is sent again, which does no harm.
        let _ = SENT.insert(id, 1, 0);
    }
    id
}

/// The hash of the frames from `caller` on; `None` if it is not among those that may follow the hook's own.
///
/// # Safety
///
/// `item` must be a whole `StackItem` that nothing else writes.
#[inline(always)]
unsafe fn hash(item: *const StackItem, len: usize, caller: u64) -> Option<u64> {
    let mut hash = StackHash::NEW;
    let mut begun = false;
    for index in 0..STACK_FRAMES {
        if index >= len {
            break;
        }
        // SAFETY: `index` is below STACK_FRAMES.
        let frame = unsafe { (*item).frames[index] };
        if !begun {
            if frame == caller {
                begun = true;
            } else if index + 1 >= HOOK_FRAMES {
                break;
            } else {
                continue;
            }
        }
        hash = hash.push(frame);
    }
    if begun { Some(hash.id()) } else { None }
}
