//! Daemons in a guest: what clients see and may see, and what is left of one that ends or is killed; and a session with a
//! view, which is its client. What is done there stands in `src/bin/lazymmu-trial/`.

use std::time::Duration;

use lazymmu_tests::{Series, step_output};
use lazymmu_vm::Command;
use serde_json::Value;

use crate::shared::{Plan, Run, Runs, TRIAL};

static RUNS: Runs = Runs::new();
static KILLED: Runs = Runs::new();
static CROWDED: Runs = Runs::new();

/// Generous: a guest may be a hundred times slower than the machine.
const LIMIT: Duration = Duration::from_mins(19);

/// By this, a terminal is told to say what the mouse does.
const MOUSE: &str = "\x1b[?1000h";

/// CAP_PERFMON and CAP_BPF (include/uapi/linux/capability.h).
const LEFT: u64 = 1 << 38 | 1 << 39;

fn trial(arguments: &[&str]) -> Command {
    Command::new(std::iter::once(TRIAL).chain(arguments.iter().copied())).limit(LIMIT)
}

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        let plan = Plan::new().with_trial().on_cpus(2);
        plan.run_as("serve", trial(&["serve"])).run_as("live", trial(&["live"]))
    })
}

/// What the trial saw.
fn seen(run: &Run, name: &str) -> Value {
    let step = run.expect_exit(name, 0);
    serde_json::from_slice(&step.stdout).unwrap_or_else(|error| panic!("{error}\n{}", step_output(step)))
}

pub(crate) fn clients_see_what_a_workload_does(series: Series) {
    let run = run(series);
    let seen = seen(run, "serve");
    assert_eq!(seen["workload"], 0, "{seen:#}");
    eprintln!("a client saw the finding {} ms after the workload had ended", seen["after_ms"]);
    assert_eq!(seen["updated"]["id"], seen["seen"]["id"], "the one who subscribed was told of the same");
    let steps = seen["timeline"]["section"]["steps"].as_array().expect("the section's course");
    let hazard = seen["timeline"]["section"]["hazard"].as_u64().unwrap();
    assert_eq!(steps[usize::try_from(hazard).unwrap()]["op"], seen["seen"]["access"]["op"]);
    let metrics = seen["metrics"].as_str().unwrap();
    let id = seen["seen"]["id"].as_str().unwrap();
    assert!(metrics.contains(&format!("lazymmu_hazards_total{{id=\"{id}\"")), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    // The trace that was written meanwhile says the same.
    let replayed = run.replay("served.lmt");
    assert_eq!(replayed.code, Some(1), "{}", replayed.stderr);
    let report = replayed.report().unwrap();
    let mut findings = report.0["findings"].as_array().unwrap().iter();
    assert!(findings.any(|finding| finding["fingerprint"] == id), "{:#}", report.0["findings"]);
}

pub(crate) fn the_view_shows_what_clients_see(series: Series) {
    let seen = seen(run(series), "serve");
    let (frame, class) = (&seen["frame"], &seen["seen"]);
    assert_eq!(frame["code"], 0, "{}", frame["said"]);
    let shown = frame["shown"].as_str().unwrap();
    assert_eq!(shown.lines().count(), 40, "{shown}");
    let [writer, reader] = ["write", "access"].map(|side| class[side]["function"].as_str().unwrap());
    let line = format!("{writer} -> {reader}");
    let mut lines = shown.lines();
    assert!(lines.any(|text| text.contains("read-pending") && text.contains(&line)), "{line} in\n{shown}");
}

/// Left while the command goes on, after it has ended, and by SIGTERM. The report and the status are those of a session without a view.
pub(crate) fn a_session_shows_itself(series: Series) {
    let seen = seen(run(series), "live");
    for when in ["going", "ended", "told"] {
        let seen = &seen[when];
        let [before, screen, after] = ["before", "screen", "after"].map(|part| seen[part].as_str().unwrap());
        assert_eq!(seen["code"], 1, "{when}: {before}\n{after}");
        let shown = if when == "ended" { "attached" } else { "read-pending" };
        assert!(screen.contains("session") && screen.contains(shown), "{when}: {screen:?}");
        // As it was asked for.
        assert_eq!(screen.contains(MOUSE), when != "ended", "{when}: {screen:?}");
        assert!(!screen.contains("lazymmu: "), "{when}: written over the screen: {screen:?}");
        // What was said meanwhile, the account, the report.
        assert!(after.contains("lazymmu: found read-pending: "), "{when}: {after}");
        assert!(after.contains("lazymmu: the kernel side produced "), "{when}: {after}");
        assert!(after.contains("HAZARD: read-pending in "), "{when}: {after}");
    }
    nothing_is_left(&seen["bpf"]);
}

pub(crate) fn clients_see_no_more_than_they_may(series: Series) {
    let seen = seen(run(series), "serve");
    let (root, member, stranger) = (&seen["root"], &seen["member"], &seen["stranger"]);
    assert_eq!((&root["addresses"], &member["addresses"]), (&"shown".into(), &"hidden".into()), "{seen:#}");
    let entry = |who: &Value| {
        let text = who["example"]["entry"].as_str().unwrap().trim_start_matches("0x").to_owned();
        u64::from_str_radix(&text, 16).unwrap()
    };
    // Where the kernel has page tables is in the upper half, with four levels and with five.
    assert_eq!((entry(root) >> 56, entry(member) >> 48), (0xff, 0));
    assert_eq!(entry(root) & 0xfff, entry(member) & 0xfff);
    for value in ["pending", "seen"] {
        assert_eq!(member["example"][value]["decoded"]["frame"], Value::Null, "{member:#}");
        assert_ne!(member["example"][value]["raw"], root["example"][value]["raw"]);
    }
    assert!(root["example"]["pending"]["decoded"]["frame"].is_string(), "{root:#}");
    let refused = stranger["refused"].as_str().unwrap_or_default();
    assert!(refused.contains("ermission denied"), "{stranger:#}");
}

pub(crate) fn it_keeps_no_privilege_that_it_does_not_need(series: Series) {
    let seen = seen(run(series), "serve");
    let threads = seen["threads"].as_array().unwrap();
    let names: Vec<_> = threads.iter().map(|thread| thread[0].as_str().unwrap()).collect();
    assert!(names.contains(&"serving") && names.contains(&"naming"), "{names:?}");
    for thread in threads {
        let set = |number: usize| u64::from_str_radix(thread[number].as_str().unwrap(), 16).unwrap();
        let [permitted, effective, bounding, inheritable, ambient] = [1, 2, 3, 4, 5].map(set);
        assert_eq!((permitted, effective, bounding), (LEFT, LEFT, LEFT), "{thread}");
        assert_eq!((inheritable, ambient, thread[6].as_str()), (0, 0, Some("1")), "{thread}");
    }
}

pub(crate) fn it_ends_when_it_is_asked_to(series: Series) {
    let run = run(series);
    let seen = seen(run, "serve");
    assert!(seen["ready"].as_str().unwrap().starts_with("READY=1\n"), "{}", seen["ready"]);
    assert!(seen["stopping"].as_str().unwrap().starts_with("STOPPING=1\n"), "{}", seen["stopping"]);
    assert_eq!(seen["ended"]["code"], 0, "{seen:#}");
    assert_eq!(seen["end"]["verdict"], "hazards");
    assert_eq!((&seen["closed"], &seen["socket"]), (&true.into(), &false.into()), "{seen:#}");
    nothing_is_left(&seen["bpf"]);
    let report = run.replay("served.lmt").report().unwrap();
    assert!(report.0["damage"].is_null(), "{:#}", report.0["damage"]);
}

pub(crate) fn killed_it_leaves_nothing_behind(series: Series) {
    let run =
        KILLED.get(series, || Plan::new().with_trial().on_cpus(2).run_as("kill", trial(&["kill", "20"])));
    let seen = seen(run, "kill");
    let rounds = seen["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 20);
    for round in rounds {
        assert_eq!(round["ended"]["signal"], 9, "it did not live until it was killed: {round:#}");
        nothing_is_left(&round["bpf"]);
        // One that was killed before it began to write has written nothing.
        if round["waited"] == true || round["size"] != 0 {
            let code = round["replayed"].as_i64().unwrap();
            assert!([0, 1, 3].contains(&code), "the trace cannot be read: {round:#}");
        }
    }
    // The next one starts as if nothing had been, and leaves nothing at all.
    assert!(seen["ready"].as_str().unwrap().starts_with("READY=1\n"), "{seen:#}");
    assert_eq!(seen["ended"]["code"], 0, "{seen:#}");
    assert_eq!(seen["left"], Value::Array(Vec::new()), "{seen:#}");
    nothing_is_left(&seen["bpf"]);
}

/// One of them never reads. All ran in one guest and one daemon, in turn.
pub(crate) fn twenty_clients_cost_the_capture_nothing(series: Series) {
    /// How often there is a crowd, and how often none.
    const TURNS: &str = "3";
    let plan = || Plan::new().with_trial().counting().run_as("crowd", trial(&["crowd", TURNS]));
    let seen = seen(CROWDED.get(series, plan), "crowd");
    let (alone, crowded) = (&seen["alone"], &seen["crowded"]);
    let of = |who: &Value, what: &str| who[what].as_f64().unwrap();
    let ratio = of(crowded, "median_ns") / of(alone, "median_ns");
    let ticks = |who: &Value, thread: &str| who["threads"][thread].as_u64().unwrap_or(0);
    eprintln!("with twenty clients the loop takes {ratio:.3} of the processor time that it takes without");
    for thread in ["lazymmu", "serving", "naming"] {
        let [alone, crowded] = [alone, crowded].map(|who| ticks(who, thread));
        eprintln!("the daemon's thread {thread}: {alone} ticks without, {crowded} ticks with them");
    }
    let lost = [alone, crowded].map(|who| (who["records"].as_u64().unwrap(), who["lost"].as_u64().unwrap()));
    eprintln!("(records, lost): {:?} without, {:?} with them", lost[0], lost[1]);
    assert_eq!((lost[0].1, lost[1].1), (0, 0), "something is lost: {seen:#}");
    assert!(lost[0].0 > 100_000 && lost[1].0 > 100_000, "{seen:#}");
    assert!(ratio < 1.1, "{seen:#}");
    assert!(seen["fewest"].as_u64().unwrap() > 1, "a client that reads heard nothing: {seen:#}");
    assert_eq!(seen["ended"]["code"], 0, "{seen:#}");
}

fn nothing_is_left(bpf: &Value) {
    assert_eq!((&bpf["programs"], &bpf["links"]), (&0.into(), &0.into()), "{bpf}");
}
