// SPDX-License-Identifier: GPL-2.0
/*
 * Hazards of the mode itself: calls that do not pair, and what a task must not do inside a section.
 */
#include <linux/delay.h>

#include "hazards.h"

#if COUNTED
/* The leave has no effect. */
static noinline int commit_pause_misuse(void)
{
	enter();
	change(own.usual);
	change(own.read_only);
	lazy_mmu_mode_pause();
	leave();
	lazy_mmu_mode_resume();
	leave();
	return 0;
}

static noinline int avoid_pause_misuse(void)
{
	enter();
	change(own.usual);
	change(own.read_only);
	lazy_mmu_mode_pause();
	ptep_get(own.entry);
	lazy_mmu_mode_resume();
	leave();
	return 0;
}
#else
/*
 * Nothing can be paused. What has the same effect is that the architecture's mode is left behind the back of the generic
 * code; where it has none, nothing is done. In brackets, these are not the macros of that name.
 */
static noinline int commit_pause_misuse(void)
{
	enter();
	change(own.usual);
	(pv_ops.mmu.lazy_mode.leave)();
	change(own.read_only);
	(pv_ops.mmu.lazy_mode.enter)();
	leave();
	return 0;
}

static noinline int avoid_pause_misuse(void)
{
	enter();
	change(own.usual);
	leave();
	enter();
	change(own.read_only);
	leave();
	return 0;
}

/* Preemption is off: under Xen a context switch in the inner section would be a BUG. */
static noinline int commit_nested_section(void)
{
	enter();
	change(own.usual);
	enter();
	change(own.read_only);
	leave();
	change(own.usual);
	leave();
	return 0;
}

static noinline int avoid_nested_section(void)
{
	enter();
	change(own.usual);
	change(own.read_only);
	leave();
	enter();
	change(own.usual);
	change(own.usual);
	leave();
	return 0;
}
#endif

static noinline int commit_sleep_in_section(void)
{
	enter();
	change(own.usual);
	change(own.read_only);
	msleep(20);
	leave();
	return 0;
}

static noinline int avoid_sleep_in_section(void)
{
	enter();
	change(own.usual);
	change(own.read_only);
	leave();
	msleep(20);
	return 0;
}

/* More than are needed to say something of a call path. */
#define ROUNDS 40

static noinline int commit_wasted_section(void)
{
	for (int round = 0; round < ROUNDS; round++) {
		enter();
		change(own.read_only);
		leave();
	}
	return 0;
}

static noinline int avoid_wasted_section(void)
{
	for (int round = 0; round < ROUNDS; round++) {
		enter();
		change(own.usual);
		change(own.read_only);
		leave();
	}
	return 0;
}

const struct hazard lazymmu_of_modes[] = {
	HAZARD("pause-misuse", pause_misuse, true),
#if !COUNTED
	HAZARD("nested-section", nested_section, true),
#endif
	HAZARD("sleep-in-section", sleep_in_section, false),
	HAZARD("wasted-section", wasted_section, true),
	{}
};
