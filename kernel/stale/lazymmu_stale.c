// SPDX-License-Identifier: GPL-2.0
/*
 * A page-table entry is cleared and looked at again in one lazy MMU section, so that a kernel without the drop-in has a
 * bug of that kind for a test to find: get_user_pages_fast_only() follows the entry in memory. Where clearing waits in a
 * queue, it still finds the page. The entry is put back in the same section.
 *
 * Whatever is written to /sys/kernel/debug/lazymmu_stale/clear does that to the page that the text lies in; "found"
 * then says how many pages were there after the clear.
 */
#include <linux/debugfs.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/module.h>

static struct dentry *directory;
static u32 found;

/* apply_to_pte_range() has entered the mode and holds the lock of the table. */
static int clear_and_look(pte_t *ptep, unsigned long addr, void *data)
{
	struct mm_struct *mm = data;
	struct page *page;
	pte_t pte = ptep_get(ptep);

	if (!pte_present(pte))
		return -EFAULT;
	pte_clear(mm, addr, ptep);
	found = get_user_pages_fast_only(addr, 1, 0, &page) == 1;
	if (found)
		put_page(page);
	set_pte_at(mm, addr, ptep, pte);
	return 0;
}

static ssize_t clear_write(struct file *file, const char __user *text, size_t length, loff_t *offset)
{
	struct mm_struct *mm = current->mm;
	unsigned long addr = (unsigned long)text & PAGE_MASK;
	int error;

	mmap_write_lock(mm);
	error = apply_to_existing_page_range(mm, addr, PAGE_SIZE, clear_and_look, mm);
	mmap_write_unlock(mm);
	return error ? error : length;
}

static const struct file_operations clear_operations = {
	.owner = THIS_MODULE,
	.write = clear_write,
};

static int __init stale_init(void)
{
	directory = debugfs_create_dir("lazymmu_stale", NULL);
	debugfs_create_file("clear", 0200, directory, NULL, &clear_operations);
	debugfs_create_u32("found", 0400, directory, &found);
	return 0;
}

static void __exit stale_exit(void)
{
	debugfs_remove(directory);
}

module_init(stale_init);
module_exit(stale_exit);

MODULE_DESCRIPTION("Reads a page-table entry that it has just cleared");
MODULE_LICENSE("GPL");
