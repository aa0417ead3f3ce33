//! Filters: an expression over tasks, CPUs, times, rules, functions and levels, and what it selects.
//!
//! A filter selects hazards and sections, never single records: the engine always judges everything that may bear on
//! what is selected, so a filter cannot change what is concluded about it. `docs/filters.md` defines that. The parts:
//! `parse` reads the grammar, [`Term`] says what one comparison means, [`Selection`] applies a filter to the hazards
//! of an engine, [`Reducer`] chooses the records of a reduced trace. Nothing here reads or writes files.

mod parse;
mod reduce;
mod select;
mod term;

use std::fmt;
use std::str::FromStr;

pub use parse::FilterError;
pub use reduce::Reducer;
pub use select::Selection;
pub use term::Term;

use lazymmu_hazard::rules::RULES;

/// The most terms that an expression may have: one bit of a word each.
const MAX_TERMS: usize = 64;

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    expression: Expression,
    terms: Vec<Term>,
}

/// How the terms are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    /// The term with that number.
    Term(usize),
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

impl Filter {
    /// Selects what both select; `None` if together they have too many terms.
    #[must_use]
    pub fn and(mut self, other: Self) -> Option<Self> {
        if self == other {
            return Some(self);
        }
        let shift = self.terms.len();
        self.terms.extend(other.terms);
        let right = other.expression.shifted(shift);
        self.expression = Expression::join(vec![self.expression, right], Expression::All);
        (self.terms.len() <= MAX_TERMS).then_some(self)
    }

    /// Names of rules in it that this version does not have.
    #[must_use]
    pub fn unknown_rules(&self) -> Vec<&str> {
        let globs = self.terms.iter().filter_map(|term| match term {
            Term::Rule(globs) => Some(globs),
            _ => None,
        });
        let unknown = |name: &&str| RULES.iter().all(|rule| rule.info.name != *name);
        globs.flatten().filter(|glob| glob.is_name()).map(super::glob::Glob::as_str).filter(unknown).collect()
    }

    /// Whether it holds, if that can be said. `truth` says of each term whether that holds, if it can.
    fn holds(&self, truth: &dyn Fn(usize) -> Option<bool>) -> Option<bool> {
        self.expression.holds(truth)
    }

    fn terms(&self) -> impl Iterator<Item = (usize, &Term)> {
        self.terms.iter().enumerate()
    }
}

impl Expression {
    /// Joins parts; one part stays what it is, and parts joined in the same way become one list.
    fn join(parts: Vec<Self>, how: fn(Vec<Self>) -> Self) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match (part, how(Vec::new())) {
                (Self::All(inner), Self::All(_)) | (Self::Any(inner), Self::Any(_)) => flat.extend(inner),
                (other, _) => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.swap_remove(0) } else { how(flat) }
    }

    fn negated(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    fn shifted(self, by: usize) -> Self {
        let all = |parts: Vec<Self>| parts.into_iter().map(|part| part.shifted(by)).collect();
        match self {
            Self::Term(number) => Self::Term(number + by),
            Self::Not(inner) => Self::Not(Box::new(inner.shifted(by))),
            Self::All(parts) => Self::All(all(parts)),
            Self::Any(parts) => Self::Any(all(parts)),
        }
    }

    fn holds(&self, truth: &dyn Fn(usize) -> Option<bool>) -> Option<bool> {
        match self {
            Self::Term(number) => truth(*number),
            Self::Not(inner) => inner.holds(truth).map(|holds| !holds),
            Self::All(parts) => decide(parts, truth, false),
            Self::Any(parts) => decide(parts, truth, true),
        }
    }

    fn write(&self, terms: &[Term], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str| {
            for (number, part) in parts.iter().enumerate() {
                if number > 0 {
                    write!(f, " {word} ")?;
                }
                let inner = matches!(part, Self::Any(_) | Self::All(_));
                part.write_in(terms, f, inner)?;
            }
            Ok(())
        };
        match self {
            Self::Term(number) => terms.get(*number).map_or(Ok(()), |term| write!(f, "{term}")),
            Self::Not(inner) => {
                f.write_str("not ")?;
                inner.write_in(terms, f, !matches!(**inner, Self::Term(_)))
            }
            Self::All(parts) => list(f, parts, "and"),
            Self::Any(parts) => list(f, parts, "or"),
        }
    }

    fn write_in(&self, terms: &[Term], f: &mut fmt::Formatter<'_>, parentheses: bool) -> fmt::Result {
        if !parentheses {
            return self.write(terms, f);
        }
        f.write_str("(")?;
        self.write(terms, f)?;
        f.write_str(")")
    }
}

/// `decisive` as soon as one part is that; not known if none is and one is not known.
fn decide(parts: &[Expression], truth: &dyn Fn(usize) -> Option<bool>, decisive: bool) -> Option<bool> {
    let mut result = Some(!decisive);
    for part in parts {
        match part.holds(truth) {
            Some(holds) if holds == decisive => return Some(decisive),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        parse::filter(text)
    }
}

/// In one form, however it was written: what this gives reads back as the same filter.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expression.write(&self.terms, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        text.parse().unwrap()
    }

    #[test]
    fn what_cannot_be_decided_stays_open_only_where_it_matters() {
        let filter = filter("pid=1 and (pid=2 or not pid=3)");
        for (truth, expected) in [
            ([Some(false), None, None], Some(false)),
            ([None, Some(false), Some(true)], Some(false)),
            ([None, Some(true), None], None),
            ([Some(true), None, Some(false)], Some(true)),
            ([Some(true), Some(false), None], None),
        ] {
            assert_eq!(filter.holds(&|number| truth[number]), expected, "{truth:?}");
        }
    }

    #[test]
    fn two_filters_become_one() {
        let both = filter("pid=1 or pid=2").and(filter("not cpu=3")).unwrap();
        assert_eq!(both.to_string(), "(pid=1 or pid=2) and not cpu=3");
        assert_eq!(both, filter("(pid=1 or pid=2) and not cpu=3"));
        assert_eq!(both.clone().and(both.clone()), Some(both), "the same filter twice is one");
        let many = filter(&vec!["pid=1"; 40].join(" or "));
        assert_eq!(many.and(filter(&vec!["pid=2"; 40].join(" or "))), None);
    }

    #[test]
    fn names_of_rules_are_looked_up_but_patterns_are_not() {
        assert_eq!(filter("rule=read-pending,rmw-pending,remote-*").unknown_rules(), [""; 0]);
        assert_eq!(
            filter("rule=read-pending,no-such and not rule=nor-this").unknown_rules(),
            ["no-such", "nor-this"]
        );
    }
}
