//! Findings about the calls of the mode, event by event, against those that counting gives.

use std::collections::BTreeMap;

use lazymmu_hazard::Hazard;
use lazymmu_hazard::profile::ProfileId;

use crate::check::shown;
use crate::differ::Exception;
use crate::kernel::{Event, What};
use crate::naive::{self, Misdeed};
use crate::program::{Layer, Program};
use crate::tally::Tally;
use crate::trace::FIRST_STACK;

/// By the event to blame, the rule and what is wrong: the profiles.
pub(crate) type Deeds = BTreeMap<(u32, &'static str, &'static str), u8>;

/// What the findings say.
pub(crate) fn told<'a>(hazards: impl IntoIterator<Item = &'a Hazard>) -> Deeds {
    let mut deeds = Deeds::new();
    for hazard in hazards {
        let Some(breach) = hazard.place.breach else { continue };
        let rule = hazard.place.rule.info().name;
        // Of sections that gain nothing there are other programs: here no two have the same opener.
        let event = (hazard.place.access.0 - FIRST_STACK) as u32;
        let breaks = ProfileId::ALL.into_iter().filter(|id| hazard.breaks.has(*id));
        *deeds.entry((event, rule, breach.what)).or_default() |=
            breaks.fold(0, |mask, id| mask | 1 << id as u8);
    }
    deeds
}

/// Both must say the same of the same events. Returns what the findings say.
pub(crate) fn compare(
    program: &Program,
    events: &[Event],
    hazards: &[Hazard],
    tally: &mut Tally,
) -> Result<Deeds, String> {
    let said = told(hazards);
    if said.len() != hazards.len() {
        return Err(format!("something is told twice\n{}", shown(events)));
    }
    let truth: BTreeMap<_, Misdeed> = naive::misdeeds(events, program.layer)
        .into_iter()
        .map(|deed| ((deed.event, deed.rule, deed.what), deed))
        .collect();
    let mut keys: Vec<_> = said.keys().chain(truth.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let (event, rule, what) = key;
        let mask =
            truth.get(&key).map_or(0, |deed| deed.breaks.iter().fold(0, |mask, id| mask | 1 << *id as u8));
        let given = said.get(&key).copied().unwrap_or_default();
        if mask == given {
            for id in ProfileId::ALL.into_iter().filter(|id| mask & 1 << *id as u8 != 0) {
                *tally.agreed.entry((rule, id)).or_default() += 1;
            }
            continue;
        }
        let at = truth.get(&key).map_or(event, |deed| deed.at);
        if in_doubt(program, events, at) {
            *tally.exceptions.entry((Exception::SoftirqsOff, ProfileId::Strict)).or_default() += 1;
            continue;
        }
        return Err(format!(
            "{rule} at event {event}, \"{what}\": the engine says profiles {given:06b}, counting says {mask:06b}\n{}",
            shown(events)
        ));
    }
    Ok(said)
}

/// Whether the task called the mode with softirqs off in this section: the call had no effect, which looks like one that
/// was not recorded.
pub(crate) fn in_doubt(program: &Program, events: &[Event], at: u32) -> bool {
    let deed = &events[at as usize];
    let from = deed.opener.unwrap_or_default() as usize;
    program.layer == Layer::Counters
        && events[from..=at as usize].iter().any(|event| {
            event.task == deed.task && event.softirqs_off && matches!(event.what, What::Mode { .. })
        })
}
