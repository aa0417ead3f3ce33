//! One program through the engine and through every machine, event by event.
//!
//! The two must agree on each pair of an access and the write that it came too early for, profile by profile, in both
//! directions. Where they may differ there is a name for it: [`crate::differ`] has the whole list, each difference must
//! fit one of them exactly, and all are counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lazymmu_abi::{Context, Kind, Record};
use lazymmu_hazard::profile::ProfileId;
use lazymmu_hazard::{Arch, Config, Engine, Hazard, Outcome};

use crate::differ::{Exception, too_little, too_much};
use crate::kernel::{self, Event, What};
use crate::machine::{Machine, TRACED};
use crate::program::Program;
use crate::tally::Tally;
use crate::trace::{self, FIRST_STACK};
use crate::{losses, states, values};

/// By access and write: the profiles.
pub(crate) type Pairs = BTreeMap<(u32, u32), u8>;

/// By access, write and profile: the entries.
pub(crate) type Places = BTreeMap<(u32, u32, ProfileId), Vec<u8>>;

/// How an engine is made: the tests of the tables make it with tables that are broken on purpose.
pub(crate) type MakeEngine<'a> = &'a dyn Fn(Config) -> Engine;

/// Runs the program through both. An error says where they differ, for people.
pub(crate) fn examine(program: &Program, seed: u64, make: MakeEngine) -> Result<Tally, String> {
    let events = kernel::events(program);
    let mut tally = Tally { programs: 1, events: events.len() as u64, ..Tally::default() };
    let (traced, arch) = TRACED[program.traced];
    let mut machine = Machine::new(traced, program);
    machine.play(&events);
    let records = trace::records(&events, &machine, program.kernel_half);
    let all: Vec<Record> = records.iter().flatten().copied().collect();
    let (hazards, outcome) = feed(&all, arch, make);
    if !outcome.reasons().is_empty() {
        return Err(format!("nothing is missing, but the engine says {:?}", outcome.reasons()));
    }

    let (truth, entries) = truth(program, &events, &records, arch, &mut tally);
    let mut reported = Pairs::new();
    let (of_entries, of_states): (Vec<Hazard>, Vec<Hazard>) =
        hazards.iter().partition(|hazard| hazard.place.breach.is_none());
    let deeds = states::compare(program, &events, &of_states, &mut tally)?;
    for hazard in &of_entries {
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
        values::examples(hazard, &events, &machine, arch, &mut tally)?;
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
                    if rule == "write-reorder" && profile == ProfileId::Strict && said & !bit != 0 =>
                {
                    Some(Exception::ContractOfAll)
                }
                (false, true) => too_much(program, &events, access, write, profile),
                (true, false) => {
                    let at = &entries[&(access, write, profile)];
                    too_little(program, &events, access, write, at, profile, &entries)
                        .or_else(|| held_in_doubt(&events, access, write))
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

    let run = Run {
        program,
        events: &events,
        records: &records,
        arch,
        make,
        truth: &truth,
        reported: &reported,
        deeds: &deeds,
    };
    losses::compare(&run, seed, &mut tally)?;
    Ok(tally)
}

/// What goes wrong on each machine, as far as the engine can know of it.
fn truth(
    program: &Program,
    events: &[Event],
    records: &[Option<Record>],
    arch: Arch,
    tally: &mut Tally,
) -> (Pairs, Places) {
    let mut truth = Pairs::new();
    let mut entries = Places::new();
    for profile in ProfileId::ALL {
        let mut machine = Machine::new(profile, program);
        machine.play(events);
        machine.drain();
        tally.shadowed += machine.shadowed;
        tally.races += machine.races;
        for wrong in machine.wrong {
            if let Some(why) = unseen(events, records, wrong.access, arch) {
                *tally.no_rule.entry(why).or_default() += 1;
                continue;
            }
            *truth.entry((wrong.access, wrong.write)).or_default() |= 1 << profile as u8;
            entries.entry((wrong.access, wrong.write, profile)).or_default().push(wrong.entry);
        }
    }
    (truth, entries)
}

/// Held back until the writer's next call, which left it in doubt whether there was a flush.
fn held_in_doubt(events: &[Event], access: u32, write: u32) -> Option<Exception> {
    let (later, earlier) = (&events[access as usize], &events[write as usize]);
    let call = |event: &Event| matches!(event.what, What::Mode { .. });
    let mut rest = events[access as usize..].iter().filter(|event| event.task == earlier.task);
    let doubt = later.task != earlier.task && rest.any(|event| event.softirqs_off && call(event));
    doubt.then_some(Exception::SoftirqsOff)
}

/// Why the engine cannot know of the use of a mapping, or what it maps.
fn unseen(events: &[Event], records: &[Option<Record>], access: u32, arch: Arch) -> Option<&'static str> {
    match events[access as usize].what {
        What::Use { .. } if records[access as usize].is_none() => {
            Some("a use that did not fault where it was traced")
        }
        What::Use { .. } | What::TlbFlush { .. } if arch != Arch::X86_64 => {
            Some("a use or a flush of the TLB on an architecture whose tables the engine does not know")
        }
        _ => None,
    }
}

pub(crate) fn feed(records: &[Record], arch: Arch, make: MakeEngine) -> (Vec<Hazard>, Outcome) {
    let mut engine = make(Config { arch, ..Config::default() });
    engine.watch();
    let mut hazards = Vec::new();
    for record in records {
        engine.process(record);
        hazards.extend(engine.take_hazards());
    }
    engine.end();
    hazards.extend(engine.take_hazards());
    (hazards, engine.finish())
}

pub(crate) fn pair(hazard: &Hazard) -> (u32, u32) {
    let number = |stack: lazymmu_hazard::StackId| (stack.0 - FIRST_STACK) as u32;
    // Rules that are about a write have one.
    (number(hazard.place.access), hazard.place.write.map_or(u32::MAX, number))
}

/// The rule that such an access breaks; else why there is none.
pub(crate) fn rule_of(access: &Event, write: &Event) -> Result<&'static str, &'static str> {
    let own = access.task == write.task;
    match access.what {
        What::Use { .. } if own => return Ok("use-before-flush"),
        What::TlbFlush { .. } if own => return Ok("tlb-before-flush"),
        What::Use { .. } => return Err("a use of a mapping that another task made"),
        What::TlbFlush { .. } => return Err("a flush of the TLB for what another task wrote"),
        _ => {}
    }
    if access.access().is_some_and(|(op, _)| op.is_raw()) {
        return Ok("raw-access");
    }
    match (access.kind(), own) {
        (_, true) if access.context != Context::Task => Ok("irq-access"),
        (Some(Kind::Read), true) => Ok("read-pending"),
        (Some(Kind::Rmw), _) => Ok("rmw-pending"),
        (Some(Kind::Read), false) => Ok("remote-read-pending"),
        (_, true) => Ok("write-reorder"),
        (_, false) => Err("an immediate write by another task"),
    }
}

/// A program that was run.
pub(crate) struct Run<'a> {
    pub(crate) program: &'a Program,
    pub(crate) events: &'a [Event],
    pub(crate) records: &'a [Option<Record>],
    pub(crate) arch: Arch,
    pub(crate) make: MakeEngine<'a>,
    /// What goes wrong on the machines.
    pub(crate) truth: &'a Pairs,
    /// What was found with all records.
    pub(crate) reported: &'a Pairs,
    pub(crate) deeds: &'a states::Deeds,
}

pub(crate) fn shown(events: &[Event]) -> String {
    let mut text = String::new();
    for (number, event) in events.iter().enumerate() {
        let Event { cpu, task, context, active, what, .. } = event;
        let on = if *active { "on " } else { "off" };
        let _ = writeln!(text, "{number:>4}  cpu {cpu} task {task} {context:?} mode {on} {what:x?}");
    }
    text
}
