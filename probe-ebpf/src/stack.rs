//! Call stacks: taken, named by a hash, sent once.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_func_ip, bpf_get_stack};
use lazymmu_abi::{Code, HOOK_FRAMES, STACK_FRAMES, StackHash, StackItem};

use crate::emit::Hit;
use crate::maps::{self, KNOWN, SCRATCH, SENT};
use crate::open::Open;

/// The scratch memory of a program. Programs nest in each other, so each has its own.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    Read,
    Write,
    Rmw,
    Section,
    Fault,
    TlbMm,
    TlbKernel,
    Switch,
    Exit,
    ArchEnter,
    ArchLeave,
    /// Both programs for probed instructions: neither comes while the other runs on that CPU.
    Site,
    XenPte,
    XenCommit,
    XenPmd,
    XenPud,
}

/// How many slots there are.
pub(crate) const SLOTS: u32 = Slot::XenPud as u32 + 1;

/// How far into a function the return address of the hook at its beginning may be: on x86 its `call` comes first or
/// behind an `endbr64`.
const ENTRY: u64 = 16;

/// Where a call stack begins, behind the frames of the hook.
#[derive(Clone, Copy)]
enum Begin {
    /// At this return address.
    Return(u64),
    /// At this instruction, which faulted.
    Instruction(u64),
    /// In whatever called the function that begins here.
    Caller(u64),
    /// In the function that lies here; with the first frame if that is not known.
    Within(Code),
}

impl Begin {
    #[inline(always)]
    fn is_at(self, frame: u64, inner: u64) -> bool {
        match self {
            Begin::Return(address) | Begin::Instruction(address) => frame == address,
            Begin::Caller(function) => inner.wrapping_sub(function) <= ENTRY,
            Begin::Within(code) => code.len == 0 || frame.wrapping_sub(code.start) < code.len,
        }
    }

    /// What to add to the frame that the stack begins with. Whoever names a stack looks before each address, as return
    /// addresses want it; with one more that is right for an instruction as well.
    #[inline(always)]
    fn correction(self) -> u64 {
        u64::from(matches!(self, Begin::Instruction(_)))
    }

    /// The one frame that is known if the unwinder did not come as far.
    #[inline(always)]
    fn known(self) -> u64 {
        match self {
            Begin::Return(address) => address,
            Begin::Instruction(address) => address + 1,
            Begin::Caller(_) | Begin::Within(_) => 0,
        }
    }
}

/// Takes the call stack that begins at the return address `caller` and sends it if it is new.
///
/// Where the unwinder did not come past `caller`, the stack is `caller` alone.
#[inline(always)]
pub(crate) fn take_return(ctx: &impl EbpfContext, hit: Hit, slot: Slot, caller: u64) -> Taken {
    begin(ctx, hit, slot, Begin::Return(caller))
}

/// The same for the stack that begins at an instruction which faulted.
#[inline(always)]
pub(crate) fn take_at(ctx: &impl EbpfContext, hit: Hit, slot: Slot, instruction: u64) -> u64 {
    begin(ctx, hit, slot, Begin::Instruction(instruction)).id
}

/// The same for the stack that begins in the caller of the function to which the program is attached. Gives the
/// return address into that as well; both are 0 where the unwinder did not come as far.
#[inline(always)]
pub(crate) fn take_caller(ctx: &impl EbpfContext, hit: Hit, slot: Slot) -> Taken {
    // SAFETY: `ctx` is the context of the program.
    let function = unsafe { bpf_get_func_ip(ctx.as_ptr()) };
    begin(ctx, hit, slot, Begin::Caller(function))
}

/// The same for the stack that begins in a function that is known, or with the hook's own frames if it is not. Both
/// are 0 where the unwinder did not come as far.
#[inline(always)]
pub(crate) fn take_within(ctx: &impl EbpfContext, hit: Hit, slot: Slot, code: Code) -> Taken {
    begin(ctx, hit, slot, Begin::Within(code))
}

/// A call stack that was taken.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    /// Its first address.
    pub(crate) caller: u64,
    /// Its id; 0 if there is none.
    pub(crate) id: u64,
    /// Its second address; 0 if there is none.
    pub(crate) outer: u64,
}

impl Taken {
    pub(crate) const NONE: Taken = Taken { caller: 0, id: 0, outer: 0 };
}

/// A call stack inside of a section that is known without being taken.
///
/// All that lies outside of the function that entered is the same for every stack of a section. So a stack is known by
/// the addresses up to there, which are its `path`, and the stack of the one that entered. Where the access is made in
/// that very function, the path is the access's own return address, and nothing need be walked.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Known {
    /// The hash of the path.
    path: u64,
    /// The stack of the section's enter.
    opener: u64,
    /// The id of the whole; 0 if the path goes on: then a few frames are walked to learn the rest of it.
    stack: u64,
}

/// How many stacks each program knows on each CPU; a power of two. Others are forgotten for them.
pub(crate) const KNOWN_BY_PROGRAM: u32 = 512;
/// [`Slot::Read`] to [`Slot::Rmw`], and [`Slot::Site`].
pub(crate) const KNOWING_PROGRAMS: u32 = 4;

/// The frames that are walked to learn a path.
const FEW: usize = 12;

/// The same as [`take_return`] for an access inside of a section that was entered with the stack `opener`, of which `outer` is
/// the second address, without walking the stack where it is known. Both are 0 where nothing is known of a section.
#[inline(always)]
pub(crate) fn take_inside(
    ctx: &impl EbpfContext,
    hit: Hit,
    slot: Slot,
    caller: u64,
    (opener, outer): (u64, u64),
) -> u64 {
    let direct = StackHash::NEW.push(caller).id();
    let mut walked = 0;
    if opener != 0
        && let Some(known) = recall(slot, direct, opener)
    {
        if known.stack != 0 {
            return known.stack;
        }
        walked = few(ctx, slot, caller, outer);
        if walked != 0
            && let Some(known) = recall(slot, walked, opener)
            && known.stack != 0
        {
            return known.stack;
        }
    }
    let Some([walked, opener, outer, caller]) = maps::forget(slot, [walked, opener, outer, caller]) else {
        return 0;
    };
    let Some((taken, sent)) = whole(ctx, hit, slot, Begin::Return(caller)) else { return 0 };
    if !sent || opener == 0 || outer == 0 {
        return taken.id;
    }
    if taken.outer == outer {
        remember(slot, Known { path: direct, opener, stack: taken.id });
    } else {
        let path = match SCRATCH.get_ptr_mut(slot as u32) {
            // SAFETY: `item` is this program's own on this CPU.
            Some(item) if walked == 0 => unsafe { path(item, caller, outer) },
            _ => walked,
        };
        remember(slot, Known { path: direct, opener, stack: 0 });
        if path != 0 {
            remember(slot, Known { path, opener, stack: taken.id });
        }
    }
    taken.id
}

/// The stack of an access of a task inside of a section, if it is known without any walk. 0 if none is wanted.
#[inline(always)]
pub(crate) fn known_inside(slot: Slot, caller: u64, open: &mut Open) -> Option<u64> {
    if !maps::stacks() {
        return Some(0);
    }
    if let Some(stack) = open.recent(slot, caller) {
        return Some(stack);
    }
    let known = recall(slot, StackHash::NEW.push(caller).id(), open.opener)?;
    if known.stack == 0 {
        return None;
    }
    open.keep_recent(slot, caller, known.stack);
    Some(known.stack)
}

/// The place of a stack among those that are known.
#[inline(always)]
fn place(slot: Slot, path: u64, opener: u64) -> Option<*mut Known> {
    let index = (path ^ opener.wrapping_mul(3)) as u32 & (KNOWN_BY_PROGRAM - 1);
    let program = if matches!(slot, Slot::Site) { KNOWING_PROGRAMS - 1 } else { slot as u32 };
    KNOWN.get_ptr_mut(program * KNOWN_BY_PROGRAM + index)
}

#[inline(always)]
fn recall(slot: Slot, path: u64, opener: u64) -> Option<Known> {
    // SAFETY: it is this program's own on this CPU.
    let known = unsafe { place(slot, path, opener)?.read() };
    (known.path == path && known.opener == opener).then_some(known)
}

#[inline(always)]
fn remember(slot: Slot, known: Known) {
    if let Some(place) = place(slot, known.path, known.opener) {
        // SAFETY: it is this program's own on this CPU.
        unsafe { place.write(known) };
    }
}

/// Walks a few frames, and gives the hash of the path; 0 if it is longer.
#[inline(always)]
fn few(ctx: &impl EbpfContext, slot: Slot, caller: u64, outer: u64) -> u64 {
    let Some(item) = SCRATCH.get_ptr_mut(slot as u32) else { return 0 };
    // SAFETY: `item` is this program's own on this CPU; the helper fills what it is given or clears it.
    unsafe {
        bpf_get_stack(ctx.as_ptr(), (&raw mut (*item).frames).cast(), (8 * FEW) as u32, 0);
        path(item, caller, outer)
    }
}

/// The hash of the path from `caller` to before `outer`; 0 if it is not among the first few frames.
///
/// # Safety
///
/// `item` must be a whole `StackItem` that nothing else writes.
#[inline(always)]
unsafe fn path(item: *mut StackItem, caller: u64, outer: u64) -> u64 {
    let mut hash = StackHash::NEW;
    let mut begun = false;
    for index in 0..FEW {
        // SAFETY: `index` is below STACK_FRAMES.
        let frame = unsafe { (*item).frames[index] };
        if begun && frame == outer {
            return hash.id();
        }
        begun |= frame == caller;
        if begun {
            hash = hash.push(frame);
        }
    }
    0
}

#[inline(always)]
fn begin(ctx: &impl EbpfContext, hit: Hit, slot: Slot, begin: Begin) -> Taken {
    whole(ctx, hit, slot, begin).map_or(Taken::NONE, |(taken, _)| taken)
}

/// Takes a whole stack and sends it if it is new. Tells whether it was sent now or before.
#[inline(always)]
fn whole(ctx: &impl EbpfContext, hit: Hit, slot: Slot, begin: Begin) -> Option<(Taken, bool)> {
    if !maps::stacks() {
        return None;
    }
    let item = SCRATCH.get_ptr_mut(slot as u32)?;
    // SAFETY: `item` is this program's own on this CPU; the helper fills what it is given or clears it.
    let taken = unsafe {
        let bytes =
            bpf_get_stack(ctx.as_ptr(), (&raw mut (*item).frames).cast(), (8 * STACK_FRAMES) as u32, 0);
        let mut len = usize::try_from(bytes).unwrap_or(0) / 8;
        let taken = match hash(item, len, begin) {
            Some(taken) => taken,
            None if begin.known() == 0 => return None,
            None => {
                len = 0;
                Taken { caller: begin.known(), id: StackHash::NEW.push(begin.known()).id(), outer: 0 }
            }
        };
        (*item).id = taken.id;
        (*item).caller = taken.caller;
        (*item).len = len as u32;
        (*item).reserved = 0;
        taken
    };
    if SENT.get_ptr(taken.id).is_some() {
        return Some((taken, true));
    }
    // SAFETY: as above.
    let sent = hit.send_stack(unsafe { &*item });
    if sent {
        // If this fails the stack is sent again, which does no harm.
        let _ = SENT.insert(taken.id, 1, 0);
    }
    Some((taken, sent))
}

/// The stack from where it begins; `None` if that is not among the frames that may follow the hook's own.
///
/// # Safety
///
/// `item` must be a whole `StackItem` that nothing else writes.
#[inline(always)]
unsafe fn hash(item: *mut StackItem, len: usize, begin: Begin) -> Option<Taken> {
    let mut hash = StackHash::NEW;
    let mut caller = None;
    let mut next = 0;
    let mut inner = 0;
    for index in 0..STACK_FRAMES {
        if index >= len {
            break;
        }
        // SAFETY: `index` is below STACK_FRAMES.
        let mut frame = unsafe { (*item).frames[index] };
        if caller.is_none() {
            if begin.is_at(frame, inner) {
                frame += begin.correction();
                // SAFETY: as above.
                unsafe { (*item).frames[index] = frame };
                caller = Some(frame);
                next = index + 1;
            } else if index + 1 >= HOOK_FRAMES {
                break;
            } else {
                inner = frame;
                continue;
            }
        }
        hash = hash.push(frame);
    }
    // Not in the loop: 6.1 refuses a loop whose end runs on into its beginning.
    // SAFETY: `next` is below STACK_FRAMES.
    let outer = if next < len && next < STACK_FRAMES { unsafe { (*item).frames[next] } } else { 0 };
    caller.map(|caller| Taken { caller, id: hash.id(), outer })
}
