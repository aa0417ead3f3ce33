//! The answer as JSON. docs/doctor.schema.json is its schema.

use lazymmu_capture::Need;
use lazymmu_inspect::plan::table::Tally;
use lazymmu_inspect::plan::{Plan, Source};
use serde_json::{Map, Value, json};

use super::facts::{CAPABILITIES, Facts, Here, OPTIONS, Types};
use super::text::{setting, source};
use super::verdict::{Verdict, coverage};
use crate::ExitStatus;

/// The version of the format. Fields may be added in a minor version.
const VERSION: (u32, u32) = (1, 0);

/// One document.
pub(crate) fn document(facts: &Facts, verdict: &Verdict) -> Value {
    json!({
        "version": { "major": VERSION.0, "minor": VERSION.1 },
        "lazymmu": { "version": env!("CARGO_PKG_VERSION"), "programs": facts.object },
        "kernel": {
            "release": facts.release,
            "architecture": facts.architecture,
            "build_id": facts.build_id,
            "dropin": facts.has_dropin(),
            "btf": btf(&facts.types),
            "config": facts.options.as_ref().map(|(path, _)| path.display().to_string()),
            "options": options(facts),
            "lockdown": facts.lockdown,
            "kprobes": facts.kprobes_on,
            "kprobe_blacklist": facts.blacklist,
        },
        "hooks": hooks(&facts.types),
        "plan": facts.plan.as_ref().ok().map(plan),
        "no_plan": facts.plan.as_ref().err(),
        "coverage": covered(facts),
        "privileges": privileges(facts),
        "verdict": {
            "status": verdict.status as u8,
            "can_trace": matches!(verdict.status, ExitStatus::Clean | ExitStatus::Inconclusive),
            "summary": verdict.summary(),
            "obstacles": verdict.obstacles.iter().map(|obstacle| json!({
                "status": obstacle.status as u8,
                "what": obstacle.what,
                "todo": obstacle.todo,
            })).collect::<Vec<_>>(),
        },
    })
}

fn btf(types: &Types) -> &'static str {
    match types {
        Types::Read(_) => "present",
        Types::Missing => "missing",
        Types::Forbidden => "forbidden",
        Types::Unusable(_) => "unusable",
    }
}

fn options(facts: &Facts) -> Value {
    let settings = facts.options.iter().flat_map(|(_, settings)| settings);
    let pairs = OPTIONS.iter().zip(settings);
    pairs
        .map(|(option, value)| (option.name.to_owned(), json!(setting(*value))))
        .collect::<Map<_, _>>()
        .into()
}

fn hooks(types: &Types) -> Value {
    let Types::Read(hooks) = types else { return json!([]) };
    let need = |need| match need {
        Need::Capture => "capture",
        Need::Coverage => "coverage",
        Need::Nothing => "nothing",
    };
    let rows = hooks.iter().map(|(fact, missing)| {
        json!({
            "name": fact.hook.name,
            "source": source(fact.hook.place),
            "needed_for": need(fact.hook.need),
            "present": fact.here == Here::Yes,
            "missing": missing.as_ref().filter(|_| fact.here == Here::No),
        })
    });
    rows.collect()
}

fn counts(tally: Tally) -> Value {
    json!({ "found": tally.found, "probe": tally.probe, "covered": tally.covered, "refused": tally.refused })
}

fn plan(plan: &Plan) -> Value {
    let refusals = plan.refusals().into_iter().map(
        |(reason, (count, functions))| json!({ "reason": reason, "count": count, "functions": functions }),
    );
    let modules = plan.modules.iter().map(|module| {
        let tally = counts(module.tally(|_| true));
        json!({ "name": module.kernel.module, "build_id": module.kernel.build_id, "places": tally })
    });
    json!({
        "image": plan.made_from.image,
        "debug_info": plan.made_from.debug_info,
        "symbols": counts(plan.tally(|probe| probe.source == Source::Symbol)),
        "sites": counts(plan.tally(|probe| probe.source == Source::Site)),
        "state": plan.state.len(),
        "modules": modules.collect::<Vec<_>>(),
        "refusals": refusals.collect::<Vec<_>>(),
    })
}

/// `null` where it is not known.
fn covered(facts: &Facts) -> Value {
    if facts.has_dropin() {
        return json!({ "by": "dropin" });
    }
    let Ok(plan) = &facts.plan else { return Value::Null };
    let [reads, writes, calls] =
        coverage(plan).map(|(_, covered)| json!({ "hooked": covered.hooked, "known": covered.known }));
    json!({ "by": "plan", "reads": reads, "writes": writes, "mode_calls": calls })
}

fn privileges(facts: &Facts) -> Value {
    let may = &facts.privileges;
    let capabilities = CAPABILITIES.iter().map(|(name, bit)| ((*name).to_owned(), json!(may.has(*bit))));
    json!({
        "capabilities": capabilities.collect::<Map<_, _>>(),
        "open_files": may.files.map(|(now, most)| json!({ "now": now, "most": most })),
        "perf_event_paranoid": may.paranoid,
        "kptr_restrict": may.restrict,
    })
}
