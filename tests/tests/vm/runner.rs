//! The machine itself: what it brings out of a guest, and what it says when a guest does not end well.

use std::path::Path;
use std::time::Duration;

use lazymmu_tests::Lab;
use lazymmu_vm::{
    Command, Error, Finished, Initramfs, Job, JobStatus, Limits, Machine, SignalWhen, Step, StepStatus,
};

fn lab() -> Lab {
    Lab::open().unwrap_or_else(|error| panic!("{error}"))
}

fn machine(lab: &Lab) -> Machine {
    let kernel = lab.any_kernel().unwrap_or_else(|error| panic!("{error}"));
    lab.machine(&kernel.boot_image())
}

fn run(steps: Vec<Step>) -> Result<Finished, Error> {
    let lab = lab();
    machine(&lab).run(&lab.initramfs().unwrap(), &Job::new(steps), &mut |_| ())
}

fn error(outcome: Result<Finished, Error>) -> Error {
    match outcome {
        Ok(finished) => panic!("it ended well: {finished:?}"),
        Err(error) => error,
    }
}

fn repeat(words: &[&str]) -> Command {
    Command::new(["/init", "repeat"].iter().chain(words).copied())
}

#[test]
fn output_files_and_statuses_come_out() {
    let small = "two\nlines\n".to_owned();
    let finished = run(vec![
        Step::Write { path: "/out/small.txt".into(), text: small.clone() },
        Command::new(["/init", "nothing"]).into(),
        Command::new(["/bin/lazymmu", "--version"]).into(),
        // Larger than a frame, and of every byte value.
        Step::Copy { from: "/bin/lazymmu".into(), to: "/out/lazymmu".into() },
        repeat(&["/bin/lazymmu", "--version"])
            .signal(15, SignalWhen::Says("lazymmu".into(), Duration::ZERO))
            .limit(Duration::from_mins(1))
            .into(),
        repeat(&["/bin/lazymmu", "--version"]).limit(Duration::from_millis(300)).into(),
    ])
    .unwrap_or_else(|error| panic!("{error}"));
    // The first program that ended badly gives the code of the whole.
    assert_eq!(finished.status, JobStatus::Exit(2));
    let statuses: Vec<StepStatus> = finished.steps.iter().map(|step| step.status).collect();
    assert_eq!(
        statuses,
        [StepStatus::Exit(2), StepStatus::Exit(0), StepStatus::Signal(15), StepStatus::Limit]
    );
    assert!(String::from_utf8_lossy(&finished.steps[0].stderr).starts_with("init: failed to do anything"));
    assert!(finished.steps[1].stdout.starts_with(b"lazymmu "));
    assert!(finished.steps[1].stderr.is_empty());
    assert_eq!(finished.files[Path::new("small.txt")], small.as_bytes());
    let binary = std::fs::read(lab().lazymmu()).unwrap();
    assert!(finished.files[Path::new("lazymmu")] == binary, "the binary came back changed");
}

#[test]
fn a_step_that_cannot_be_done_ends_the_job() {
    let finished = run(vec![
        Step::Write { path: "/out/before".into(), text: String::new() },
        Step::Copy { from: "/nowhere".into(), to: "/out/x".into() },
        Step::Write { path: "/out/after".into(), text: String::new() },
    ])
    .unwrap_or_else(|error| panic!("{error}"));
    let JobStatus::Failed(why) = &finished.status else { panic!("{:?}", finished.status) };
    assert!(why.starts_with("copy /nowhere to /out/x: No such file"), "{why}");
    let files: Vec<_> = finished.files.keys().collect();
    assert_eq!(files, [Path::new("before")]);
}

#[test]
fn a_panic_is_told() {
    let lab = lab();
    // The kernel panics when its first process ends.
    let mut initramfs = Initramfs::without_init();
    initramfs.add_file("/bin/lazymmu", &lab.lazymmu(), 0o755).unwrap();
    let machine = machine(&lab).append("rdinit=/bin/lazymmu");
    let error = error(machine.run(&initramfs, &Job::default(), &mut |_| ()));
    let Error::Panic { line, console } = &error else { panic!("{error}") };
    assert!(line.contains("Attempted to kill init"), "{line}");
    assert!(console.0.iter().any(|quoted| quoted.contains("Attempted to kill init")), "{error}");
}

#[test]
fn a_kernel_without_a_first_process_is_told() {
    let lab = lab();
    let outcome = machine(&lab).run(&Initramfs::without_init(), &Job::default(), &mut |_| ());
    let error = error(outcome);
    assert!(matches!(error, Error::NoInit { .. }), "{error}");
}

#[test]
fn a_first_process_that_is_no_program_is_told() {
    let lab = lab();
    let mut initramfs = Initramfs::without_init();
    initramfs.add("/init", "this is no program", 0o755);
    let error = error(machine(&lab).run(&initramfs, &Job::default(), &mut |_| ()));
    assert!(matches!(error, Error::NoInit { .. }), "{error}");
}

#[test]
fn a_machine_that_goes_off_is_told() {
    let error = error(run(vec![Command::new(["/init", "reset"]).into()]));
    assert!(matches!(error, Error::NoStatus { .. }), "{error}");
}

#[test]
fn a_job_that_never_ends_is_ended() {
    let lab = lab();
    let limits = Limits { job: Duration::from_secs(2), ..Limits::default() };
    let job = Job::new([Step::Sleep(Duration::from_hours(1))]);
    let error = error(machine(&lab).limits(limits).run(&lab.initramfs().unwrap(), &job, &mut |_| ()));
    let Error::TimeOut { phase, limit, .. } = &error else { panic!("{error}") };
    assert_eq!((*phase, *limit), ("doing its job", limits.job));
}

#[test]
fn a_boot_that_never_ends_is_ended() {
    let lab = lab();
    let limits = Limits { boot: Duration::from_millis(200), ..Limits::default() };
    let outcome = machine(&lab).limits(limits).run(&lab.initramfs().unwrap(), &Job::default(), &mut |_| ());
    let error = error(outcome);
    assert!(matches!(error, Error::TimeOut { phase: "booting", .. }), "{error}");
}

#[test]
fn what_is_no_kernel_is_not_booted() {
    let lab = lab();
    let outcome = lab.run(&lab.lazymmu(), Vec::new());
    let error = error(outcome);
    assert!(matches!(error, Error::NotAKernel { .. }), "{error}");
}

#[test]
fn a_refusal_of_qemu_is_told() {
    let lab = lab();
    let outcome =
        machine(&lab).memory(0).cpus(100_000).run(&lab.initramfs().unwrap(), &Job::default(), &mut |_| ());
    let error = error(outcome);
    let Error::Qemu { message, .. } = &error else { panic!("{error}") };
    assert!(!message.is_empty(), "{error}");
}
