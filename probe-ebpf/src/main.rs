//! The eBPF programs: they watch the drop-in's tracepoints, the scheduler, page faults and flushes of the
//! TLB, and send records to rings, of which each CPU has one or shares one.
//!
//! One file per hook family (`access`, `section`, `sched`, `fault`, `tlb`, `xen`, `site`); what they share is in `emit` (the
//! rings and their losses), `stack`, `task` (who is in a section), `open` (what is kept of a section), `pending` (the
//! writes that are kept back) and `maps`. Nothing here judges: what a record means is the engine's matter. Nothing here
//! blocks or waits either; what does not fit is counted.
//!
//! Programs of different hooks nest on a CPU by interrupts and, from 7.0 on, by preemption. One program never
//! nests in itself there: the kernel skips that hit and counts it (`__bpf_trace_run` in kernel/trace/bpf_trace.c,
//! 6.12 and 7.2). So what belongs to a program and a CPU needs no lock, and what programs share needs atomics.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod access;
mod atomic;
mod emit;
mod fault;
mod maps;
mod open;
mod pending;
mod sched;
mod section;
mod site;
mod stack;
mod task;
mod tlb;
mod xen;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // No program has a path to here that survives the verifier: it refuses endless loops.
    loop {}
}

/// The helpers that read kernel memory and stacks are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
