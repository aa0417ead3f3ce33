//! The loops that are watched, and the ways to watch them by lazymmu.

use lazymmu_tests::PROBE_PLAN;

use crate::peers;

/// Where the program with the loops is in a guest.
pub(crate) const PROGRAM: &str = "/bin/lazymmu-loop";
/// What its task is called.
pub(crate) const NAME: &str = "lazymmu-loop";

/// How often a loop changes all its pages, each time that it runs.
pub(crate) const ROUNDS: &str = "12";

/// What the program that is watched does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loop {
    Handover,
    Lives,
    Dense,
}

impl Loop {
    pub(crate) const ALL: [Self; 3] = [Self::Handover, Self::Lives, Self::Dense];

    /// As the program is told it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Handover => "handover",
            Self::Lives => "lives",
            Self::Dense => "dense",
        }
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Handover => {
                "4096 shared pages are filled with data, made read-only, read and checked, and let go"
            }
            Self::Lives => "4096 shared pages are written, made read-only and let go",
            Self::Dense => "4096 pages are made read-only and writable again",
        }
    }

    pub(crate) fn words(self, rounds: &'static str) -> [&'static str; 3] {
        [PROGRAM, self.name(), rounds]
    }
}

/// A way to run a loop.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) words: Vec<&'static str>,
    /// The most that it should cost, as a ratio.
    pub(crate) most: Option<f64>,
}

impl Way {
    /// Whether it wants the kernel's probe plan.
    pub(crate) fn is_by_plan(&self) -> bool {
        self.words.contains(&PROBE_PLAN)
    }

    /// Whether it is another program's.
    pub(crate) fn is_peer(&self) -> bool {
        self.words.first().is_some_and(|program| program.starts_with("/usr/"))
    }
}

/// Another lazymmu, if there is one.
pub(crate) const BEFORE: &str = "/bin/lazymmu-before";

const SUSPECTS: &[&str] = &["--capture", "suspects"];
const NO_STACKS: &[&str] = &["--no-stacks"];
const PLAN: &[&str] = &["--plan", PROBE_PLAN];
const PLAN_SUSPECTS: &[&str] = &["--plan", PROBE_PLAN, "--capture", "suspects"];

/// The words by which a lazymmu records the loop.
pub(crate) fn record(
    program: &'static str,
    arguments: &[&'static str],
    run: &[&'static str],
) -> Vec<&'static str> {
    record_to("/tmp/bench.lmt", program, arguments, run)
}

fn record_to(
    trace: &'static str,
    program: &'static str,
    arguments: &[&'static str],
    run: &[&'static str],
) -> Vec<&'static str> {
    let start = [program, "record", "-o", trace];
    start.iter().chain(arguments).chain(&["--"]).chain(run).copied().collect()
}

/// How the hits of a loop are counted.
pub(crate) struct Count {
    /// How often it changes all its pages.
    pub(crate) rounds: u32,
    /// The trace that has them, and much else.
    pub(crate) trace: &'static str,
    pub(crate) words: Vec<&'static str>,
}

/// Both counts; the difference tells of the rounds, whatever else the loop's process does.
pub(crate) fn counts(which: Loop) -> [Count; 2] {
    let all = ["--capture", "all", "--no-stacks"];
    [(2, "2", "few.lmt", "/out/few.lmt"), (12, "12", "many.lmt", "/out/many.lmt")].map(
        |(rounds, said, trace, path)| Count {
            rounds,
            trace,
            words: record_to(path, LAZYMMU, &all, &which.words(said)),
        },
    )
}

pub(crate) const LAZYMMU: &str = "/bin/lazymmu";

/// All ways to run a loop; the first is unwatched.
pub(crate) fn ways(which: Loop, peers: bool, before: bool) -> Vec<Way> {
    let run = which.words(ROUNDS);
    let way = |name, what, words, most| Way { name, what, words, most };
    // What is aimed at is said of the one loop.
    let [suspects, no_stacks, sections] = match which {
        Loop::Handover => [1.4, 1.6, 2.2].map(Some),
        Loop::Lives | Loop::Dense => [None; 3],
    };
    let ours = |arguments| record(LAZYMMU, arguments, &run);
    let mut ways = vec![
        way("none", "unwatched", run.to_vec(), None),
        way("suspects", "lazymmu record --capture suspects", ours(SUSPECTS), suspects),
        way("no-stacks", "lazymmu record --no-stacks", ours(NO_STACKS), no_stacks),
        way("sections", "lazymmu record", ours(&[]), sections),
        way("site-suspects", "lazymmu record --plan PLAN --capture suspects", ours(PLAN_SUSPECTS), None),
        way("site-plan", "lazymmu record --plan PLAN", ours(PLAN), None),
    ];
    if before {
        let theirs = |arguments| record(BEFORE, arguments, &run);
        ways.extend([
            way("b-suspects", "the other lazymmu record --capture suspects", theirs(SUSPECTS), None),
            way("b-no-stacks", "the other lazymmu record --no-stacks", theirs(NO_STACKS), None),
            way("b-sections", "the other lazymmu record", theirs(&[]), None),
        ]);
    }
    if peers {
        ways.extend(peers::ways(&run));
    }
    ways
}
