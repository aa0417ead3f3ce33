//! The report as SARIF 2.1.0, for code scanning and editors.
//!
//! A finding is a result at the place of the access; the write and the call that entered the section are related
//! locations, all three call paths are there with the lines of inlined functions, and `properties` says on which
//! architectures it breaks. What was not seen are notifications of the run. Sources are relative to the kernel's tree.

mod model;

use std::collections::BTreeMap;

use lazymmu_hazard::rules::{RULES, Severity};
use serde_json::json;

use crate::finding::{Finding, Site};
use crate::stack::StackFrame;
use crate::{Report, figures};
use model::{
    Artifact, Bag, Base, CodeFlow, Configuration, Descriptor, Driver, Frame, Invocation, Location, Log,
    Logical, Message, Notification, Outcome, Physical, Region, Rule, Run, Stack, Step, Suppression,
    ThreadFlow, Tool,
};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// Against what the names of sources are to be taken.
const TREE: &str = "SRCROOT";

/// The name of the fingerprint; the number changes when a fingerprint comes to mean something else.
const FINGERPRINT: &str = "lazymmu/v1";

pub(crate) fn render(report: &Report) -> String {
    crate::json::render(&Log { schema: SCHEMA, version: "2.1.0", runs: [run(report)] })
}

fn run(report: &Report) -> Run {
    let tree = Base { description: "the root of the source tree of the kernel that was traced".into() };
    let found = report.findings.iter().map(|finding| outcome(finding, Vec::new()));
    let suppressed = report.suppressed.iter().map(|entry| {
        let note = |by: &crate::suppress::EntryNote| Suppression {
            kind: "external",
            status: "accepted",
            justification: format!("{} ({}:{})", by.reason, by.file, by.line),
        };
        outcome(&entry.finding, entry.by.iter().map(note).collect())
    });
    Run {
        tool: Tool { driver: driver() },
        invocations: [Invocation {
            execution_successful: true,
            tool_execution_notifications: notifications(report),
        }],
        original_uri_base_ids: BTreeMap::from([(TREE, tree)]),
        results: found.chain(suppressed).chain(absent(report)).collect(),
        properties: Bag::from([
            ("verdict", json!(report.verdict)),
            ("kernel", json!(report.target)),
            ("sections", json!(report.sections)),
            ("losses", json!(report.losses)),
        ]),
    }
}

fn driver() -> Driver {
    let rules = RULES.iter().map(|rule| {
        let info = rule.info;
        Rule {
            id: info.name,
            short_description: info.title.into(),
            full_description: info.explanation.into(),
            help: format!(
                "\"{}\" ({})\n\nWhat it cannot see: {}",
                info.contract, info.contract_source, info.blind_spots
            )
            .into(),
            default_configuration: Configuration { level: level(info.severity == Severity::Error) },
        }
    });
    Driver {
        name: "lazymmu",
        semantic_version: env!("CARGO_PKG_VERSION"),
        information_uri: env!("CARGO_PKG_REPOSITORY"),
        rules: rules.collect(),
    }
}

fn level(error: bool) -> &'static str {
    if error { "error" } else { "note" }
}

fn notifications(report: &Report) -> Vec<Notification> {
    let notification = |reason: &crate::Reason| Notification {
        descriptor: Descriptor { id: reason.kind.clone() },
        level: "warning",
        message: reason.text.as_str().into(),
    };
    report.reasons.iter().map(notification).collect()
}

fn outcome(finding: &Finding, suppressions: Vec<Suppression>) -> Outcome {
    let write =
        finding.write.as_ref().map(|site| (site, format!("written with {} in {}", site.op, site.function)));
    let opener = finding.opener.as_ref().map(|site| (site, format!("section entered in {}", site.function)));
    let access = (&finding.access, format!("{} in {}", finding.access.op, finding.access.function));
    let related = || write.iter().chain(&opener);
    let in_order: Vec<_> = opener.iter().chain(&write).chain([&access]).collect();
    let flow = |(order, (site, what)): (usize, &&(&Site, String))| Step {
        execution_order: order,
        location: location(site, Some(what)),
    };
    let flow = ThreadFlow { locations: (1..).zip(&in_order).map(flow).collect() };
    Outcome {
        rule_id: finding.rule.to_string(),
        rule_index: RULES.iter().position(|rule| rule.info.name == finding.rule),
        level: level(finding.is_error()),
        message: message(finding),
        locations: vec![location(&finding.access, None)],
        related_locations: related().map(|(site, what)| location(site, Some(what))).collect(),
        stacks: [&access].into_iter().chain(related()).filter_map(|(site, what)| stack(site, what)).collect(),
        code_flows: if in_order.len() > 1 { vec![CodeFlow { thread_flows: [flow] }] } else { Vec::new() },
        occurrence_count: Some(finding.count.max(1)),
        partial_fingerprints: BTreeMap::from([(FINGERPRINT, finding.fingerprint.clone())]),
        baseline_state: finding.baseline.as_ref().map(|it| if it.is_known() { "unchanged" } else { "new" }),
        suppressions,
        properties: properties(finding),
    }
}

/// What the baseline has and the report has not. Without a place: it is not known where that would be now.
fn absent(report: &Report) -> impl Iterator<Item = Outcome> {
    let fixed = report.baseline.iter().filter(|baseline| baseline.fixed);
    fixed.flat_map(|baseline| &baseline.gone).map(|gone| Outcome {
        rule_id: gone.rule.clone(),
        rule_index: RULES.iter().position(|rule| rule.info.name == gone.rule),
        level: level(true),
        message: format!("fixed: {}", gone.what).into(),
        locations: Vec::new(),
        related_locations: Vec::new(),
        stacks: Vec::new(),
        code_flows: Vec::new(),
        occurrence_count: None,
        partial_fingerprints: BTreeMap::from([(FINGERPRINT, gone.fingerprint.clone())]),
        baseline_state: Some("absent"),
        suppressions: Vec::new(),
        properties: Bag::from([("firstSeen", json!(gone.first_seen)), ("note", json!(gone.note))]),
    })
}

fn message(finding: &Finding) -> Message {
    let breaks: Vec<_> = finding.profiles.iter().filter(|line| line.breaks).map(|line| &*line.name).collect();
    let breaks = if breaks.is_empty() { String::new() } else { format!(" Breaks on {}.", breaks.join(", ")) };
    let title = finding.what.as_deref().unwrap_or(&finding.title);
    let seen = figures::times(finding.count);
    format!("{title}: {}. Seen {seen}, {}.{breaks}", finding.in_words(), finding.state).into()
}

fn properties(finding: &Finding) -> Bag {
    Bag::from([
        ("state", json!(finding.state)),
        ("proven", json!(finding.proven)),
        ("paths", json!(finding.paths)),
        ("profiles", json!(finding.profiles)),
        ("example", json!(finding.example)),
        ("baseline", json!(finding.baseline)),
    ])
}

fn stack(site: &Site, what: &str) -> Option<Stack> {
    let frame = |frame: &StackFrame| Frame { location: of_frame(frame, None), module: frame.module.clone() };
    let frames: Vec<_> = site.stack.iter().map(frame).collect();
    (!frames.is_empty()).then(|| Stack { message: what.into(), frames })
}

/// The innermost place of a site that has a source line; else its function.
fn location(site: &Site, message: Option<&str>) -> Location {
    let found = site.stack.iter().find(|frame| frame.file.is_some());
    let physical = found.and_then(physical);
    let logical = [Logical { name: site.function.clone(), kind: "function" }];
    Location { physical_location: physical, logical_locations: logical, message: message.map(Message::from) }
}

fn of_frame(frame: &StackFrame, message: Option<Message>) -> Location {
    let logical = [Logical { name: frame.function.clone(), kind: "function" }];
    Location { physical_location: physical(frame), logical_locations: logical, message }
}

fn physical(frame: &StackFrame) -> Option<Physical> {
    let file = frame.file.as_deref()?;
    // The standard's lines begin at 1; debug information has a 0 for "no line".
    let region = frame.line.filter(|line| *line > 0).map(|start_line| Region { start_line });
    let absolute = file.starts_with('/');
    let uri = if absolute { format!("file://{}", uri(file)) } else { uri(file) };
    let artifact_location = Artifact { uri, uri_base_id: (!absolute).then_some(TREE) };
    Some(Physical { artifact_location, region })
}

/// The path of a URI: everything but what needs no escape (RFC 3986, 2.3) and slashes is escaped.
fn uri(path: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    path.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("mm/memory.c"), "mm/memory.c");
        assert_eq!(uri("a b/c:d#é"), "a%20b/c%3Ad%23%C3%A9");
    }
}
