//! A class is one bug: it neither falls apart where compilers differ, nor swallows another bug.
//!
//! First over histories that are written down here, then over traces of kernels that different compilers made.

// The helpers of tests are tests too.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;

use lazymmu_hazard::{Arch, Class, Config, Engine, Outcome, Site, without_suffixes};
use lazymmu_report::Names;
use lazymmu_trace::scenario::Scenario;
use lazymmu_trace::{Frame, Reader, Symbols};

/// A section of `OPENER` in which each pair writes an entry and reads it back.
fn history(opener: &str, pairs: &[(&str, &str)]) -> String {
    let mut lines = vec!["scenario grouping".to_owned(), "kernel 7.2".to_owned()];
    lines.extend((0..pairs.len()).map(|index| format!("entry e{index} pte")));
    lines.extend([format!("task t on cpu 0 in {opener}"), "enter".to_owned()]);
    for (index, (writer, reader)) in pairs.iter().enumerate() {
        lines.push(format!("write e{index} = 0x1000 in {writer}"));
        lines.push(format!("read e{index} = 0x1000 in {reader}"));
    }
    lines.push("leave".to_owned());
    lines.join("\n")
}

fn judge(text: &str) -> (Outcome, Symbols) {
    let scenario = Scenario::parse("grouping", text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut engine = Engine::new(Config { arch: Arch::X86_64, ..Config::default() });
    engine.process_all(&scenario.records);
    (engine.finish(), scenario.symbols)
}

fn classes(text: &str) -> Vec<Class> {
    let (outcome, symbols) = judge(text);
    outcome.classes(&Names(&symbols))
}

/// One bug as three builds show it: another function gets a suffix, another caller is inlined or called at the end, so
/// that its frame is missing.
const BUILDS: [(&str, &str, &str); 3] = [
    (
        "copy_pte_range < copy_pmd_range < copy_page_range",
        "restore_exclusive_pte < try_restore_exclusive_pte < copy_nonpresent_pte < copy_pte_range",
        "copy_pte_range < copy_pmd_range",
    ),
    (
        "copy_pte_range.isra.0 < copy_page_range",
        "restore_exclusive_pte.constprop.0 < copy_nonpresent_pte.part.0 < copy_pte_range.isra.0",
        "copy_pte_range.isra.0",
    ),
    (
        "copy_pte_range.part.3.cold < copy_page_range",
        "restore_exclusive_pte.cold < dup_mm",
        "copy_pte_range.llvm.99",
    ),
];

#[test]
fn what_compilers_do_to_functions_does_not_split_a_class() {
    let fingerprints: BTreeSet<u64> = BUILDS
        .iter()
        .map(|(opener, writer, reader)| {
            let classes = classes(&history(opener, &[(writer, reader)]));
            assert_eq!(classes.len(), 1, "{classes:?}");
            classes[0].fingerprint
        })
        .collect();
    assert_eq!(fingerprints.len(), 1);

    // The same in one trace: two call paths, one bug.
    let paths: Vec<(&str, &str)> = BUILDS.iter().map(|(_, writer, reader)| (*writer, *reader)).collect();
    let together = classes(&history(BUILDS[0].0, &paths));
    assert_eq!((together.len(), together[0].paths, together[0].count), (1, 3, 3));
}

#[test]
fn different_bugs_under_one_opener_are_not_merged() {
    let (opener, writer, reader) = BUILDS[0];
    let another_writer = "pte_clear_entry < copy_pte_range";
    let another_reader = "copy_present_ptes < copy_pte_range";
    let pairs = [(writer, reader), (another_writer, reader), (writer, another_reader)];
    let found = classes(&history(opener, &pairs));
    let fingerprints: BTreeSet<u64> = found.iter().map(|class| class.fingerprint).collect();
    assert_eq!((found.len(), fingerprints.len()), (3, 3), "{found:?}");
    // Another opener, with the same functions below it, is another bug as well.
    let elsewhere = classes(&history("move_ptes < mremap", &[(writer, reader)]));
    assert!(!fingerprints.contains(&elsewhere[0].fingerprint));
}

#[test]
fn a_suffix_is_all_that_is_taken_off() {
    for (name, function) in [
        ("zap_pte_range", "zap_pte_range"),
        ("zap_pte_range.isra.0", "zap_pte_range"),
        ("zap_pte_range.constprop.0.isra.12", "zap_pte_range"),
        ("zap_pte_range.part.0.cold", "zap_pte_range"),
        ("__copy_present_ptes", "__copy_present_ptes"),
        (".text", ".text"),
    ] {
        assert_eq!(without_suffixes(name), function);
    }
}

/// What a trace says, judged.
fn trace(path: &str) -> (Outcome, Symbols) {
    let mut reader = Reader::open(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut engine = Engine::new(Config { arch: Arch::X86_64, ..Config::default() });
    while let Some(batch) = reader.next_batch().unwrap() {
        engine.process_all(batch);
    }
    assert!(reader.damage().is_none());
    (engine.finish(), reader.about.symbols)
}

/// Everything by which a class is known: rule, writer, reader, opener, fingerprint.
type Identity = (&'static str, String, String, String, u64);

fn identities(outcome: &Outcome, symbols: &Symbols) -> BTreeSet<Identity> {
    let identity = |class: &Class| {
        let function =
            |site: &Option<Site>| site.as_ref().map_or_else(String::new, |site| site.function.clone());
        let (write, opener) = (function(&class.write), function(&class.opener));
        (class.rule.info().name, write, class.access.function.clone(), opener, class.fingerprint)
    };
    // A reduced trace has sections that were emptied, so that advice about them would mean nothing.
    let classes = outcome.classes(&Names(symbols));
    classes.iter().filter(|class| class.rule.info().name != "wasted-section").map(identity).collect()
}

/// The names of a trace as another build would have them: each function with a suffix, and each inlined caller gone.
fn rebuilt(symbols: &Symbols) -> Symbols {
    let mut other = Symbols::default();
    for (address, frames) in symbols.symbolized() {
        let last = frames.len().saturating_sub(1);
        let kept = frames.iter().enumerate().filter(|(index, _)| *index == 0 || *index == last);
        let renamed =
            kept.map(|(_, frame)| Frame { function: format!("{}.isra.0", frame.function), ..frame.clone() });
        other.insert_frames(address, renamed.collect());
    }
    for (stack, addresses) in symbols.stacks() {
        other.insert_stack(stack, addresses.to_vec());
    }
    other
}

#[test]
fn a_recorded_trace_has_the_same_classes_if_its_kernel_was_built_in_another_way() {
    let (outcome, symbols) = trace("../daemon/sample/fork-exclusive.lmt");
    let classes = identities(&outcome, &symbols);
    assert_eq!(classes.len(), 2, "{classes:?}");
    assert_eq!(identities(&outcome, &rebuilt(&symbols)), classes);
}

/// Traces of one workload on one 7.2.13, built by gcc and by clang, and what is found in them: the opener, and how many
/// bugs under it.
const COMPILERS: [(&str, &str, &str, usize); 2] = [
    ("../daemon/sample/fork-exclusive.lmt", "tests/clang/fork-exclusive.lmt", "copy_pte_range", 2),
    ("tests/gcc/swap-private-file.lmt", "tests/clang/swap-private-file.lmt", "zap_pte_range", 1),
];

#[test]
fn kernels_built_by_gcc_and_by_clang_show_the_same_classes() {
    for (gcc, clang, opener, bugs) in COMPILERS {
        let ((gcc, gcc_symbols), (clang, clang_symbols)) = (trace(gcc), trace(clang));
        let classes = identities(&gcc, &gcc_symbols);
        assert_eq!(classes.len(), bugs, "{classes:?}");
        assert!(classes.iter().all(|class| class.3 == opener), "{classes:?}");
        assert_eq!(identities(&clang, &clang_symbols), classes);
        // The compilers did differ: what one inlined is a function in the kernel of the other.
        assert_ne!(inlined(&gcc_symbols), inlined(&clang_symbols));
    }
}

/// The functions that were inlined somewhere on a call stack.
fn inlined(symbols: &Symbols) -> BTreeSet<String> {
    let outer = |frames: &[Frame]| frames.len().saturating_sub(1);
    let inner = symbols.symbolized().flat_map(|(_, frames)| frames.iter().take(outer(frames)));
    inner.map(|frame| frame.function.clone()).collect()
}
