// SPDX-License-Identifier: GPL-2.0
/*
 * Hazards of entries: a write waits in a section, and something comes upon it. The twins flush in between.
 */
#include <linux/irq_work.h>
#include <linux/uaccess.h>

#include "hazards.h"

static noinline int commit_read_pending(void)
{
	pte_t seen;

	enter();
	change(own.usual);
	change(own.read_only);
	seen = ptep_get(own.entry);
	leave();
	return pte_none(seen) ? -EFAULT : 0;
}

static noinline int avoid_read_pending(void)
{
	pte_t seen;

	enter();
	change(own.usual);
	change(own.read_only);
	flush();
	seen = ptep_get(own.entry);
	leave();
	return pte_none(seen) ? -EFAULT : 0;
}

/* In memory the entry is cleared; where the write waited, the flush puts it there again. */
static noinline int commit_rmw_pending(void)
{
	enter();
	change(own.usual);
	change(own.read_only);
	ptep_get_and_clear(NULL, own.address, own.entry);
	leave();
	return 0;
}

static noinline int avoid_rmw_pending(void)
{
	enter();
	change(own.usual);
	change(own.read_only);
	flush();
	ptep_get_and_clear(NULL, own.address, own.entry);
	leave();
	return 0;
}

/*
 * On x86 the two operations differ for PUDs alone. This one is in a table that nothing leads to: under Xen a plain store to
 * one that is in use would be refused.
 */
static pud_t unused[PTRS_PER_PUD] __aligned(PAGE_SIZE);

static noinline int commit_write_reorder(void)
{
	enter();
	set_pud(unused, __pud(_PAGE_ACCESSED));
	set_pud_at(NULL, 0, unused, __pud(0));
	leave();
	return pud_none(*unused) ? 0 : -EFAULT;
}

static noinline int avoid_write_reorder(void)
{
	enter();
	set_pud(unused, __pud(_PAGE_ACCESSED));
	set_pud(unused, __pud(0));
	leave();
	return pud_none(*unused) ? 0 : -EFAULT;
}

static noinline int commit_raw_access(void)
{
	unsigned long seen;

	enter();
	change(own.usual);
	change(own.read_only);
	seen = READ_ONCE(own.entry->pte);
	leave();
	return seen ? 0 : -EFAULT;
}

static noinline int avoid_raw_access(void)
{
	unsigned long seen;

	enter();
	change(own.usual);
	change(own.read_only);
	flush();
	seen = READ_ONCE(own.entry->pte);
	leave();
	return seen ? 0 : -EFAULT;
}

/* The page is mapped read-only, so a store to it faults on every kernel; where the write waits, a load would as well. */
static bool store_faults(void)
{
	unsigned long nothing = 0;

	__put_kernel_nofault((void *)own.address, &nothing, unsigned long, fault);
	return false;
fault:
	return true;
}

static void unmap(void)
{
	pte_clear(NULL, own.address, own.entry);
	own.flush_tlb(own.address, own.address + PAGE_SIZE);
}

static noinline int commit_use_before_flush(void)
{
	bool faulted;

	unmap();
	enter();
	change(own.read_only);
	change(own.read_only);
	faulted = store_faults();
	leave();
	return faulted ? 0 : -EFAULT;
}

static noinline int avoid_use_before_flush(void)
{
	bool faulted;

	unmap();
	enter();
	change(own.read_only);
	change(own.read_only);
	flush();
	faulted = store_faults();
	leave();
	return faulted ? 0 : -EFAULT;
}

static noinline int commit_tlb_before_flush(void)
{
	enter();
	change(own.usual);
	change(own.read_only);
	own.flush_tlb(own.address, own.address + PAGE_SIZE);
	leave();
	return 0;
}

static noinline int avoid_tlb_before_flush(void)
{
	enter();
	change(own.usual);
	change(own.read_only);
	leave();
	own.flush_tlb(own.address, own.address + PAGE_SIZE);
	return 0;
}

static bool looked;

static noinline void look(struct irq_work *work)
{
	ptep_get(own.entry);
	WRITE_ONCE(looked, true);
}

static struct irq_work interrupt = IRQ_WORK_INIT_HARD(look);

static noinline int commit_irq_access(void)
{
	bool seen;

	looked = false;
	enter();
	change(own.usual);
	change(own.read_only);
	irq_work_queue(&interrupt);
	seen = lazymmu_wait_for(&looked);
	leave();
	return seen ? 0 : -ETIMEDOUT;
}

static noinline int avoid_irq_access(void)
{
	bool seen;

	looked = false;
	enter();
	change(own.usual);
	change(own.read_only);
	flush();
	irq_work_queue(&interrupt);
	seen = lazymmu_wait_for(&looked);
	leave();
	return seen ? 0 : -ETIMEDOUT;
}

const struct hazard lazymmu_of_entries[] = {
	HAZARD("read-pending", read_pending, true),
	HAZARD("rmw-pending", rmw_pending, true),
	HAZARD("write-reorder", write_reorder, true),
	HAZARD("raw-access", raw_access, true),
	HAZARD("use-before-flush", use_before_flush, true),
	HAZARD("tlb-before-flush", tlb_before_flush, false),
	HAZARD("irq-access", irq_access, true),
	{}
};
