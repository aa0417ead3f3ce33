// SPDX-License-Identifier: GPL-2.0
/*
 * The out-of-line half of <linux/lazy_mmu_hooks.h>: adds the context and the
 * caller, and traces. Called only while somebody listens. Part of the lazymmu drop-in.
 *
 * Interrupts are off while it traces. A BPF program that is interrupted, or preempted as
 * tracepoints of 7.2 can be (include/linux/tracepoint.h: srcu_fast_notrace), keeps its
 * per-CPU mark (kernel/trace/bpf_trace.c: __bpf_trace_run()), and the next hit on that
 * CPU is skipped: a softirq that frees per-CPU memory reads entries (mm/percpu.c:
 * pcpu_addr_to_page() by vmalloc_to_page()), and so does every other task.
 */

/* It must not report itself. */
#define LAZY_MMU_HOOKS_OFF

#include <linux/cleanup.h>
#include <linux/export.h>
#include <linux/instruction_pointer.h>
#include <linux/irqflags.h>
#include <linux/pgtable.h>
#include <linux/preempt.h>
#include <linux/sched.h>

#define CREATE_TRACE_POINTS
#include <trace/events/lazy_mmu.h>

noinline void __lazy_mmu_read(void *entry, unsigned long val, unsigned int op)
{
	guard(irqsave)();
	trace_lazy_mmu_read(entry, val, op, interrupt_context_level(), _RET_IP_);
}
EXPORT_SYMBOL(__lazy_mmu_read);
EXPORT_TRACEPOINT_SYMBOL(lazy_mmu_read);

noinline void __lazy_mmu_write(void *entry, unsigned long val, unsigned int nr,
			       unsigned int op, unsigned long addr)
{
	guard(irqsave)();
	trace_lazy_mmu_write(entry, val, nr, op, addr,
			     interrupt_context_level(), _RET_IP_);
}
EXPORT_SYMBOL(__lazy_mmu_write);
EXPORT_TRACEPOINT_SYMBOL(lazy_mmu_write);

noinline void __lazy_mmu_rmw(void *entry, unsigned long old, unsigned int nr,
			     unsigned int op, unsigned long addr)
{
	guard(irqsave)();
	trace_lazy_mmu_rmw(entry, old, nr, op, addr,
			   interrupt_context_level(), _RET_IP_);
}
EXPORT_SYMBOL(__lazy_mmu_rmw);
EXPORT_TRACEPOINT_SYMBOL(lazy_mmu_rmw);

noinline void __lazy_mmu_section(unsigned int op)
{
	unsigned int enable_count = ~0U, pause_count = ~0U;

#if defined(CONFIG_LAZY_MMU_HOOKS_HAS_MODE_API) && \
	defined(CONFIG_ARCH_HAS_LAZY_MMU_MODE)
	enable_count = current->lazy_mmu_state.enable_count;
	pause_count = current->lazy_mmu_state.pause_count;
#endif

	guard(irqsave)();
	trace_lazy_mmu_section(op, enable_count, pause_count,
			       interrupt_context_level(), _RET_IP_);
}
EXPORT_SYMBOL(__lazy_mmu_section);
EXPORT_TRACEPOINT_SYMBOL(lazy_mmu_section);
