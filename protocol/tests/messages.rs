//! Every message and request as a line: it follows the schema in docs/, is read back as what it was, and may have what
//! later versions add.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

use std::collections::BTreeMap;

use jsonschema::{Registry, Validator};
use lazymmu_hazard::{Config, Engine};
use lazymmu_protocol::{
    Addresses, Class, Cpu, Detail, Dropped, End, Error, Hello, Message, Metrics, Mode, Rate, Refusal,
    Request, Second, Snapshot, Status, Task, Timeline, Update, VERSION, Version, Wanted, Why,
};
use lazymmu_report::batches::Observer;
use lazymmu_report::{Collector, Names, Report, Session};
use lazymmu_trace::scenario::Scenario;
use serde_json::{Value, json};

/// A bug, and the batches of its story.
fn report() -> Report {
    let text = "scenario x\nentry e pte x 600\ntask a on cpu 0 in f\nenter\nwrite e\nread e\nleave";
    let Scenario { header, symbols, records, .. } = Scenario::parse("x.scn", text).unwrap();
    let mut first = Engine::new(Config::default());
    first.process_all(&records);
    let outcome = first.finish();
    let session = Session { header: &header, symbols: &symbols, outcome: &outcome, damage: None };
    let mut report = Report::new(&session);
    let mut collector = Collector::new(&outcome.classes(&Names(&symbols)));
    let (mut engine, mut observer) = (Engine::new(Config::default()), Observer::default());
    for record in &records {
        collector.before(&engine, record);
        observer.process(&mut engine, record);
        collector.after(&engine, record);
    }
    report.add_timelines(collector, &session);
    report.add_batches(&observer, &symbols);
    report
}

fn class(report: &Report) -> Class {
    let finding = report.findings.iter().find(|finding| finding.rule == "read-pending").unwrap();
    Class { opener: None, ..Class::of(finding, 0.1, 1, 2) }
}

fn status(report: &Report) -> Status {
    Status {
        time_ns: 9,
        verdict: report.verdict.into(),
        reasons: report.reasons.clone(),
        rate: Rate { records: 1, lost: 2, hazards: 3, sections: 4 },
        records: report.records.clone(),
        sections: report.sections.clone(),
        losses: report.losses.clone(),
        batches: report.batches.as_ref().unwrap().total.clone(),
        flushed_by: BTreeMap::from([("leave".into(), 3)]),
        cpus: vec![Cpu { cpu: 0, mode: Mode::Unknown, nesting: 0, tasks: 1, pending: 600, lost: 0 }],
        tasks: vec![Task {
            tid: 7,
            task: Some("a".to_owned()),
            cpu: 0,
            mode: Mode::Paused,
            nesting: 1,
            paused: 1,
            pending: 600,
            opener: None,
        }],
        more_tasks: 0,
        suppressed: 1,
        unnamed: 0,
        clients: 2,
    }
}

fn messages() -> Vec<Message> {
    let report = report();
    let class = class(&report);
    let mut finding = report.findings.iter().find(|finding| finding.rule == "read-pending").unwrap().clone();
    let section = finding.timeline.take().map(wire);
    assert!(section.is_some(), "the section was followed");
    let snapshot = Snapshot {
        hooks: report.hooks.clone(),
        status: status(&report),
        findings: vec![class.clone()],
        history: vec![Second { time_ns: 3, rate: Rate::default() }],
    };
    let hello = Hello {
        target: Some(report.target.clone()),
        addresses: Some(Addresses::Hidden),
        started_ns: Some(1),
        ..Hello::client()
    };
    let id = class.id.clone();
    vec![
        Message::Hello(hello),
        Message::Snapshot(Box::new(snapshot)),
        Message::Update(Update { findings: vec![class.clone()], gone: vec![id.clone()] }),
        Message::Status(Box::new(status(&report))),
        Message::Finding(Box::new(Detail { class, finding })),
        Message::Timeline(Box::new(Timeline { id: id.clone(), section })),
        Message::Timeline(Box::new(Timeline { id, section: None })),
        Message::Metrics(Metrics { text: "# EOF\n".to_owned() }),
        Message::Dropped(Dropped { count: 3 }),
        Message::End(End { verdict: "clean".into(), reasons: report.reasons }),
        Message::Error(Refusal { kind: Why::BadRequest, text: "understand a line".to_owned() }),
    ]
}

/// As it comes out of a line: what a timeline has for drawing alone is not in it.
fn wire(mut section: lazymmu_report::SectionTimeline) -> lazymmu_report::SectionTimeline {
    for step in &mut section.steps {
        step.waiting.clear();
        step.address = None;
    }
    section
}

fn requests() -> Vec<Request> {
    let wanted = || Wanted { id: "0123456789abcdef".to_owned() };
    vec![
        Request::Hello(Hello::client()),
        Request::Subscribe {},
        Request::Snapshot {},
        Request::Status {},
        Request::Finding(wanted()),
        Request::Timeline(wanted()),
        Request::Metrics {},
    ]
}

fn schema(name: &str) -> Value {
    let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Checks one part of the schema.
fn check(part: &str, lines: &[String]) {
    const BASE: &str = "https://lazymmu.example/docs/protocol.schema.json";
    let registry = Registry::new()
        .add("https://lazymmu.example/docs/findings.schema.json", schema("findings.schema.json"))
        .unwrap()
        .prepare()
        .unwrap();
    let mut whole = schema("protocol.schema.json");
    whole["anyOf"] = json!([{ "$ref": format!("#/$defs/{part}") }]);
    let validator: Validator =
        jsonschema::options().with_registry(&registry).with_base_uri(BASE).build(&whole).unwrap();
    for line in lines {
        let value: Value = serde_json::from_str(line).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{line}: {errors:#?}");
        // A field that the schema does not have must fail, or the schema could say anything.
        let name = value.as_object().unwrap().keys().next().unwrap().clone();
        let mut more = value.clone();
        more[&name]["surplus"] = json!(1);
        assert!(!validator.is_valid(&more), "{name} may have any field");
    }
}

#[test]
fn messages_follow_the_schema() {
    check("message", &messages().iter().map(Message::line).collect::<Vec<_>>());
}

#[test]
fn requests_follow_the_schema() {
    check("request", &requests().iter().map(Request::line).collect::<Vec<_>>());
}

#[test]
fn lines_are_read_as_what_they_were() {
    for message in messages() {
        let line = message.line();
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
        assert_eq!(Message::parse(&line).unwrap(), message);
    }
    for request in requests() {
        assert_eq!(Request::parse(&request.line()).unwrap(), request);
    }
}

/// Puts a field into every object.
fn embellish(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(embellish);
            // In maps from names to counts it is one more name.
            object.insert("of a later version".to_owned(), json!(77));
        }
        Value::Array(array) => array.iter_mut().for_each(embellish),
        _ => {}
    }
}

#[test]
fn what_later_versions_add_is_left_alone() {
    for message in messages() {
        let mut value: Value = serde_json::from_str(&message.line()).unwrap();
        embellish(&mut value);
        let read = Message::parse(&value.to_string()).unwrap();
        assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(&message));
        if let (Message::Update(read), Message::Update(update)) = (read, message) {
            assert_eq!(read, update);
        }
    }
    for request in requests() {
        let mut value: Value = serde_json::from_str(&request.line()).unwrap();
        embellish(&mut value);
        assert_eq!(Request::parse(&value.to_string()).unwrap(), request);
    }
    let line = r#"{"weather":{"rain":true}}"#;
    assert_eq!(Message::parse(line).unwrap(), Message::Unknown("weather".to_owned()));
    assert_eq!(Request::parse(line).unwrap(), Request::Unknown("weather".to_owned()));
}

#[test]
fn words_of_later_versions_are_taken() {
    let mut value: Value = serde_json::from_str(&messages()[2].line()).unwrap();
    value["update"]["findings"][0]["rule"] = json!("page-of-yesterday");
    let Message::Update(update) = Message::parse(&value.to_string()).unwrap() else { panic!("no update") };
    assert_eq!(update.findings[0].rule, "page-of-yesterday");
    let refusal = r#"{"error":{"kind":"out-of-tea","text":"make tea"}}"#;
    let Message::Error(refusal) = Message::parse(refusal).unwrap() else { panic!("no error") };
    assert_eq!((refusal.kind, &*refusal.text), (Why::Other, "make tea"));
}

#[test]
fn another_major_version_is_refused_by_its_name() {
    let newer = |major, minor| Hello { protocol: Version { major, minor }, ..Hello::client() };
    newer(VERSION.major, VERSION.minor + 40).check().unwrap();
    let hello = Hello { lazymmu: "9.8.7".to_owned(), ..newer(VERSION.major + 1, 3) };
    let error = hello.check().unwrap_err();
    assert!(matches!(error, Error::Version { .. }));
    let text = error.to_string();
    for part in ["9.8.7", "2.3", "1.0", env!("CARGO_PKG_VERSION")] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn what_is_no_line_is_refused() {
    for text in ["", "{", "7", "[]", "{}", "null", "\"subscribe\"", "{\"finding\":{}}", "{\"finding\":7}"] {
        assert!(Request::parse(text).is_err(), "{text:?} is no request");
        assert!(Message::parse(text).is_err(), "{text:?} is no message");
    }
}
