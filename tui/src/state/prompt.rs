//! What was typed into a prompt, and what it means.

use lazymmu_report::{Filter, Finding, Report};

use super::{Effect, Prompt, State};
use crate::source::{Goal, Request};

impl State {
    /// Does what was typed. An error leaves the prompt open.
    pub(super) fn submit(&mut self, prompt: Prompt, text: &str) -> Result<Vec<Effect>, String> {
        match prompt {
            Prompt::Search => {
                text.clone_into(&mut self.search);
                Ok(Vec::new())
            }
            Prompt::Filter => {
                let filter = match text.trim() {
                    "" => None,
                    text => Some(text.parse::<Filter>().map_err(|error| format!("failed to {error}"))?),
                };
                if let Some(name) = filter.iter().flat_map(Filter::unknown_rules).next() {
                    return Err(format!("there is no rule {name}"));
                }
                self.filter.clone_from(&filter);
                Ok(vec![Effect::Select(filter)])
            }
            Prompt::Jump => {
                let goal = self.goal(text.trim()).ok_or_else(|| {
                    format!("{text} is no moment; try 1.5s, 300us, +10ms, -10ms, 50% or #1234")
                })?;
                Ok(self.travel(goal))
            }
            Prompt::Save => {
                let finding = self.finding().ok_or("no finding is selected")?;
                let text_of = form(&self.shown.report, finding, text.trim())?;
                Ok(vec![Effect::Save { path: text.trim().to_owned(), text: text_of }])
            }
        }
    }

    /// The moment that was typed.
    fn goal(&self, text: &str) -> Option<Goal> {
        if let Some(number) = text.strip_prefix('#') {
            return number.parse().ok().map(Goal::Record);
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: u64 = percent.trim().parse().ok().filter(|percent| *percent <= 100)?;
            let total = self.shown.total.unwrap_or(self.shown.records);
            return Some(Goal::Record(total / 100 * percent + total % 100 * percent / 100));
        }
        let now = self.moment.as_ref().map_or(0, |moment| moment.time_ns);
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(more), _) => Some(Goal::Time(now.saturating_add(nanoseconds(more)?))),
            (_, Some(less)) => Some(Goal::Time(now.saturating_sub(nanoseconds(less)?))),
            _ => nanoseconds(text).map(Goal::Time),
        }
    }

    /// Asks for a moment.
    pub(super) fn travel(&mut self, goal: Goal) -> Vec<Effect> {
        self.go(super::View::Cpus);
        vec![Effect::Request(Request::Moment(goal))]
    }
}

/// A time with its unit, in ns.
fn nanoseconds(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let scale: u64 = match unit.trim() {
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "µs" => 1_000,
        "ns" => 1,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(part.len()).ok().filter(|digits| *digits <= 9)?;
    let part =
        if part.is_empty() { 0 } else { part.parse::<u64>().ok()?.checked_mul(scale)? / 10u64.pow(digits) };
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(part)
}

/// The name under which a finding is saved if nobody says another.
pub(super) fn suggestion(finding: &Finding) -> String {
    format!("finding-{}.txt", finding.fingerprint)
}

/// A report of one finding, in the form that the file's name asks for.
fn form(report: &Report, finding: &Finding, path: &str) -> Result<String, String> {
    if path.is_empty() {
        return Err("a file needs a name".to_owned());
    }
    let alone = Report {
        findings: vec![finding.clone()],
        suppressed: Vec::new(),
        suppressions: None,
        ..report.clone()
    };
    let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
    match ending {
        "txt" => Ok(alone.text(lazymmu_report::Style::Plain)),
        "json" => Ok(alone.json()),
        "jsonl" => Ok(alone.jsonl()),
        "sarif" => Ok(alone.sarif()),
        "xml" => Ok(alone.junit()),
        "ktap" => Ok(alone.ktap()),
        "github" => Ok(alone.github()),
        "html" => alone.html().map_err(|error| format!("failed to {error}")),
        _ => Err("the name should end in .txt .json .jsonl .sarif .xml .ktap .html or .github".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn times() {
        for (text, expected) in [
            ("1.5s", Some(1_500_000_000)),
            ("300us", Some(300_000)),
            ("0.25ms", Some(250_000)),
            ("7 ns", Some(7)),
            ("12", None),
            ("s", None),
            ("1.2.3s", None),
            ("99999999999s", None),
        ] {
            assert_eq!(nanoseconds(text), expected, "{text}");
        }
    }
}
