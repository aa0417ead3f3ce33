//! What must hold on real kernels. Each kernel is booted a few times, and several tests look at what one run gave.
//!
//! The tests of one process share those runs, so they are run with `cargo test` and not with a runner that starts a
//! process for each test; `cargo xtask test` does that.

// The helpers of tests are tests too.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod controls;
mod daemon;
mod events;
mod gate;
mod gate_truth;
mod hazards;
mod matrix;
mod planned;
mod recording;
mod refused;
mod runner;
mod sections;
mod serial;
mod service_on_stock_6_12;
mod shared;
mod sites;
mod stacks;
mod stock_xen;
mod suspects;
mod xen;
mod xen_batches;
mod xen_symbols;

use lazymmu_tests::{Series, Stock};

/// The same tests for each series.
macro_rules! series {
    ($($module:ident = $series:expr;)+) => { $(
        mod $module {
            use super::*;

            const SERIES: Series = $series;

            #[test]
            fn live_finds_the_read() { hazards::live_finds_the_read(SERIES); }
            #[test]
            fn live_finds_the_read_modify_write() { hazards::live_finds_the_read_modify_write(SERIES); }
            #[test]
            fn live_loses_nothing() { hazards::live_loses_nothing(SERIES); }
            #[test]
            fn replay_says_what_live_said() { hazards::replay_says_what_live_said(SERIES); }
            #[test]
            fn the_kernel_does_not_complain() { hazards::the_kernel_does_not_complain(SERIES); }

            #[test]
            fn control_fork() { controls::is_clean(SERIES, "fork"); }
            #[test]
            fn control_mprotect() { controls::is_clean(SERIES, "mprotect"); }
            #[test]
            fn control_mremap() { controls::is_clean(SERIES, "mremap"); }
            #[test]
            fn control_munmap() { controls::is_clean(SERIES, "munmap"); }
            #[test]
            fn control_madvise() { controls::is_clean(SERIES, "madvise"); }
            #[test]
            fn ftrace_sees_the_tracepoints() { controls::ftrace_sees_the_tracepoints(SERIES); }

            #[test]
            fn every_hook_is_attached() { events::every_hook_is_attached(SERIES); }
            #[test]
            fn flushes_of_the_tlb_are_recorded() { events::flushes_of_the_tlb_are_recorded(SERIES); }
            #[test]
            fn flushes_in_sections_are_recorded() { events::flushes_in_sections_are_recorded(SERIES); }
            #[test]
            fn faults_in_sections_are_recorded() { events::faults_in_sections_are_recorded(SERIES); }
            #[test]
            fn skipped_hits_are_losses() { events::skipped_hits_are_losses(SERIES); }

            #[test]
            fn losses_are_counted() { recording::losses_are_counted(SERIES); }
            #[test]
            fn record_ends_at_sigint() { recording::ends_at_a_signal(SERIES, "sigint"); }
            #[test]
            fn record_ends_at_sigterm() { recording::ends_at_a_signal(SERIES, "sigterm"); }
            #[test]
            fn record_survives_sigkill() { recording::survives_sigkill(SERIES); }
            #[test]
            fn a_full_disk_ends_the_recording() { recording::a_full_disk_ends_the_recording(SERIES); }

            #[test]
            fn without_privilege() { refused::without_privilege(SERIES); }
            #[test]
            fn without_btf() { refused::without_btf(SERIES); }
            #[test]
            fn doctor_knows() { refused::doctor_knows(SERIES); }
        }
    )+ };
}

series! {
    series_7 = Series::V7;
    series_6_12 = Series::V6_12;
}

/// The sections are those of 7.2; older kernels have fewer, and no stacks of one shape.
mod sections_of_7 {
    use super::*;

    #[test]
    fn are_entered() {
        sections::are_entered(Series::V7);
    }

    #[test]
    fn findings_are_known_ones() {
        sections::findings_are_known_ones(Series::V7);
    }
}

/// The drop-in does the same on every series.
mod busy_of_7 {
    use super::*;

    #[test]
    fn nothing_is_lost() {
        recording::a_busy_cpu_costs_nothing(Series::V7);
    }
}

/// What only a kernel with KASAN has; `cargo xtask test --vm all` builds one.
mod sections_of_kasan {
    use super::*;

    #[test]
    fn are_entered() {
        sections::kasan::are_entered(Series::V7Kasan);
    }

    #[test]
    fn findings_are_known_ones() {
        sections::kasan::findings_are_known_ones(Series::V7Kasan);
    }
}

/// What probed instructions tell, beside what the drop-in tells of the same.
mod sites_of_7 {
    use super::*;

    #[test]
    fn tell_what_the_drop_in_tells() {
        sites::recall::accesses_are_the_same(Series::V7);
    }

    #[test]
    fn tell_of_the_same_sections() {
        sites::recall::sections_are_the_same(Series::V7);
    }
}

/// As above.
mod sites_of_6_12 {
    use super::*;

    #[test]
    fn tell_what_the_drop_in_tells() {
        sites::recall::accesses_are_the_same(Series::V6_12);
    }

    #[test]
    fn tell_of_the_same_sections() {
        sites::recall::sections_are_the_same(Series::V6_12);
    }
}

/// A dev kernel without the drop-in, traced by its plan alone; `cargo xtask test --vm all` builds one.
mod bare_7 {
    use super::*;

    #[test]
    fn a_plan_finds_both_hazards() {
        sites::bare::finds_both_hazards(Series::V7Bare);
    }

    #[test]
    fn replay_says_what_live_said() {
        sites::bare::replay_says_what_live_said(Series::V7Bare);
    }

    #[test]
    fn another_kernels_plan_is_refused() {
        sites::bare::another_kernels_plan_is_refused(Series::V7Bare);
    }

    #[test]
    fn losses_are_counted() {
        sites::bare::losses_are_counted(Series::V7Bare);
    }

    #[test]
    fn the_gate_makes_a_plan_of_the_vmlinux() {
        gate::a_plan_is_made_of_the_vmlinux(Series::V7Bare);
    }

    #[test]
    fn settings_are_put_back() {
        sites::bare::settings_are_put_back(Series::V7Bare);
    }

    #[test]
    fn suspects_find_the_same() {
        suspects::find_the_same_without_the_drop_in(Series::V7Bare);
    }
}

/// Every hazard, committed on demand.
mod matrix_7 {
    use super::*;

    #[test]
    fn every_hazard_is_found_and_no_twin() {
        matrix::every_hazard_is_found_and_no_twin(matrix::On::V7);
    }

    #[test]
    fn a_plan_finds_those_that_it_can_see() {
        matrix::every_hazard_is_found_and_no_twin(matrix::On::V7ByPlan);
    }

    #[test]
    fn the_kernel_is_sane_afterwards() {
        matrix::the_kernel_is_sane_afterwards(matrix::On::V7);
    }

    #[test]
    fn no_rule_is_left_out() {
        matrix::no_rule_is_left_out();
    }
}

/// The gate on that kernel.
mod gate_truth_7 {
    use super::*;

    #[test]
    fn four_steps() {
        gate_truth::four_steps();
    }

    #[test]
    fn a_panic_is_told_and_what_was_before_is_judged() {
        gate_truth::a_panic_is_told_and_what_was_before_is_judged();
    }
}

/// The rest of it; `cargo xtask test --vm all` has it.
mod gate_deaths_7 {
    use super::*;

    #[test]
    fn a_hang_is_ended_and_told() {
        gate_truth::a_hang_is_ended_and_told();
    }

    #[test]
    fn a_first_process_that_cannot_start_is_told() {
        gate_truth::a_first_process_that_cannot_start_is_told();
    }

    #[test]
    fn a_hazard_that_is_none_here_is_no_verdict() {
        gate_truth::a_hazard_that_is_none_here_is_no_verdict();
    }
}

/// As above.
mod matrix_6_12 {
    use super::*;

    #[test]
    fn every_hazard_is_found_and_no_twin() {
        matrix::every_hazard_is_found_and_no_twin(matrix::On::V6_12);
    }

    #[test]
    fn the_kernel_is_sane_afterwards() {
        matrix::the_kernel_is_sane_afterwards(matrix::On::V6_12);
    }
}

/// As above, where stores really wait.
mod matrix_xen {
    use super::*;

    #[test]
    fn every_hazard_is_found_and_no_twin() {
        matrix::every_hazard_is_found_and_no_twin(matrix::On::Xen);
    }

    #[test]
    fn a_read_is_proven() {
        matrix::a_read_is_proven(matrix::On::Xen);
    }

    #[test]
    fn the_kernel_is_sane_afterwards() {
        matrix::the_kernel_is_sane_afterwards(matrix::On::Xen);
    }
}

/// The whole table, which `cargo xtask matrix` shows. A column of it is Xen's.
mod matrix_all_xen {
    use super::*;

    #[test]
    fn is_shown() {
        matrix::show();
    }
}

/// The kernel has that test since 7.0.
mod stacks_of_7 {
    use super::*;

    #[test]
    fn odd_calls_have_stacks() {
        stacks::odd_calls_have_stacks(Series::V7);
    }
}

/// One kernel is enough: nothing of it depends on the series.
mod daemon_of_7 {
    use super::*;

    #[test]
    fn clients_see_what_a_workload_does() {
        daemon::clients_see_what_a_workload_does(Series::V7);
    }

    #[test]
    fn the_view_shows_what_clients_see() {
        daemon::the_view_shows_what_clients_see(Series::V7);
    }

    #[test]
    fn a_session_shows_itself() {
        daemon::a_session_shows_itself(Series::V7);
    }

    #[test]
    fn the_view_on_a_serial_line_shows_a_finding_at_once() {
        serial::shows_a_finding_at_once(Series::V7);
    }

    #[test]
    fn clients_see_no_more_than_they_may() {
        daemon::clients_see_no_more_than_they_may(Series::V7);
    }

    #[test]
    fn it_keeps_no_privilege_that_it_does_not_need() {
        daemon::it_keeps_no_privilege_that_it_does_not_need(Series::V7);
    }

    #[test]
    fn it_ends_when_it_is_asked_to() {
        daemon::it_ends_when_it_is_asked_to(Series::V7);
    }
}

/// For longer; `cargo xtask test --vm all` has it.
mod daemon_often_of_7 {
    use super::*;

    #[test]
    fn twenty_clients_cost_the_capture_nothing() {
        daemon::twenty_clients_cost_the_capture_nothing(Series::V7);
    }

    #[test]
    fn the_view_on_a_serial_line_shows_findings_while_all_workloads_run() {
        serial::shows_findings_while_all_workloads_run(Series::V7);
    }

    #[test]
    fn killed_it_leaves_nothing_behind() {
        daemon::killed_it_leaves_nothing_behind(Series::V7);
    }
}

/// What the level that tells of little finds.
mod suspects_of_7 {
    use super::*;

    #[test]
    fn find_the_same() {
        suspects::find_the_same(Series::V7);
    }

    #[test]
    fn filters_select_the_same() {
        suspects::filters_select_the_same(Series::V7);
    }

    #[test]
    fn a_recording_may_be_filtered() {
        suspects::a_recording_may_be_filtered(Series::V7);
    }

    #[test]
    fn a_full_table_is_a_loss() {
        suspects::a_full_table_is_a_loss(Series::V7);
    }
}

/// As above; `cargo xtask test --vm all` has it.
mod suspects_of_6_12 {
    use super::*;

    #[test]
    fn find_the_same() {
        suspects::find_the_same(Series::V6_12);
    }
}

/// As above.
mod suspects_under_xen {
    use super::*;

    #[test]
    fn find_the_same() {
        suspects::find_the_same_under_xen(Series::V6_12);
    }
}

/// The same tests for each stock kernel. What stands in `planned` needs its probe plan.
macro_rules! stock {
    ($($module:ident = $stock:expr;)+) => { $(
        mod $module {
            use super::*;

            const STOCK: Stock = $stock;

            #[test]
            fn without_the_drop_in() { refused::without_the_drop_in(STOCK); }
            #[test]
            fn the_gate_wants_a_plan() { gate::a_stock_kernel_without_a_plan_is_refused(STOCK); }
            #[test]
            fn a_plan_is_made_of_the_boot_image() { crate::planned::is_made_of_the_boot_image(STOCK); }

            mod planned {
                use super::*;

                #[test]
                fn the_plan_is_of_this_kernel() { super::super::planned::is_of_this_kernel(STOCK); }
                #[test]
                fn the_kernel_takes_what_the_plan_says() { sites::stock::takes_what_the_plan_says(STOCK); }
                #[test]
                fn workloads_are_seen() { sites::stock::workloads_are_seen(STOCK); }
                #[test]
                fn values_are_those_that_were_written() { sites::stock::values_are_those_that_were_written(STOCK); }
                #[test]
                fn entries_are_where_the_kernel_has_the_pages() {
                    sites::stock::entries_are_where_the_kernel_has_the_pages(STOCK);
                }
                #[test]
                fn the_gate_judges_by_the_plan() { gate::a_stock_kernel_is_judged_by_its_plan(STOCK); }
                #[test]
                fn nothing_is_lost() { sites::stock::nothing_is_lost(STOCK); }
                #[test]
                fn skipped_hits_are_losses() { sites::skipped::hits_are_losses(STOCK); }

                /// `cargo xtask test --vm all` has it.
                mod suspects_by_plan {
                    use super::*;

                    #[test]
                    fn find_the_same() { suspects::find_the_same_by_plan(STOCK); }
                }
            }
        }
    )+ };
}

stock! {
    stock_7 = Stock::V7;
    stock_6_12 = Stock::V6_12;
    stock_6_1 = Stock::V6_1;
}
