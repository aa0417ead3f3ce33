//! One line for a hazard that was just seen for the first time.

use lazymmu_abi::{Kind, Op};
use lazymmu_hazard::{Occurrence, StackId, StackNames};
use lazymmu_trace::Symbols;

use crate::stack::Names;

/// One line, without an end of line.
#[must_use]
pub fn announce(occurrence: &Occurrence, symbols: &Symbols) -> String {
    let place = &occurrence.place;
    let name = |stack: StackId| Names(symbols).innermost(stack).unwrap_or_else(|| "[unknown]".to_owned());
    let op = |op: u8| Op::try_from(op).map_or("unknown operation", Op::name);
    let rule = place.rule.info().name;
    let access = match place.access_kind {
        kind @ (Kind::TlbFlush | Kind::Fault | Kind::TaskExit) => kind.name(),
        _ => op(place.access_op),
    };
    match (place.breach, place.write.zip(place.write_op), place.opener) {
        (None, Some((write, write_op)), _) => {
            format!("{rule}: {access} in {} after {} in {}", name(place.access), op(write_op), name(write))
        }
        (Some(breach), _, Some(opener)) => {
            format!(
                "{rule}: {} ({access} in {}, section of {})",
                breach.what,
                name(place.access),
                name(opener)
            )
        }
        (Some(breach), _, None) => format!("{rule}: {} ({access} in {})", breach.what, name(place.access)),
        (None, None, _) => format!("{rule}: {access} in {}", name(place.access)),
    }
}
