//! The gate: a kernel goes in, a verdict comes out. The binary runs here and boots its guests by itself.

use std::path::Path;
use std::process::Command;

use lazymmu_tests::{Lab, Said, Series, Stock, run_binary};

/// Runs `lazymmu gate` on the kernel of a series.
fn gate(series: Series, arguments: &[&str]) -> Said {
    let lab = Lab::open().unwrap_or_else(|error| panic!("{error}"));
    let kernel = lab.kernel(series).unwrap_or_else(|error| panic!("{error}"));
    gate_of(&lab, &kernel.boot_image(), arguments)
}

fn gate_of(lab: &Lab, image: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(lab.lazymmu());
    command.arg("gate").arg("--kernel").arg(image).args(arguments);
    run_binary(&mut command).unwrap()
}

/// On a kernel without the drop-in, with nothing but its vmlinux.
pub(crate) fn a_plan_is_made_of_the_vmlinux(series: Series) {
    let lab = Lab::open().unwrap_or_else(|error| panic!("{error}"));
    let kernel = lab.kernel(series).unwrap_or_else(|error| panic!("{error}"));
    let vmlinux = kernel.boot_image().with_file_name("vmlinux");
    let vmlinux = vmlinux.to_str().unwrap();
    let said = gate(series, &["--vmlinux", vmlinux, "--workload", "fork-exclusive", "--format", "json"]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("it is traced by its instructions"), "{}", said.stderr);
    let report = said.report().unwrap();
    for rule in ["read-pending", "rmw-pending"] {
        assert_eq!(report.findings(rule).len(), 1, "{rule}");
    }
}

/// Debian's own kernel, by a plan that was made before. Not everything is seen by a plan, so that nothing is found says little.
pub(crate) fn a_stock_kernel_is_judged_by_its_plan(stock: Stock) {
    let lab = Lab::open().unwrap_or_else(|error| panic!("{error}"));
    let image = lab.stock_kernel(stock).unwrap_or_else(|error| panic!("{error}"));
    let plan = lab.stock_plan(stock).unwrap_or_else(|error| panic!("{error}"));
    let plan = plan.to_str().unwrap();
    let workloads = ["--workload", "fork", "--workload", "munmap", "--format", "json"];
    let said = gate_of(&lab, &image, &[&["--plan", plan], &workloads[..]].concat());
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    let report = said.report().unwrap();
    assert_eq!(report.verdict(), "inconclusive", "{}", said.stderr);
    assert!(report.number("/sections/entries_written") >= 4096, "{}", said.stderr);
}

/// The same without a plan: it says what would help.
pub(crate) fn a_stock_kernel_without_a_plan_is_refused(stock: Stock) {
    let lab = Lab::open().unwrap_or_else(|error| panic!("{error}"));
    let image = lab.stock_kernel(stock).unwrap_or_else(|error| panic!("{error}"));
    let said = gate_of(&lab, &image, &["--workload", "fork"]);
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(said.stderr.contains("--plan") && said.stderr.contains("--vmlinux"), "{}", said.stderr);
}

#[test]
fn two_at_the_same_time_do_not_disturb_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let gates: Vec<_> = ["fork", "munmap"]
        .into_iter()
        .map(|workload| {
            let out = directory.path().join(workload);
            std::thread::spawn(move || {
                let out = out.to_str().unwrap().to_owned();
                gate(Series::V7, &["--workload", workload, "--out", &out])
            })
        })
        .collect();
    for gate in gates {
        let said = gate.join().unwrap();
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }
    for file in ["fork/trace.lmt", "fork/report.html", "munmap/report.junit.xml", "munmap/console.log"] {
        assert!(directory.path().join(file).is_file(), "{file}");
    }
}

/// The program of the guest's own that ends a machine.
fn init() -> String {
    let lab = Lab::open().unwrap_or_else(|error| panic!("{error}"));
    lab.lazymmu().with_file_name("lazymmu-init").display().to_string()
}

#[test]
fn a_guest_that_goes_off_is_judged_up_to_then() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    let reset = format!("{} reset", init());
    let said = gate(
        Series::V7,
        &["--workload", "fork-exclusive", "--workload", "fork", "--workload", &reset, "--out", out],
    );
    assert!(said.stderr.contains("GUEST DIED (went off)"), "{}", said.stderr);
    assert_eq!(said.code, Some(1), "the hazard before it is found: {}", said.stderr);
    assert!(Path::new(out).join("report.html").is_file());
}

#[test]
fn a_guest_that_takes_too_long_is_no_verdict() {
    let wait = format!("{} repeat /bin/lazymmu --version", init());
    let words = ["--workload", "fork", "--workload", &wait, "--timeout", "6"];
    let said = gate(Series::V7, &words);
    assert!(said.stderr.contains("GUEST DIED (time-out)"), "{}", said.stderr);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    let said = gate(Series::V7, &[&words[..], &["--bisect"]].concat());
    assert_eq!(said.code, Some(125), "{}", said.stderr);
}

#[test]
fn what_cannot_be_used_is_said_before_or_instead_of_a_boot() {
    let lab = Lab::open().unwrap_or_else(|error| panic!("{error}"));
    let of = |series| lab.kernel(series).unwrap_or_else(|error| panic!("{error}")).boot_image();
    let other = of(Series::V6_12).with_file_name("vmlinux.debug").display().to_string();
    let own = lab.lazymmu().display().to_string();
    for (arguments, words) in [
        (&["--kernel", &own][..], "is not a kernel that can be booted"),
        (&["--vmlinux", &other], "its build id is"),
        (&["--out", "/proc/nowhere"], "failed to write to /proc/nowhere"),
        (&["--workload", "frok"], "none of the built-in ones"),
        (&["--baseline", "/nowhere/known.toml"], "read the baseline"),
    ] {
        let mut all = vec!["--workload", "munmap"];
        all.extend(arguments);
        let said = if arguments[0] == "--kernel" {
            let mut command = Command::new(lab.lazymmu());
            run_binary(command.arg("gate").args(all)).unwrap()
        } else {
            gate(Series::V7, &all)
        };
        assert_eq!(said.code, Some(2), "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains(words), "{arguments:?}: {}", said.stderr);
    }
}

#[test]
fn without_qemu_it_says_what_to_install() {
    let lab = Lab::open().unwrap_or_else(|error| panic!("{error}"));
    let kernel = lab.kernel(Series::V7).unwrap_or_else(|error| panic!("{error}")).boot_image();
    let mut command = Command::new(lab.lazymmu());
    command.args(["gate", "--workload", "fork", "--kernel"]).arg(kernel).env("PATH", "/nowhere");
    let said = run_binary(&mut command).unwrap();
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("apt-get install"), "{}", said.stderr);
}
