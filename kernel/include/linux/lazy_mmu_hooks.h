/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints at every access to a page table entry and at every lazy MMU
 * mode call: lazy_mmu:lazy_mmu_{read,write,rmw,section}.
 *
 * Part of the lazymmu drop-in, and the last thing that <linux/pgtable.h>
 * includes. Each accessor gets an always-inline wrapper whose body still sees
 * the real accessor, function or macro; then the accessor's name is made to
 * mean the wrapper. So the code of <linux/pgtable.h> and <asm/pgtable.h> is not
 * instrumented, only what uses it is, and a compound accessor (wrprotect_ptes()
 * -> ptep_set_wrprotect()) is reported once, under the name that the user wrote.
 *
 * The wrappers do what <linux/page_ref.h> does: test the tracepoint's static
 * key and, if somebody listens, call a function out of line, which traces.
 * Every access is reported, inside of a lazy MMU section or not, in whatever
 * context; who listens decides what is of interest.
 *
 * What this does not do: it does not see an entry that is dereferenced without
 * an accessor, entries above the PUD level, and what happens in the files that
 * define accessors, which set LAZY_MMU_HOOKS_OFF before their first include.
 */
#ifndef _LINUX_LAZY_MMU_HOOKS_H
#define _LINUX_LAZY_MMU_HOOKS_H

#if defined(CONFIG_LAZY_MMU_HOOKS) && !defined(__ASSEMBLY__)

void __lazy_mmu_read(void *entry, unsigned long val, unsigned int op);
void __lazy_mmu_write(void *entry, unsigned long val, unsigned int nr,
		      unsigned int op, unsigned long addr);
void __lazy_mmu_rmw(void *entry, unsigned long old, unsigned int nr,
		    unsigned int op, unsigned long addr);
void __lazy_mmu_section(unsigned int op);

/*
 * Not in what runs before or beside the kernel proper: the decompressor, the
 * EFI stub and early start-up code, the vDSO, KVM's hypervisor part on arm64.
 */
#if !defined(LAZY_MMU_HOOKS_OFF) && !defined(__DISABLE_EXPORTS) &&	\
	!defined(BUILD_VDSO) && !defined(__KVM_NVHE_HYPERVISOR__)

#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/lazy_mmu_ops.h>
#include <linux/tracepoint-defs.h>

DECLARE_TRACEPOINT(lazy_mmu_read);
DECLARE_TRACEPOINT(lazy_mmu_write);
DECLARE_TRACEPOINT(lazy_mmu_rmw);
DECLARE_TRACEPOINT(lazy_mmu_section);

/*
 * Values are the raw words that stand in the entries, as a reader of memory
 * sees them: pte_val() is a translation under Xen PV and swaps bytes on
 * powerpc. An entry is one word on 64 bit, which Kconfig asks for.
 */
static_assert(sizeof(pte_t) == sizeof(unsigned long));
static_assert(sizeof(pmd_t) == sizeof(unsigned long));
static_assert(sizeof(pud_t) == sizeof(unsigned long));

#define __LMH_INLINE	static __always_inline
#define __LMH_RAW(v)	(*(const unsigned long *)&(v))

/*
 * barrier() keeps the call from becoming a jump where it is the last thing
 * that a function does: the return address must lie in that function.
 */
#define __LMH_TRACE(call, ...)						\
	do {								\
		if (tracepoint_enabled(lazy_mmu_##call)) {		\
			__lazy_mmu_##call(__VA_ARGS__);			\
			barrier();					\
		}							\
	} while (0)

/*
 * For a read-modify-write that does not return the old value: look before it.
 * "lmh_on" covers the moment in which the tracepoint is being switched on, when
 * the second test may be true and the first was not.
 */
#define __LMH_LOOK(p)							\
	const bool lmh_on = tracepoint_enabled(lazy_mmu_rmw);		\
	const unsigned long lmh_old = lmh_on ?				\
		READ_ONCE(*(const unsigned long *)(p)) : 0
#define __LMH_LOOKED(p, nr, op, addr)					\
	do {								\
		if (tracepoint_enabled(lazy_mmu_rmw) && lmh_on) {	\
			__lazy_mmu_rmw(p, lmh_old, nr, op, addr);	\
			barrier();					\
		}							\
	} while (0)

/* ---- reads ---- */

#define __LMH_READ(fn, type, op)					\
__LMH_INLINE type __lmh_##fn(type *p)					\
{									\
	type v = fn(p);							\
									\
	__LMH_TRACE(read, p, __LMH_RAW(v), op);				\
	return v;							\
}
__LMH_READ(ptep_get, pte_t, LMO_PTEP_GET)
__LMH_READ(ptep_get_lockless, pte_t, LMO_PTEP_GET_LOCKLESS)
__LMH_READ(pmdp_get, pmd_t, LMO_PMDP_GET)
__LMH_READ(pmdp_get_lockless, pmd_t, LMO_PMDP_GET_LOCKLESS)
__LMH_READ(pudp_get, pud_t, LMO_PUDP_GET)

/* ---- writes ---- */

#define __LMH_SET(fn, type, op)						\
__LMH_INLINE void __lmh_##fn(type *p, type v)				\
{									\
	fn(p, v);							\
	__LMH_TRACE(write, p, __LMH_RAW(v), 1, op, 0);			\
}
__LMH_SET(set_pte, pte_t, LMO_SET_PTE)
__LMH_SET(set_pmd, pmd_t, LMO_SET_PMD)
__LMH_SET(set_pud, pud_t, LMO_SET_PUD)

#define __LMH_SET_AT(fn, type, op)					\
__LMH_INLINE void __lmh_##fn(struct mm_struct *mm, unsigned long addr,	\
			     type *p, type v)				\
{									\
	fn(mm, addr, p, v);						\
	__LMH_TRACE(write, p, __LMH_RAW(v), 1, op, addr);		\
}
__LMH_SET_AT(set_pmd_at, pmd_t, LMO_SET_PMD_AT)
__LMH_SET_AT(set_pud_at, pud_t, LMO_SET_PUD_AT)

#define __LMH_CLEAR(fn, type, op)					\
__LMH_INLINE void __lmh_##fn(type *p)					\
{									\
	fn(p);								\
	__LMH_TRACE(write, p, 0, 1, op, 0);				\
}
__LMH_CLEAR(pmd_clear, pmd_t, LMO_PMD_CLEAR)
__LMH_CLEAR(pud_clear, pud_t, LMO_PUD_CLEAR)

__LMH_INLINE void __lmh_set_ptes(struct mm_struct *mm, unsigned long addr,
				 pte_t *p, pte_t v, unsigned int nr)
{
	set_ptes(mm, addr, p, v, nr);
	__LMH_TRACE(write, p, __LMH_RAW(v), nr, LMO_SET_PTES, addr);
}

__LMH_INLINE void __lmh_pte_clear(struct mm_struct *mm, unsigned long addr,
				  pte_t *p)
{
	pte_clear(mm, addr, p);
	__LMH_TRACE(write, p, 0, 1, LMO_PTE_CLEAR, addr);
}

__LMH_INLINE void
__lmh_pte_clear_not_present_full(struct mm_struct *mm, unsigned long addr,
				 pte_t *p, int full)
{
	pte_clear_not_present_full(mm, addr, p, full);
	__LMH_TRACE(write, p, 0, 1, LMO_PTE_CLEAR_NOT_PRESENT_FULL, addr);
}

__LMH_INLINE void
__lmh_clear_not_present_full_ptes(struct mm_struct *mm, unsigned long addr,
				  pte_t *p, unsigned int nr, int full)
{
	clear_not_present_full_ptes(mm, addr, p, nr, full);
	__LMH_TRACE(write, p, 0, nr, LMO_CLEAR_NOT_PRESENT_FULL_PTES, addr);
}

__LMH_INLINE void
__lmh_ptep_modify_prot_commit(struct vm_area_struct *vma, unsigned long addr,
			      pte_t *p, pte_t old, pte_t v)
{
	ptep_modify_prot_commit(vma, addr, p, old, v);
	__LMH_TRACE(write, p, __LMH_RAW(v), 1, LMO_MODIFY_PROT_COMMIT, addr);
}

#ifdef CONFIG_X86
__LMH_SET(set_pte_atomic, pte_t, LMO_SET_PTE)
#endif

/* ---- read-modify-writes that return what was there ---- */

__LMH_INLINE pte_t __lmh_ptep_get_and_clear(struct mm_struct *mm,
					    unsigned long addr, pte_t *p)
{
	pte_t v = ptep_get_and_clear(mm, addr, p);

	__LMH_TRACE(rmw, p, __LMH_RAW(v), 1, LMO_PTEP_GET_AND_CLEAR, addr);
	return v;
}

__LMH_INLINE pte_t
__lmh_ptep_get_and_clear_full(struct mm_struct *mm, unsigned long addr,
			      pte_t *p, int full)
{
	pte_t v = ptep_get_and_clear_full(mm, addr, p, full);

	__LMH_TRACE(rmw, p, __LMH_RAW(v), 1, LMO_PTEP_GET_AND_CLEAR_FULL, addr);
	return v;
}

/*
 * The value is the first entry's, in which the kernel collects the accessed and
 * dirty bits of all of them.
 */
__LMH_INLINE pte_t
__lmh_get_and_clear_full_ptes(struct mm_struct *mm, unsigned long addr,
			      pte_t *p, unsigned int nr, int full)
{
	pte_t v = get_and_clear_full_ptes(mm, addr, p, nr, full);

	__LMH_TRACE(rmw, p, __LMH_RAW(v), nr, LMO_GET_AND_CLEAR_FULL_PTES, addr);
	return v;
}

__LMH_INLINE pte_t __lmh_ptep_clear_flush(struct vm_area_struct *vma,
					  unsigned long addr, pte_t *p)
{
	pte_t v = ptep_clear_flush(vma, addr, p);

	__LMH_TRACE(rmw, p, __LMH_RAW(v), 1, LMO_PTEP_CLEAR_FLUSH, addr);
	return v;
}

__LMH_INLINE pte_t __lmh_ptep_modify_prot_start(struct vm_area_struct *vma,
						unsigned long addr, pte_t *p)
{
	pte_t v = ptep_modify_prot_start(vma, addr, p);

	__LMH_TRACE(rmw, p, __LMH_RAW(v), 1, LMO_MODIFY_PROT_START, addr);
	return v;
}

/* ---- read-modify-writes that do not ---- */

__LMH_INLINE void __lmh_clear_full_ptes(struct mm_struct *mm, unsigned long addr,
					pte_t *p, unsigned int nr, int full)
{
	__LMH_LOOK(p);

	clear_full_ptes(mm, addr, p, nr, full);
	__LMH_LOOKED(p, nr, LMO_CLEAR_FULL_PTES, addr);
}

__LMH_INLINE void __lmh_ptep_clear(struct mm_struct *mm, unsigned long addr,
				   pte_t *p)
{
	__LMH_LOOK(p);

	ptep_clear(mm, addr, p);
	__LMH_LOOKED(p, 1, LMO_PTEP_CLEAR, addr);
}

__LMH_INLINE void __lmh_ptep_set_wrprotect(struct mm_struct *mm,
					   unsigned long addr, pte_t *p)
{
	__LMH_LOOK(p);

	ptep_set_wrprotect(mm, addr, p);
	__LMH_LOOKED(p, 1, LMO_PTEP_SET_WRPROTECT, addr);
}

__LMH_INLINE void __lmh_wrprotect_ptes(struct mm_struct *mm, unsigned long addr,
				       pte_t *p, unsigned int nr)
{
	__LMH_LOOK(p);

	wrprotect_ptes(mm, addr, p, nr);
	__LMH_LOOKED(p, nr, LMO_WRPROTECT_PTES, addr);
}

__LMH_INLINE int __lmh_ptep_set_access_flags(struct vm_area_struct *vma,
					     unsigned long addr, pte_t *p,
					     pte_t entry, int dirty)
{
	__LMH_LOOK(p);
	int changed = ptep_set_access_flags(vma, addr, p, entry, dirty);

	__LMH_LOOKED(p, 1, LMO_PTEP_SET_ACCESS_FLAGS, addr);
	return changed;
}

/* int in 6.12, bool in 7.2 */
#define __LMH_YOUNG(fn, type, op)					\
__LMH_INLINE int __lmh_##fn(struct vm_area_struct *vma,			\
			    unsigned long addr, type *p)		\
{									\
	__LMH_LOOK(p);							\
	int young = fn(vma, addr, p);					\
									\
	__LMH_LOOKED(p, 1, op, addr);					\
	return young;							\
}
__LMH_YOUNG(ptep_test_and_clear_young, pte_t, LMO_TEST_AND_CLEAR_YOUNG)
__LMH_YOUNG(ptep_clear_flush_young, pte_t, LMO_CLEAR_FLUSH_YOUNG)

__LMH_INLINE void
__lmh_clear_young_dirty_ptes(struct vm_area_struct *vma, unsigned long addr,
			     pte_t *p, unsigned int nr, cydp_t flags)
{
	__LMH_LOOK(p);

	clear_young_dirty_ptes(vma, addr, p, nr, flags);
	__LMH_LOOKED(p, nr, LMO_CLEAR_YOUNG_DIRTY, addr);
}

/* the page table walk of the multi-generational LRU needs it without huge pages */
#if defined(CONFIG_TRANSPARENT_HUGEPAGE) || defined(CONFIG_ARCH_HAS_NONLEAF_PMD_YOUNG)
__LMH_YOUNG(pmdp_test_and_clear_young, pmd_t, LMO_PMDP_TEST_AND_CLEAR_YOUNG)
#endif

/* ---- huge entries ---- */

#ifdef CONFIG_TRANSPARENT_HUGEPAGE

#define __LMH_HUGE_GET_AND_CLEAR(fn, type, op)				\
__LMH_INLINE type __lmh_##fn(struct mm_struct *mm, unsigned long addr,	\
			     type *p)					\
{									\
	type v = fn(mm, addr, p);					\
									\
	__LMH_TRACE(rmw, p, __LMH_RAW(v), 1, op, addr);			\
	return v;							\
}

#define __LMH_HUGE_GET_AND_CLEAR_FULL(fn, type, op)			\
__LMH_INLINE type __lmh_##fn(struct vm_area_struct *vma,		\
			     unsigned long addr, type *p, int full)	\
{									\
	type v = fn(vma, addr, p, full);				\
									\
	__LMH_TRACE(rmw, p, __LMH_RAW(v), 1, op, addr);			\
	return v;							\
}

#define __LMH_HUGE_RETURNS_OLD(fn, type, op)				\
__LMH_INLINE type __lmh_##fn(struct vm_area_struct *vma,		\
			     unsigned long addr, type *p)		\
{									\
	type v = fn(vma, addr, p);					\
									\
	__LMH_TRACE(rmw, p, __LMH_RAW(v), 1, op, addr);			\
	return v;							\
}

#define __LMH_HUGE_WRPROTECT(fn, type, op)				\
__LMH_INLINE void __lmh_##fn(struct mm_struct *mm, unsigned long addr,	\
			     type *p)					\
{									\
	__LMH_LOOK(p);							\
									\
	fn(mm, addr, p);						\
	__LMH_LOOKED(p, 1, op, addr);					\
}

#define __LMH_HUGE_SET_ACCESS_FLAGS(fn, type, op)			\
__LMH_INLINE int __lmh_##fn(struct vm_area_struct *vma,			\
			    unsigned long addr, type *p, type entry,	\
			    int dirty)					\
{									\
	__LMH_LOOK(p);							\
	int changed = fn(vma, addr, p, entry, dirty);			\
									\
	__LMH_LOOKED(p, 1, op, addr);					\
	return changed;							\
}

__LMH_HUGE_GET_AND_CLEAR(pmdp_huge_get_and_clear, pmd_t, LMO_PMDP_HUGE_GET_AND_CLEAR)
__LMH_HUGE_GET_AND_CLEAR_FULL(pmdp_huge_get_and_clear_full, pmd_t,
			      LMO_PMDP_HUGE_GET_AND_CLEAR)
__LMH_HUGE_WRPROTECT(pmdp_set_wrprotect, pmd_t, LMO_PMDP_SET_WRPROTECT)
__LMH_HUGE_RETURNS_OLD(pmdp_invalidate, pmd_t, LMO_PMDP_INVALIDATE)
__LMH_HUGE_RETURNS_OLD(pmdp_invalidate_ad, pmd_t, LMO_PMDP_INVALIDATE_AD)
__LMH_HUGE_RETURNS_OLD(pmdp_huge_clear_flush, pmd_t, LMO_PMDP_HUGE_CLEAR_FLUSH)
__LMH_HUGE_RETURNS_OLD(pmdp_collapse_flush, pmd_t, LMO_PMDP_COLLAPSE_FLUSH)
__LMH_HUGE_SET_ACCESS_FLAGS(pmdp_set_access_flags, pmd_t, LMO_PMDP_SET_ACCESS_FLAGS)
__LMH_YOUNG(pmdp_clear_flush_young, pmd_t, LMO_PMDP_CLEAR_FLUSH_YOUNG)

/* only the architecture has one, as the function of that name or a macro */
#ifdef pmdp_establish
__LMH_INLINE pmd_t __lmh_pmdp_establish(struct vm_area_struct *vma,
					unsigned long addr, pmd_t *p, pmd_t v)
{
	pmd_t old = pmdp_establish(vma, addr, p, v);

	__LMH_TRACE(rmw, p, __LMH_RAW(old), 1, LMO_PMDP_ESTABLISH, addr);
	return old;
}
#endif

#ifdef CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD
__LMH_HUGE_GET_AND_CLEAR(pudp_huge_get_and_clear, pud_t, LMO_PUDP_HUGE_GET_AND_CLEAR)
__LMH_HUGE_GET_AND_CLEAR_FULL(pudp_huge_get_and_clear_full, pud_t,
			      LMO_PUDP_HUGE_GET_AND_CLEAR)
__LMH_HUGE_WRPROTECT(pudp_set_wrprotect, pud_t, LMO_PUDP_SET_WRPROTECT)
__LMH_HUGE_RETURNS_OLD(pudp_invalidate, pud_t, LMO_PUDP_INVALIDATE)
__LMH_HUGE_RETURNS_OLD(pudp_huge_clear_flush, pud_t, LMO_PUDP_HUGE_CLEAR_FLUSH)
__LMH_HUGE_SET_ACCESS_FLAGS(pudp_set_access_flags, pud_t, LMO_PUDP_SET_ACCESS_FLAGS)
#endif /* CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD */
#endif /* CONFIG_TRANSPARENT_HUGEPAGE */

/*
 * ---- what not every kernel has ----
 *
 * mm/Kconfig.lazy_mmu_hooks looks into the tree for these names.
 */

#ifdef CONFIG_LAZY_MMU_HOOKS_HAS_CLEAR_PTES
__LMH_INLINE pte_t __lmh_get_and_clear_ptes(struct mm_struct *mm,
					    unsigned long addr, pte_t *p,
					    unsigned int nr)
{
	pte_t v = get_and_clear_ptes(mm, addr, p, nr);

	__LMH_TRACE(rmw, p, __LMH_RAW(v), nr, LMO_GET_AND_CLEAR_FULL_PTES, addr);
	return v;
}

__LMH_INLINE void __lmh_clear_ptes(struct mm_struct *mm, unsigned long addr,
				   pte_t *p, unsigned int nr)
{
	__LMH_LOOK(p);

	clear_ptes(mm, addr, p, nr);
	__LMH_LOOKED(p, nr, LMO_CLEAR_FULL_PTES, addr);
}
#endif

#ifdef CONFIG_LAZY_MMU_HOOKS_HAS_MODIFY_PROT_PTES
__LMH_INLINE pte_t __lmh_modify_prot_start_ptes(struct vm_area_struct *vma,
						unsigned long addr, pte_t *p,
						unsigned int nr)
{
	pte_t v = modify_prot_start_ptes(vma, addr, p, nr);

	__LMH_TRACE(rmw, p, __LMH_RAW(v), nr, LMO_MODIFY_PROT_START, addr);
	return v;
}

__LMH_INLINE void
__lmh_modify_prot_commit_ptes(struct vm_area_struct *vma, unsigned long addr,
			      pte_t *p, pte_t old, pte_t v, unsigned int nr)
{
	modify_prot_commit_ptes(vma, addr, p, old, v, nr);
	__LMH_TRACE(write, p, __LMH_RAW(v), nr, LMO_MODIFY_PROT_COMMIT, addr);
}
#endif

#define __LMH_YOUNG_PTES(fn, op)					\
__LMH_INLINE bool __lmh_##fn(struct vm_area_struct *vma,		\
			     unsigned long addr, pte_t *p,		\
			     unsigned int nr)				\
{									\
	__LMH_LOOK(p);							\
	bool young = fn(vma, addr, p, nr);				\
									\
	__LMH_LOOKED(p, nr, op, addr);					\
	return young;							\
}
#ifdef CONFIG_LAZY_MMU_HOOKS_HAS_TEST_AND_CLEAR_YOUNG_PTES
__LMH_YOUNG_PTES(test_and_clear_young_ptes, LMO_TEST_AND_CLEAR_YOUNG)
#endif
#ifdef CONFIG_LAZY_MMU_HOOKS_HAS_CLEAR_FLUSH_YOUNG_PTES
__LMH_YOUNG_PTES(clear_flush_young_ptes, LMO_CLEAR_FLUSH_YOUNG)
#endif

/*
 * Users ask with #ifdef whether the architecture has it (kernel/bpf/arena.c in
 * 7.2), so the name must stay undefined where it has not; there, the generic
 * function does not touch the entry.
 */
#ifdef ptep_try_set
__LMH_INLINE bool __lmh_ptep_try_set(pte_t *p, pte_t v)
{
	__LMH_LOOK(p);
	bool set = ptep_try_set(p, v);

	__LMH_LOOKED(p, 1, LMO_PTEP_TRY_SET, 0);
	return set;
}
#endif

/* ---- the mode ---- */

#define __LMH_SECTION(fn, op)						\
__LMH_INLINE void __lmh_##fn(void)					\
{									\
	fn();								\
	__LMH_TRACE(section, op);					\
}

#ifdef CONFIG_LAZY_MMU_HOOKS_HAS_MODE_API
__LMH_SECTION(lazy_mmu_mode_enable, LMO_ENTER)
__LMH_SECTION(lazy_mmu_mode_disable, LMO_LEAVE)
__LMH_SECTION(lazy_mmu_mode_pause, LMO_PAUSE)
__LMH_SECTION(lazy_mmu_mode_resume, LMO_RESUME)
#else
__LMH_SECTION(arch_enter_lazy_mmu_mode, LMO_ENTER)
__LMH_SECTION(arch_leave_lazy_mmu_mode, LMO_LEAVE)
#endif

/* 7.x has it only where the architecture has the mode, and always on x86 */
#if !defined(CONFIG_LAZY_MMU_HOOKS_HAS_MODE_API) ||			\
	defined(CONFIG_ARCH_HAS_LAZY_MMU_MODE) || defined(CONFIG_X86)
__LMH_SECTION(arch_flush_lazy_mmu_mode, LMO_FLUSH)
#endif

/* All wrappers stand before all names: an accessor may be a macro that uses another one. */
#include <linux/lazy_mmu_names.h>

#endif /* !LAZY_MMU_HOOKS_OFF && ... */
#endif /* CONFIG_LAZY_MMU_HOOKS && !__ASSEMBLY__ */
#endif /* _LINUX_LAZY_MMU_HOOKS_H */
