//! What live and replayed sessions have in common, so that they cannot differ: the engine's settings, the report,
//! and the exit status that follows from the verdict.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use lazymmu_hazard::{Arch, Config, Engine, Gap, Outcome, Verdict};
use lazymmu_report::{Report, Session, Style};
use lazymmu_trace::{Damage, Header, Symbols};

use crate::cli::{Color, Format};
use crate::policy::Policy;
use crate::{ExitStatus, Failure};

/// An engine for the kernel that the header describes.
pub(crate) fn engine(header: &Header) -> Engine {
    let mut engine =
        Engine::new(Config { arch: Arch::from_machine(&header.kernel.architecture), ..Config::default() });
    // What a plan names is never all that there is.
    if header.plan.sites.is_some() {
        engine.gap(Gap::Coverage);
    }
    engine
}

/// Where and how a report goes out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    style: Style,
}

impl Output {
    pub(crate) fn new(format: Format, color: Color) -> Self {
        Self { format, style: Self::style(color) }
    }

    /// Whether stdout gets colour.
    pub(crate) fn style(color: Color) -> Style {
        let wanted = match color {
            Color::Always => true,
            Color::Never => false,
            // https://no-color.org: any value but the empty one.
            Color::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !refused && io::stdout().is_terminal()
            }
        };
        if wanted { Style::Colour } else { Style::Plain }
    }

    /// Prints to stdout. A reader who has gone away is no error.
    pub(crate) fn print(text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.context("failed to write to stdout"),
        }
    }

    /// In that form, for a file.
    pub(crate) fn to_file(format: Format) -> Self {
        Self { format, style: Style::Plain }
    }

    pub(crate) fn format(self) -> Format {
        self.format
    }

    /// Prints the report of what was selected and gives the exit status that its verdict calls for.
    pub(crate) fn report(
        self,
        policy: &Policy,
        header: &Header,
        symbols: &Symbols,
        outcome: Outcome,
        damage: Option<Damage>,
    ) -> Result<ExitStatus> {
        let judged = Judged::new(policy, header, symbols, outcome, damage)?;
        Self::print(&self.render(&judged.report)?)?;
        Ok(judged.status)
    }

    /// The report in the form that was asked for.
    pub(crate) fn render(self, report: &Report) -> Result<String, Failure> {
        Ok(match self.format {
            Format::Human => report.text(self.style),
            Format::Json => report.json(),
            Format::Jsonl => report.jsonl(),
            Format::Sarif => report.sarif(),
            Format::Junit => report.junit(),
            Format::Ktap => report.ktap(),
            Format::Html => report.html().map_err(|error| Failure::to(ExitStatus::Bug, error))?,
            Format::Github => report.github(),
        })
    }
}

/// What was selected of an outcome, as a report, and the exit status that it calls for.
pub(crate) struct Judged {
    pub(crate) report: Report,
    pub(crate) status: ExitStatus,
    /// What is in the report, without the suppressed.
    pub(crate) outcome: Outcome,
}

impl Judged {
    pub(crate) fn new(
        policy: &Policy,
        header: &Header,
        symbols: &Symbols,
        mut outcome: Outcome,
        damage: Option<Damage>,
    ) -> Result<Self> {
        let Policy { filter, suppressions, today, baseline } = policy;
        let applied = suppressions.apply(&mut outcome, symbols, *today);
        let session = Session { header, symbols, outcome: &outcome, damage };
        let mut report = Report::new(&session).with_filter(filter.as_ref(), header).with_suppressed(
            suppressions,
            &applied,
            &session,
        );
        let status = match (baseline, outcome.verdict()) {
            (Some(known), _) => known.apply(&mut report)?,
            (None, Verdict::Clean) => ExitStatus::Clean,
            (None, Verdict::Hazards) => ExitStatus::Hazards,
            (None, Verdict::Inconclusive) => ExitStatus::Inconclusive,
        };
        Ok(Self { report, status, outcome })
    }
}
