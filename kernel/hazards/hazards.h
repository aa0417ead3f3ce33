/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of lazymmu_hazards share. Each hazard is a function commit_*(), its correct twin an avoid_*(): they are
 * not inlined, so that call paths tell which of the two it was.
 */
#ifndef LAZYMMU_HAZARDS_H
#define LAZYMMU_HAZARDS_H

#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/version.h>

/* From 7.0 on the mode is counted by generic code and can be paused. */
#define COUNTED (LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0))

/* As macros, so that the caller that the drop-in reports is the function that says it. */
#if COUNTED
#define enter() lazy_mmu_mode_enable()
#define leave() lazy_mmu_mode_disable()
#else
#define enter() arch_enter_lazy_mmu_mode()
#define leave() arch_leave_lazy_mmu_mode()
#endif
#define flush() arch_flush_lazy_mmu_mode()
/* The entries are the kernel's, of which no process is told. */
#define change(value) set_pte_at(NULL, own.address, own.entry, value)

/* A page of vmalloc space that nobody else uses. */
struct own_page {
	unsigned long address;
	pte_t *entry;
	/* What stands there, and the same without the right to write. */
	pte_t usual, read_only;
	/* x86's, which modules are not given. */
	void (*flush_tlb)(unsigned long start, unsigned long end);
};
extern struct own_page lazymmu_own_page;
#define own lazymmu_own_page

/* Something that can be asked for. It leaves the kernel as it was, but for the entry, which whoever called puts back. */
struct hazard {
	const char *name;
	int (*run)(void);
	/* With preemption off, so that no context switch flushes between the write and what comes upon it. */
	bool atomic;
};

/* Ends with an entry that has no name. */
extern const struct hazard lazymmu_of_entries[], lazymmu_of_modes[], lazymmu_of_others[];

/* Waits for another thread or an interrupt. Without a limit, a guest of which something is wrong would hang. */
#define SPIN_SECONDS 20
bool lazymmu_wait_for(const bool *flag);

#define HAZARD(name, function, atomic)					\
	{ name, commit_##function, atomic },				\
	{ name "-ok", avoid_##function, atomic }

#endif
