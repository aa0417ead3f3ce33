//! One line for a hazard that was just seen for the first time.

use lazymmu_abi::Op;
use lazymmu_hazard::{Occurrence, StackId, StackNames};
use lazymmu_trace::Symbols;

use crate::stack::Names;

/// One line, without an end of line.
#[must_use]
pub fn announce(occurrence: &Occurrence, symbols: &Symbols) -> String {
    let place = &occurrence.place;
    let name = |stack: StackId| Names(symbols).innermost(stack).unwrap_or_else(|| "[unknown]".to_owned());
    let op = |op: u8| Op::try_from(op).map_or("unknown operation", Op::name);
    format!(
        "{}: {} in {} after {} in {}",
        place.rule.info().name,
        op(place.access_op),
        name(place.access),
        op(place.write_op),
        name(place.write)
    )
}
