//! `read-pending`: a task reads back what it has written before it was flushed.

use lazymmu_abi::Kind;

use super::{Encounter, Info, RuleId, Severity, Who};
use crate::profile::ProfileMask;

/// The profiles in which the encounter breaks the rule.
pub(super) fn check(encounter: Encounter) -> ProfileMask {
    if encounter.kind == Kind::Read && encounter.who == Who::Writer {
        encounter.waits.and(encounter.sees_memory)
    } else {
        ProfileMask::NONE
    }
}

pub(super) static INFO: Info = Info {
    id: RuleId::ReadPending,
    name: "read-pending",
    severity: Severity::Error,
    title: "read of a page-table entry whose write is still pending",
    contract: "",
    contract_source: "",
    explanation: "",
    example: "",
    profiles: "",
    blind_spots: "",
};
