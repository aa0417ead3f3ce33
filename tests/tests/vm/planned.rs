//! What the probe plan of a stock kernel is worth on that kernel.

use lazymmu_tests::{Lab, Report, Stock, step_output};
use lazymmu_vm::StepStatus;

use crate::shared::lazymmu;

/// Where machines have the plan. The name has to end so: it is compressed.
const PLAN: &str = "/kernel.plan.zst";

pub(crate) fn is_of_this_kernel(stock: Stock) {
    let lab = Lab::open().unwrap_or_else(|error| panic!("{error}"));
    let image = lab.stock_kernel(stock).unwrap_or_else(|error| panic!("{error}"));
    let plan = lab.stock_plan(stock).unwrap_or_else(|error| panic!("{error}"));
    let mut initramfs = lab.initramfs().unwrap();
    initramfs.add_file(PLAN, &plan, 0o644).unwrap();
    let doctor = lazymmu(["doctor", "--plan", PLAN, "--format", "json"]);
    let job = lazymmu_vm::Job::new(vec![lazymmu(["plan", PLAN]).into(), doctor.into()]);
    let finished = lab.machine(&image).run(&initramfs, &job, &mut |_| ()).unwrap();
    let step = &finished.steps[0];
    assert_eq!(step.status, StepStatus::Exit(0), "{}", step_output(step));
    let table = String::from_utf8_lossy(&step.stdout);
    assert!(table.contains("site"), "{table}");

    // Every kernel keeps kprobes out of some places that a plan has.
    let said: serde_json::Value = serde_json::from_slice(&finished.steps[1].stdout).unwrap();
    for kind in ["reads", "writes"] {
        let [hooked, known] =
            ["hooked", "known"].map(|field| said["coverage"][kind][field].as_u64().unwrap());
        assert!(100 < hooked && hooked < known, "{kind}: {hooked} of {known}");
    }
    assert_eq!(said["plan"]["debug_info"], true);
}

/// Without a word of a plan, lazymmu takes the boot image that lies where distributions put it.
pub(crate) fn is_made_of_the_boot_image(stock: Stock) {
    let lab = Lab::open().unwrap_or_else(|error| panic!("{error}"));
    let image = lab.stock_kernel(stock).unwrap_or_else(|error| panic!("{error}"));
    let mut initramfs = lab.initramfs().unwrap();
    let name = image.file_name().expect("a file").to_string_lossy().into_owned();
    initramfs.add_file(format!("/boot/{name}"), &image, 0o644).unwrap();
    let live = lazymmu(["live", "--format", "json", "--", "workload", "run", "fork"]);
    let job = lazymmu_vm::Job::new(vec![live.into()]);
    let finished = lab.machine(&image).run(&initramfs, &job, &mut |_| ()).unwrap();
    let step = &finished.steps[0];
    // The mode's calls are inlined from 7.0 on, and only debug information tells where.
    if stock == Stock::V7 {
        assert_eq!(step.status, StepStatus::Exit(4), "{}", step_output(step));
        assert!(step_output(step).contains("where the lazy MMU mode is entered"), "{}", step_output(step));
        return;
    }
    // A plan never knows everything.
    assert_eq!(step.status, StepStatus::Exit(3), "{}", step_output(step));
    let said = String::from_utf8_lossy(&step.stderr);
    assert!(said.contains("as its vmlinuz tells") && said.contains("no debug information"), "{said}");
    let report = Report::parse(&step.stdout).unwrap_or_else(|error| panic!("{error}"));
    assert!(report.number("/sections/entered") > 50, "{}", step_output(step));
    assert!(report.number("/sections/entries_written") >= 4096, "{}", step_output(step));
}
