/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Accesses to page table entries and lazy MMU mode calls. Who emits them, and
 * what they leave out: <linux/lazy_mmu_hooks.h>. Part of the lazymmu drop-in.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM lazy_mmu

#if !defined(_TRACE_LAZY_MMU_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_LAZY_MMU_H

#include <linux/lazy_mmu_ops.h>
#include <linux/tracepoint.h>

#define lazy_mmu_symbol(id, nr, name)	, { nr, name }
#define show_lazy_mmu_op(op)						\
	__print_symbolic(op, { 0, "none" } LAZY_MMU_OPS(lazy_mmu_symbol))

#define show_lazy_mmu_context(context)					\
	__print_symbolic(context,					\
		{ 0, "task" }, { 1, "softirq" }, { 2, "hardirq" }, { 3, "nmi" })

/*
 * All events come after the operation. "context" is interrupt_context_level(),
 * "caller" a return address in the function that used the accessor. Values are
 * the raw words of the entries.
 */

TRACE_EVENT(lazy_mmu_read,

	/* @val is what the reader got. */
	TP_PROTO(void *p, unsigned long val, unsigned int op,
		 unsigned int context, unsigned long caller),

	TP_ARGS(p, val, op, context, caller),

	TP_STRUCT__entry(
		__field(void *, entry)
		__field(unsigned long, val)
		__field(unsigned long, caller)
		__field(unsigned int, op)
		__field(unsigned int, context)
	),

	TP_fast_assign(
		__entry->entry = p;
		__entry->val = val;
		__entry->caller = caller;
		__entry->op = op;
		__entry->context = context;
	),

	TP_printk("%s entry=%p val=0x%lx context=%s caller=%pS",
		  show_lazy_mmu_op(__entry->op), __entry->entry, __entry->val,
		  show_lazy_mmu_context(__entry->context),
		  (void *)__entry->caller)
);

TRACE_EVENT(lazy_mmu_write,

	/*
	 * @val is what was written to the first of @nr entries; memory need not
	 * hold it yet. @addr is the address that it maps, 0 if not known.
	 */
	TP_PROTO(void *p, unsigned long val, unsigned int nr,
		 unsigned int op, unsigned long addr, unsigned int context,
		 unsigned long caller),

	TP_ARGS(p, val, nr, op, addr, context, caller),

	TP_STRUCT__entry(
		__field(void *, entry)
		__field(unsigned long, val)
		__field(unsigned long, addr)
		__field(unsigned long, caller)
		__field(unsigned int, nr)
		__field(unsigned int, op)
		__field(unsigned int, context)
	),

	TP_fast_assign(
		__entry->entry = p;
		__entry->val = val;
		__entry->addr = addr;
		__entry->caller = caller;
		__entry->nr = nr;
		__entry->op = op;
		__entry->context = context;
	),

	TP_printk("%s entry=%p val=0x%lx nr=%u addr=0x%lx context=%s caller=%pS",
		  show_lazy_mmu_op(__entry->op), __entry->entry, __entry->val,
		  __entry->nr, __entry->addr,
		  show_lazy_mmu_context(__entry->context),
		  (void *)__entry->caller)
);

TRACE_EVENT(lazy_mmu_rmw,

	/* @old is what the first of @nr entries held before. */
	TP_PROTO(void *p, unsigned long old, unsigned int nr,
		 unsigned int op, unsigned long addr, unsigned int context,
		 unsigned long caller),

	TP_ARGS(p, old, nr, op, addr, context, caller),

	TP_STRUCT__entry(
		__field(void *, entry)
		__field(unsigned long, old)
		__field(unsigned long, addr)
		__field(unsigned long, caller)
		__field(unsigned int, nr)
		__field(unsigned int, op)
		__field(unsigned int, context)
	),

	TP_fast_assign(
		__entry->entry = p;
		__entry->old = old;
		__entry->addr = addr;
		__entry->caller = caller;
		__entry->nr = nr;
		__entry->op = op;
		__entry->context = context;
	),

	TP_printk("%s entry=%p old=0x%lx nr=%u addr=0x%lx context=%s caller=%pS",
		  show_lazy_mmu_op(__entry->op), __entry->entry, __entry->old,
		  __entry->nr, __entry->addr,
		  show_lazy_mmu_context(__entry->context),
		  (void *)__entry->caller)
);

TRACE_EVENT(lazy_mmu_section,

	/* The counters are the current task's; ~0 where the kernel has none. */
	TP_PROTO(unsigned int op, unsigned int enable_count,
		 unsigned int pause_count, unsigned int context,
		 unsigned long caller),

	TP_ARGS(op, enable_count, pause_count, context, caller),

	TP_STRUCT__entry(
		__field(unsigned long, caller)
		__field(unsigned int, op)
		__field(unsigned int, enable_count)
		__field(unsigned int, pause_count)
		__field(unsigned int, context)
	),

	TP_fast_assign(
		__entry->caller = caller;
		__entry->op = op;
		__entry->enable_count = enable_count;
		__entry->pause_count = pause_count;
		__entry->context = context;
	),

	TP_printk("%s enable_count=%d pause_count=%d context=%s caller=%pS",
		  show_lazy_mmu_op(__entry->op), (int)__entry->enable_count,
		  (int)__entry->pause_count,
		  show_lazy_mmu_context(__entry->context),
		  (void *)__entry->caller)
);

#endif /* _TRACE_LAZY_MMU_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
