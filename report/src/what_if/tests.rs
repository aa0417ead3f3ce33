//! Answers over small histories.

use lazymmu_trace::scenario::Scenario;

use super::*;

fn ask(site: &str, kernel: &str, steps: &str) -> Answer {
    let text = format!("scenario x\nkernel {kernel}\nentry e pte x 64\ntask a on cpu 0 in f\n{steps}");
    let scenario = Scenario::parse("x.scn", &text).unwrap();
    let site = site.parse().unwrap();
    let mut what_if = WhatIf::new(&site, &scenario.header, &scenario.symbols);
    what_if.process(&scenario.records);
    what_if.finish()
}

const HAZARD: &str = "enter\nwrite e x 8\nread e at a.c:5\nwrite e[8] x 2\nread e[8] at a.c:9\nleave\n";

#[test]
fn a_flush_mends_what_is_after_it_and_splits_the_batch() {
    for kernel in ["7.2", "6.12"] {
        let answer = ask("a.c:5", kernel, HAZARD);
        assert_eq!((answer.reached, answer.flushes_added), (1, 1));
        let fates: Vec<_> = answer.findings.iter().map(|fate| (fate.rule, fate.now, fate.then)).collect();
        assert_eq!(fates, [("read-pending", 2, 1)], "{kernel}");
        let Change { now, then } = &answer.by_opener["f"];
        assert_eq!((now.batches, now.largest, now.histogram[4]), (1, 10, 1));
        assert_eq!((then.batches, then.largest, then.histogram[4], then.histogram[2]), (2, 8, 1, 1));
        assert_eq!((now.entries, then.entries), (10, 10));
    }
}

#[test]
fn a_flush_before_both_mends_all() {
    let answer = ask("f", "7.2", HAZARD);
    assert_eq!(answer.findings.iter().map(|fate| fate.then).sum::<u64>(), 0);
    assert_eq!(answer.flushes_added, 4, "before the writes, too");
}

#[test]
fn outside_of_sections_and_in_interrupts_nothing_comes_in() {
    let steps = "read e\nflush\nread e\nenter\npause\nread e\nresume\n\
                 interrupt softirq on cpu 0 in f\nread e\ntask a on cpu 0 in f\nleave\nread e\n";
    for kernel in ["7.2", "6.12"] {
        let answer = ask("f", kernel, steps);
        assert_eq!((answer.reached, answer.flushes_added), (5, 0), "{kernel}");
        assert!(answer.by_opener.is_empty());
    }
}

#[test]
fn a_place_that_the_trace_does_not_reach_changes_nothing() {
    let answer = ask("elsewhere", "7.2", HAZARD);
    assert_eq!((answer.reached, &answer.total.now), (0, &answer.total.then));
    assert!(answer.text(Style::Plain).contains("No access of the trace was made there"));
}
