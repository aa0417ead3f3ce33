//! Each thing that is in the way, and what is said of it.

use std::path::{Path, PathBuf};

use lazymmu_capture::{HOOKS, Hook, Need};
use lazymmu_inspect::config::Setting;
use lazymmu_inspect::plan::Plan;

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../../../report/tests/golden_support/schema.rs"]
mod schema;

use super::facts::{Facts, Here, HookFact, OPTIONS, Privileges, Types};
use super::verdict::{Covered, Verdict, coverage, judge};
use super::{document, table};
use crate::ExitStatus;

/// A read that is probed, one that is refused, and a write that another probe tells of.
const PLAN: &str = r#"{
  "version": {"major": 1, "minor": 0},
  "kernel": {"release": "r", "build_id": "ab", "architecture": "x86_64", "nesting": true},
  "made_from": {"image": "vmlinux", "debug_info": true, "symbols": "symtab", "lazymmu": "0.1.0"},
  "tracepoints": [],
  "state": [{"field": "task_struct.lazy_mmu_state.enable_count", "offset": 8, "size": 1}],
  "probes": [
    {"address": "0x10", "function": "a", "offset": 0, "source": "site", "kind": "read", "op": "ptep_get", "level": "pte",
     "found": ["inlined-accessor"], "code": "", "verdict": {"do": "probe"}},
    {"address": "0x20", "function": "b", "offset": 0, "source": "site", "kind": "read", "op": "ptep_get", "level": "pte",
     "found": ["inlined-accessor"], "code": "", "verdict": {"do": "refused", "reason": "notrace"}},
    {"address": "0x30", "function": "set_ptes", "offset": 0, "source": "symbol", "kind": "write", "op": "set_ptes",
     "level": "pte", "found": ["function-name"], "code": "", "verdict": {"do": "covered", "by": "pv_ops.mmu.set_pte"}}
  ]
}"#;

fn plan() -> Plan {
    Plan::parse(PLAN.as_bytes(), Path::new("p")).unwrap()
}

/// All that a kernel can have; what `lacking` takes is missing.
fn hooks(lacking: impl Fn(&Hook) -> bool) -> Types {
    let hooks = HOOKS.iter().map(|hook| {
        let missing = lacking(hook).then(|| format!("the kernel has no {}", hook.name));
        let here = match (&missing, hook.need) {
            (None, _) => Here::Yes,
            (Some(_), Need::Nothing) => Here::NotNeeded,
            (Some(_), _) => Here::No,
        };
        (HookFact { hook, here }, missing)
    });
    Types::Read(hooks.collect())
}

/// A kernel with the drop-in, and root.
fn good() -> Facts {
    Facts {
        release: "7.2.13".to_owned(),
        architecture: "x86_64".to_owned(),
        build_id: Some("ab".to_owned()),
        object: true,
        takes_plan: false,
        types: hooks(|hook| hook.need == Need::Nothing),
        options: Some((PathBuf::from("/proc/config.gz"), [Setting::On; OPTIONS.len()])),
        lockdown: Some("none".to_owned()),
        blacklist: Some(1000),
        kprobes_on: Some(true),
        privileges: Privileges {
            effective: Some(u64::MAX),
            files: Some((1024, 1 << 20)),
            paranoid: Some(2),
            restrict: Some(0),
        },
        plan: Err("no image of it was found".to_owned()),
    }
}

/// A kernel without the drop-in, and a `live` that can use the plan of it.
fn stock() -> Facts {
    Facts {
        types: hooks(|hook| hook.name.starts_with("lazy_mmu:")),
        takes_plan: true,
        plan: Ok(plan()),
        ..good()
    }
}

/// The verdict, after what is printed has been looked at: the table and the document must tell all of it.
fn judged(facts: &Facts) -> Verdict {
    let verdict = judge(facts);
    let (table, document) = (table(facts, &verdict), document(facts, &verdict));
    assert_eq!(schema::of("doctor.schema.json").errors(&document), Vec::<String>::new(), "{document:#}");
    assert!(table.contains(verdict.summary()), "{table}");
    assert!(table.ends_with(&format!("exit status {}\n", verdict.status as u8)), "{table}");
    for obstacle in &verdict.obstacles {
        assert!(table.contains(&obstacle.what) && table.contains(&obstacle.todo), "{table}");
    }
    let told = document["verdict"]["obstacles"].as_array().unwrap().len();
    assert_eq!(told, verdict.obstacles.len());
    assert_eq!(document["verdict"]["status"], verdict.status as u8);
    verdict
}

#[track_caller]
fn refused(facts: &Facts, status: ExitStatus, what: &str, todo: &str) {
    let verdict = judged(facts);
    assert_eq!(verdict.status, status, "{verdict:?}");
    let first = &verdict.obstacles[0];
    assert!(first.what.contains(what), "{what:?} is not in {first:?}");
    assert!(first.todo.contains(todo), "{todo:?} is not in {first:?}");
}

#[test]
fn a_kernel_with_the_drop_in_can_be_traced_by_root() {
    let verdict = judged(&good());
    assert_eq!((verdict.status, verdict.obstacles.len()), (ExitStatus::Clean, 0), "{verdict:?}");
    let text = table(&good(), &verdict);
    assert!(text.contains("all accessors and mode calls, by the drop-in's tracepoints"), "{text}");
    assert!(text.contains("this kernel has nothing of the kind"), "{text}");
}

#[test]
fn a_build_without_programs_cannot_trace() {
    let facts = Facts { object: false, ..good() };
    refused(&facts, ExitStatus::CannotTrace, "no eBPF programs", "cargo xtask ebpf build");
}

#[test]
fn without_type_information_there_is_no_capture() {
    let of = |types| Facts { types, ..good() };
    refused(&of(Types::Missing), ExitStatus::CannotTrace, "no BTF", "CONFIG_DEBUG_INFO_BTF");
    refused(&of(Types::Unusable("x".into())), ExitStatus::CannotTrace, "cannot be used: x", "kernel");
    refused(&of(Types::Forbidden), ExitStatus::NotPermitted, "may not read", "root");
    let verdict = judge(&of(Types::Missing));
    assert!(table(&of(Types::Missing), &verdict).contains("not known: the kernel has no BTF"));
}

#[test]
fn lockdown_forbids_it_in_one_mode() {
    let of = |mode: &str| Facts { lockdown: Some(mode.to_owned()), ..good() };
    refused(&of("confidentiality"), ExitStatus::CannotTrace, "lockdown", "lockdown=confidentiality");
    assert_eq!(judged(&of("integrity")).status, ExitStatus::Clean);
}

#[test]
fn options_without_which_nothing_works_are_named() {
    for (at, option) in OPTIONS.iter().enumerate() {
        let mut settings = [Setting::On; OPTIONS.len()];
        settings[at] = Setting::Off;
        let facts = Facts { options: Some((PathBuf::from("c"), settings)), ..good() };
        // What has been read is there, whatever the list says.
        if option.essential && option.name != "DEBUG_INFO_BTF" {
            refused(&facts, ExitStatus::CannotTrace, option.name, option.name);
        } else {
            assert_eq!(judged(&facts).status, ExitStatus::Clean, "{}", option.name);
        }
    }
    assert_eq!(judged(&Facts { options: None, ..good() }).status, ExitStatus::Clean, "not known is not off");
}

#[test]
fn capabilities_that_are_missing_are_named() {
    let with = |effective| {
        let privileges = Privileges { effective, ..good().privileges };
        Facts { privileges, ..good() }
    };
    refused(&with(Some(0)), ExitStatus::NotPermitted, "CAP_BPF and CAP_PERFMON", "setcap");
    refused(&with(Some(1 << 38)), ExitStatus::NotPermitted, "lacks CAP_BPF", "root");
    assert_eq!(judged(&with(Some(1 << 21))).status, ExitStatus::Clean, "CAP_SYS_ADMIN stands for both");
    assert_eq!(judged(&with(None)).status, ExitStatus::Clean, "then the kernel's own answer decides");
    // No privilege helps where the kernel cannot be traced.
    let hopeless = Facts { types: Types::Missing, ..with(Some(0)) };
    refused(&hopeless, ExitStatus::CannotTrace, "no BTF", "CONFIG_DEBUG_INFO_BTF");
    assert_eq!(judged(&hopeless).obstacles.len(), 2);
}

#[test]
fn hooks_that_only_see_more_leave_a_gap() {
    let facts = Facts { types: hooks(|hook| hook.need == Need::Coverage), ..good() };
    refused(&facts, ExitStatus::Inconclusive, "is not seen", "BTF");
}

#[test]
fn a_stock_kernel_takes_the_drop_in_or_a_plan() {
    let without = Facts { takes_plan: false, ..stock() };
    refused(&without, ExitStatus::CannotTrace, "the drop-in's tracepoints", "kernel apply");
    let blind = Facts { types: hooks(|hook| hook.need == Need::Capture), ..stock() };
    refused(&blind, ExitStatus::CannotTrace, "sched:sched_process_exit cannot be hooked", "kernel");
    let none = Facts { plan: Err("no vmlinux".into()), ..stock() };
    refused(&none, ExitStatus::CannotTrace, "no vmlinux", "lazymmu plan");
    let off = Facts { kprobes_on: Some(false), ..stock() };
    refused(&off, ExitStatus::CannotTrace, "switched off", "kprobes/enabled");
    let mut settings = [Setting::On; OPTIONS.len()];
    settings[OPTIONS.iter().position(|option| option.name == "KPROBES").unwrap()] = Setting::Off;
    let no_kprobes = Facts { options: Some((PathBuf::from("c"), settings)), ..stock() };
    refused(&no_kprobes, ExitStatus::CannotTrace, "nor kprobes", "CONFIG_KPROBE_EVENTS");
}

#[test]
fn what_a_plan_covers_is_counted() {
    let [reads, writes, calls] = coverage(&plan()).map(|(_, covered)| covered);
    assert_eq!(reads, Covered { hooked: 1, known: 2 });
    assert_eq!((writes, calls), (Covered::default(), Covered::default()), "another probe tells of the write");
    refused(&stock(), ExitStatus::Inconclusive, "1 of 2 places of reads cannot be hooked", "drop-in");
    let text = table(&stock(), &judge(&stock()));
    assert!(text.contains("the function is notrace: b"), "{text}");

    let mut blind = plan();
    blind.made_from.debug_info = false;
    let facts = Facts { plan: Ok(blind), ..stock() };
    refused(&facts, ExitStatus::Inconclusive, "without debug information", "vmlinux");

    let privileges = Privileges { files: Some((16, 16)), ..good().privileges };
    let facts = Facts { privileges, ..stock() };
    refused(&facts, ExitStatus::NotPermitted, "65 open files, and this process may have 16", "ulimit");
}

#[test]
fn where_perf_is_for_administrators_a_plan_takes_one() {
    let with = |paranoid, effective| {
        let privileges = Privileges { paranoid, effective: Some(effective), ..good().privileges };
        Facts { privileges, ..stock() }
    };
    let tracer = 1 << 38 | 1 << 39;
    refused(&with(Some(3), tracer), ExitStatus::NotPermitted, "CAP_SYS_ADMIN", "root");
    for facts in [with(Some(2), tracer), with(None, tracer), with(Some(3), 1 << 21)] {
        assert_eq!(judged(&facts).status, ExitStatus::Inconclusive, "as with every plan");
    }
}
