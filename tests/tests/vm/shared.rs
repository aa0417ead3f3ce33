//! Runs that several tests look at: each is done once, by the test that comes first.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

pub(crate) use lazymmu_tests::PROBE_PLAN;
use lazymmu_tests::{Lab, Report, Said, Series, step_output};
use lazymmu_vm::{Command, Finished, Limits, Step, StepResult, Threads};

/// What a run on a kernel gave: its programs by the names that the tests know them by.
pub(crate) struct Run {
    pub(crate) lab: Lab,
    pub(crate) finished: Finished,
    names: Vec<&'static str>,
}

/// A place for the runs of one kind, one for each series.
pub(crate) struct Runs {
    cells: [OnceLock<Result<Run, String>>; 4],
}

impl Runs {
    pub(crate) const fn new() -> Self {
        Self { cells: [const { OnceLock::new() }; 4] }
    }

    /// The run on that series, done now if no test has needed it before.
    pub(crate) fn get(&self, series: Series, plan: impl FnOnce() -> Plan) -> &Run {
        let cell = &self.cells[series as usize];
        match cell.get_or_init(|| plan().run(series)) {
            Ok(run) => run,
            Err(why) => panic!("the run that this test looks at failed: {why}"),
        }
    }
}

/// Where guests have what talks to daemons.
pub(crate) const TRIAL: &str = "/bin/lazymmu-trial";

/// Where they have what does little else than change entries.
const LOOP: &str = "/bin/lazymmu-loop";

/// What is done in a run.
#[allow(clippy::struct_excessive_bools, reason = "each is a thing of its own that a machine may have")]
pub(crate) struct Plan {
    steps: Vec<Step>,
    names: Vec<&'static str>,
    debug_info: bool,
    cpus: u32,
    append: &'static str,
    xen: bool,
    trial: bool,
    cable: bool,
    counting: bool,
    /// What is changed in the kernel's probe plan, which is put into the guest.
    probes: bool,
}

impl Plan {
    /// One that does nothing yet, on one CPU.
    pub(crate) fn new() -> Self {
        Self {
            steps: Vec::new(),
            names: Vec::new(),
            debug_info: false,
            cpus: 1,
            append: "",
            xen: false,
            trial: false,
            cable: false,
            counting: false,
            probes: false,
        }
    }

    /// Gives the machine more CPUs.
    pub(crate) fn on_cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Puts the kernel's debug information into the guest.
    pub(crate) fn with_debug_info(mut self) -> Self {
        self.debug_info = true;
        self
    }

    /// Puts the kernel's probe plan into the guest.
    pub(crate) fn with_probe_plan(mut self) -> Self {
        self.probes = true;
        self
    }

    /// Adds words to the kernel's command line.
    pub(crate) fn append(mut self, words: &'static str) -> Self {
        self.append = words;
        self
    }

    /// Puts `/bin/lazymmu-trial` into the guest, and `/bin/lazymmu-loop`.
    pub(crate) fn with_trial(mut self) -> Self {
        self.trial = true;
        self
    }

    /// Joins `/dev/ttyS2` to `/dev/ttyS3`.
    pub(crate) fn with_cable(mut self) -> Self {
        self.cable = true;
        self
    }

    /// Has the guest's clocks count instructions where it is emulated, so that they do not feel how busy the host is.
    pub(crate) fn counting(mut self) -> Self {
        self.counting = true;
        self
    }

    /// Boots the kernel as a guest of Xen.
    pub(crate) fn under_xen(mut self) -> Self {
        self.xen = true;
        self
    }

    /// Adds a program, under a name.
    pub(crate) fn run_as(mut self, name: &'static str, command: Command) -> Self {
        self.names.push(name);
        self.steps.push(command.into());
        self
    }

    /// Adds another step.
    pub(crate) fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn run(self, series: Series) -> Result<Run, String> {
        let Self { steps, names, debug_info, cpus, append, xen, trial, cable, counting, probes } = self;
        let lab = Lab::open().map_err(|error| error.to_string())?;
        let kernel = lab.kernel(series).map_err(|error| error.to_string())?;
        let hypervisor = xen.then(|| lab.xen()).transpose().map_err(|error| error.to_string())?;
        let done = (|| -> Result<Finished, Box<dyn std::error::Error>> {
            let mut initramfs = lab.initramfs()?;
            if trial {
                initramfs.add_file(TRIAL, &lab.trial(), 0o755)?;
                initramfs.add_file(LOOP, &lab.dense_loop(), 0o755)?;
            }
            if debug_info {
                kernel.add_debug_info(&mut initramfs)?;
            }
            if probes {
                initramfs.add(PROBE_PLAN, lab.probe_plan(&kernel)?, 0o644);
            }
            let memory = if debug_info { 2048 } else { 1024 };
            let mut machine = lab.machine(&kernel.boot_image()).memory(memory).cpus(cpus).append(append);
            if trial {
                // Many daemons come and go in it.
                machine = machine.limits(Limits { job: Duration::from_mins(20), ..Limits::default() });
            }
            if counting {
                machine = machine.threads(if cable { Threads::CountingAwake } else { Threads::Counting });
            }
            if cable {
                machine = machine.with_cable();
            }
            if let Some(hypervisor) = hypervisor {
                machine = machine.under(hypervisor);
            }
            Ok(machine.run(&initramfs, &lazymmu_vm::Job::new(steps), &mut |_| ())?)
        })();
        let finished = done.map_err(|error| error.to_string())?;
        if let lazymmu_vm::JobStatus::Failed(why) = &finished.status {
            return Err(format!("the guest failed to {why}"));
        }
        assert_eq!(finished.release, kernel.release(), "another kernel than the one that was built has run");
        Ok(Run { lab, finished, names })
    }
}

impl Run {
    /// What a program did.
    pub(crate) fn step(&self, name: &str) -> &StepResult {
        let index = self.names.iter().position(|other| *other == name).expect("a name of the plan");
        &self.finished.steps[index]
    }

    /// A file that the guest left in /out.
    pub(crate) fn file(&self, name: &str) -> &[u8] {
        match self.finished.files.get(Path::new(name)) {
            Some(data) => data,
            None => panic!("the guest left no file {name}; it left {:?}", self.finished.files.keys()),
        }
    }

    /// Fails unless a program exited with this code.
    pub(crate) fn expect_exit(&self, name: &str, code: i32) -> &StepResult {
        let step = self.step(name);
        assert_eq!(
            step.status,
            lazymmu_vm::StepStatus::Exit(code),
            "{name} should exit with {code}; {}",
            step_output(step)
        );
        step
    }

    /// The report that a program printed.
    pub(crate) fn report(&self, name: &str) -> Report {
        let step = self.step(name);
        Report::parse(&step.stdout).unwrap_or_else(|error| panic!("{error}\n{}", step_output(step)))
    }

    /// Judges a trace from the guest here.
    pub(crate) fn replay(&self, trace: &str) -> Said {
        self.judge(self.file(trace))
    }

    /// Judges a trace here.
    pub(crate) fn judge(&self, trace: &[u8]) -> Said {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace.lmt");
        std::fs::write(&path, trace).unwrap();
        self.lab.replay(&path).unwrap()
    }
}

/// `lazymmu` with these arguments.
pub(crate) fn lazymmu<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    Command::new(std::iter::once("/bin/lazymmu").chain(arguments))
}
