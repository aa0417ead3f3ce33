//! The report for people: first each finding in the shape of a kernel report, then the figures, then the verdict.

use std::fmt::Write as _;

use crate::finding::{Example, Finding, ProfileLine, Site, Value};
use crate::pte::Decoded;
use crate::stack::StackFrame;
use crate::style::{Role, Style};
use crate::wrap::wrap;
use crate::{Report, figures, suppress, timeline};

const RULER: &str = "==================================================================";

pub(crate) fn render(report: &Report, style: Style) -> String {
    let mut text = Text { style, out: String::new() };
    for finding in report.findings.iter().filter(|finding| finding.is_error()) {
        text.finding(finding);
    }
    text.advice(report);
    suppress::write(report, &mut text);
    figures::write(report, &mut text);
    text.out
}

/// One finding alone, without colour.
pub(crate) fn finding(finding: &Finding) -> String {
    let mut text = Text { style: Style::Plain, out: String::new() };
    text.body(finding);
    text.out
}

/// The text while it is written.
pub(crate) struct Text {
    pub(crate) style: Style,
    out: String,
}

impl Text {
    pub(crate) fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    pub(crate) fn paint(&self, role: Role, text: &str) -> String {
        self.style.paint(role, text)
    }

    fn finding(&mut self, finding: &Finding) {
        self.line(RULER);
        self.body(finding);
        self.line(RULER);
        self.line("");
    }

    fn body(&mut self, finding: &Finding) {
        let title = format!("{} in {}", finding.rule, finding.access.function);
        let kind = if finding.is_error() { "HAZARD" } else { "ADVICE" };
        let title = self.paint(Role::Title, &format!("{kind}: {title}"));
        self.line(&format!("{title}: {}", finding.title));
        self.state(finding);

        self.line("");
        self.line(&self.access(finding));
        self.stack(&finding.access);
        self.written(finding);
        if let Some(opener) = &finding.opener {
            self.line("");
            self.line("In the section entered by:");
            self.stack(opener);
        }
        if let Some(timeline) = &finding.timeline {
            timeline::write(timeline, self);
        }
        self.values(finding);
        self.profiles(&finding.profiles);
    }

    /// One line for each: who wants to know more finds it in the JSON.
    fn advice(&mut self, report: &Report) {
        let advice: Vec<_> = report.findings.iter().filter(|finding| !finding.is_error()).collect();
        if advice.is_empty() {
            return;
        }
        let title = self.paint(Role::Title, "Advice:");
        self.line(&title);
        for finding in advice {
            let what = finding.what.as_deref().unwrap_or(&finding.title);
            let opener = finding.opener.as_ref().unwrap_or(&finding.access);
            let (rule, opener) =
                (self.paint(Role::Name, &finding.rule), self.paint(Role::Name, &opener.function));
            self.line(&format!(" {rule}: {what}: {opener}, seen {}", figures::times(finding.count)));
        }
        self.line("");
    }

    fn written(&mut self, finding: &Finding) {
        let Some((write, words)) = finding.write.as_ref().zip(written_words(finding)) else { return };
        self.line("");
        self.line(&format!("{words} with {}:", self.paint(Role::Name, &write.op)));
        self.stack(write);
    }

    fn state(&mut self, finding: &Finding) {
        let Finding { count, proven, paths, fingerprint, .. } = finding;
        let role = if *proven > 0 { Role::Bad } else { Role::Doubt };
        let state = self.paint(role, &state_words(finding));
        if let Some(what) = &finding.what {
            self.line(&format!("What was seen: {what}."));
        }
        self.line(&state);
        let times = figures::times(*count);
        let paths = if *paths == 1 {
            String::new()
        } else {
            format!(" on {paths} call paths, of which one is shown")
        };
        self.line(&format!("Seen {times}{paths}. Fingerprint {fingerprint}."));
        if let Some(baseline) = &finding.baseline {
            let role = if baseline.is_known() { Role::Quiet } else { Role::Bad };
            let words = self.paint(role, &format!("Baseline: {}.", baseline.words()));
            self.line(&words);
        }
    }

    fn access(&self, finding: &Finding) -> String {
        format!("{}{}:", self.paint(Role::Name, &finding.access.op), access_words(finding))
    }

    fn stack(&mut self, site: &Site) {
        if site.stack.is_empty() {
            let lost = self.paint(Role::Quiet, " (the call stack is not known)");
            self.line(&lost);
        }
        for frame in &site.stack {
            let line = self.frame(frame);
            self.line(&line);
        }
    }

    fn frame(&self, frame: &StackFrame) -> String {
        let StackFrame { function, offset, module, file, line, inlined } = frame;
        let mut text = format!(" {}", self.paint(Role::Name, function));
        if *offset > 0 {
            let _ = write!(text, "+{offset:#x}");
        }
        if let Some(file) = file {
            let line = line.map_or_else(String::new, |line| format!(":{line}"));
            let _ = write!(text, " ({file}{line})");
        }
        if let Some(module) = module {
            let _ = write!(text, " [{module}]");
        }
        if *inlined {
            text.push_str(" (inlined)");
        }
        text
    }

    fn values(&mut self, finding: &Finding) {
        let rows = value_rows(finding);
        if !rows.is_empty() {
            self.line("");
        }
        for (name, raw, words, bad) in rows {
            let words = self.paint(if bad { Role::Bad } else { Role::Quiet }, &words);
            self.line(format!(" {name:<9} {raw}  {words}").trim_end());
        }
    }

    fn profiles(&mut self, profiles: &[ProfileLine]) {
        for (title, role, breaks) in
            [("Breaks on:", Role::Bad, true), ("Does not break on:", Role::Good, false)]
        {
            let lines: Vec<_> = profiles.iter().filter(|line| line.breaks == breaks).collect();
            if lines.is_empty() {
                continue;
            }
            self.line("");
            self.line(title);
            for line in lines {
                let doubt =
                    if line.verified { "" } else { " (not checked against that architecture's source)" };
                let wrapped = wrap(&format!("{}{doubt}", line.why), 14);
                let name = self.paint(role, &format!("{:<13}", line.name));
                for (number, part) in wrapped.iter().enumerate() {
                    let part = part.trim_start();
                    let line =
                        if number == 0 { format!(" {name}{part}") } else { format!("{:14}{part}", "") };
                    self.line(&line);
                }
            }
        }
    }
}

/// Whether it went wrong.
pub(crate) fn state_words(finding: &Finding) -> String {
    let Finding { count, proven, .. } = finding;
    if *proven > 0 {
        let all = if proven == count { "each time".to_owned() } else { format!("{proven} times") };
        return format!("proven: the value was not the one written ({all})");
    }
    let words = if finding.example.comparison == "same" {
        "latent: nothing went wrong here, as this kernel had not deferred the write"
    } else if finding.what.is_some() {
        "latent: it was done, and nothing shows that anything went wrong by it here"
    } else {
        "latent: there are no values to compare, so nothing shows that it went wrong here"
    };
    words.to_owned()
}

/// What comes after the name of the access: of which entry, by whom and where.
pub(crate) fn access_words(finding: &Finding) -> String {
    let Example { entry, cpu, tid, task: name, context, .. } = &finding.example;
    let level = finding.level.as_deref().map_or_else(|| "entry".to_owned(), str::to_uppercase);
    let entry = match (entry, &*finding.access.op) {
        (None, _) => String::new(),
        // What these work on is not the entry.
        (Some(entry), "fault" | "tlb-flush") => format!(" for {level} {entry}"),
        (Some(entry), _) => format!(" of {level} {entry}"),
    };
    let task = task(*tid, name.as_deref());
    let context = if *context == "task" { String::new() } else { format!(" in {context}") };
    format!("{entry} by {task} on CPU {cpu}{context}")
}

/// When the write was, by whom and where, if that is not the same as for the access.
pub(crate) fn written_words(finding: &Finding) -> Option<String> {
    let (example, _) = (&finding.example, finding.write.as_ref()?);
    let since = since(example);
    let task = match example.write_tid {
        Some(tid) if tid != example.tid => format!(" by {}", task(tid, example.write_task.as_deref())),
        _ => String::new(),
    };
    let cpu = match example.write_cpu {
        Some(cpu) if cpu != example.cpu => format!(" on CPU {cpu}"),
        _ => String::new(),
    };
    Some(format!("Written{since} before{task}{cpu}"))
}

/// The values: what each is, in hexadecimal, in words, and whether it shows that something went wrong.
pub(crate) fn value_rows(finding: &Finding) -> Vec<(&'static str, String, String, bool)> {
    let Example { pending, seen, memory, comparison, .. } = &finding.example;
    // The record of a read-modify-write has what memory held after it.
    let (got, then) = if finding.access.is_read() { ("read", "memory") } else { ("replaced", "after") };
    let row = |(name, value): (&'static str, &Option<Value>)| {
        let value = value.as_ref()?;
        let same = name != "written" && pending.as_ref().is_some_and(|pending| pending.raw == value.raw);
        let words = if same { "the same".to_owned() } else { words(value) };
        Some((name, value.raw.clone(), words, name == got && *comparison == "different"))
    };
    [("written", pending), (got, seen), (then, memory)].into_iter().filter_map(row).collect()
}

fn task(tid: u32, name: Option<&str>) -> String {
    name.map_or_else(|| format!("task {tid}"), |name| format!("{name}/{tid}"))
}

fn words(value: &Value) -> String {
    value.decoded.as_ref().map_or_else(String::new, Decoded::line)
}

/// How long the write was before the access.
fn since(example: &Example) -> String {
    match example.write_time_ns.and_then(|write| example.time_ns.checked_sub(write)) {
        Some(ns) if ns < 1_000 => format!(" {ns} ns"),
        Some(ns) if ns < 1_000_000 => format!(" {}.{} us", ns / 1_000, ns % 1_000 / 100),
        Some(ns) => format!(" {}.{} ms", ns / 1_000_000, ns % 1_000_000 / 100_000),
        None => String::new(),
    }
}
