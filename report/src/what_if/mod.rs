//! What a flush before a given place would cost, and what it would mend: the trace is judged once as it is, and once
//! with that flush. docs/what-if.md says how to read the answer.

mod flush;
mod site;
mod text;

use std::collections::BTreeMap;

use lazymmu_abi::Record;
use lazymmu_hazard::{Arch, Class, Config, Engine};
use lazymmu_trace::{Header, Symbols};
use serde::Serialize;

pub use flush::FlushBefore;
pub use site::{Site, SiteError};

use crate::batches::{Batches, Observer};
use crate::stack::Names;
use crate::style::Style;

/// A trace that is judged as it is and with a flush, at the same time.
pub struct WhatIf<'a> {
    site: &'a Site,
    symbols: &'a Symbols,
    flush: FlushBefore<'a>,
    now: Side,
    then: Side,
}

struct Side {
    engine: Engine,
    observer: Observer,
}

/// The answer. Its fields are the JSON document of docs/what-if.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The version of the document: [`Answer::SCHEMA`].
    pub schema: u32,
    /// The place.
    pub flush_before: String,
    /// How many accesses of the place the trace has.
    pub reached: u64,
    /// How many of them a task made inside a section: so many flushes came in.
    pub flushes_added: u64,
    /// All sections together.
    pub total: Change,
    /// By the function that opened the section; those in which nothing changes are left out.
    pub by_opener: BTreeMap<String, Change>,
    /// The findings of the trace as it is, in the order of the report, and those that only the flush brings.
    pub findings: Vec<Fate>,
}

/// Batches without the flush and with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// As the trace is.
    pub now: Batches,
    /// With the flush.
    pub then: Batches,
}

/// What becomes of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// The rule.
    pub rule: &'static str,
    /// The fingerprint, as in the report.
    pub fingerprint: String,
    /// The function of the access.
    pub function: String,
    /// How many hazards there are.
    pub now: u64,
    /// How many there would be.
    pub then: u64,
}

impl<'a> WhatIf<'a> {
    /// For a trace with this header and these call stacks.
    #[must_use]
    pub fn new(site: &'a Site, header: &Header, symbols: &'a Symbols) -> Self {
        let fresh = || {
            let arch = Arch::from_machine(&header.kernel.architecture);
            let config = Config { arch, ..Config::default() };
            Side { engine: Engine::new(config), observer: Observer::default() }
        };
        Self { site, symbols, flush: FlushBefore::new(site, symbols), now: fresh(), then: fresh() }
    }

    /// Takes in some records.
    pub fn process(&mut self, records: &[Record]) {
        for record in records {
            self.now.process(record);
            if let Some(flush) = self.flush.before(record) {
                self.then.process(&flush);
            }
            self.then.process(record);
        }
    }

    /// The answer, when all records are in.
    #[must_use]
    pub fn finish(self) -> Answer {
        let Self { site, symbols, flush, now, then } = self;
        let mut by_opener: BTreeMap<String, Change> = BTreeMap::new();
        for (opener, batches) in now.observer.by_opener(symbols) {
            by_opener.entry(opener).or_default().now = batches;
        }
        for (opener, batches) in then.observer.by_opener(symbols) {
            by_opener.entry(opener).or_default().then = batches;
        }
        by_opener.retain(|_, change| change.now != change.then);
        let total = Change { now: now.observer.total(), then: then.observer.total() };
        let (now, then) = (now.engine.finish(), then.engine.finish());
        let findings = fates(&now.classes(&Names(symbols)), &then.classes(&Names(symbols)));
        Answer {
            schema: Answer::SCHEMA,
            flush_before: site.to_string(),
            reached: flush.reached,
            flushes_added: flush.added,
            total,
            by_opener,
            findings,
        }
    }
}

impl Side {
    fn process(&mut self, record: &Record) {
        self.observer.process(&mut self.engine, record);
    }
}

fn fates(now: &[Class], then: &[Class]) -> Vec<Fate> {
    let count = |classes: &[Class], fingerprint: u64| {
        let class = classes.iter().find(|class| class.fingerprint == fingerprint);
        class.map_or(0, |class| class.count)
    };
    let known = |class: &&Class| now.iter().any(|other| other.fingerprint == class.fingerprint);
    let brought = then.iter().filter(|class| !known(class));
    let fate = |class: &Class| Fate {
        rule: class.rule.info().name,
        fingerprint: format!("{:016x}", class.fingerprint),
        function: class.access.function.clone(),
        now: count(now, class.fingerprint),
        then: count(then, class.fingerprint),
    };
    now.iter().chain(brought).map(fate).collect()
}

impl Answer {
    /// The version of the document.
    pub const SCHEMA: u32 = 1;

    /// The document as JSON, with a newline at its end.
    #[must_use]
    pub fn json(&self) -> String {
        crate::json::render(self)
    }

    /// The answer for people.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        text::render(self, style)
    }
}

#[cfg(test)]
mod tests;
