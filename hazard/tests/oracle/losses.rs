//! Without some of the records the engine may only be less certain: no finding may be new, and the verdict is never clean.

use lazymmu_hazard::Verdict;
use lazymmu_hazard::profile::ProfileId;

use crate::check::{Run, feed, pair, shown};
use crate::differ::{Exception, change_lost, unhidden};
use crate::program::Random;
use crate::shape::Shape;
use crate::states;
use crate::tally::Tally;

/// Without some of the records the engine may only be less certain.
pub(crate) fn compare(run: &Run, seed: u64, tally: &mut Tally) -> Result<(), String> {
    for (shape, salt) in [(Shape::Windows, !seed), (Shape::of(seed), seed ^ 0x2545_f491_4f6c_dd1d)] {
        lose(run, shape, &mut Random::new(salt), tally)
            .map_err(|error| format!("{error}\nlosses: {shape:?}\n{}", shown(run.events)))?;
    }
    Ok(())
}

fn lose(run: &Run, shape: Shape, random: &mut Random, tally: &mut Tally) -> Result<(), String> {
    let Run { program, events, records, arch, make, truth, reported, deeds } = *run;
    let lossy = shape.lose(records, random);
    if lossy.missing.is_empty() {
        return Ok(());
    }
    let (hazards, outcome) = feed(&lossy.records, arch, make);
    let told = || format!("without the records of events {:?}", lossy.missing);
    if outcome.verdict() == Verdict::Clean {
        return Err(format!("{}: called clean", told()));
    }
    tally.lossy[0] += 1;
    for ((event, rule, what), mask) in states::told(&hazards) {
        tally.lossy[1] += 1;
        let with_all = deeds.get(&(event, rule, what)).copied().unwrap_or_default();
        if mask & !with_all != 0 && states::in_doubt(program, events, event) {
            // The call that made the engine doubt is lost.
            *tally.exceptions.entry((Exception::SoftirqsOff, ProfileId::Strict)).or_default() += 1;
        } else if mask & !with_all != 0 {
            return Err(format!("{}: {rule} at event {event}, \"{what}\", is new", told()));
        }
    }
    for hazard in hazards.iter().filter(|hazard| hazard.place.breach.is_none()) {
        let (access, write) = pair(hazard);
        let with_all = reported.get(&(access, write)).copied().unwrap_or_default();
        tally.lossy[1] += 1;
        for profile in ProfileId::ALL.into_iter().filter(|id| hazard.breaks.has(*id)) {
            if with_all & (1 << profile as u8) != 0 {
                continue;
            }
            let known = unhidden(program, events, access, write, profile);
            let lost = || change_lost(events, access, write, profile, &lossy.missing);
            let wrong = truth.get(&(access, write)).copied().unwrap_or_default() & (1 << profile as u8) != 0;
            let doubted =
                || (wrong && events.iter().any(|event| event.softirqs_off)).then_some(Exception::DoubtLost);
            let Some(exception) = known.or_else(lost).or_else(doubted) else {
                return Err(format!(
                    "{}: {} on {}, event {access} on the write of event {write}, is new",
                    told(),
                    hazard.place.rule.info().name,
                    profile.profile().name,
                ));
            };
            *tally.exceptions.entry((exception, profile)).or_default() += 1;
        }
    }
    Ok(())
}
