//! The answer for people.

use std::fmt::{self, Write as _};

use lazymmu_capture::{Need, Place};
use lazymmu_inspect::config::Setting;
use lazymmu_inspect::plan::Source;

use super::facts::{CAPABILITIES, Facts, Here, OPTIONS, Types};
use super::verdict::{Covered, Verdict, coverage};

/// The whole table.
pub(crate) fn table(facts: &Facts, verdict: &Verdict) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, facts, verdict);
    text
}

fn write(text: &mut String, facts: &Facts, verdict: &Verdict) -> fmt::Result {
    let id = facts.build_id.as_ref().map_or("no build id".to_owned(), |id| format!("build id {id}"));
    writeln!(
        text,
        "lazymmu {} on Linux {} ({}, {id})",
        env!("CARGO_PKG_VERSION"),
        facts.release,
        facts.architecture
    )?;
    hooks(text, facts)?;
    covered(text, facts)?;
    kernel(text, facts)?;
    privileges(text, facts)?;
    writeln!(text, "\n{}", verdict.summary())?;
    for obstacle in &verdict.obstacles {
        writeln!(text, "  {}\n      {}", obstacle.what, obstacle.todo)?;
    }
    writeln!(text, "exit status {}", verdict.status as u8)
}

/// How a hook is called in the column of sources.
pub(super) fn source(place: Place) -> &'static str {
    match place {
        Place::Tracepoint => "dev",
        Place::Function | Place::Exit => "symbol",
    }
}

fn hooks(text: &mut String, facts: &Facts) -> fmt::Result {
    writeln!(text, "\n{:<34}{:<8}{:>6}{:>9}  why", "hook", "source", "count", "refused")?;
    match &facts.types {
        Types::Read(hooks) => {
            for (fact, missing) in hooks {
                let (count, refused) = match fact.here {
                    Here::Yes => (1, 0),
                    Here::NotNeeded => (0, 0),
                    Here::No => (0, 1),
                };
                let why = match (fact.here, fact.hook.need) {
                    (Here::NotNeeded, _) => "this kernel has nothing of the kind".to_owned(),
                    (_, Need::Coverage) if missing.is_some() => {
                        format!("{}; there is a capture without it", missing.clone().unwrap_or_default())
                    }
                    _ => missing.clone().unwrap_or_default(),
                };
                row(text, fact.hook.name, source(fact.hook.place), (count, refused), &why)?;
            }
        }
        Types::Missing => writeln!(text, "not known: the kernel has no BTF")?,
        Types::Forbidden => writeln!(text, "not known: this process may not read the kernel's BTF")?,
        Types::Unusable(why) => writeln!(text, "not known: {why}")?,
    }
    let Ok(plan) = &facts.plan else { return Ok(()) };
    for (name, kind) in [("entries of functions, by plan", Source::Symbol), ("sites, by plan", Source::Site)]
    {
        let tally = plan.tally_of_kernel(|probe| probe.source == kind);
        let source = if kind == Source::Symbol { "symbol" } else { "site" };
        row(text, name, source, (tally.probe, tally.refused), "")?;
    }
    for module in &plan.modules {
        let tally = module.tally(|_| true);
        let name = format!("module {}, by plan", module.kernel.module.as_deref().unwrap_or("?"));
        row(text, &name, "site", (tally.probe, tally.refused), "")?;
    }
    for (reason, (count, functions)) in plan.refusals() {
        row(text, "", "", (0, count), &format!("{}: {}", reason.text(), few(&functions)))?;
    }
    let state = plan.state.len();
    if state > 0 { row(text, "counters of the mode, by plan", "state", (state, 0), "") } else { Ok(()) }
}

fn row(
    text: &mut String,
    name: &str,
    source: &str,
    (count, refused): (usize, usize),
    why: &str,
) -> fmt::Result {
    let count = if source.is_empty() { String::new() } else { count.to_string() };
    let line = format!("{name:<34}{source:<8}{count:>6}{refused:>9}  {why}");
    writeln!(text, "{}", line.trim_end())
}

/// The first names of a list, and how many more there are.
fn few(names: &[&str]) -> String {
    const MOST: usize = 3;
    let shown = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MOST { format!("{shown} and {} more", names.len() - MOST) } else { shown }
}

fn covered(text: &mut String, facts: &Facts) -> fmt::Result {
    writeln!(text, "\n{:<14}{:>7}{:>7}", "coverage", "hooked", "known")?;
    if facts.has_dropin() {
        return writeln!(text, "all accessors and mode calls, by the drop-in's tracepoints");
    }
    match &facts.plan {
        Ok(plan) => {
            for (name, Covered { hooked, known }) in coverage(plan) {
                writeln!(text, "{name:<14}{hooked:>7}{known:>7}")?;
            }
            if plan.made_from.debug_info {
                Ok(())
            } else {
                writeln!(text, "without debug information not every read is known")
            }
        }
        Err(why) => writeln!(text, "not known: {why}"),
    }
}

/// How an option stands, in a word.
pub(super) fn setting(setting: Setting) -> &'static str {
    match setting {
        Setting::On => "on",
        Setting::Module => "module",
        Setting::Off => "off",
    }
}

fn kernel(text: &mut String, facts: &Facts) -> fmt::Result {
    let from = facts.options.as_ref().map(|(path, _)| format!("of {}", path.display()));
    let from =
        from.unwrap_or_else(|| "not known: there is no config.gz in /proc and no config in /boot".to_owned());
    writeln!(text, "\nkernel options {from}")?;
    for (option, value) in OPTIONS.iter().zip(facts.options.iter().flat_map(|(_, settings)| settings)) {
        writeln!(text, "  {:<32}{:<8}for {}", option.name, setting(*value), option.purpose)?;
    }
    let not_known = || "not known".to_owned();
    writeln!(text, "  {:<32}{}", "lockdown", facts.lockdown.as_deref().unwrap_or("none, or not known"))?;
    let on = facts.kprobes_on.map_or_else(not_known, |on| if on { "on" } else { "off" }.to_owned());
    writeln!(text, "  {:<32}{on}", "kprobes")?;
    let blacklist = facts.blacklist.map_or_else(not_known, |count| format!("{count} functions"));
    writeln!(text, "  {:<32}{blacklist}", "kprobe blacklist")
}

fn privileges(text: &mut String, facts: &Facts) -> fmt::Result {
    let may = &facts.privileges;
    let not_known = || "not known".to_owned();
    writeln!(text, "\nprivileges of this process")?;
    for (name, bit) in CAPABILITIES {
        let has = may.has(bit).map_or_else(not_known, |has| if has { "yes" } else { "no" }.to_owned());
        writeln!(text, "  {name:<32}{has}")?;
    }
    let files = may.files.map_or_else(not_known, |(now, most)| format!("{now}, at most {most}"));
    writeln!(text, "  {:<32}{files}", "open files")?;
    for (name, value) in [("perf_event_paranoid", may.paranoid), ("kptr_restrict", may.restrict)] {
        writeln!(text, "  {name:<32}{}", value.map_or_else(not_known, |value| value.to_string()))?;
    }
    Ok(())
}
