//! The ground truth: kernel/hazards commits each hazard that there is a rule for, and beside it a correct
//! twin. The first has to be found, the second to be passed over. What cannot be found has its reason here.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use lazymmu_tests::{Report, Series, step_output};
use serde_json::Value;

use crate::shared::{PROBE_PLAN, Plan, Run, Runs, lazymmu};

static BARE: Runs = Runs::new();
static XEN: Runs = Runs::new();
static REPORTS: [OnceLock<Report>; On::ALL.len()] = [const { OnceLock::new() }; On::ALL.len()];

/// Where the hazards are committed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// 7.x.
    V7,
    /// The same, told by a plan.
    V7ByPlan,
    /// 6.12.
    V6_12,
    /// 6.12 as a guest of Xen, where stores wait.
    Xen,
}

impl On {
    const ALL: [Self; 4] = [Self::V7, Self::V7ByPlan, Self::V6_12, Self::Xen];

    fn name(self) -> &'static str {
        match self {
            On::V7 => "7, told by the drop-in",
            On::V7ByPlan => "7, told by a plan",
            On::V6_12 => "6.12, told by the drop-in",
            On::Xen => "6.12 under Xen, told by the drop-in",
        }
    }

    /// One boot, in which everything is done while a recording goes on; on 7.x once more while another does.
    fn run(self) -> &'static Run {
        match self {
            On::V7 | On::V7ByPlan => BARE.get(Series::V7, || {
                let by_plan = committed(&["--plan", PROBE_PLAN, "-o", "/out/by-plan.lmt"]);
                plan().with_probe_plan().run_as("by-plan", by_plan)
            }),
            On::V6_12 => BARE.get(Series::V6_12, plan),
            On::Xen => XEN.get(Series::V6_12, || plan().under_xen()),
        }
    }

    /// The step that committed them, and its trace.
    fn step(self) -> (&'static str, &'static str) {
        if self == On::V7ByPlan { ("by-plan", "by-plan.lmt") } else { ("record", "hazards.lmt") }
    }

    /// What was found by that trace.
    fn report(self) -> &'static Report {
        REPORTS[self as usize].get_or_init(|| {
            self.run().replay(self.step().1).report().unwrap_or_else(|error| panic!("{error}"))
        })
    }

    /// Why a hazard is not found here, if it cannot be.
    fn why_not(self, rule: &str) -> Option<&'static str> {
        match (rule, self) {
            ("raw-access", On::V7ByPlan) => Some("the plan does not have that load"),
            ("raw-access", _) => Some("no hook sees a plain load"),
            ("write-reorder", On::V7ByPlan) => Some("the plan does not have the plain store of set_pud_at()"),
            ("pause-misuse", On::V7ByPlan) => {
                Some("a leave that does nothing does not come to the probed instruction")
            }
            ("switch-in-section", _) => Some("not committed: doing it wrong stops the machine"),
            ("nested-section", On::V7 | On::V7ByPlan) => Some("no hazard: sections may nest"),
            ("pause-misuse", On::V6_12) => Some("no hazard: there is no mode to be off"),
            _ => None,
        }
    }
}

/// `record` with these arguments, of every hazard and every twin. What comes at the end shows that the kernel is as it was.
fn committed(record: &[&str]) -> lazymmu_vm::Command {
    let hazards = lazymmu_workload::hazards().iter();
    let names: Vec<String> =
        hazards.flat_map(|hazard| [format!("hazard:{}", hazard.rule), twin(hazard.rule)]).collect();
    let before = ["record"].into_iter().chain(record.iter().copied()).chain(["--", "workload", "run"]);
    lazymmu(before.chain(names.iter().map(String::as_str)).chain(["fork"]))
}

fn plan() -> Plan {
    Plan::new().on_cpus(2).run_as("record", committed(&["-o", "/out/hazards.lmt"]))
}

fn twin(rule: &str) -> String {
    format!("hazard:{rule}-ok")
}

/// Its function for a hazard or its twin.
fn function(kind: &str, rule: &str) -> String {
    format!("{kind}_{}", rule.replace('-', "_"))
}

/// What became of one hazard.
struct Cell {
    /// Whether the workload was run.
    committed: bool,
    /// The findings of its rule in its function.
    found: Vec<Value>,
    /// The other rules that found something there.
    besides: BTreeSet<String>,
    /// Whether the twin was run.
    twin: bool,
    /// What was found in the twin.
    twin_found: BTreeSet<String>,
}

fn findings_in<'a>(report: &'a Report, function: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = report.0["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let within = move |finding: &&Value| {
        ["write", "access", "opener"].iter().any(|site| Report::functions(finding, site).contains(&function))
    };
    all.iter().filter(within)
}

fn rule_of(finding: &Value) -> String {
    finding["rule"].as_str().unwrap_or_default().to_owned()
}

fn cell(on: On, rule: &str) -> Cell {
    let run = on.run();
    let step = run.step(on.step().0);
    let said = String::from_utf8_lossy(&step.stdout);
    let ran = |name: &str| said.lines().any(|line| line.starts_with(&format!("{name}: done")));
    let report = on.report();
    let (commit, avoid) = (function("commit", rule), function("avoid", rule));
    let (found, besides): (Vec<_>, Vec<_>) =
        findings_in(report, &commit).partition(|finding| finding["rule"] == rule);
    Cell {
        committed: ran(&format!("hazard:{rule}")),
        found: found.into_iter().cloned().collect(),
        besides: besides.into_iter().map(rule_of).collect(),
        twin: ran(&twin(rule)),
        twin_found: findings_in(report, &avoid).map(rule_of).collect(),
    }
}

/// What a cell of the table says, and whether that is as it should be.
fn judged(on: On, rule: &str) -> (String, bool) {
    let cell = cell(on, rule);
    let states: BTreeSet<_> = cell.found.iter().filter_map(|finding| finding["state"].as_str()).collect();
    let states: Vec<_> = states.into_iter().collect();
    let mut said = match on.why_not(rule) {
        _ if !cell.found.is_empty() => format!("found ({})", states.join(", ")),
        Some(why) => why.to_owned(),
        None if cell.committed => "MISSED".to_owned(),
        None => "NOT COMMITTED".to_owned(),
    };
    for rule in &cell.besides {
        said.push_str("; also ");
        said.push_str(rule);
    }
    // Where there is no hazard it may offer neither.
    let twin = match (cell.twin, cell.twin_found.is_empty()) {
        (true, true) => "; twin silent".to_owned(),
        (true, false) => {
            format!("; TWIN: {}", cell.twin_found.iter().cloned().collect::<Vec<_>>().join(", "))
        }
        (false, _) => "; no twin".to_owned(),
    };
    said += &twin;
    let found = cell.found.is_empty() == on.why_not(rule).is_some();
    let twin = cell.twin || rule == "nested-section" && matches!(on, On::V7 | On::V7ByPlan);
    (said, found && twin && cell.twin_found.is_empty())
}

pub(crate) fn every_hazard_is_found_and_no_twin(on: On) {
    let rules = lazymmu_workload::hazards().iter().map(|hazard| hazard.rule);
    let wrong: Vec<_> = rules
        .filter_map(|rule| {
            let (said, right) = judged(on, rule);
            (!right).then(|| format!("{rule}: {said}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), step_output(on.run().step(on.step().0)));
}

/// The values show it: the entry was read as it was before the write.
pub(crate) fn a_read_is_proven(on: On) {
    let cell = cell(on, "read-pending");
    let [finding] = cell.found.as_slice() else { panic!("{:#?}", cell.found) };
    assert_eq!(finding["state"], "proven", "{finding:#}");
    let raw = |value: &str| finding["example"][value]["raw"].as_str().unwrap_or_default().to_owned();
    assert_eq!(raw("seen"), raw("memory"), "{finding:#}");
    assert_ne!(raw("seen"), raw("pending"), "{finding:#}");
}

pub(crate) fn the_kernel_is_sane_afterwards(on: On) {
    let run = on.run();
    let complaints: Vec<&str> = run.finished.complaints().collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    let step = run.step(on.step().0);
    let worked = String::from_utf8_lossy(&step.stdout).contains("\nfork: ");
    assert!(worked, "{}", step_output(step));
}

/// Every rule is in the table.
pub(crate) fn no_rule_is_left_out() {
    let rules: Vec<_> = lazymmu_hazard::rules::RULES.iter().map(|rule| rule.info.name).collect();
    let committed: Vec<_> = lazymmu_workload::hazards().iter().map(|hazard| hazard.rule).collect();
    assert_eq!(committed, rules);
}

/// Prints the table, for `cargo xtask matrix`.
pub(crate) fn show() {
    let mut right = true;
    for on in On::ALL {
        println!("\nHazards on {}:", on.name());
        for hazard in lazymmu_workload::hazards() {
            let (said, as_it_should) = judged(on, hazard.rule);
            right &= as_it_should;
            println!("  {:<20} {said}", hazard.rule);
        }
    }
    assert!(right, "not every cell is as it should be");
}
