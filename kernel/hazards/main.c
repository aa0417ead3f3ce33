// SPDX-License-Identifier: GPL-2.0
/*
 * Commits each hazard that lazymmu has a rule for, on demand, so that it can be seen whether it finds them; and beside each
 * a correct twin, for which it must be silent. Whatever is written to /sys/kernel/debug/lazymmu_hazards/NAME does that. For
 * kernels with the drop-in, which sees what the accessors do here as well.
 *
 * The work is done on the entry of a page that the module has for itself, and is undone. On a machine where the mode defers
 * nothing no case does any harm; under Xen none but those in the second half of this file, which are there to see how
 * it is told that a kernel dies.
 */
#include <linux/debugfs.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/vmalloc.h>
#include <asm/tlbflush.h>

#include "hazards.h"

struct own_page lazymmu_own_page;

static struct dentry *directory;
static DEFINE_MUTEX(lock);

static int run(const struct hazard *hazard)
{
	int error;

	mutex_lock(&lock);
	if (hazard->atomic)
		preempt_disable();
	error = hazard->run();
	if (hazard->atomic)
		preempt_enable();
	change(own.usual);
	own.flush_tlb(own.address, own.address + PAGE_SIZE);
	mutex_unlock(&lock);
	return error;
}

static ssize_t hazard_write(struct file *file, const char __user *text, size_t length, loff_t *offset)
{
	int error = run(file_inode(file)->i_private);

	return error ? error : length;
}

static const struct file_operations hazard_operations = {
	.owner = THIS_MODULE,
	.write = hazard_write,
};

static void offer(const struct hazard *hazards)
{
	for (; hazards->name; hazards++)
		debugfs_create_file(hazards->name, 0200, directory, (void *)hazards, &hazard_operations);
}

/* ---- not hazards, but what tests of a gate want ---- */

static int do_panic(void)
{
	panic("lazymmu_hazards was asked for it");
	return 0;
}

/* Interrupts are on, so a kernel with another CPU notices. On one CPU nothing is left to report it. */
static int do_hang(void)
{
	preempt_disable();
	for (;;)
		cpu_relax();
	return 0;
}

/*
 * As if somebody had mended the kernel: whatever restore_exclusive_pte() has written is flushed before it returns. Until
 * the module goes.
 */
static int flush_at_return(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	flush();
	return 0;
}

static struct kretprobe mended = {
	.kp.symbol_name = "restore_exclusive_pte",
	.handler = flush_at_return,
	.maxactive = 64,
};
static bool is_mended;

static int mend_fork_exclusive(void)
{
	int error = is_mended ? 0 : register_kretprobe(&mended);

	is_mended |= !error;
	return error;
}

static const struct hazard of_tests[] = {
	{ "panic", do_panic },
	{ "hang", do_hang },
	{ "mend-fork-exclusive", mend_fork_exclusive },
	{}
};

#ifdef MODULE
/* Modules are not given that function, but it has an address where a probe would go. */
static void *find_flush_tlb(void)
{
	struct kprobe probe = { .symbol_name = "flush_tlb_kernel_range" };
	void *found;

	if (register_kprobe(&probe))
		return NULL;
	found = probe.addr;
	unregister_kprobe(&probe);
	return found;
}
#else
/* In the kernel itself nothing is probed while it boots: until something is asked for, the kernel is as any other. */
static void *find_flush_tlb(void)
{
	return flush_tlb_kernel_range;
}
#endif

static int __init hazards_init(void)
{
	unsigned int level;
	void *page = vmalloc(PAGE_SIZE);

	if (!page)
		return -ENOMEM;
	own.address = (unsigned long)page;
	own.entry = lookup_address(own.address, &level);
	own.flush_tlb = find_flush_tlb();
	if (!own.entry || level != PG_LEVEL_4K || !own.flush_tlb) {
		vfree(page);
		return -EOPNOTSUPP;
	}
	/* As vmalloc() made it. What is read back has another bit under Xen: the hypervisor gives it to user space. */
	own.usual = mk_pte(vmalloc_to_page(page), PAGE_KERNEL);
	own.read_only = pte_wrprotect(own.usual);
	directory = debugfs_create_dir("lazymmu_hazards", NULL);
	offer(lazymmu_of_entries);
	offer(lazymmu_of_modes);
	offer(lazymmu_of_others);
	offer(of_tests);
	return 0;
}

static void __exit hazards_exit(void)
{
	debugfs_remove(directory);
	if (is_mended)
		unregister_kretprobe(&mended);
	vfree((void *)own.address);
}

module_init(hazards_init);
module_exit(hazards_exit);

MODULE_DESCRIPTION("Commits hazards of the lazy MMU mode, for lazymmu to find");
MODULE_LICENSE("GPL");
