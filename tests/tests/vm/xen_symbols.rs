//! Debian's own kernels as the first PV guest of Xen, with nothing known of them but their symbols: no plan, no image, no
//! debug information.

use std::path::Path;
use std::sync::OnceLock;

use lazymmu_abi::{Kind, Op, Record};
use lazymmu_tests::{Lab, Report, Stock, step_output};
use lazymmu_trace::Reader;
use lazymmu_vm::{Finished, Job, Step, StepResult, StepStatus};

use crate::shared::lazymmu;
use crate::xen_batches;

/// The run on one of the kernels.
pub(crate) struct Symbols {
    stock: Stock,
    run: OnceLock<Result<Finished, String>>,
}

impl Symbols {
    pub(crate) const fn of(stock: Stock) -> Self {
        Self { stock, run: OnceLock::new() }
    }

    fn run(&self) -> &Finished {
        match self.run.get_or_init(|| boot(self.stock).map_err(|error| error.to_string())) {
            Ok(finished) => finished,
            Err(why) => panic!("the run that this test looks at failed: {why}"),
        }
    }

    fn step(&self, index: usize, status: i32) -> &StepResult {
        let step = &self.run().steps[index];
        assert_eq!(step.status, StepStatus::Exit(status), "{}", step_output(step));
        step
    }

    fn file(&self, name: &str) -> &[u8] {
        match self.run().files.get(Path::new(name)) {
            Some(file) => file,
            None => panic!("there is no {name}; {}", step_output(&self.run().steps[1])),
        }
    }
}

fn boot(stock: Stock) -> Result<Finished, Box<dyn std::error::Error>> {
    let lab = Lab::open()?;
    let mut steps: Vec<Step> = vec![lazymmu(["doctor", "--format", "json"]).into()];
    steps.extend(xen_batches::begin());
    let record = ["record", "-o", "/out/mprotect.lmt", "--", "workload", "run", "mprotect"];
    steps.push(lazymmu(record).into());
    steps.extend(xen_batches::end("/out/flushes"));
    steps.push(lazymmu(["live", "--format", "json", "--", "workload", "run", "fork", "mremap"]).into());
    let machine = lab.machine(&lab.stock_kernel(stock)?).under(lab.xen()?);
    Ok(machine.run(&lab.initramfs()?, &Job::new(steps), &mut |_| ())?)
}

/// The functions of this kernel by which the mode is entered, left and flushed.
fn of_the_mode(stock: Stock) -> [&'static str; 3] {
    match stock {
        Stock::V6_1Full => ["paravirt_enter_lazy_mmu", "xen_leave_lazy_mmu", "paravirt_flush_lazy_mmu"],
        _ => ["xen_enter_lazy_mmu", "xen_leave_lazy_mmu", "xen_flush_lazy_mmu"],
    }
}

impl Symbols {
    /// Five functions store or begin to, three change the mode; of reads nothing is known, which is said.
    pub(crate) fn the_doctor_knows_them(&self) {
        let step = self.step(0, 3);
        let said: serde_json::Value = serde_json::from_slice(&step.stdout).unwrap();
        assert_eq!(said["plan"]["image"], "symbols", "{}", step_output(step));
        assert_eq!(said["plan"]["debug_info"], false);
        for (kind, count) in [("reads", 0), ("writes", 5), ("mode_calls", 3)] {
            let coverage = &said["coverage"][kind];
            assert_eq!(
                (&coverage["hooked"], &coverage["known"]),
                (&count.into(), &count.into()),
                "{kind}: {said:#}"
            );
        }
        let of_cpus = of_the_mode(self.stock)[0];
        let hooks = said["hooks"].as_array().unwrap();
        let hook = hooks.iter().find(|hook| hook["name"] == of_cpus);
        assert_eq!(hook.unwrap_or_else(|| panic!("{hooks:#?}"))["present"], true);
    }

    /// A kernel of that kind sends to the hypervisor what our sections have queued.
    pub(crate) fn batches_are_those_of_the_kernel(&self) {
        self.step(1, 0);
        xen_batches::compare(self.file("mprotect.lmt"), self.file("flushes"));
    }

    /// Whoever entered the mode is on the stack, and the architecture has the mode on and off as the tasks do.
    pub(crate) fn sections_pair(&self) {
        let mut reader = Reader::from_bytes(self.file("mprotect.lmt")).unwrap();
        let mut records: Vec<Record> = Vec::new();
        while let Some(batch) = reader.records.next_batch().unwrap() {
            records.extend_from_slice(batch);
        }
        let count = |op: Op| {
            records
                .iter()
                .filter(|record| record.kind == Kind::Section as u8 && record.op == op as u8)
                .count()
        };
        println!("{} sections, {} architecture's", count(Op::Enter), count(Op::ArchEnter));
        assert!(count(Op::Enter) > 50);
        assert!(count(Op::Enter).abs_diff(count(Op::Leave)) <= 1);
        // What the architecture does for its own sake is not a task's.
        assert!(count(Op::ArchEnter) >= count(Op::Enter));
        assert!(count(Op::ArchEnter).abs_diff(count(Op::ArchLeave)) <= 1);
        // Its stack begins in its caller.
        let mut entered = records.iter().filter(|record| record.op == Op::Enter as u8);
        assert!(entered.all(|record| record.caller != 0 && record.stack != 0));
    }

    /// Nothing is wrong with forks, and that is not said where reads are not seen.
    pub(crate) fn live_is_inconclusive(&self) {
        let step = self.step(2, 3);
        let report =
            Report::parse(&step.stdout).unwrap_or_else(|error| panic!("{error}\n{}", step_output(step)));
        assert_eq!(report.verdict(), "inconclusive");
        assert!(report.number("/sections/entered") > 50, "{}", step_output(step));
        assert!(report.number("/sections/entries_written") > 4096, "{}", step_output(step));
        assert_eq!(report.number("/losses/total"), 0);
        let said = String::from_utf8_lossy(&step.stderr);
        assert!(said.contains("as a Xen PV guest it is traced by its functions"), "{said}");
    }
}

/// Debian's kernels under Xen, known by their symbols alone.
macro_rules! symbols {
    ($($module:ident = $stock:expr;)+) => { $(
        mod $module {
            use super::*;

            static SYMBOLS: Symbols = Symbols::of($stock);

            #[test]
            fn the_doctor_knows_them() { SYMBOLS.the_doctor_knows_them(); }
            #[test]
            fn batches_are_those_of_the_kernel() { SYMBOLS.batches_are_those_of_the_kernel(); }
            #[test]
            fn sections_pair() { SYMBOLS.sections_pair(); }
            #[test]
            fn live_is_inconclusive() { SYMBOLS.live_is_inconclusive(); }
        }
    )+ };
}

symbols! {
    symbols_6_12_xen = Stock::V6_12Full;
    symbols_6_1_xen = Stock::V6_1Full;
}
