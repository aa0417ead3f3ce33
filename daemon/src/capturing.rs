//! A session that captures: drains the ring, names the call stacks, and hands records to a trace file, an engine, or
//! both, until the command ends, the time is over, or a signal comes.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use lazymmu_capture::{Capture, Class, Item, Options, Totals};
use lazymmu_hazard::rules::Severity;
use lazymmu_hazard::{Outcome, Place};
use lazymmu_trace::{Clock, Header, Symbols, Writer};
use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::time::Instant;

use crate::cli::{CaptureArgs, Scope};
use crate::naming::{Named, Naming};
use crate::notify::Manager;
use crate::policy::{Judge, Policy};
use crate::purpose::Purpose;
use crate::reducing::Reducing;
use crate::running::{Signals, Stop, end_command, ended, every, over, spawn};
use crate::serving::{About, Feed, Serving, Socket};
use crate::session;
use crate::{ExitStatus, Failure, privileges, probing};

/// How often waiting records go to the file: the most that a killed recording loses.
const FLUSH: Duration = Duration::from_millis(500);

/// How often the hub is told how things stand.
const BEAT: Duration = Duration::from_millis(100);

/// How a session ended.
pub(crate) struct Ended {
    pub(crate) header: Header,
    pub(crate) symbols: Symbols,
    pub(crate) judge: Option<Judge>,
    /// What keeps a clean verdict from being one: already said on stderr.
    pub(crate) incomplete: bool,
    /// Who serves, and the way there.
    pub(crate) serving: Option<(Feed, Serving)>,
}

/// Captures from start to end.
pub(crate) fn run(args: &CaptureArgs, purpose: Purpose<'_>, policy: &Policy) -> Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let (session, naming) = runtime.block_on(async {
        // Before anything is changed in the kernel or started, so that no signal finds us unprepared.
        let signals = Signals::new()?;
        let (mut session, mut naming, capture) = Session::start(args, purpose, policy)?;
        session.capture(args, capture, &mut naming, signals, purpose).await?;
        anyhow::Ok((session, naming))
    })?;
    Ok(session.end(naming))
}

struct Session {
    header: Header,
    symbols: Symbols,
    judge: Option<Judge>,
    trace: Option<Trace>,
    /// Chooses what goes into the trace, and to the engine with it, so that both judge the same; `None` if all does.
    reducing: Option<Reducing>,
    policy: Policy,
    outlives_trace: bool,
    totals: Totals,
    incomplete: bool,
    /// The places that were announced.
    announced: HashSet<Place>,
    serving: Option<(Feed, Serving)>,
}

struct Trace {
    path: PathBuf,
    writer: Writer<File>,
}

impl Session {
    fn start(args: &CaptureArgs, purpose: Purpose<'_>, policy: &Policy) -> Result<(Self, Naming, Capture)> {
        let scope = match args.scope {
            Scope::Sections => lazymmu_capture::Scope::Sections,
            Scope::All => lazymmu_capture::Scope::All,
            Scope::Suspects => lazymmu_capture::Scope::Suspects,
        };
        let options = Options {
            ring_bytes: args.ring_size,
            scope,
            deferral: lazymmu_hazard::profile::deferral(),
            pending: args.pending,
            stacks: !args.no_stacks,
        };
        let started = clock_gettime(ClockId::Monotonic);
        let capture = match probing::plan(args)? {
            Some(plan) => Capture::open_plan(options, &plan),
            None => Capture::open(options),
        };
        let capture = capture.map_err(|error| failure(&error))?;
        let mut header = header(&capture, started, args);
        if let Some(sites) = &header.plan.sites {
            probing::say_coverage(sites);
        }
        let reduced = policy.filter.as_ref().filter(|_| purpose.trace.is_some());
        header.capture.filter = reduced.map(ToString::to_string);
        let prepare = if purpose.audience.is_outside() { confine } else { || () };
        let naming = Naming::start(
            &header.kernel.release,
            args.vmlinux.as_deref(),
            capture.probed().collect(),
            prepare,
        )?;
        let trace = match purpose.trace {
            None => None,
            Some(path) => {
                let writer =
                    Writer::create(path, &header).map_err(|error| Failure::to(ExitStatus::Usage, error))?;
                Some(Trace { path: path.to_owned(), writer })
            }
        };
        let serving =
            purpose.audience.socket().map(|socket| serve(socket, &header, policy, prepare)).transpose()?;
        let mut judge = purpose.judge.then(|| Judge::new(&header, policy.filter.as_ref()));
        if let (Some(judge), Some(_)) = (&mut judge, &serving) {
            judge.observe();
        }
        let session = Self {
            judge,
            reducing: reduced.map(|filter| Reducing::new(filter.clone(), session::engine(&header))),
            policy: policy.clone(),
            header,
            symbols: Symbols::default(),
            trace,
            outlives_trace: purpose.outlives_trace,
            totals: Totals::default(),
            incomplete: false,
            announced: HashSet::new(),
            serving,
        };
        Ok((session, naming, capture))
    }

    async fn capture(
        &mut self,
        args: &CaptureArgs,
        mut capture: Capture,
        naming: &mut Naming,
        mut signals: Signals,
        purpose: Purpose<'_>,
    ) -> Result<()> {
        let mut child = spawn(&args.command, purpose.output)?;
        let manager = purpose.audience.is_outside().then(Manager::of_environment);
        if let Some(manager) = &manager {
            // The command has all that it was started with; whatever comes from here on has not.
            privileges::give_up().context("failed to give up privileges")?;
            manager.ready("capturing");
        }
        let deadline = args.duration.map(|duration| Instant::now() + duration);
        let (mut tick, mut beat) = (every(FLUSH), every(BEAT));
        let mut items = Vec::new();
        let stop = loop {
            tokio::select! {
                batch = capture.next_batch(&mut items) => {
                    batch.map_err(|error| failure(&error))?;
                    self.take(&mut items, naming);
                }
                named = naming.answer() => self.named(named),
                _ = tick.tick() => self.tick(),
                _ = beat.tick(), if self.serving.is_some() => self.beat(),
                status = ended(&mut child) => break Stop::CommandEnded(status),
                () = signals.any() => break Stop::Signal,
                () = purpose.audience.left() => break Stop::Left,
                () = over(deadline) => break Stop::TimeOver,
            }
            if self.trace_failed() {
                break Stop::TraceFailed;
            }
        };
        if let Some(manager) = &manager {
            manager.stopping();
        }
        // What was appended before an error is good.
        let totals = capture.stop(&mut items).await.map_err(|error| failure(&error));
        self.take(&mut items, naming);
        self.totals = totals?;
        self.say_why(&stop, args);
        if let Some(mut child) = child
            && !matches!(stop, Stop::CommandEnded(_))
        {
            end_command(&mut child).await;
        }
        Ok(())
    }

    fn take(&mut self, items: &mut Vec<Item>, naming: &Naming) {
        for item in items.drain(..) {
            match item {
                Item::Record(record) => {
                    if let Some(reducing) = &mut self.reducing {
                        // The names of its functions are not known yet.
                        reducing.push(&record, None);
                        continue;
                    }
                    let record = std::slice::from_ref(&record);
                    if let Some(judge) = &mut self.judge {
                        judge.process(record);
                    }
                    if let Some((feed, _)) = &mut self.serving {
                        feed.records(record);
                    }
                    self.write(|writer| writer.records(record));
                }
                Item::Stack(stack) => {
                    for address in &stack.addresses {
                        // Its place is kept, so that each is asked for once.
                        if !self.symbols.is_known(*address) {
                            self.symbols.insert_frames(*address, Vec::new());
                            naming.ask(*address);
                        }
                    }
                    let id = stack.id;
                    if let Some((feed, _)) = &mut self.serving {
                        feed.stack(id, &stack.addresses);
                    }
                    self.symbols.insert_stack(id, stack.addresses);
                    self.write_with(|writer, reducing, symbols| match reducing {
                        Some(reducing) => reducing.late_stack(writer, id, symbols),
                        None => writer.stack(id, symbols.addresses(id).unwrap_or_default()),
                    });
                }
            }
        }
        self.let_go();
    }

    /// Hands on the records that are kept for certain.
    fn let_go(&mut self) {
        let Some(reducing) = &mut self.reducing else { return };
        if let Some(judge) = &mut self.judge {
            judge.process(reducing.kept());
        }
        if let Some((feed, _)) = &mut self.serving {
            feed.records(reducing.kept());
        }
        self.write_with(|writer, reducing, symbols| match reducing {
            Some(reducing) => reducing.write(writer, symbols),
            None => Ok(()),
        });
        if let Some(reducing) = &mut self.reducing {
            reducing.clear();
        }
    }

    fn named(&mut self, named: Named) {
        if self.reducing.as_ref().is_none_or(|reducing| reducing.has(named.address)) {
            self.write(|writer| writer.frames(named.address, &named.frames));
        }
        if let Some((feed, _)) = &mut self.serving {
            feed.names(named.address, &named.frames);
        }
        self.symbols.insert_frames(named.address, named.frames);
    }

    fn beat(&mut self) {
        if let (Some(judge), Some((feed, _))) = (&self.judge, &mut self.serving) {
            let _ = judge.beat(feed, &self.symbols);
        }
    }

    fn tick(&mut self) {
        self.write(Writer::flush);
        self.announce(false);
    }

    /// Says what was found since the last time. A finding whose stacks have no names yet waits for them.
    fn announce(&mut self, at_the_end: bool) {
        let Some(judge) = &self.judge else { return };
        let Policy { suppressions, today, .. } = &self.policy;
        let named = |stack: lazymmu_hazard::StackId| {
            stack == lazymmu_hazard::StackId::NONE || self.symbols.frames(stack.0).next().is_some()
        };
        let mut found = judge.occurrences(&self.symbols);
        found.retain(|occurrence| {
            let place = &occurrence.place;
            let ready = at_the_end
                || [place.write, Some(place.access), place.opener].into_iter().flatten().all(named);
            ready && !self.announced.contains(place)
        });
        if found.is_empty() {
            return;
        }
        self.announced.extend(found.iter().map(|occurrence| occurrence.place));
        let mut outcome = Outcome { occurrences: found, ..Outcome::default() };
        suppressions.apply(&mut outcome, &self.symbols, *today);
        for occurrence in &outcome.occurrences {
            let word = match occurrence.place.rule.info().severity {
                Severity::Error => "found",
                Severity::Advice => "advice:",
            };
            eprintln!("lazymmu: {word} {}", lazymmu_report::announce(occurrence, &self.symbols));
        }
    }

    /// Writes to the trace, if there still is one. The first error ends it.
    fn write(&mut self, write: impl FnOnce(&mut Writer<File>) -> Result<(), lazymmu_trace::WriteError>) {
        self.write_with(|writer, _, _| write(writer));
    }

    /// The same for what goes through the filter.
    fn write_with(
        &mut self,
        write: impl FnOnce(
            &mut Writer<File>,
            Option<&mut Reducing>,
            &Symbols,
        ) -> Result<(), lazymmu_trace::WriteError>,
    ) {
        let Some(trace) = &mut self.trace else { return };
        let Err(error) = write(&mut trace.writer, self.reducing.as_mut(), &self.symbols) else { return };
        eprintln!(
            "lazymmu: {}: failed to {error} ({} records)",
            trace.path.display(),
            trace.writer.written().records
        );
        self.trace = None;
        self.incomplete |= !self.outlives_trace;
    }

    fn trace_failed(&self) -> bool {
        self.incomplete && self.trace.is_none()
    }

    fn say_why(&mut self, stop: &Stop, args: &CaptureArgs) {
        let Stop::CommandEnded(status) = stop else { return };
        let command = args.command.first().map(|command| command.to_string_lossy()).unwrap_or_default();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => {
                eprintln!(
                    "lazymmu: the command {command} failed ({status}), so it may not have done what was to be seen"
                );
                self.incomplete = true;
            }
            Err(error) => {
                eprintln!("lazymmu: failed to wait for the command {command}: {error}");
                self.incomplete = true;
            }
        }
    }

    fn end(mut self, naming: Naming) -> Ended {
        if let Some(reducing) = &mut self.reducing {
            reducing.finish(None);
        }
        self.let_go();
        let (rest, note) = naming.finish();
        for named in rest {
            self.named(named);
        }
        self.announce(true);
        if let Some(note) = note {
            eprintln!("lazymmu: {note}");
        }
        let counters = self.totals.counters();
        self.write(|writer| {
            writer.counters(&counters);
            writer.finish().map(drop)
        });
        if let Some(trace) = &self.trace {
            let written = trace.writer.written();
            eprintln!(
                "lazymmu: wrote {}: {} records, {} stacks, {} bytes",
                trace.path.display(),
                written.records,
                written.stacks,
                written.bytes
            );
        }
        self.account();
        let Self { header, symbols, judge, incomplete, serving, .. } = self;
        Ended { header, symbols, judge, incomplete, serving }
    }

    /// One line that says whether everything was seen.
    fn account(&mut self) {
        let totals = &self.totals;
        let (produced, seen, lost) = (totals.produced, totals.seen, totals.lost());
        eprintln!("lazymmu: the kernel side produced {produced} items: {seen} seen, {lost} lost");
        self.incomplete |= lost > 0;
        if totals.late > 0 {
            eprintln!("lazymmu: {} of the lost came too late to be put in their place", totals.late);
        }
        if lost > totals.late {
            eprintln!("lazymmu: a larger ring loses less: --ring-size");
        }
        if !totals.balanced() {
            eprintln!("lazymmu: the account is not balanced: something is missing that nothing tells of");
            self.incomplete = true;
        }
    }
}

/// Starts to serve.
fn serve(socket: &Socket, header: &Header, policy: &Policy, prepare: fn()) -> Result<(Feed, Serving)> {
    let Policy { suppressions, today, .. } = policy;
    let about = About { header: header.clone(), suppressions: suppressions.clone(), today: *today };
    Serving::start(socket, about, prepare).context("failed to start serving clients")
}

/// What each thread of a daemon does first.
fn confine() {
    if let Err(error) = privileges::give_up() {
        log::error!("failed to give up privileges: {error}");
        // The service manager shall not think that they were.
        std::process::exit(ExitStatus::Bug as i32);
    }
}

fn header(capture: &Capture, started: Timespec, args: &CaptureArgs) -> Header {
    let wall_clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Header {
        kernel: capture.kernel(),
        clock: Clock {
            // Neither part of a monotonic clock is negative.
            started: started.tv_sec.unsigned_abs() * 1_000_000_000 + started.tv_nsec.unsigned_abs(),
            // Nanoseconds since 1970 fit until 2554.
            wall_clock: u64::try_from(wall_clock.as_nanos()).unwrap_or(u64::MAX),
            ..Clock::default()
        },
        capture: lazymmu_trace::Capture {
            level: match args.scope {
                Scope::Sections => "sections",
                Scope::All => "all",
                Scope::Suspects => "suspects",
            }
            .to_owned(),
            ring_bytes: u64::from(args.ring_size),
            command: args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            filter: None,
        },
        plan: capture.plan(),
        ..Header::default()
    }
}

/// An error of the capture with the exit status that it calls for.
fn failure(error: &lazymmu_capture::Error) -> anyhow::Error {
    let status = match error.class() {
        Class::NotPermitted => ExitStatus::NotPermitted,
        Class::Untraceable => ExitStatus::CannotTrace,
        Class::Usage => ExitStatus::Usage,
        Class::Internal => ExitStatus::Bug,
    };
    Failure::to(status, error).into()
}
