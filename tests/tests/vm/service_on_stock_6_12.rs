//! The daemon as a service of Debian's systemd, on Debian's own kernel, traced by a plan: what docs/daemon.md says of it, done.
//! `cargo xtask test --vm all` has it. What is done in the guest stands in `src/bin/lazymmu-trial/service.rs`.

use std::sync::OnceLock;
use std::time::Duration;

use lazymmu_tests::{Lab, Stock, step_output};
use lazymmu_vm::{Command, Initramfs, Job, Limits};
use serde_json::Value;

use crate::shared::TRIAL;

/// The first process, and what it starts beside the daemon.
const SYSTEMD: &str = "/lib/systemd/systemd";
const JOB: &str = "[Unit]\nAfter=multi-user.target\n\
    [Service]\nType=exec\nExecStart=/init job\nStandardOutput=null\nStandardError=null\n";
const TARGET: &str = "[Unit]\nRequires=multi-user.target job.service\nAfter=multi-user.target\n";
/// docs/daemon.md, of a kernel without the drop-in.
const OVERRIDE: &str = "[Service]\nExecStart=\nExecStart=/usr/bin/lazymmu daemon --plan /etc/lazymmu/plan.zst\n\
    CapabilityBoundingSet=CAP_SYS_ADMIN\n";

/// What the workloads do, which the plan can see.
const WORKLOADS: [&str; 5] = ["fork", "mprotect", "mremap", "munmap", "madvise"];

fn seen() -> &'static Value {
    static SEEN: OnceLock<Result<Value, String>> = OnceLock::new();
    match SEEN.get_or_init(|| boot().map_err(|error| error.to_string())) {
        Ok(seen) => seen,
        Err(why) => panic!("the run that this test looks at failed: {why}"),
    }
}

fn boot() -> Result<Value, Box<dyn std::error::Error>> {
    let lab = Lab::open()?;
    let mut initramfs = lab.initramfs()?;
    install(&lab, &mut initramfs)?;
    let words = [TRIAL, "service"].into_iter().chain(WORKLOADS);
    let job = Job::new([Command::new(words).limit(Duration::from_mins(15)).into()]);
    let limits = Limits { boot: Duration::from_mins(5), job: Duration::from_mins(16), ..Limits::default() };
    let words = format!("rdinit={SYSTEMD} systemd.unit=test.target systemd.show_status=no");
    let machine = lab.machine(&lab.stock_kernel(Stock::V6_12)?).memory(2048).append(&words).limits(limits);
    let finished = machine.run(&initramfs, &job, &mut |_| ())?;
    let step = finished.steps.first().ok_or("nothing was done")?;
    let seen = serde_json::from_slice(&step.stdout);
    seen.map_err(|error| format!("{error}: {}\n{}", step_output(step), finished.console.join("\n")).into())
}

/// As on a machine that somebody has set up.
fn install(lab: &Lab, initramfs: &mut Initramfs) -> Result<(), Box<dyn std::error::Error>> {
    const UNITS: &str = "/etc/systemd/system";
    initramfs.add_tree(&lab.systemd()?)?;
    initramfs.add_file("/usr/bin/lazymmu", &lab.lazymmu(), 0o755)?;
    initramfs.add_file(TRIAL, &lab.trial(), 0o755)?;
    initramfs.add_file("/etc/lazymmu/plan.zst", &lab.stock_plan(Stock::V6_12)?, 0o644)?;
    let unit = include_str!("../../../packaging/lazymmu.service");
    initramfs.add(format!("{UNITS}/lazymmu.service"), unit, 0o644);
    initramfs.add(format!("{UNITS}/lazymmu.service.d/override.conf"), OVERRIDE, 0o644);
    let users = include_str!("../../../packaging/lazymmu.sysusers");
    initramfs.add("/etc/sysusers.d/lazymmu.conf", users, 0o644);
    initramfs.add(format!("{UNITS}/job.service"), JOB, 0o644);
    initramfs.add(format!("{UNITS}/test.target"), TARGET, 0o644);
    initramfs.add("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644);
    initramfs.add("/etc/group", "root:x:0:\n", 0o644);
    initramfs.add("/etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o444);
    Ok(())
}

/// They need the kernel's probe plan.
mod planned {
    use super::seen;

    #[test]
    fn systemd_knows_when_it_captures() {
        let seen = seen();
        assert_eq!(seen["started"]["code"], 0, "{seen:#}");
        let first = &seen["first"];
        assert_eq!(
            (&first["ActiveState"], &first["SubState"]),
            (&"active".into(), &"running".into()),
            "{first:#}"
        );
        assert_eq!(
            (&first["StatusText"], &first["NRestarts"]),
            (&"capturing".into(), &"0".into()),
            "{first:#}"
        );
    }

    #[test]
    fn a_killed_one_is_started_again() {
        let seen = seen();
        let again = &seen["again"];
        assert_eq!(
            (&again["NRestarts"], &again["StatusText"]),
            (&"1".into(), &"capturing".into()),
            "{again:#}"
        );
        assert_ne!(again["MainPID"], seen["first"]["MainPID"]);
        assert_eq!(seen["cut"], false, "one that is killed says no farewell");
        for seen in [&seen["seen"], &seen["seen_again"]] {
            assert!(seen["id"].is_string(), "{seen:#}");
        }
        assert_eq!(seen["seen"]["id"], seen["seen_again"]["id"], "the next one sees the same");
    }

    #[test]
    fn nothing_is_left() {
        let seen = seen();
        assert_eq!((&seen["stopped"]["code"], &seen["cut_again"]), (&0.into(), &true.into()), "{seen:#}");
        let last = &seen["last"];
        assert_eq!(
            (&last["ActiveState"], &last["Result"]),
            (&"inactive".into(), &"success".into()),
            "{last:#}"
        );
        let [before, during, after] = [0, 1, 2].map(|number| &seen["settings"][number]);
        assert_ne!(before[0], during[0], "the daemon has changed the kernel's settings for its probes");
        assert_eq!(before, after, "and they are as they were");
        assert_eq!(seen["socket"], false);
        assert_eq!(
            (&seen["bpf"]["programs"], &seen["bpf"]["links"]),
            (&0.into(), &0.into()),
            "{}",
            seen["bpf"]
        );
    }
}
