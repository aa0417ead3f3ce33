//! Where the engine's source is broken, and how.
//!
//! Every function of `hazard/src` is read, tests apart, so a new rule has its breaks by itself. A break is not written
//! into the text by itself: each place gets a call that knows its number (`inserted/mutant.rs`), so that one build has
//! them all. What the tables say is broken there, as data.

use std::ops::Range;

use anyhow::{Context, Result};
use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, ImplItemFn, ItemFn, Pat, ReturnType, Signature, Stmt, UnOp};

/// One break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// Its number in the build.
    pub(super) id: usize,
    /// File, function, what is broken and how: the same until somebody edits that place.
    pub(super) name: String,
    /// For people; 0 if it is a row.
    pub(super) line: usize,
}

/// A file with calls at every place that can be broken.
pub(super) struct Broken {
    pub(super) text: String,
    pub(super) mutants: Vec<Mutant>,
}

/// Puts the calls into the text of `file`. Numbers begin at `next`.
pub(super) fn breaks(file: &str, text: &str, next: &mut usize) -> Result<Broken> {
    let parsed = syn::parse_file(text).with_context(|| format!("failed to parse {file}"))?;
    let mut finder =
        Finder { file, text, next, edits: Vec::new(), mutants: Vec::new(), function: "", depth: 0 };
    finder.visit_file(&parsed);
    let Finder { mut edits, mut mutants, .. } = finder;
    edits.sort_by_key(|edit| (edit.range.start, edit.place));
    let mut broken = String::new();
    let mut done = 0;
    for Edit { range, text: put, .. } in edits {
        broken.push_str(&text[done..range.start]);
        broken.push_str(&put);
        done = range.end;
    }
    broken.push_str(&text[done..]);
    // Two breaks of one name, in one function, are told apart by their order.
    for index in 0..mutants.len() {
        let same = mutants[..index].iter().filter(|other| base(&other.name) == mutants[index].name).count();
        if same > 0 {
            mutants[index].name = format!("{} #{}", mutants[index].name, same + 1);
        }
    }
    Ok(Broken { text: broken, mutants })
}

fn base(name: &str) -> &str {
    name.split(" #").next().unwrap_or(name)
}

/// Where an edit goes among those at the same place: ends of inner expressions, then of outer ones, then begins of outer
/// ones, then of inner ones, then what replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    End(std::cmp::Reverse<usize>),
    Begin(usize),
    Instead,
}

struct Edit {
    range: Range<usize>,
    text: String,
    place: Place,
}

struct Finder<'a> {
    file: &'a str,
    text: &'a str,
    next: &'a mut usize,
    edits: Vec<Edit>,
    mutants: Vec<Mutant>,
    function: &'a str,
    /// Grows with each expression that is wrapped, so an outer one has the smaller number.
    depth: usize,
}

impl<'a> Finder<'a> {
    fn source(&self, span: Span) -> &'a str {
        &self.text[span.byte_range()]
    }

    /// Numbers some breaks of one place; returns the first number.
    fn add(&mut self, span: Span, what: &str, hows: &[&str]) -> usize {
        let first = *self.next;
        let what: String = what.split_whitespace().collect::<Vec<_>>().join(" ");
        for how in hows {
            let name = format!("{} {}: `{what}` {how}", self.file, self.function);
            self.mutants.push(Mutant { id: *self.next, name, line: span.start().line });
            *self.next += 1;
        }
        first
    }

    fn insert(&mut self, at: usize, text: String, place: Place) {
        self.edits.push(Edit { range: at..at, text, place });
    }

    fn wrap(&mut self, span: Span, before: String, after: &str) {
        let range = span.byte_range();
        self.depth += 1;
        self.insert(range.start, before, Place::Begin(self.depth));
        self.insert(range.end, after.to_owned(), Place::End(std::cmp::Reverse(self.depth)));
    }

    /// A value that is true or false.
    fn truth(&mut self, span: Span) {
        let id = self.add(span, self.source(span), &["negated", "always true", "never true"]);
        self.wrap(span, format!("crate::mutant::condition({id}, "), ")");
    }

    /// An expression where a condition stands. Comparisons and `matches!` are found wherever they stand.
    fn condition(&mut self, expr: &Expr) {
        match expr {
            Expr::Let(_) | Expr::Macro(_) => {}
            Expr::Paren(inner) => self.condition(&inner.expr),
            Expr::Binary(binary) if is_comparison(&binary.op) || is_junction(&binary.op) => {}
            _ => self.truth(expr.span()),
        }
    }

    /// One of several patterns does not match any more.
    fn alternatives(&mut self, looked_at: &Expr, pattern: &Pat) -> String {
        let Pat::Or(pattern) = pattern else { return String::new() };
        let pure = matches!(looked_at, Expr::Path(_) | Expr::Field(_) | Expr::Call(_) | Expr::MethodCall(_));
        if !pure {
            return String::new();
        }
        let value = self.source(looked_at.span());
        let guards = pattern.cases.iter().map(|case| {
            let case_text = self.source(case.span());
            let id = self.add(case.span(), case_text, &["dropped from the alternatives"]);
            format!(" && !(crate::mutant::is({id}) && matches!({value}, {case_text}))")
        });
        guards.collect()
    }

    fn function(&mut self, signature: &Signature, block: &syn::Block, go: impl FnOnce(&mut Self)) {
        let name = self.source(signature.ident.span());
        if name == "fmt" {
            return;
        }
        let outer = std::mem::replace(&mut self.function, name);
        let before = self.mutants.len();
        let returned = match &signature.output {
            ReturnType::Default => String::new(),
            ReturnType::Type(_, kind) => self.source(kind.span()).to_owned(),
        };
        let values: &[&str] = match returned.as_str() {
            "" => &[""],
            "bool" => &["true", "false"],
            "ProfileMask" => &["crate::profile::ProfileMask::NONE"],
            option if option.starts_with("Option<") => &["None"],
            _ => &[],
        };
        let open = block.brace_token.span.open().byte_range().end;
        for value in values {
            let how = if value.is_empty() { "does nothing".to_owned() } else { format!("gives {value}") };
            let id = self.add(signature.ident.span(), name, &[how.as_str()]);
            let early = format!(" if crate::mutant::is({id}) {{ return {value}; }}");
            self.insert(open, early, Place::Begin(0));
        }
        go(self);
        if let Some(token) = &signature.constness
            && self.mutants.len() > before
        {
            // What asks for its number cannot be evaluated by the compiler.
            self.edits.push(Edit {
                range: token.span().byte_range(),
                text: String::new(),
                place: Place::Instead,
            });
        }
        self.function = outer;
    }
}

impl<'a> Visit<'a> for Finder<'a> {
    fn visit_item(&mut self, item: &'a syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            // Texts and numbers.
            syn::Item::Const(_) | syn::Item::Static(_) | syn::Item::Macro(_) => return,
            _ => return visit::visit_item(self, item),
        };
        let for_tests = |attribute: &syn::Attribute| {
            attribute.path().is_ident("test")
                || attribute.path().is_ident("cfg") && self.source(attribute.span()).contains("test")
        };
        if !attributes.iter().any(for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'a ItemFn) {
        self.function(&item.sig, &item.block, |finder| visit::visit_block(finder, &item.block));
    }

    fn visit_impl_item_fn(&mut self, item: &'a ImplItemFn) {
        self.function(&item.sig, &item.block, |finder| visit::visit_block(finder, &item.block));
    }

    fn visit_stmt(&mut self, statement: &'a Stmt) {
        if let Stmt::Expr(expr, Some(_)) = statement
            && is_effect(expr)
        {
            let id = self.add(expr.span(), self.source(expr.span()), &["dropped"]);
            self.wrap(statement.span(), format!("if !crate::mutant::is({id}) {{ "), " }");
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_expr_if(&mut self, expr: &'a syn::ExprIf) {
        self.condition(&expr.cond);
        visit::visit_expr_if(self, expr);
    }

    fn visit_expr_binary(&mut self, expr: &'a syn::ExprBinary) {
        if is_comparison(&expr.op) {
            self.truth(expr.span());
            let by = self.source(expr.op.span());
            if !matches!(expr.op, BinOp::Eq(_) | BinOp::Ne(_)) {
                let id = self.add(expr.span(), self.source(expr.span()), &["with or without equality"]);
                self.wrap(expr.span(), format!("crate::mutant::order({id}, {by:?}, &("), "))");
                let range = expr.op.span().byte_range();
                self.edits.push(Edit { range, text: "), &(".into(), place: Place::Instead });
            }
        } else if is_junction(&expr.op) {
            self.condition(&expr.left);
            self.condition(&expr.right);
        }
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        let method = self.source(call.method.span());
        match (method, call.args.first()) {
            ("then_some" | "then", _) => self.condition(&call.receiver),
            (
                "filter" | "any" | "all" | "is_some_and" | "is_ok_and" | "retain",
                Some(Expr::Closure(closure)),
            ) if !matches!(*closure.body, Expr::Block(_) | Expr::Unary(_)) || is_not(&closure.body) => {
                self.condition(&closure.body);
            }
            ("and" | "or" | "without" | "with", Some(right)) => {
                let place = call.receiver.span().byte_range().end..right.span().byte_range().start;
                let whole = self.source(call.span());
                let before = if method == "with" {
                    let id = self.add(call.span(), whole, &["keeps its left side only"]);
                    format!("crate::mutant::with({id}, ")
                } else {
                    let other = if method == "and" { "or" } else { "and" };
                    let how = format!("with `{other}`");
                    let id = self.add(call.span(), whole, &[how.as_str(), "keeps its left side only"]);
                    format!("crate::mutant::mask({id}, {method:?}, ")
                };
                self.depth += 1;
                self.insert(call.span().byte_range().start, before, Place::Begin(self.depth));
                self.edits.push(Edit { range: place, text: ", ".into(), place: Place::Instead });
            }
            _ => {}
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_macro(&mut self, expr: &'a syn::ExprMacro) {
        if !expr.mac.path.is_ident("matches") {
            return;
        }
        let span = expr.span();
        let parse = |input: syn::parse::ParseStream| {
            let looked_at: Expr = input.parse()?;
            input.parse::<syn::Token![,]>()?;
            let pattern = Pat::parse_multi_with_leading_vert(input)?;
            input.parse::<proc_macro2::TokenStream>()?;
            Ok((looked_at, pattern))
        };
        self.truth(span);
        if let Ok((looked_at, pattern)) = syn::parse::Parser::parse2(parse, expr.mac.tokens.clone()) {
            let guards = self.alternatives(&looked_at, &pattern);
            self.wrap(span, "(".into(), &format!("{guards})"));
        }
    }

    fn visit_expr_match(&mut self, expr: &'a syn::ExprMatch) {
        let rest = |arm: &syn::Arm| arm.guard.is_none() && matches!(arm.pat, Pat::Wild(_));
        let has_rest = expr.arms.last().is_some_and(rest);
        for arm in &expr.arms {
            if let Some((_, guard)) = &arm.guard {
                self.condition(guard);
            } else if has_rest && !rest(arm) {
                let id = self.add(arm.pat.span(), self.source(arm.pat.span()), &["dropped from the arms"]);
                let guards = self.alternatives(&expr.expr, &arm.pat);
                let end = arm.pat.span().byte_range().end;
                self.depth += 1;
                let text = format!(" if !crate::mutant::is({id}){guards}");
                self.insert(end, text, Place::End(std::cmp::Reverse(self.depth)));
            }
        }
        visit::visit_expr_match(self, expr);
    }
}

fn is_comparison(op: &BinOp) -> bool {
    matches!(op, BinOp::Eq(_) | BinOp::Ne(_) | BinOp::Lt(_) | BinOp::Le(_) | BinOp::Gt(_) | BinOp::Ge(_))
}

fn is_junction(op: &BinOp) -> bool {
    matches!(op, BinOp::And(_) | BinOp::Or(_))
}

fn is_not(expr: &Expr) -> bool {
    matches!(expr, Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_)))
}

/// A statement that is there for what it changes.
fn is_effect(expr: &Expr) -> bool {
    match expr {
        Expr::MethodCall(_) | Expr::Call(_) => true,
        // A variable of the function may get its first value here, which cannot be dropped.
        Expr::Assign(assign) => !matches!(*assign.left, Expr::Path(_)),
        Expr::Binary(binary) => !is_comparison(&binary.op) && !is_junction(&binary.op),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(text: &str) -> (String, Vec<String>) {
        let Broken { text, mutants } = breaks("x.rs", text, &mut 1).unwrap();
        (text, mutants.into_iter().map(|mutant| mutant.name).collect())
    }

    #[test]
    fn conditions_nest() {
        let (text, names) = broken("fn f() -> u8 { if a && !(b > 1) { 1 } else { 2 } }");
        assert_eq!(
            text,
            "fn f() -> u8 { if crate::mutant::condition(1, a) && crate::mutant::condition(4, !(crate::mutant::condition(7, \
             crate::mutant::order(10, \">\", &(b ), &( 1))))) { 1 } else { 2 } }"
        );
        assert_eq!(names[0], "x.rs f: `a` negated");
        assert_eq!(names[9], "x.rs f: `b > 1` with or without equality");
        assert_eq!(names.len(), 10);
    }

    #[test]
    fn statements_functions_and_arms() {
        let (text, names) = broken("const fn f(x: K) { match x { K::A | K::B => g(), _ => {} } h(); }");
        assert_eq!(
            text,
            " fn f(x: K) { if crate::mutant::is(1) { return ; } match x { K::A | K::B if !crate::mutant::is(2) && \
             !(crate::mutant::is(3) && matches!(x, K::A)) && !(crate::mutant::is(4) && matches!(x, K::B)) => g(), _ => \
             {} } if !crate::mutant::is(5) { h(); } }"
        );
        assert_eq!(names[4], "x.rs f: `h()` dropped");
    }

    #[test]
    fn tests_and_texts_are_left_alone() {
        let text = "static A: bool = 1 == 2;\n#[cfg(test)]\nmod tests { fn f() { g(1 == 2); } }\n";
        assert_eq!(broken(text), (text.to_owned(), Vec::new()));
    }

    #[test]
    fn a_name_is_given_once() {
        let (_, names) = broken("fn f() -> u8 { g(a == b, a == b) }");
        assert_eq!(names[0], "x.rs f: `a == b` negated");
        assert_eq!(names[3], "x.rs f: `a == b` negated #2");
    }
}
