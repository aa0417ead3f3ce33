//! The order of the findings, and which of them is selected while they come and go.

use std::cmp::{Ordering, Reverse};

use lazymmu_report::Finding;

use super::{State, View};

/// A column to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Errors first, proven ones before latent ones; then the most frequent.
    Severity,
    /// The rule.
    Rule,
    /// How many profiles it breaks on.
    Breaks,
    /// How often.
    Count,
    /// How lately.
    Last,
    /// The function that wrote, then the one that came too early.
    Functions,
}

impl Column {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Severity => Self::Rule,
            Self::Rule => Self::Breaks,
            Self::Breaks => Self::Count,
            Self::Count => Self::Last,
            Self::Last => Self::Functions,
            Self::Functions => Self::Severity,
        }
    }

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Severity => "severity",
            Self::Rule => "rule",
            Self::Breaks => "architectures",
            Self::Count => "count",
            Self::Last => "last seen",
            Self::Functions => "functions",
        }
    }
}

impl State {
    /// Sorts the findings, and keeps the selected one selected.
    pub(super) fn sort(&mut self) {
        let findings = &self.shown.report.findings;
        let mut order: Vec<usize> = (0..findings.len()).collect();
        order.sort_by(|a, b| {
            let order = self.compare(&findings[*a], &findings[*b]);
            if self.reversed { order.reverse() } else { order }
        });
        let place = |fingerprint: &String| {
            order.iter().position(|number| findings[*number].fingerprint == *fingerprint)
        };
        let at = self.selected.as_ref().and_then(place);
        let old = self.cursors.get(&View::Findings).copied().unwrap_or_default();
        let cursor = at.unwrap_or(old.min(order.len().saturating_sub(1)));
        self.selected = order.get(cursor).map(|number| findings[*number].fingerprint.clone());
        self.cursors.insert(View::Findings, cursor);
        self.order = order;
    }

    fn compare(&self, a: &Finding, b: &Finding) -> Ordering {
        let breaks = |finding: &Finding| finding.profiles.iter().filter(|profile| profile.breaks).count();
        let last =
            |finding: &Finding| self.shown.seen.get(&finding.fingerprint).map_or(0, |seen| seen.last_ns);
        let severity = |finding: &Finding| {
            (Reverse(finding.is_error()), Reverse(finding.proven > 0), Reverse(finding.count))
        };
        let functions = |finding: &Finding| {
            (finding.write.as_ref().map(|site| site.function.clone()), finding.access.function.clone())
        };
        let order = match self.column {
            Column::Severity => Ordering::Equal,
            Column::Rule => a.rule.cmp(&b.rule),
            Column::Breaks => breaks(b).cmp(&breaks(a)),
            Column::Count => b.count.cmp(&a.count),
            Column::Last => last(b).cmp(&last(a)),
            Column::Functions => functions(a).cmp(&functions(b)),
        };
        order.then_with(|| severity(a).cmp(&severity(b))).then_with(|| a.fingerprint.cmp(&b.fingerprint))
    }
}
