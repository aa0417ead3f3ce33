//! What the probe plan of a stock kernel is worth on that kernel.

use lazymmu_tests::{Lab, Stock, step_output};
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
