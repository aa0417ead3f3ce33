//! Debian's own 6.12, as it is, as the first PV guest of Xen.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use lazymmu_abi::Kind;
use lazymmu_tests::{Lab, Report, Stock, step_output};
use lazymmu_vm::{Finished, Job, Step, StepStatus};

use crate::shared::lazymmu;
use crate::sites::Trace;
use crate::xen_batches;

/// Where the machine has the probe plan. The name has to end so: it is compressed.
const PLAN: &str = "/kernel.plan.zst";

/// The same with the module of a bug in it.
const WITH_MODULE: &str = "/module.plan.zst";

/// The same with another build of that module, which is not the one that is loaded.
const WITH_OTHER_BUILD: &str = "/other.plan.zst";

/// Modules for swap space in memory, in the order of loading.
const MODULES: [&str; 3] = ["lz4_compress.ko.xz", "lz4hc_compress.ko.xz", "zram.ko.xz"];

fn run() -> &'static Finished {
    static RUN: OnceLock<Result<Finished, String>> = OnceLock::new();
    match RUN.get_or_init(|| boot().map_err(|error| error.to_string())) {
        Ok(finished) => finished,
        Err(why) => panic!("the run that this test looks at failed: {why}"),
    }
}

fn boot() -> Result<Finished, Box<dyn std::error::Error>> {
    let lab = Lab::open()?;
    let image = lab.stock_kernel(Stock::V6_12Full)?;
    let mut initramfs = lab.initramfs()?;
    let mut steps = Vec::new();
    for module in MODULES {
        let place = Path::new("/").join(module);
        initramfs.add_file(&place, &image.with_file_name(module), 0o644)?;
        steps.push(Step::Module(place));
    }
    initramfs.add_file(PLAN, &lab.stock_plan(Stock::V6_12Full)?, 0o644)?;
    steps.push(lazymmu(["plan", PLAN]).into());
    steps.push(lazymmu(["workload", "run", "swap-private-file"]).into());
    let module = Path::new("/lazymmu_stale.ko");
    let image_of_module = fs::read(lab.stale_module()?)?;
    initramfs.add("/other/lazymmu_stale.ko", of_another_build(&image_of_module), 0o644);
    initramfs.add(module, image_of_module, 0o644);
    steps.push(Step::Module(module.to_owned()));
    let live = ["live", "--format", "json", "--record", "/out/stale.lmt", "--plan", PLAN, "--"];
    let clear = ["/init", "write", "/sys/kernel/debug/lazymmu_stale/clear", "the page of this text"];
    steps.push(lazymmu(live.into_iter().chain(clear)).into());
    // The same with the module in the plan, made where the kernel's type information is.
    let with_module = ["plan", PLAN, "--module", "/lazymmu_stale.ko", "-o", WITH_MODULE];
    steps.push(lazymmu(with_module).into());
    steps.push(lazymmu(["doctor", "--plan", WITH_MODULE]).into());
    let live = ["live", "--format", "json", "--record", "/out/module.lmt", "--plan", WITH_MODULE, "--"];
    steps.push(lazymmu(live.into_iter().chain(clear)).into());
    let found = Step::Copy { from: "/sys/kernel/debug/lazymmu_stale/found".into(), to: "/out/found".into() };
    steps.push(found);
    steps.extend(xen_batches::begin());
    let record = ["record", "-o", "/out/mprotect.lmt", "--plan", PLAN, "--", "workload", "run", "mprotect"];
    steps.push(lazymmu(record).into());
    steps.extend(xen_batches::end("/out/flushes"));
    let with_other = ["plan", PLAN, "--module", "/other/lazymmu_stale.ko", "-o", WITH_OTHER_BUILD];
    steps.push(lazymmu(with_other).into());
    let record =
        ["record", "-o", "/tmp/other.lmt", "--plan", WITH_OTHER_BUILD, "--", "workload", "run", "fork"];
    steps.push(lazymmu(record).into());
    Ok(lab.machine(&image).under(lab.xen()?).run(&initramfs, &Job::new(steps), &mut |_| ())?)
}

/// The module as another build would have it: with another build id in its note (elf(5), NT_GNU_BUILD_ID).
fn of_another_build(module: &[u8]) -> Vec<u8> {
    const NOTE: [u8; 16] = *b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let mut module = module.to_vec();
    let note =
        module.windows(NOTE.len()).position(|bytes| bytes == NOTE).expect("the module has no build id");
    module[note + NOTE.len()] ^= 0xff;
    module
}

#[test]
fn the_plan_is_of_this_kernel() {
    let step = &run().steps[0];
    assert_eq!(step.status, StepStatus::Exit(0), "{}", step_output(step));
}

/// docs/findings.md: entries that were cleared are read before the hypervisor has done so.
#[test]
fn the_kernel_warns_of_a_cleared_entry() {
    let step = &run().steps[1];
    assert_eq!(step.status, StepStatus::Exit(0), "{}", step_output(step));
    let complaints: Vec<&str> = run().complaints().collect();
    assert!(complaints.iter().any(|line| line.contains("include/linux/mm_inline.h:567")), "{complaints:#?}");
}

/// The module clears an entry and follows it in the same section, and finds the page all the same.
#[test]
fn the_kernel_follows_an_entry_that_is_cleared() {
    assert_eq!(run().files[Path::new("found")], b"1\n");
}

#[test]
fn live_proves_it() {
    let step = &run().steps[2];
    let report = Report::parse(&step.stdout).unwrap_or_else(|error| panic!("{error}\n{}", step_output(step)));
    let findings = report.findings("read-pending");
    let finding =
        findings.iter().find(|finding| Report::functions(finding, "write").contains(&"clear_and_look"));
    let finding = finding.unwrap_or_else(|| panic!("no such finding; {}", step_output(step)));
    assert_eq!(finding["state"], "proven", "{finding:#}");
    let raw = |value: &str| finding["example"][value]["raw"].as_str().unwrap_or_default().to_owned();
    assert_eq!(raw("pending"), "0x0000000000000000", "{finding:#}");
    assert_eq!(finding["example"]["seen"]["decoded"]["kind"], "present", "{finding:#}");
    assert_eq!(raw("seen"), raw("memory"), "{finding:#}");
    assert_eq!(report.number("/losses/total"), 0);
}

/// The stores are those of `xen_ptep_modify_prot_commit`, at its exit.
#[test]
fn batches_are_those_of_the_kernel() {
    let step = &run().steps[6];
    assert_eq!(step.status, StepStatus::Exit(0), "{}", step_output(step));
    let file = |name: &str| run().files[Path::new(name)].as_slice();
    xen_batches::compare(file("mprotect.lmt"), file("flushes"));
}

/// What the module does with its entry is told where it stands in the module's code.
#[test]
fn a_module_in_the_plan_is_probed() {
    let [made, doctor, live] = [3, 4, 5].map(|index| &run().steps[index]);
    assert_eq!(made.status, StepStatus::Exit(0), "{}", step_output(made));
    assert!(step_output(made).contains("lazymmu_stale"), "{}", step_output(made));
    assert!(step_output(doctor).contains("module lazymmu_stale, by plan"), "{}", step_output(doctor));
    let trace = Trace::read(&run().files[Path::new("module.lmt")]);
    // The entry is read before it is cleared, and nothing of that is in the kernel itself.
    let reads = trace.accesses().filter(|record| record.kind == Kind::Read as u8);
    let own = reads.filter(|record| {
        let first = trace.symbols.frames(record.stack).next();
        first.is_some_and(|frame| {
            frame.function == "clear_and_look" && frame.module.as_deref() == Some("lazymmu_stale")
        })
    });
    assert!(own.count() > 0, "{}", step_output(live));
    let told = trace.header.plan.sites.expect("no sites in the header");
    assert!(
        told.blind.iter().any(|blind| blind.contains("modules other than lazymmu_stale")),
        "{:?}",
        told.blind
    );
    let without = Trace::read(&run().files[Path::new("stale.lmt")]).header.plan.sites.expect("no sites");
    assert!(told.hooked > without.hooked, "{} and {}", told.hooked, without.hooked);
}

/// With another build of the module, addresses would mean something else.
#[test]
fn a_plan_of_another_build_of_the_module_is_refused() {
    let [refused, made] = [0, 1].map(|back| &run().steps[run().steps.len() - 1 - back]);
    assert_eq!(made.status, StepStatus::Exit(0), "{}", step_output(made));
    assert_eq!(refused.status, StepStatus::Exit(4), "{}", step_output(refused));
    assert!(
        step_output(refused).contains("it has the module lazymmu_stale with build id"),
        "{}",
        step_output(refused)
    );
}
