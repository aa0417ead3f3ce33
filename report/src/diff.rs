//! Two reports side by side: hazards that are new, gone or changed, and the sizes of the batches.
//!
//! Both sides are JSON reports, so that one that was made by another version, or long ago, can be compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::batches::{COLUMNS, column_name, mean};
use crate::cases::one_line;
use crate::style::{Role, Style};
use crate::{Report, figures, json};

/// One of the two.
#[derive(Clone, Debug)]
pub struct Side {
    name: String,
    document: Document,
}

/// Why a report cannot be compared.
#[derive(Clone, Debug, thiserror::Error)]
#[error("compare {name}: {why}")]
pub struct SideError {
    name: String,
    why: String,
}

/// What of the JSON report is compared.
#[derive(Clone, Debug, Deserialize)]
struct Document {
    schema: u32,
    verdict: String,
    reasons: Vec<Reason>,
    target: Target,
    sections: BTreeMap<String, u64>,
    findings: Vec<Found>,
    #[serde(default)]
    batches: Option<Batches>,
}

#[derive(Clone, Debug, Deserialize)]
struct Reason {
    text: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Target {
    release: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Batches {
    total: Total,
}

#[derive(Clone, Debug, Deserialize)]
struct Total {
    histogram: [u64; COLUMNS],
}

#[derive(Clone, Debug, Deserialize)]
struct Found {
    rule: String,
    severity: String,
    fingerprint: String,
    what: Option<String>,
    state: String,
    count: u64,
    write: Option<Site>,
    access: Site,
    profiles: Vec<Profile>,
}

#[derive(Clone, Debug, Deserialize)]
struct Site {
    function: String,
    op: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Profile {
    name: String,
    breaks: bool,
}

impl Side {
    /// Reads a JSON report; `name` is how the difference calls it.
    pub fn parse(name: &str, text: &str) -> Result<Self, SideError> {
        let fail = |why| SideError { name: name.to_owned(), why };
        let document: Document = serde_json::from_str(text)
            .map_err(|error| fail(format!("it is no report of lazymmu: {error}")))?;
        if document.schema != Report::SCHEMA {
            let version = document.schema;
            return Err(fail(format!("the report is of version {version}, not {}", Report::SCHEMA)));
        }
        Ok(Self { name: one_line(name), document })
    }

    /// Whether everything that matters was seen.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.document.reasons.is_empty()
    }

    fn hazards(&self) -> impl Iterator<Item = &Found> {
        self.document.findings.iter().filter(|finding| finding.severity == "error")
    }

    fn find(&self, fingerprint: &str) -> Option<&Found> {
        self.hazards().find(|finding| finding.fingerprint == fingerprint)
    }
}

/// The difference. Its fields are the JSON document of docs/diff.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// The version of the document.
    pub schema: u32,
    /// What was compared.
    pub before: Summary,
    /// What it was compared with.
    pub after: Summary,
    /// Hazards of the second that the first has not.
    pub new: Vec<Entry>,
    /// Hazards of the first that the second has not.
    pub gone: Vec<Entry>,
    /// Hazards of both that are not the same.
    pub changed: Vec<Changed>,
    /// How many hazards are the same in both.
    pub same: usize,
    /// Numbers side by side.
    pub figures: Vec<Figure>,
}

/// One of the two, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// The kernel's release.
    pub release: String,
    /// Its verdict.
    pub verdict: String,
    /// What was not seen.
    pub reasons: Vec<String>,
}

/// A hazard of one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The rule.
    pub rule: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// What happened where.
    pub what: String,
    /// How often.
    pub count: u64,
    /// `latent` or `proven`.
    pub state: String,
}

/// A hazard that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// As the first has it.
    pub before: Entry,
    /// As the second has it.
    pub after: Entry,
    /// Architectures on which it breaks only in the second.
    pub breaks_now: Vec<String>,
    /// Architectures on which it breaks only in the first.
    pub breaks_no_more: Vec<String>,
}

/// A number of both sides, as text; a dash where it is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// What it counts.
    pub name: String,
    /// Of the first.
    pub before: String,
    /// Of the second.
    pub after: String,
}

impl Diff {
    /// The version of the document.
    pub const SCHEMA: u32 = 1;

    /// Compares.
    #[must_use]
    pub fn new(before: &Side, after: &Side) -> Self {
        let only = |of: &Side, other: &Side| {
            let missing = of.hazards().filter(|finding| other.find(&finding.fingerprint).is_none());
            missing.map(Entry::from).collect::<Vec<_>>()
        };
        let both = before.hazards().filter_map(|old| after.find(&old.fingerprint).map(|new| (old, new)));
        let (mut same, mut changed) = (0, Vec::new());
        for (old, new) in both {
            match Changed::new(old, new) {
                Some(change) => changed.push(change),
                None => same += 1,
            }
        }
        Self {
            schema: Self::SCHEMA,
            before: Summary::from(before),
            after: Summary::from(after),
            new: only(after, before),
            gone: only(before, after),
            changed,
            same,
            figures: numbers(before, after),
        }
    }

    /// Whether the second has a hazard that the first has not, or one that was not proven before.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        let proven = |change: &Changed| change.before.state != "proven" && change.after.state == "proven";
        !self.new.is_empty() || self.changed.iter().any(proven)
    }

    /// The document as JSON, with a newline at its end.
    #[must_use]
    pub fn json(&self) -> String {
        json::render(self)
    }

    /// For people.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut text = String::new();
        for (mark, side) in [("A", &self.before), ("B", &self.after)] {
            let Summary { name, release, verdict, reasons } = side;
            let mark = style.paint(Role::Title, mark);
            let _ = writeln!(text, "{mark}  {name}: Linux {release}, {verdict}");
            for reason in reasons {
                let _ = writeln!(text, "   {}", style.paint(Role::Doubt, reason));
            }
        }
        part(&mut text, style, Role::Bad, "New in B:", &self.new);
        part(&mut text, style, Role::Good, "Gone in B:", &self.gone);
        if !self.changed.is_empty() {
            let _ = writeln!(text, "\n{}", style.paint(Role::Title, "Changed:"));
            for change in &self.changed {
                let rule = style.paint(Role::Name, &change.after.rule);
                let _ = writeln!(text, " {rule}: {}\n     {}", change.after.what, change.words());
            }
        }
        let _ = writeln!(text, "\nThe same in both: {}\n", self.same);
        self.table(&mut text, style);
        text
    }

    fn table(&self, text: &mut String, style: Style) {
        let wide =
            |of: fn(&Figure) -> &str| self.figures.iter().map(|figure| of(figure).len()).max().unwrap_or(0);
        let (name, a, b) = (wide(|f| &f.name), wide(|f| &f.before).max(6), wide(|f| &f.after).max(6));
        let heads = format!("{:name$}  {:>a$}  {:>b$}", "", "A", "B");
        let _ = writeln!(text, "{}", style.paint(Role::Title, &heads));
        for figure in &self.figures {
            let _ = writeln!(text, "{:name$}  {:>a$}  {:>b$}", figure.name, figure.before, figure.after);
        }
    }
}

fn part(text: &mut String, style: Style, heading: Role, title: &str, entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", style.paint(heading, title));
    for Entry { rule, fingerprint, what, count, state } in entries {
        let rule = style.paint(Role::Name, rule);
        let seen = figures::times(*count);
        let _ = writeln!(text, " {rule}: {what}\n     seen {seen}, {state}, fingerprint {fingerprint}");
    }
}

impl Changed {
    fn new(old: &Found, new: &Found) -> Option<Self> {
        let breaks = |finding: &Found| -> Vec<String> {
            finding.profiles.iter().filter(|line| line.breaks).map(|line| one_line(&line.name)).collect()
        };
        let (was, is) = (breaks(old), breaks(new));
        let only = |of: &[String], other: &[String]| {
            of.iter().filter(|name| !other.contains(name)).cloned().collect::<Vec<_>>()
        };
        let this = Self {
            before: Entry::from(old),
            after: Entry::from(new),
            breaks_now: only(&is, &was),
            breaks_no_more: only(&was, &is),
        };
        (this.before != this.after || was != is).then_some(this)
    }

    fn words(&self) -> String {
        let mut words = Vec::new();
        let (old, new) = (&self.before, &self.after);
        if old.count != new.count {
            words.push(format!("seen {} -> {} times", old.count, new.count));
        }
        if old.state != new.state {
            words.push(format!("{} -> {}", old.state, new.state));
        }
        for (what, names) in
            [("breaks now on", &self.breaks_now), ("breaks no more on", &self.breaks_no_more)]
        {
            if !names.is_empty() {
                words.push(format!("{what} {}", names.join(", ")));
            }
        }
        if words.is_empty() {
            words.push("the accessors are others".to_owned());
        }
        words.join("; ")
    }
}

impl From<&Found> for Entry {
    fn from(finding: &Found) -> Self {
        let Found { rule, fingerprint, what, state, count, write, access, .. } = finding;
        let access = format!("{} in {}", access.op, access.function);
        let what = match (what, write) {
            (Some(what), _) => format!("{what} ({access})"),
            (None, Some(write)) => format!("{access} after {} in {}", write.op, write.function),
            (None, None) => access,
        };
        Self {
            rule: one_line(rule),
            fingerprint: one_line(fingerprint),
            what: one_line(&what),
            count: *count,
            state: one_line(state),
        }
    }
}

impl From<&Side> for Summary {
    fn from(side: &Side) -> Self {
        let Document { verdict, reasons, target, .. } = &side.document;
        Self {
            name: side.name.clone(),
            release: one_line(&target.release),
            verdict: one_line(verdict),
            reasons: reasons.iter().map(|reason| one_line(&reason.text)).collect(),
        }
    }
}

/// The batches side by side.
fn numbers(before: &Side, after: &Side) -> Vec<Figure> {
    let sides = [before, after];
    let figure = |name: String, of: &dyn Fn(&Side) -> Option<String>| {
        let [before, after] = sides.map(|side| of(side).unwrap_or_else(|| "-".to_owned()));
        Figure { name, before, after }
    };
    let number = |side: &Side, name: &str| side.document.sections.get(name).copied();
    let mut figures = Vec::new();
    for (title, name) in [
        ("sections", "entered"),
        ("entries written", "entries_written"),
        ("flush calls", "flushes"),
        ("batches", "batches"),
        ("empty batches", "empty_batches"),
        ("largest batch", "largest_batch"),
        ("most waiting at once", "max_pending"),
    ] {
        figures.push(figure(title.to_owned(), &|side| Some(number(side, name)?.to_string())));
    }
    for (title, sum, count) in [
        ("entries in a batch", "entries_flushed", "batches"),
        ("entries in a section", "entries_written", "entered"),
    ] {
        figures.push(figure(title.to_owned(), &|side| Some(mean(number(side, sum)?, number(side, count)?))));
    }
    let counts =
        |side: &Side, column: usize| side.document.batches.as_ref().map(|it| it.total.histogram[column]);
    for column in 0..COLUMNS {
        if sides.iter().any(|side| counts(side, column).is_some_and(|count| count > 0)) {
            let title = format!("batches of {}", column_name(column));
            figures.push(figure(title, &|side| Some(counts(side, column)?.to_string())));
        }
    }
    figures
}
