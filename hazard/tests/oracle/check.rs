//! One program through the engine and through every machine, event by event.
//!
//! The two must agree on each pair of an access and the write that it came too early for, profile by profile, in both
//! directions. Where they may differ there is a name for it: [`crate::differ`] has the whole list, each difference must
//! fit one of them exactly, and all are counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lazymmu_abi::{Context, Kind, Record};
use lazymmu_hazard::profile::ProfileId;
use lazymmu_hazard::rules::RuleId;
use lazymmu_hazard::{Arch, Config, Engine, Hazard, Outcome, Proof, Verdict};

use crate::arch;
use crate::differ::{Exception, too_little, too_much, unhidden};
use crate::kernel::{self, Event, What};
use crate::machine::{Machine, TRACED, stamp};
use crate::program::{Program, Random};
use crate::tally::Tally;
use crate::trace::{self, FIRST_STACK};

/// By access and write: the profiles.
type Pairs = BTreeMap<(u32, u32), u8>;

/// How an engine is made: the tests of the tables make it with tables that are broken on purpose.
pub(crate) type MakeEngine<'a> = &'a dyn Fn(Config) -> Engine;

/// Runs the program through both. An error says where they differ, for people.
pub(crate) fn examine(program: &Program, seed: u64, make: MakeEngine) -> Result<Tally, String> {
    let events = kernel::events(program);
    let mut tally = Tally { programs: 1, events: events.len() as u64, ..Tally::default() };
    let (traced, arch) = TRACED[program.traced];
    let mut machine = Machine::new(traced, program.batch);
    machine.play(&events);
    let records = trace::records(&events, &machine);
    let all: Vec<Record> = records.iter().flatten().copied().collect();
    let (hazards, outcome) = feed(&all, arch, make);
    if !outcome.reasons().is_empty() {
        return Err(format!("nothing is missing, but the engine says {:?}", outcome.reasons()));
    }

    let mut truth = Pairs::new();
    let mut entries: BTreeMap<(u32, u32, ProfileId), Vec<u8>> = BTreeMap::new();
    for profile in ProfileId::ALL {
        let mut machine = Machine::new(profile, program.batch);
        machine.play(&events);
        machine.drain();
        tally.shadowed += machine.shadowed;
        tally.races += machine.races;
        for wrong in machine.wrong {
            *truth.entry((wrong.access, wrong.write)).or_default() |= 1 << profile as u8;
            entries.entry((wrong.access, wrong.write, profile)).or_default().push(wrong.entry);
        }
    }

    let mut reported = Pairs::new();
    for hazard in &hazards {
        let pair = pair(hazard);
        let rule = hazard.place.rule.info().name;
        let expected = rule_of(&events[pair.0 as usize], &events[pair.1 as usize]);
        if expected != Ok(rule) {
            return Err(format!("step {} on the write of {}: {rule}, expected {expected:?}", pair.0, pair.1));
        }
        let breaks = ProfileId::ALL.into_iter().filter(|id| hazard.breaks.has(*id));
        let mask = breaks.fold(0, |mask, id| mask | 1 << id as u8);
        if reported.insert(pair, mask).is_some() {
            return Err(format!("step {} on the write of {}: told twice", pair.0, pair.1));
        }
        examples(hazard, &events, &machine, arch, &mut tally)?;
    }

    let mut keys: Vec<_> = truth.keys().chain(reported.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    for (access, write) in keys {
        let wrong = truth.get(&(access, write)).copied().unwrap_or_default();
        let said = reported.get(&(access, write)).copied().unwrap_or_default();
        let rule = match rule_of(&events[access as usize], &events[write as usize]) {
            Ok(rule) => rule,
            Err(what) => {
                *tally.no_rule.entry(what).or_default() += 1;
                continue;
            }
        };
        for profile in ProfileId::ALL {
            let bit = 1 << profile as u8;
            let difference = match (wrong & bit != 0, said & bit != 0) {
                (false, false) => continue,
                (true, true) => {
                    *tally.agreed.entry((rule, profile)).or_default() += 1;
                    continue;
                }
                (false, true)
                    if rule == "write-reorder" && profile == ProfileId::Strict && wrong | said != bit =>
                {
                    Some(Exception::ContractOfAll)
                }
                (false, true) => too_much(program, &events, access, write, profile),
                (true, false) => {
                    let at = &entries[&(access, write, profile)];
                    too_little(&events, access, write, at, profile)
                        .or_else(|| between_tasks(&events, access, write, profile))
                }
            };
            let Some(exception) = difference else {
                let what =
                    if said & bit != 0 { "reported, but it is not wrong" } else { "wrong, but not reported" };
                return Err(format!(
                    "{rule} on {}: event {access} on the write of event {write}: {what}\n{}",
                    profile.profile().name,
                    shown(&events)
                ));
            };
            *tally.exceptions.entry((exception, profile)).or_default() += 1;
        }
    }
    tally.silent = events
        .iter()
        .enumerate()
        .filter(|(number, event)| {
            let silent = |pairs: &Pairs| {
                pairs.range((*number as u32, 0)..=(*number as u32, u32::MAX)).next().is_none()
            };
            event.access().is_some() && silent(&truth) && silent(&reported)
        })
        .count() as u64;

    let run = Run { program, events: &events, records: &records, arch, make };
    with_losses(&run, &reported, seed, &mut tally)?;
    Ok(tally)
}

/// What is not known of the writes of another task.
fn between_tasks(events: &[Event], access: u32, write: u32, profile: ProfileId) -> Option<Exception> {
    let (later, earlier) = (&events[access as usize], &events[write as usize]);
    if later.task == earlier.task {
        return None;
    }
    if profile == ProfileId::S390 {
        return Some(Exception::OwnCache);
    }
    // Held back until the writer's next call, which left it in doubt whether there was a flush.
    let mut rest = events[access as usize..].iter();
    let doubt = rest.any(|event| event.task == earlier.task && event.softirqs_off);
    doubt.then_some(Exception::SoftirqsOff)
}

fn feed(records: &[Record], arch: Arch, make: MakeEngine) -> (Vec<Hazard>, Outcome) {
    let mut engine = make(Config { arch, ..Config::default() });
    engine.watch();
    let mut hazards = Vec::new();
    for record in records {
        engine.process(record);
        hazards.extend(engine.take_hazards().into_iter().filter(|hazard| compared(hazard.place.rule)));
    }
    engine.end();
    hazards.extend(engine.take_hazards().into_iter().filter(|hazard| compared(hazard.place.rule)));
    (hazards, engine.finish())
}

fn pair(hazard: &Hazard) -> (u32, u32) {
    let number = |stack: lazymmu_hazard::StackId| (stack.0 - FIRST_STACK) as u32;
    // Rules that are about a write have one.
    (number(hazard.place.access), hazard.place.write.map_or(u32::MAX, number))
}

/// The rules that are about one access and one write that waits.
const COMPARED: [&str; 4] = ["read-pending", "rmw-pending", "remote-read-pending", "write-reorder"];

fn compared(rule: RuleId) -> bool {
    COMPARED.contains(&rule.info().name)
}

/// The rule that such an access breaks; else why there is none.
fn rule_of(access: &Event, write: &Event) -> Result<&'static str, &'static str> {
    let own = access.task == write.task;
    let in_task = access.context == Context::Task;
    let (rule, without) = match (access.kind(), own) {
        (_, true) if !in_task => return Err("an interrupt in the task that wrote"),
        (Some(Kind::Read), true) => ("read-pending", ""),
        (Some(Kind::Rmw), _) => ("rmw-pending", ""),
        (Some(Kind::Read), false) => ("remote-read-pending", "a read by another task"),
        (_, true) => ("write-reorder", "an immediate write by the task that wrote"),
        (_, false) => return Err("an immediate write by another task"),
    };
    RuleId::by_name(rule).map(|_| rule).ok_or(without)
}

/// The values of a finding must be those that the traced machine had.
fn examples(
    hazard: &Hazard,
    events: &[Event],
    traced: &Machine,
    arch: Arch,
    tally: &mut Tally,
) -> Result<(), String> {
    let (access, write) = pair(hazard);
    let (earlier, later) = (&events[write as usize], &events[access as usize]);
    let example = &hazard.example;
    let place = format!("event {access} on the write of event {write}");
    let (Some((_, touched)), Some((op, written))) = (later.access(), earlier.access()) else {
        return Err(format!("{place}: no accesses"));
    };
    let Some(entry) =
        touched.clone().find(|entry| Some(trace::address(*entry)) == example.entry.map(|entry| entry.0))
    else {
        return Err(format!("{place}: entry {:?} is not one of them", example.entry));
    };
    let index = u64::from(entry - written.start);
    let pending = match earlier.what {
        What::Access { .. } if op.info().kind != Kind::Write => None,
        What::Access { .. } if arch::clears(op) => Some(0),
        What::Access { value, .. } if arch == Arch::X86_64 || index == 0 => {
            Some(arch::page_after(value, index))
        }
        _ => None,
    };
    let first = entry == touched.start;
    let seen = traced.seen[access as usize];
    let pending =
        if arch::clears(op) && index > 0 && arch == Arch::Other { example.pending } else { pending };
    let changed = events[write as usize + 1..access as usize].iter().any(|event| {
        let writes = event.kind().is_some_and(|kind| kind != Kind::Read);
        writes && event.access().is_some_and(|(_, entries)| entries.contains(&entry))
    });
    let value = if later.kind() == Some(Kind::Write) { example.seen } else { first.then_some(seen.value) };
    let proof = match (pending, value) {
        (Some(pending), Some(seen)) if !changed && arch == Arch::X86_64 => {
            // Accessed, dirty and global come and go by themselves.
            let soft = !(arch::YOUNG | arch::DIRTY | arch::GLOBAL);
            if pending & soft == seen & soft { Proof::Same } else { Proof::Different }
        }
        _ => Proof::NotCompared,
    };
    let opener = earlier.opener.map_or(0, |opener| FIRST_STACK + u64::from(opener));
    let expected = (pending, value, first.then_some(seen.memory), opener);
    let given =
        (example.pending, example.seen, example.memory, hazard.place.opener.map_or(0, |opener| opener.0));
    if expected != given {
        return Err(format!("{place}: pending, seen, memory, opener are {given:x?}, expected {expected:x?}"));
    }
    if later.kind() == Some(Kind::Write) {
        return Ok(());
    }
    if example.proof != proof {
        return Err(format!("{place}: the values are called {:?}, expected {proof:?}", example.proof));
    }
    if proof == Proof::Different && seen.stamp >= stamp(write) {
        return Err(format!("{place}: called proven, but the machine had done the write\n{}", shown(events)));
    }
    tally.proofs[match proof {
        Proof::Same => 0,
        Proof::Different => 1,
        Proof::NotCompared => 2,
    }] += 1;
    Ok(())
}

/// A program that was run.
struct Run<'a> {
    program: &'a Program,
    events: &'a [Event],
    records: &'a [Option<Record>],
    arch: Arch,
    make: MakeEngine<'a>,
}

/// Without some of the records the engine may only be less certain.
fn with_losses(run: &Run, reported: &Pairs, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let Run { program, events, records, arch, make } = *run;
    let lossy = trace::lose(records, &mut Random::new(!seed));
    if lossy.missing.is_empty() {
        return Ok(());
    }
    let (hazards, outcome) = feed(&lossy.records, arch, make);
    let told = || format!("without the records of events {:?}", lossy.missing);
    if outcome.verdict() == Verdict::Clean {
        return Err(format!("{}: called clean", told()));
    }
    tally.lossy[0] += 1;
    for hazard in &hazards {
        let (access, write) = pair(hazard);
        let with_all = reported.get(&(access, write)).copied().unwrap_or_default();
        tally.lossy[1] += 1;
        for profile in ProfileId::ALL.into_iter().filter(|id| hazard.breaks.has(*id)) {
            if with_all & (1 << profile as u8) != 0 {
                continue;
            }
            let known = unhidden(program, events, access, write, profile);
            // That something else changed the entry is lost, too.
            let cache =
                || (profile == ProfileId::S390).then(|| between_tasks(events, access, write, profile));
            let Some(exception) = known.or_else(|| cache().flatten()) else {
                return Err(format!(
                    "{}: {} on {}, event {access} on the write of event {write}, is new\n{}",
                    told(),
                    hazard.place.rule.info().name,
                    profile.profile().name,
                    shown(events)
                ));
            };
            *tally.exceptions.entry((exception, profile)).or_default() += 1;
        }
    }
    Ok(())
}

fn shown(events: &[Event]) -> String {
    let mut text = String::new();
    for (number, event) in events.iter().enumerate() {
        let Event { cpu, task, context, active, what, .. } = event;
        let on = if *active { "on " } else { "off" };
        let _ = writeln!(text, "{number:>4}  cpu {cpu} task {task} {context:?} mode {on} {what:x?}");
    }
    text
}
