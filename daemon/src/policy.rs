//! What counts: the filter, the suppressions and the baseline that the command line asks for. The only place that asks
//! what day it is and that reads suppressions and baselines from disk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use lazymmu_hazard::{Engine, Occurrence, Outcome};
use lazymmu_report::batches::Observer;
use lazymmu_report::filter::Selection;
use lazymmu_report::{Baseline, Date, Filter, Report, Suppressions};
use lazymmu_trace::{Header, Symbols};

use crate::cli::{BaselineArgs, FilterArgs, SuppressArgs};
use crate::serving::Feed;
use crate::{ExitStatus, Failure, session, whole_file};

/// What counts.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// What is selected; `None` for everything.
    pub(crate) filter: Option<Filter>,
    pub(crate) suppressions: Suppressions,
    pub(crate) today: Date,
    pub(crate) baseline: Option<Known>,
}

/// A baseline, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    path: PathBuf,
    baseline: Baseline,
    /// Whether what is seen is to be written there.
    update: bool,
}

impl Known {
    fn read(path: &Path, update: bool) -> Result<Self> {
        let name = path.display().to_string();
        let baseline = match std::fs::read_to_string(path) {
            Ok(text) => {
                Baseline::parse(&name, &text).map_err(|error| Failure::to(ExitStatus::Usage, error))?
            }
            // The first one has to begin somewhere.
            Err(error) if update && error.kind() == io::ErrorKind::NotFound => Baseline::default(),
            Err(error) => {
                let what = format!("read the baseline {name}: {error}");
                return Err(Failure::to(ExitStatus::Usage, what).into());
            }
        };
        Ok(Self { path: path.to_owned(), baseline, update })
    }

    /// Whether it is to be written.
    pub(crate) fn is_updated(&self) -> bool {
        self.update
    }

    /// Marks what is new, and writes it down if that was asked for. Gives the exit status: what is written down is
    /// known from then on.
    pub(crate) fn apply(&self, report: &mut Report) -> Result<ExitStatus, Failure> {
        self.baseline.apply(report);
        if self.update {
            whole_file::write(&self.path, &self.baseline.updated(report).text())?;
        }
        let new = report.baseline.as_ref().map_or(0, |baseline| baseline.new);
        Ok(match (new, report.reasons.is_empty()) {
            (1.., _) if !self.update => ExitStatus::Hazards,
            (_, true) => ExitStatus::Clean,
            (_, false) => ExitStatus::Inconclusive,
        })
    }
}

impl Policy {
    pub(crate) fn new(filter: Option<Filter>, args: &SuppressArgs) -> Result<Self> {
        let mut suppressions =
            if args.no_default_suppressions { Suppressions::none() } else { Suppressions::shipped() };
        for path in &args.suppressions {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::to(ExitStatus::Usage, format!("read the suppressions {name}: {error}"))
            })?;
            suppressions.add(&name, &text).map_err(|error| Failure::to(ExitStatus::Usage, error))?;
        }
        for unknown in suppressions.unknown_rules() {
            let (file, line, name) = (unknown.file, unknown.line, unknown.name);
            eprintln!(
                "lazymmu: {file}:{line}: this version has no rule {name}, so the entry suppresses nothing; \
                 `lazymmu explain` lists the rules"
            );
        }
        Ok(Self { filter, suppressions, today: args.today.unwrap_or_else(today), baseline: None })
    }

    /// With the baseline that the command line names.
    pub(crate) fn with_baseline(mut self, args: &BaselineArgs) -> Result<Self> {
        self.baseline =
            args.baseline.as_deref().map(|path| Known::read(path, args.update_baseline)).transpose()?;
        Ok(self)
    }

    /// The policy for a trace that may itself have been reduced by a filter: both must hold.
    pub(crate) fn within(mut self, header: &Header) -> Result<Self> {
        let Some(text) = &header.capture.filter else { return Ok(self) };
        let refuse = |why: &str| {
            Failure::new(
                ExitStatus::Usage,
                format!("failed to use the trace: it was reduced by the filter {text}, {why}"),
            )
        };
        let own: Filter =
            text.parse().map_err(|_| refuse("which this version of lazymmu does not understand"))?;
        self.filter = match self.filter {
            None => Some(own),
            Some(filter) => {
                let both = own.and(filter);
                Some(both.ok_or_else(|| refuse("which together with the one given has too many terms"))?)
            }
        };
        Ok(self)
    }
}

/// The one filter that all options together stand for.
pub(crate) fn filter(args: &FilterArgs, keep: Option<&Filter>) -> Result<Option<Filter>> {
    let quoted = |values: &[String]| {
        let quote = |value: &String| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        values.iter().map(quote).collect::<Vec<_>>()
    };
    let numbers = |values: &[u32]| values.iter().map(u32::to_string).collect::<Vec<_>>();
    let options = [
        ("pid", numbers(&args.pid)),
        ("comm", quoted(&args.comm)),
        ("function", quoted(&args.function)),
        ("rule", quoted(&args.rule)),
        ("level", args.level.iter().map(|level| level.name().to_owned()).collect()),
    ];
    let mut whole: Option<Filter> = None;
    let parsed = options.into_iter().filter(|(_, values)| !values.is_empty()).map(|(key, values)| {
        let text = format!("{key}={}", values.join(","));
        text.parse::<Filter>().map_err(|error| Failure::to(ExitStatus::Usage, error))
    });
    let given = [args.filter.as_ref(), keep].into_iter().flatten().cloned();
    for part in parsed.chain(given.map(Ok)) {
        let part = part?;
        whole = match whole {
            None => Some(part),
            Some(whole) => {
                let both = whole.and(part);
                let too_many =
                    || Failure::new(ExitStatus::Usage, "failed to use the filter: it has more than 64 terms");
                Some(both.ok_or_else(too_many)?)
            }
        };
    }
    if let Some(name) = whole.iter().flat_map(Filter::unknown_rules).next() {
        let what =
            format!("failed to filter by the rule {name}: there is none; `lazymmu explain` lists them");
        return Err(Failure::new(ExitStatus::Usage, what).into());
    }
    Ok(whole)
}

/// In UTC, so that it does not depend on where the machine is.
fn today() -> Date {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Date::from_days_since_1970(u32::try_from(seconds / 86_400).unwrap_or(u32::MAX))
}

/// An engine, and what is selected of its findings.
pub(crate) struct Judge {
    engine: Engine,
    /// Counts batches, if someone wants to know.
    observer: Option<Observer>,
    selection: Option<Selection>,
}

impl Judge {
    pub(crate) fn new(header: &Header, filter: Option<&Filter>) -> Self {
        let mut engine = session::engine(header);
        let reduced = header.capture.filter.is_some();
        let selection = filter.cloned().map(Selection::new);
        let selection = selection.map(|whole| if reduced { whole.of_reduced() } else { whole });
        if selection.is_some() {
            engine.watch();
        }
        Self { engine, observer: None, selection }
    }

    /// From here on counts batches, for [`Judge::beat`].
    pub(crate) fn observe(&mut self) {
        self.observer.get_or_insert_default();
    }

    /// Tells the hub how things stand. Returns whether it takes that now.
    pub(crate) fn beat(&self, feed: &mut Feed, symbols: &Symbols) -> bool {
        let Some(observer) = &self.observer else { return true };
        let selected = self.selection.as_ref().map(|selection| selection.occurrences(symbols));
        feed.beat(&self.engine, observer, selected.as_deref())
    }

    pub(crate) fn process(&mut self, records: &[lazymmu_abi::Record]) {
        match &mut self.observer {
            None => self.engine.process_all(records),
            Some(observer) => {
                for record in records {
                    observer.process(&mut self.engine, record);
                }
            }
        }
        if let Some(selection) = &mut self.selection {
            selection.take(&mut self.engine);
        }
    }

    /// What is selected so far.
    pub(crate) fn occurrences(&self, symbols: &Symbols) -> Vec<Occurrence> {
        match &self.selection {
            Some(selection) => selection.occurrences(symbols),
            None => self.engine.occurrences().to_vec(),
        }
    }

    pub(crate) fn finish(mut self, symbols: &Symbols) -> Outcome {
        self.engine.end();
        if let Some(selection) = &mut self.selection {
            selection.take(&mut self.engine);
        }
        let outcome = self.engine.finish();
        match self.selection {
            Some(selection) => selection.outcome(outcome, symbols),
            None => outcome,
        }
    }
}
