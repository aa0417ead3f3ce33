//! `live`: capture and report as it happens.

use std::io::{self, IsTerminal as _};

use anyhow::Result;

use super::tui;
use crate::cli::{Color, LiveArgs, LookArgs};
use crate::policy::{self, Judge, Policy};
use crate::purpose::{Audience, CommandOutput, Purpose};
use crate::session::Output;
use crate::watching::{self, View};
use crate::{ExitStatus, Failure, capturing};

pub(super) fn run(args: &LiveArgs, color: Color) -> Result<ExitStatus> {
    if args.tui && !io::stdout().is_terminal() {
        let what = "failed to show the session: stdout is no terminal; without --tui it is reported as text";
        return Err(Failure::new(ExitStatus::Usage, what).into());
    }
    if !args.tui && args.look != LookArgs::default() {
        let what =
            "failed to use what concerns the view (--theme, --keys and so on): there is none without --tui";
        return Err(Failure::new(ExitStatus::Usage, what).into());
    }
    let purpose = Purpose {
        trace: args.record.as_deref(),
        judge: true,
        outlives_trace: true,
        output: match (args.tui, io::stderr().is_terminal()) {
            (false, _) => CommandOutput::Stderr,
            (true, false) => CommandOutput::StderrOnly,
            (true, true) => CommandOutput::Nowhere,
        },
        audience: Audience::Nobody,
    };
    let policy = Policy::new(policy::filter(&args.capture.filter, None)?, &args.suppress)?
        .with_baseline(&args.baseline)?;
    let (ended, shown) = if args.tui {
        let look = tui::look(&args.look, color, false)?;
        let view = View { look, keys: args.look.keys(), sources: args.source.as_deref() };
        watching::run(&args.capture, purpose, &policy, view)?
    } else {
        (capturing::run(&args.capture, purpose, &policy)?, Ok(()))
    };
    let judge = ended.judge.unwrap_or_else(|| Judge::new(&ended.header, policy.filter.as_ref()));
    let output = Output::new(args.report.format, color);
    let outcome = judge.finish(&ended.symbols);
    let verdict = output.report(&policy, &ended.header, &ended.symbols, outcome, None)?;
    // What was captured is reported even so.
    shown?;
    Ok(if verdict == ExitStatus::Clean && ended.incomplete { ExitStatus::Inconclusive } else { verdict })
}
