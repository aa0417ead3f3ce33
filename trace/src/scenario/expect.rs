//! What a scenario says that the engine should find. Names of rules and profiles are only names here: the engine
//! that knows them is below this crate.

use std::fmt;

use super::error::Fault;
use super::line::Line;

/// One `expect` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The line of the file, from 1.
    pub line: usize,
    /// What is expected.
    pub what: Expected,
}

/// What is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No finding, and nothing missed.
    Nothing,
    /// No finding, but something may have been missed.
    Inconclusive,
    /// One finding.
    Finding(ExpectedFinding),
}

/// One finding that is expected: one class of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedFinding {
    /// The rule's name.
    pub rule: String,
    /// The names of the profiles on which it breaks, all of them.
    pub profiles: Profiles,
    /// Whether the values must show that it went wrong (`proven`), or that nothing shows it (`latent`).
    pub proven: Option<bool>,
    /// The function of the access, if it matters.
    pub function: Option<String>,
    /// How many hazards the finding counts, if it matters.
    pub times: Option<u64>,
    /// The engine is right to report it by the words of the contract, but the code is right too, for a reason that the
    /// records do not show. A suppression that ships with lazymmu silences it.
    pub accepted: bool,
}

/// The profiles of an expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profiles {
    /// Every one that there is.
    All,
    /// These and no other; none for advice.
    These(Vec<String>),
}

impl fmt::Display for Expected {
    /// As it stands in the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finding = match self {
            Self::Nothing => return f.write_str("nothing"),
            Self::Inconclusive => return f.write_str("inconclusive"),
            Self::Finding(finding) => finding,
        };
        let ExpectedFinding { rule, profiles, proven, function, times, accepted } = finding;
        write!(f, "{rule} on ")?;
        match profiles {
            Profiles::All => f.write_str("all")?,
            Profiles::These(names) if names.is_empty() => f.write_str("none")?,
            Profiles::These(names) => f.write_str(&names.join(", "))?,
        }
        match proven {
            Some(true) => f.write_str(" proven")?,
            Some(false) => f.write_str(" latent")?,
            None => {}
        }
        if let Some(function) = function {
            write!(f, " in {function}")?;
        }
        if let Some(times) = times {
            write!(f, " times {times}")?;
        }
        if *accepted { f.write_str(" accepted") } else { Ok(()) }
    }
}

/// Reads what follows `expect`.
pub(super) fn expected(line: &mut Line<'_>) -> Result<Expected, Fault> {
    match line.word("`nothing`, `inconclusive` or the name of a rule")? {
        "nothing" => Ok(Expected::Nothing),
        "inconclusive" => Ok(Expected::Inconclusive),
        rule if !is_name(rule) => Err(line.wrong(format_args!("`{rule}` cannot be the name of a rule"))),
        rule => finding(rule.to_owned(), line).map(Expected::Finding),
    }
}

fn finding(rule: String, line: &mut Line<'_>) -> Result<ExpectedFinding, Fault> {
    line.need("on")?;
    let profiles = if line.take("all") {
        Profiles::All
    } else if line.take("none") {
        Profiles::These(Vec::new())
    } else {
        Profiles::These(profiles(line)?)
    };
    let mut finding =
        ExpectedFinding { rule, profiles, proven: None, function: None, times: None, accepted: false };
    loop {
        if line.take("proven") {
            finding.proven = Some(true);
        } else if line.take("latent") {
            finding.proven = Some(false);
        } else if line.take("in") {
            finding.function = Some(line.word("the function of the access")?.to_owned());
        } else if line.take("times") {
            finding.times = Some(line.read("how many hazards", super::line::number)?);
        } else if line.take("accepted") {
            finding.accepted = true;
        } else {
            line.end("`,` and a profile, `proven`, `latent`, `in FUNCTION`, `times N` or `accepted`")?;
            return Ok(finding);
        }
    }
}

fn profiles(line: &mut Line<'_>) -> Result<Vec<String>, Fault> {
    let mut profiles = Vec::new();
    loop {
        let name = |text| is_name(text).then_some(text);
        profiles
            .push(line.read("a profile, such as `strict` or `xen-pv`, `all` or `none`", name)?.to_owned());
        if !line.take(",") {
            return Ok(profiles);
        }
    }
}

fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Expected, String> {
        expected(&mut Line::new(text)).map_err(|fault| fault.what)
    }

    #[test]
    fn a_finding_in_full() {
        let Ok(Expected::Finding(finding)) =
            read("rmw-pending on strict, xen-pv proven in wrprotect_ptes times 3 accepted")
        else {
            panic!("no finding");
        };
        assert_eq!(finding.rule, "rmw-pending");
        assert_eq!(finding.profiles, Profiles::These(vec!["strict".to_owned(), "xen-pv".to_owned()]));
        assert_eq!((finding.proven, finding.times, finding.accepted), (Some(true), Some(3), true));
        assert_eq!(finding.function.as_deref(), Some("wrprotect_ptes"));
        let text = "rmw-pending on strict, xen-pv proven in wrprotect_ptes times 3 accepted";
        assert_eq!(Expected::Finding(finding).to_string(), text);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, what) in [
            ("", "expected `nothing`"),
            ("read-pending", "expected `on`, the line ends"),
            ("read-pending on", "expected a profile"),
            ("read-pending on strict xen-pv", "expected `,` and a profile"),
            ("Read on strict", "cannot be the name of a rule"),
        ] {
            let fault = read(text).unwrap_err();
            assert!(fault.contains(what), "{text}: {fault}");
        }
        assert_eq!(read("nothing"), Ok(Expected::Nothing));
    }

    #[test]
    fn advice_breaks_nothing() {
        let Ok(Expected::Finding(finding)) = read("wasted-section on none") else { panic!("no finding") };
        assert_eq!(finding.profiles, Profiles::These(Vec::new()));
        assert_eq!(Expected::Finding(finding).to_string(), "wasted-section on none");
    }
}
