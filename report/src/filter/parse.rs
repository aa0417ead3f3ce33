//! The grammar of filters, as docs/filters.md has it:
//!
//! ```text
//! filter = and { "or" and }
//! and    = not { "and" not }
//! not    = { "not" } ( term | "(" filter ")" )
//! term   = key ( "=" | "!=" ) value { "," value }
//! ```

use lazymmu_abi::Level;
use lazymmu_hazard::Nanos;
use winnow::ascii::multispace0;
use winnow::combinator::{
    alt, cut_err, delimited, dispatch, eof, fail, not, peek, preceded, repeat, separated, terminated,
};
use winnow::error::{ContextError, StrContext, StrContextValue};
use winnow::token::{any, none_of, one_of, take_while};
use winnow::{ModalResult, Parser};

use super::term::TimeRange;
use super::{Expression, Filter, MAX_TERMS, Term};
use crate::glob::Glob;

/// What is wrong with the text of a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It does not follow the grammar.
    #[error("understand the filter at character {at}: {what}")]
    Syntax {
        /// The character, from 1.
        at: usize,
        /// What is wrong and what would be right.
        what: String,
    },
    /// It is larger than anything sensible.
    #[error("use the filter: it has more than {0}")]
    TooLarge(&'static str),
}

/// The longest text, in bytes, and the deepest nesting of parentheses: so that no text overflows the stack.
const MAX_TEXT: usize = 16 << 10;
const MAX_DEPTH: usize = 32;

pub(super) fn filter(text: &str) -> Result<Filter, FilterError> {
    if text.len() > MAX_TEXT {
        return Err(FilterError::TooLarge("16384 characters"));
    }
    let deeper = |depth: &mut usize, c: char| {
        *depth = if c == '(' { *depth + 1 } else { depth.saturating_sub(usize::from(c == ')')) };
        Some(*depth)
    };
    if text.chars().scan(0, deeper).any(|depth| depth > MAX_DEPTH) {
        return Err(FilterError::TooLarge("32 parentheses inside each other"));
    }
    let whole = delimited(multispace0, disjunction, (multispace0, end));
    let tree = { whole }.parse(text).map_err(|error| {
        let at = text.get(..error.offset()).map_or(0, |before| before.chars().count()) + 1;
        FilterError::Syntax { at, what: explain(error.inner()) }
    })?;
    let mut terms = Vec::new();
    let expression = tree.number(&mut terms);
    if terms.len() > MAX_TERMS {
        return Err(FilterError::TooLarge("64 terms"));
    }
    Ok(Filter { expression, terms })
}

fn explain(error: &ContextError) -> String {
    if let Some(cause) = error.cause() {
        return cause.to_string();
    }
    let expected = error.context().find_map(|context| match context {
        StrContext::Expected(StrContextValue::Description(what)) => Some(*what),
        _ => None,
    });
    expected.map_or_else(|| "this is no filter".to_owned(), |what| format!("expected {what}"))
}

/// What may stand where a term is expected.
const TERM: &str =
    "`not`, `(`, or a term: pid, tid, comm, cpu, time, rule, function or level, then `=` and a value";

fn expected(what: &'static str) -> StrContext {
    StrContext::Expected(StrContextValue::Description(what))
}

/// An expression whose terms have no numbers yet.
enum Tree {
    Term(Term),
    Not(Box<Tree>),
    All(Vec<Tree>),
    Any(Vec<Tree>),
}

impl Tree {
    fn number(self, terms: &mut Vec<Term>) -> Expression {
        match self {
            Self::Term(term) => {
                terms.push(term);
                Expression::Term(terms.len() - 1)
            }
            Self::Not(inner) => inner.number(terms).negated(),
            Self::All(parts) => Self::list(parts, terms, Expression::All),
            Self::Any(parts) => Self::list(parts, terms, Expression::Any),
        }
    }

    fn list(parts: Vec<Self>, terms: &mut Vec<Term>, how: fn(Vec<Expression>) -> Expression) -> Expression {
        let parts = parts.into_iter().map(|part| part.number(terms)).collect();
        Expression::join(parts, how)
    }
}

/// What may stand in a value without quotes.
pub(super) fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.*?/:+@#%[]{}<>~".contains(c)
}

fn end(input: &mut &str) -> ModalResult<()> {
    eof.void().context(expected("`and`, `or` or the end")).parse_next(input)
}

fn word<'a>(word: &'static str) -> impl Parser<&'a str, (), winnow::error::ErrMode<ContextError>> {
    let whole = terminated(word, peek(not(one_of(|c: char| is_bare(c) || "=!,".contains(c)))));
    delimited(multispace0, whole, multispace0).void()
}

fn disjunction(input: &mut &str) -> ModalResult<Tree> {
    separated(1.., conjunction, word("or")).map(Tree::Any).parse_next(input)
}

fn conjunction(input: &mut &str) -> ModalResult<Tree> {
    separated(1.., cut_err(negation), word("and")).map(Tree::All).parse_next(input)
}

fn negation(input: &mut &str) -> ModalResult<Tree> {
    let refusals: usize = repeat(0.., word("not")).parse_next(input)?;
    let inner = preceded(multispace0, alt((parentheses, term))).context(expected(TERM)).parse_next(input)?;
    Ok(if refusals % 2 == 1 { Tree::Not(Box::new(inner)) } else { inner })
}

fn parentheses(input: &mut &str) -> ModalResult<Tree> {
    let close = preceded(multispace0, ')').context(expected("`)`"));
    delimited('(', cut_err(disjunction), cut_err(close)).parse_next(input)
}

fn term(input: &mut &str) -> ModalResult<Tree> {
    let known =
        |key: &str| matches!(key, "pid" | "tid" | "comm" | "cpu" | "time" | "rule" | "function" | "level");
    let key = take_while(1.., |c: char| c.is_ascii_alphabetic()).verify(known).parse_next(input)?;
    let sign = alt(("=".value(false), "!=".value(true)));
    let refused = cut_err(delimited(multispace0, sign, multispace0))
        .context(expected("`=` or `!=`"))
        .parse_next(input)?;
    let term = cut_err(dispatch! { |_: &mut &str| Ok(key);
        "pid" => list(number).map(Term::Pid),
        "tid" => list(number).map(Term::Tid),
        "cpu" => list(number).map(Term::Cpu),
        "comm" => list(glob).map(Term::Comm),
        "rule" => list(glob).map(Term::Rule),
        "function" => list(glob).map(Term::Function),
        "level" => list(level).map(Term::Level),
        "time" => time.map(Term::Time),
        _ => fail,
    })
    .parse_next(input)?;
    let term = Tree::Term(term);
    Ok(if refused { Tree::Not(Box::new(term)) } else { term })
}

fn list<'a, T>(
    value: impl Fn(&mut &'a str) -> ModalResult<T> + Copy,
) -> impl Parser<&'a str, Vec<T>, winnow::error::ErrMode<ContextError>> {
    separated(
        1..,
        move |input: &mut &'a str| cut_err(value).parse_next(input),
        (multispace0, ',', multispace0),
    )
}

fn number<T: std::str::FromStr>(input: &mut &str) -> ModalResult<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    take_while(1.., is_bare).context(expected("a number")).try_map(str::parse).parse_next(input)
}

fn level(input: &mut &str) -> ModalResult<Level> {
    let by_name = |name: &str| Level::ALL.iter().find(|level| level.name() == name).copied();
    take_while(0.., is_bare)
        .verify_map(by_name)
        .context(expected("a level: pte, pmd, pud, p4d or pgd"))
        .parse_next(input)
}

fn glob(input: &mut &str) -> ModalResult<Glob> {
    let bare = take_while(1.., is_bare).map(Glob::new);
    alt((quoted, bare)).context(expected("a name, perhaps with `*`, or a text in quotes")).parse_next(input)
}

fn quoted(input: &mut &str) -> ModalResult<Glob> {
    let character = alt((preceded('\\', any), none_of(['"', '\\'])));
    let text = repeat(0.., character).map(|text: String| Glob::new(text));
    delimited('"', text, cut_err('"').context(expected("a closing quote"))).parse_next(input)
}

/// `1.5s..2s`, `1.5s..` or `..2s`.
fn time(input: &mut &str) -> ModalResult<TimeRange> {
    let word = take_while(0.., is_bare);
    let range = |word: &str| {
        let (from, to) = word.split_once("..").filter(|ends| *ends != ("", ""))?;
        let from = if from.is_empty() { Nanos(0) } else { duration(from)? };
        let to = if to.is_empty() { None } else { Some(duration(to)?) };
        Some(TimeRange { from, to }).filter(|range| range.to.is_none_or(|to| range.from < to))
    };
    word.verify_map(range)
        .context(expected("a range of times such as 1.5s..2s, 300us.. or ..40ms, the earlier first"))
        .parse_next(input)
}

/// A number with up to nine decimals and a unit, exactly.
fn duration(text: &str) -> Option<Nanos> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let size: u64 = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return None,
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || decimals.len() > 9 || !digits(whole) || !digits(decimals) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = format!("{decimals:0<9}").parse().ok()?;
    Some(Nanos(whole.checked_mul(size)?.checked_add(part * size / 1_000_000_000)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filter in its one form.
    fn form(text: &str) -> String {
        match filter(text) {
            Ok(filter) => filter.to_string(),
            Err(error) => format!("failed to {error}"),
        }
    }

    #[test]
    fn what_is_read_is_written_in_one_form() {
        for (text, expected) in [
            ("pid=40", "pid=40"),
            (" pid = 40 , 41 ", "pid=40,41"),
            ("pid!=40", "not pid=40"),
            ("not not pid=1", "pid=1"),
            ("not pid!=1", "pid=1"),
            ("((pid=1))", "pid=1"),
            ("pid=1 and pid=2 or pid=3", "(pid=1 and pid=2) or pid=3"),
            ("pid=1 and (pid=2 or pid=3)", "pid=1 and (pid=2 or pid=3)"),
            ("pid=1 and (pid=2 and pid=3)", "pid=1 and pid=2 and pid=3"),
            ("not(pid=1 or cpu=0)", "not (pid=1 or cpu=0)"),
            ("comm=kworker/0:1* or comm=\"Web Content\"", "comm=kworker/0:1* or comm=\"Web Content\""),
            ("comm=\"a\\\"b\\\\\"", "comm=\"a\\\"b\\\\\""),
            ("comm=\"and\"", "comm=and"),
            ("comm=or or comm=not", "comm=or or comm=not"),
            ("function=copy_*,zap_pte_range", "function=copy_*,zap_pte_range"),
            ("level=pmd,pud", "level=pmd,pud"),
            ("time=1.5s..2s", "time=1500ms..2s"),
            ("time=..300us", "time=..300us"),
            ("time=0s..300us", "time=..300us"),
            ("time=0us..", "time=0s.."),
            ("time=0.000000001s..", "time=1ns.."),
            (
                "pid=40 and (function=copy_pte_range or rule=read-pending) and not level=pmd",
                "pid=40 and (function=copy_pte_range or rule=read-pending) and not level=pmd",
            ),
        ] {
            assert_eq!(form(text), expected, "{text}");
            assert_eq!(filter(&form(text)), filter(text), "{text} does not read back");
        }
    }

    #[test]
    fn errors_say_where_and_what_would_be_right() {
        for (text, expected) in [
            ("", "at character 1: expected TERM"),
            ("pid", "at character 4: expected `=` or `!=`"),
            ("pid=", "at character 5: expected a number"),
            ("pid=4x", "at character 5: invalid digit found in string"),
            ("cpu=70000", "at character 5: number too large to fit in target type"),
            ("pdi=4", "at character 1: expected TERM"),
            ("pid=1 pid=2", "at character 7: expected `and`, `or` or the end"),
            ("pid=1 and", "at character 10: expected TERM"),
            ("(pid=1", "at character 7: expected `)`"),
            ("pid=1)", "at character 6: expected `and`, `or` or the end"),
            ("level=pfn", "at character 7: expected a level: pte, pmd, pud, p4d or pgd"),
            ("comm=\"x", "at character 8: expected a closing quote"),
            ("comm=", "at character 6: expected a name, perhaps with `*`, or a text in quotes"),
            (
                "time=2s..1s",
                "at character 6: expected a range of times such as 1.5s..2s, 300us.. or ..40ms, the earlier first",
            ),
            (
                "time=5",
                "at character 6: expected a range of times such as 1.5s..2s, 300us.. or ..40ms, the earlier first",
            ),
        ] {
            let expected = expected.replace("TERM", TERM);
            assert_eq!(form(text), format!("failed to understand the filter {expected}"), "{text}");
        }
    }

    #[test]
    fn a_text_of_any_size_is_refused_and_not_died_of() {
        assert!(form(&"(".repeat(40)).ends_with("32 parentheses inside each other"));
        assert!(form(&"x".repeat(20_000)).ends_with("16384 characters"));
        assert!(form(&vec!["pid=1"; 65].join(" or ")).ends_with("64 terms"));
        assert_eq!(form(&format!("{}pid=1", "not ".repeat(4_001))), "not pid=1");
    }
}
