//! Findings for people and for programs, in the forms that each of them reads.
//!
//! [`Report::new`] puts together what the engine found, what the trace says of the kernel, and the names of the call
//! stacks; [`Report::json`], [`Report::text`] and so on write it down. The same input gives the same bytes: nothing here asks
//! for the time, the host or the terminal.

#![forbid(unsafe_code)]

mod announce;
pub mod baseline;
pub mod batches;
mod cases;
pub mod diff;
pub mod expectation;
mod explain;
mod figures;
pub mod filter;
mod finding;
mod github;
mod glob;
mod html;
mod json;
mod jsonl;
mod junit;
mod ktap;
mod pte;
mod sarif;
mod stack;
mod style;
mod summary;
pub mod suppress;
mod text;
mod timeline;
pub mod what_if;
mod words;
mod wrap;

pub use announce::announce;
pub use baseline::{Baseline, BaselineError};
pub use explain::{explain, explain_profile, list_profiles, list_rules, profile_names};
pub use filter::{Filter, FilterError};
pub use finding::{Example, Finding, ProfileLine, Site, Value};
pub use html::PageError;
pub use pte::{Decoded, PteLayout};
pub use stack::{Names, StackFrame};
pub use style::Style;
pub use summary::{Damage, Hooks, Losses, Missing, Reason, Records, Sections, Target};
pub use suppress::{Date, SuppressionError, Suppressions};
pub use timeline::{Collector, LeftOut, Mark, Room, SectionTimeline, Step};
pub use words::Word;

use lazymmu_hazard::{Outcome, Verdict};
use lazymmu_trace::{Header, Symbols};
use serde::Serialize;

/// What a report is made from.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// Which kernel, which hooks.
    pub header: &'a Header,
    /// The call stacks and their names.
    pub symbols: &'a Symbols,
    /// What the engine has to say.
    pub outcome: &'a Outcome,
    /// What is wrong with the trace file; `None` for a whole one and for a live session.
    pub damage: Option<lazymmu_trace::Damage>,
}

/// The report. Its fields are the JSON document of docs/findings-json.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of the document: [`Report::SCHEMA`].
    pub schema: u32,
    /// `clean`, `hazards` or `inconclusive`.
    pub verdict: &'static str,
    /// Why a hazard may have been missed, whatever the verdict is.
    pub reasons: Vec<Reason>,
    /// The kernel that was traced.
    pub target: Target,
    /// What was hooked.
    pub hooks: Hooks,
    /// Counts of records.
    pub records: Records,
    /// Counts of sections and what was written in them.
    pub sections: Sections,
    /// Records that never arrived.
    pub losses: Losses,
    /// What is wrong with the trace file.
    pub damage: Option<Damage>,
    /// What the findings were selected by; `None` if all are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterNote>,
    /// The findings, one per bug.
    pub findings: Vec<Finding>,
    /// Findings that do not count, because somebody gave a reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suppressed: Vec<suppress::Suppressed>,
    /// Suppressions that did nothing; `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppressions: Option<suppress::SuppressionsNote>,
    /// What is new and what is gone; `None` without a baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<baseline::BaselineNote>,
    /// The sizes of the batches; `None` if nobody counted them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches: Option<batches::BatchReport>,
}

/// What the findings were selected by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilterNote {
    /// The filter in its one form, that of the trace included.
    pub expression: String,
    /// The filter by which the trace was reduced when it was written; `None` if it is whole.
    pub trace: Option<String>,
}

impl Report {
    /// The version of the document. It changes when a field goes away or changes its meaning; new fields may come
    /// without.
    pub const SCHEMA: u32 = 2;

    /// Puts the report together.
    #[must_use]
    pub fn new(session: &Session<'_>) -> Self {
        let Session { header, symbols, outcome, damage } = *session;
        let layout = PteLayout::from_name(&header.kernel.pte_layout);
        let classes = outcome.classes(&Names(symbols));
        Self {
            schema: Self::SCHEMA,
            verdict: outcome.verdict().name(),
            reasons: outcome.reasons().iter().map(Reason::new).collect(),
            target: Target::new(&header.kernel),
            hooks: Hooks::new(header),
            records: Records::new(&outcome.statistics),
            sections: Sections::new(&outcome.statistics),
            losses: Losses::new(&outcome.losses),
            damage: damage.map(Damage::new),
            filter: None,
            findings: classes.iter().map(|class| Finding::new(class, symbols, layout)).collect(),
            suppressed: Vec::new(),
            suppressions: None,
            baseline: None,
            batches: None,
        }
    }

    /// The kernel that a trace or capture is of, as reports say it.
    #[must_use]
    pub fn target_of(header: &Header) -> Target {
        Target::new(&header.kernel)
    }

    /// Says by what the outcome was selected, if by anything.
    #[must_use]
    pub fn with_filter(mut self, filter: Option<&Filter>, header: &Header) -> Self {
        let trace = header.capture.filter.clone();
        self.filter = filter.map(|filter| FilterNote { expression: filter.to_string(), trace });
        self
    }

    /// Says what was suppressed in the outcome. To be called after [`Report::with_filter`].
    #[must_use]
    pub fn with_suppressed(
        mut self,
        suppressions: &Suppressions,
        applied: &suppress::Applied,
        session: &Session<'_>,
    ) -> Self {
        let layout = PteLayout::from_name(&session.header.kernel.pte_layout);
        self.suppressed = suppressions.findings(applied, session.symbols, layout);
        self.suppressions = suppressions.idle(applied, self.filter.is_some());
        self
    }

    /// Adds the courses of the sections. The collector was made from the classes of the outcome that the report is of.
    pub fn add_timelines(&mut self, collector: Collector, session: &Session<'_>) {
        let layout = PteLayout::from_name(&session.header.kernel.pte_layout);
        timeline::attach(&mut self.findings, collector, session.symbols, layout);
    }

    /// Adds the sizes of the batches.
    pub fn add_batches(&mut self, observer: &batches::Observer, symbols: &Symbols) {
        self.batches = Some(batches::BatchReport::new(observer, symbols));
    }

    /// The document as JSON, with a newline at its end.
    #[must_use]
    pub fn json(&self) -> String {
        json::render(self)
    }

    /// The document in lines: see docs/reports.md.
    #[must_use]
    pub fn jsonl(&self) -> String {
        jsonl::render(self)
    }

    /// SARIF 2.1.0.
    #[must_use]
    pub fn sarif(&self) -> String {
        sarif::render(self)
    }

    /// JUnit XML.
    #[must_use]
    pub fn junit(&self) -> String {
        junit::render(self)
    }

    /// KTAP, version 1.
    #[must_use]
    pub fn ktap(&self) -> String {
        ktap::render(self)
    }

    /// One page that needs nothing else.
    pub fn html(&self) -> Result<String, PageError> {
        Ok(html::render(self)?)
    }

    /// Workflow commands of GitHub Actions.
    #[must_use]
    pub fn github(&self) -> String {
        github::render(self)
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        text::render(self, style)
    }

    /// Whether there is a hazard, none, or no telling.
    #[must_use]
    pub fn is(&self, verdict: Verdict) -> bool {
        self.verdict == verdict.name()
    }
}
