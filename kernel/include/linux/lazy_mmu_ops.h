/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The codes of the operations that the lazy_mmu tracepoints report. Only the
 * codes; what they stand for is in <linux/lazy_mmu_hooks.h>. Part of the
 * lazymmu drop-in.
 */
#ifndef _LINUX_LAZY_MMU_OPS_H
#define _LINUX_LAZY_MMU_OPS_H

/*
 * The operations: constant, number, name. The numbers are an ABI: lazymmu
 * stores them in its traces. New ones go to the end of their block: reads from
 * 1, writes (which an architecture may defer) from 32, immediate read-modify-
 * writes from 64, mode calls from 128.
 */
#define LAZY_MMU_OPS(op)						\
	op(LMO_PTEP_GET,		1, "ptep_get")			\
	op(LMO_PTEP_GET_LOCKLESS,	2, "ptep_get_lockless")		\
	op(LMO_PMDP_GET,		3, "pmdp_get")			\
	op(LMO_PMDP_GET_LOCKLESS,	4, "pmdp_get_lockless")		\
	op(LMO_PUDP_GET,		5, "pudp_get")			\
	op(LMO_SET_PTE,			32, "set_pte")			\
	op(LMO_SET_PTES,		33, "set_ptes")			\
	op(LMO_PTE_CLEAR,		34, "pte_clear")		\
	op(LMO_PTE_CLEAR_NOT_PRESENT_FULL, 35, "pte_clear_not_present_full") \
	op(LMO_CLEAR_NOT_PRESENT_FULL_PTES, 36, "clear_not_present_full_ptes") \
	op(LMO_MODIFY_PROT_COMMIT,	37, "modify_prot_commit")	\
	op(LMO_SET_PMD,			38, "set_pmd")			\
	op(LMO_SET_PMD_AT,		39, "set_pmd_at")		\
	op(LMO_PMD_CLEAR,		40, "pmd_clear")		\
	op(LMO_SET_PUD,			41, "set_pud")			\
	op(LMO_SET_PUD_AT,		42, "set_pud_at")		\
	op(LMO_PUD_CLEAR,		43, "pud_clear")		\
	op(LMO_PTEP_GET_AND_CLEAR,	64, "ptep_get_and_clear")	\
	op(LMO_PTEP_GET_AND_CLEAR_FULL,	65, "ptep_get_and_clear_full")	\
	op(LMO_GET_AND_CLEAR_FULL_PTES,	66, "get_and_clear_full_ptes")	\
	op(LMO_CLEAR_FULL_PTES,		67, "clear_full_ptes")		\
	op(LMO_PTEP_CLEAR,		68, "ptep_clear")		\
	op(LMO_PTEP_CLEAR_FLUSH,	69, "ptep_clear_flush")		\
	op(LMO_PTEP_SET_WRPROTECT,	70, "ptep_set_wrprotect")	\
	op(LMO_WRPROTECT_PTES,		71, "wrprotect_ptes")		\
	op(LMO_MODIFY_PROT_START,	72, "modify_prot_start")	\
	op(LMO_PTEP_SET_ACCESS_FLAGS,	73, "ptep_set_access_flags")	\
	op(LMO_TEST_AND_CLEAR_YOUNG,	74, "test_and_clear_young")	\
	op(LMO_CLEAR_FLUSH_YOUNG,	75, "clear_flush_young")	\
	op(LMO_CLEAR_YOUNG_DIRTY,	76, "clear_young_dirty_ptes")	\
	op(LMO_PTEP_TRY_SET,		77, "ptep_try_set")		\
	op(LMO_PMDP_HUGE_GET_AND_CLEAR,	78, "pmdp_huge_get_and_clear")	\
	op(LMO_PMDP_SET_WRPROTECT,	79, "pmdp_set_wrprotect")	\
	op(LMO_PMDP_ESTABLISH,		80, "pmdp_establish")		\
	op(LMO_PMDP_INVALIDATE,		81, "pmdp_invalidate")		\
	op(LMO_PMDP_INVALIDATE_AD,	82, "pmdp_invalidate_ad")	\
	op(LMO_PMDP_TEST_AND_CLEAR_YOUNG, 83, "pmdp_test_and_clear_young") \
	op(LMO_PMDP_SET_ACCESS_FLAGS,	84, "pmdp_set_access_flags")	\
	op(LMO_PMDP_HUGE_CLEAR_FLUSH,	85, "pmdp_huge_clear_flush")	\
	op(LMO_PMDP_COLLAPSE_FLUSH,	86, "pmdp_collapse_flush")	\
	op(LMO_PMDP_CLEAR_FLUSH_YOUNG,	87, "pmdp_clear_flush_young")	\
	op(LMO_PUDP_HUGE_GET_AND_CLEAR,	88, "pudp_huge_get_and_clear")	\
	op(LMO_PUDP_SET_WRPROTECT,	89, "pudp_set_wrprotect")	\
	op(LMO_PUDP_INVALIDATE,		90, "pudp_invalidate")		\
	op(LMO_PUDP_SET_ACCESS_FLAGS,	91, "pudp_set_access_flags")	\
	op(LMO_PUDP_HUGE_CLEAR_FLUSH,	92, "pudp_huge_clear_flush")	\
	op(LMO_ENTER,			128, "enter")			\
	op(LMO_LEAVE,			129, "leave")			\
	op(LMO_FLUSH,			130, "flush")			\
	op(LMO_PAUSE,			131, "pause")			\
	op(LMO_RESUME,			132, "resume")

#define LMO_ENUM(id, nr, name)	id = nr,
enum lazy_mmu_op { LAZY_MMU_OPS(LMO_ENUM) };
#undef LMO_ENUM

#endif /* _LINUX_LAZY_MMU_OPS_H */
