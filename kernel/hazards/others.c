// SPDX-License-Identifier: GPL-2.0
/*
 * Hazards that take another thread.
 */
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/task.h>

#include "hazards.h"

static DECLARE_COMPLETION(started);
static bool go, done;

bool lazymmu_wait_for(const bool *flag)
{
	const u64 limit = ktime_get_mono_fast_ns() + (u64)SPIN_SECONDS * NSEC_PER_SEC;

	while (!READ_ONCE(*flag)) {
		if (ktime_get_mono_fast_ns() > limit)
			return false;
		cpu_relax();
	}
	return true;
}

/* Starts a thread on a CPU, and returns once it runs. */
static struct task_struct *start(int (*function)(void *), int cpu)
{
	struct task_struct *task = kthread_create(function, NULL, "lazymmu_other");

	if (IS_ERR(task))
		return task;
	reinit_completion(&started);
	WRITE_ONCE(go, false);
	WRITE_ONCE(done, false);
	kthread_bind(task, cpu);
	get_task_struct(task);
	wake_up_process(task);
	wait_for_completion(&started);
	return task;
}

static void end(struct task_struct *task)
{
	WRITE_ONCE(go, true);
	kthread_stop(task);
	put_task_struct(task);
	/* It says so a little before it has ended. */
	msleep(50);
}

static noinline int reader(void *nothing)
{
	complete(&started);
	if (lazymmu_wait_for(&go)) {
		preempt_disable();
		enter();
		ptep_get(own.entry);
		leave();
		preempt_enable();
	}
	WRITE_ONCE(done, true);
	return 0;
}

/* Both halves take two CPUs: the one that writes does not let the other run before it is done. */
static noinline int commit_remote_read_pending(void)
{
	bool seen;

	preempt_disable();
	enter();
	change(own.usual);
	change(own.read_only);
	smp_store_release(&go, true);
	seen = lazymmu_wait_for(&done);
	leave();
	preempt_enable();
	return seen ? 0 : -ETIMEDOUT;
}

static noinline int avoid_remote_read_pending(void)
{
	bool seen;

	preempt_disable();
	enter();
	change(own.usual);
	change(own.read_only);
	flush();
	smp_store_release(&go, true);
	seen = lazymmu_wait_for(&done);
	leave();
	preempt_enable();
	return seen ? 0 : -ETIMEDOUT;
}

static int beside_reader(int (*write)(void))
{
	struct task_struct *task;
	unsigned int other;
	int error;

	migrate_disable();
	other = cpumask_any_but(cpu_online_mask, smp_processor_id());
	if (other >= nr_cpu_ids) {
		migrate_enable();
		return -ENODEV;
	}
	task = start(reader, other);
	error = IS_ERR(task) ? PTR_ERR(task) : write();
	migrate_enable();
	if (!IS_ERR(task))
		end(task);
	return error;
}

static int remote_read_pending(void)
{
	return beside_reader(commit_remote_read_pending);
}

static int remote_read_pending_ok(void)
{
	return beside_reader(avoid_remote_read_pending);
}

/* The mode of a thread that has ended is nobody's. */
static noinline int commit_section_leak(void *nothing)
{
	enter();
	change(own.usual);
	change(own.read_only);
	complete(&started);
	return 0;
}

static noinline int avoid_section_leak(void *nothing)
{
	enter();
	change(own.usual);
	change(own.read_only);
	leave();
	complete(&started);
	return 0;
}

static int in_thread(int (*function)(void *))
{
	struct task_struct *task = start(function, raw_smp_processor_id());

	if (IS_ERR(task))
		return PTR_ERR(task);
	end(task);
	return 0;
}

static int section_leak(void)
{
	return in_thread(commit_section_leak);
}

static int section_leak_ok(void)
{
	return in_thread(avoid_section_leak);
}

static int taker(void *nothing)
{
	complete(&started);
	while (!READ_ONCE(go)) {
		WRITE_ONCE(done, true);
		yield();
	}
	return 0;
}

/*
 * A section that another thread comes into, as the contract allows. There is no twin that is wrong: an architecture whose
 * mode does not follow the task stops the machine.
 */
static noinline int avoid_switch_in_section(void)
{
	const u64 limit = ktime_get_mono_fast_ns() + (u64)SPIN_SECONDS * NSEC_PER_SEC;
	bool seen;

	WRITE_ONCE(done, false);
	enter();
	change(own.usual);
	do {
		yield();
		seen = READ_ONCE(done);
	} while (!seen && ktime_get_mono_fast_ns() < limit);
	change(own.read_only);
	leave();
	return seen ? 0 : -ETIMEDOUT;
}

static int switch_in_section_ok(void)
{
	struct task_struct *task;
	int error;

	migrate_disable();
	task = start(taker, smp_processor_id());
	error = IS_ERR(task) ? PTR_ERR(task) : avoid_switch_in_section();
	migrate_enable();
	if (!IS_ERR(task))
		end(task);
	return error;
}

const struct hazard lazymmu_of_others[] = {
	{ "remote-read-pending", remote_read_pending },
	{ "remote-read-pending-ok", remote_read_pending_ok },
	{ "section-leak", section_leak },
	{ "section-leak-ok", section_leak_ok },
	{ "switch-in-section-ok", switch_in_section_ok },
	{}
};
