/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From here on the names of the accessors mean the wrappers of
 * <linux/lazy_mmu_hooks.h>, which alone includes this. As macros with
 * arguments, so that structure members of the same name stay what they are. Part of
 * the lazymmu drop-in.
 */
#ifndef _LINUX_LAZY_MMU_NAMES_H
#define _LINUX_LAZY_MMU_NAMES_H

#undef ptep_get
#define ptep_get(...)	__lmh_ptep_get(__VA_ARGS__)
#undef ptep_get_lockless
#define ptep_get_lockless(...)	__lmh_ptep_get_lockless(__VA_ARGS__)
#undef pmdp_get
#define pmdp_get(...)	__lmh_pmdp_get(__VA_ARGS__)
#undef pmdp_get_lockless
#define pmdp_get_lockless(...)	__lmh_pmdp_get_lockless(__VA_ARGS__)
#undef pudp_get
#define pudp_get(...)	__lmh_pudp_get(__VA_ARGS__)
#undef set_pte
#define set_pte(...)	__lmh_set_pte(__VA_ARGS__)
#undef set_pmd
#define set_pmd(...)	__lmh_set_pmd(__VA_ARGS__)
#undef set_pud
#define set_pud(...)	__lmh_set_pud(__VA_ARGS__)
#undef set_pmd_at
#define set_pmd_at(...)	__lmh_set_pmd_at(__VA_ARGS__)
#undef set_pud_at
#define set_pud_at(...)	__lmh_set_pud_at(__VA_ARGS__)
#undef pmd_clear
#define pmd_clear(...)	__lmh_pmd_clear(__VA_ARGS__)
#undef pud_clear
#define pud_clear(...)	__lmh_pud_clear(__VA_ARGS__)
#undef set_ptes
#define set_ptes(...)	__lmh_set_ptes(__VA_ARGS__)
#undef pte_clear
#define pte_clear(...)	__lmh_pte_clear(__VA_ARGS__)
#undef pte_clear_not_present_full
#define pte_clear_not_present_full(...)	__lmh_pte_clear_not_present_full(__VA_ARGS__)
#undef clear_not_present_full_ptes
#define clear_not_present_full_ptes(...)	__lmh_clear_not_present_full_ptes(__VA_ARGS__)
#undef ptep_modify_prot_commit
#define ptep_modify_prot_commit(...)	__lmh_ptep_modify_prot_commit(__VA_ARGS__)

#ifdef CONFIG_X86
#undef set_pte_atomic
#define set_pte_atomic(...)	__lmh_set_pte_atomic(__VA_ARGS__)
#endif

#undef ptep_get_and_clear
#define ptep_get_and_clear(...)	__lmh_ptep_get_and_clear(__VA_ARGS__)
#undef ptep_get_and_clear_full
#define ptep_get_and_clear_full(...)	__lmh_ptep_get_and_clear_full(__VA_ARGS__)
#undef get_and_clear_full_ptes
#define get_and_clear_full_ptes(...)	__lmh_get_and_clear_full_ptes(__VA_ARGS__)
#undef ptep_clear_flush
#define ptep_clear_flush(...)	__lmh_ptep_clear_flush(__VA_ARGS__)
#undef ptep_modify_prot_start
#define ptep_modify_prot_start(...)	__lmh_ptep_modify_prot_start(__VA_ARGS__)
#undef clear_full_ptes
#define clear_full_ptes(...)	__lmh_clear_full_ptes(__VA_ARGS__)
#undef ptep_clear
#define ptep_clear(...)	__lmh_ptep_clear(__VA_ARGS__)
#undef ptep_set_wrprotect
#define ptep_set_wrprotect(...)	__lmh_ptep_set_wrprotect(__VA_ARGS__)
#undef wrprotect_ptes
#define wrprotect_ptes(...)	__lmh_wrprotect_ptes(__VA_ARGS__)
#undef ptep_set_access_flags
#define ptep_set_access_flags(...)	__lmh_ptep_set_access_flags(__VA_ARGS__)
#undef ptep_test_and_clear_young
#define ptep_test_and_clear_young(...)	__lmh_ptep_test_and_clear_young(__VA_ARGS__)
#undef ptep_clear_flush_young
#define ptep_clear_flush_young(...)	__lmh_ptep_clear_flush_young(__VA_ARGS__)
#undef clear_young_dirty_ptes
#define clear_young_dirty_ptes(...)	__lmh_clear_young_dirty_ptes(__VA_ARGS__)

#if defined(CONFIG_TRANSPARENT_HUGEPAGE) || defined(CONFIG_ARCH_HAS_NONLEAF_PMD_YOUNG)
#undef pmdp_test_and_clear_young
#define pmdp_test_and_clear_young(...)	__lmh_pmdp_test_and_clear_young(__VA_ARGS__)
#endif

#ifdef CONFIG_TRANSPARENT_HUGEPAGE
#undef pmdp_huge_get_and_clear
#define pmdp_huge_get_and_clear(...)	__lmh_pmdp_huge_get_and_clear(__VA_ARGS__)
#undef pmdp_huge_get_and_clear_full
#define pmdp_huge_get_and_clear_full(...)	__lmh_pmdp_huge_get_and_clear_full(__VA_ARGS__)
#undef pmdp_set_wrprotect
#define pmdp_set_wrprotect(...)	__lmh_pmdp_set_wrprotect(__VA_ARGS__)
#undef pmdp_invalidate
#define pmdp_invalidate(...)	__lmh_pmdp_invalidate(__VA_ARGS__)
#undef pmdp_invalidate_ad
#define pmdp_invalidate_ad(...)	__lmh_pmdp_invalidate_ad(__VA_ARGS__)
#undef pmdp_huge_clear_flush
#define pmdp_huge_clear_flush(...)	__lmh_pmdp_huge_clear_flush(__VA_ARGS__)
#undef pmdp_collapse_flush
#define pmdp_collapse_flush(...)	__lmh_pmdp_collapse_flush(__VA_ARGS__)
#undef pmdp_set_access_flags
#define pmdp_set_access_flags(...)	__lmh_pmdp_set_access_flags(__VA_ARGS__)
#undef pmdp_clear_flush_young
#define pmdp_clear_flush_young(...)	__lmh_pmdp_clear_flush_young(__VA_ARGS__)

#ifdef pmdp_establish
#undef pmdp_establish
#define pmdp_establish(...)	__lmh_pmdp_establish(__VA_ARGS__)
#endif

#ifdef CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD
#undef pudp_huge_get_and_clear
#define pudp_huge_get_and_clear(...)	__lmh_pudp_huge_get_and_clear(__VA_ARGS__)
#undef pudp_huge_get_and_clear_full
#define pudp_huge_get_and_clear_full(...)	__lmh_pudp_huge_get_and_clear_full(__VA_ARGS__)
#undef pudp_set_wrprotect
#define pudp_set_wrprotect(...)	__lmh_pudp_set_wrprotect(__VA_ARGS__)
#undef pudp_invalidate
#define pudp_invalidate(...)	__lmh_pudp_invalidate(__VA_ARGS__)
#undef pudp_huge_clear_flush
#define pudp_huge_clear_flush(...)	__lmh_pudp_huge_clear_flush(__VA_ARGS__)
#undef pudp_set_access_flags
#define pudp_set_access_flags(...)	__lmh_pudp_set_access_flags(__VA_ARGS__)
#endif /* CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD */
#endif /* CONFIG_TRANSPARENT_HUGEPAGE */

#ifdef CONFIG_LAZY_MMU_HOOKS_HAS_CLEAR_PTES
#undef get_and_clear_ptes
#define get_and_clear_ptes(...)	__lmh_get_and_clear_ptes(__VA_ARGS__)
#undef clear_ptes
#define clear_ptes(...)	__lmh_clear_ptes(__VA_ARGS__)
#endif

#ifdef CONFIG_LAZY_MMU_HOOKS_HAS_MODIFY_PROT_PTES
#undef modify_prot_start_ptes
#define modify_prot_start_ptes(...)	__lmh_modify_prot_start_ptes(__VA_ARGS__)
#undef modify_prot_commit_ptes
#define modify_prot_commit_ptes(...)	__lmh_modify_prot_commit_ptes(__VA_ARGS__)
#endif

#ifdef CONFIG_LAZY_MMU_HOOKS_HAS_TEST_AND_CLEAR_YOUNG_PTES
#undef test_and_clear_young_ptes
#define test_and_clear_young_ptes(...)	__lmh_test_and_clear_young_ptes(__VA_ARGS__)
#endif

#ifdef CONFIG_LAZY_MMU_HOOKS_HAS_CLEAR_FLUSH_YOUNG_PTES
#undef clear_flush_young_ptes
#define clear_flush_young_ptes(...)	__lmh_clear_flush_young_ptes(__VA_ARGS__)
#endif

#ifdef ptep_try_set
#undef ptep_try_set
#define ptep_try_set(...)	__lmh_ptep_try_set(__VA_ARGS__)
#endif

#ifdef CONFIG_LAZY_MMU_HOOKS_HAS_MODE_API
#undef lazy_mmu_mode_enable
#define lazy_mmu_mode_enable(...)	__lmh_lazy_mmu_mode_enable(__VA_ARGS__)
#undef lazy_mmu_mode_disable
#define lazy_mmu_mode_disable(...)	__lmh_lazy_mmu_mode_disable(__VA_ARGS__)
#undef lazy_mmu_mode_pause
#define lazy_mmu_mode_pause(...)	__lmh_lazy_mmu_mode_pause(__VA_ARGS__)
#undef lazy_mmu_mode_resume
#define lazy_mmu_mode_resume(...)	__lmh_lazy_mmu_mode_resume(__VA_ARGS__)
#else
#undef arch_enter_lazy_mmu_mode
#define arch_enter_lazy_mmu_mode(...)	__lmh_arch_enter_lazy_mmu_mode(__VA_ARGS__)
#undef arch_leave_lazy_mmu_mode
#define arch_leave_lazy_mmu_mode(...)	__lmh_arch_leave_lazy_mmu_mode(__VA_ARGS__)
#endif

#if !defined(CONFIG_LAZY_MMU_HOOKS_HAS_MODE_API) ||			\
	defined(CONFIG_ARCH_HAS_LAZY_MMU_MODE) || defined(CONFIG_X86)
#undef arch_flush_lazy_mmu_mode
#define arch_flush_lazy_mmu_mode(...)	__lmh_arch_flush_lazy_mmu_mode(__VA_ARGS__)
#endif

#endif /* _LINUX_LAZY_MMU_NAMES_H */
