//! Finds the accessors of page-table entries in C headers: what takes a pointer to a PTE, PMD or PUD, and what
//! concerns the lazy MMU mode.
//!
//! Reads the declarations as text, without a preprocessor, so that both branches of every `#if` are seen. It does not
//! look into function bodies and does not judge what it finds; that is [`super::accessors`]' matter.

use std::collections::BTreeSet;

/// One declaration, definition or macro.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accessor {
    /// Its name.
    pub(crate) name: String,
    /// The line on which the name stands, from 1.
    pub(crate) line: usize,
}

/// Names of macro arguments that stand for a pointer to an entry. `pte`, `pmd` and `pud` may be values as well; such
/// macros are listed as exempt.
const POINTERS: &[&str] = &["ptep", "pmdp", "pudp", "ptr", "xp", "pmdptr", "pudptr", "pte", "pmd", "pud"];

const KEYWORDS: &[&str] =
    &["if", "for", "while", "switch", "return", "sizeof", "typeof", "defined", "__attribute__"];

/// Every accessor in a header, in the order of the lines.
pub(crate) fn accessors(header: &str) -> Vec<Accessor> {
    let text = blank_comments(header);
    let mut found = Vec::new();
    let mut code = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n').enumerate();
    while let Some((number, line)) = lines.next() {
        if !line.trim_start().starts_with('#') {
            code.push_str(line);
            continue;
        }
        // A directive with its continuation lines. Blank in `code`, so that lines and braces stay right.
        let mut directive = line.to_owned();
        code.push('\n');
        while directive.trim_end().ends_with('\\') {
            let Some((_, more)) = lines.next() else { break };
            directive.push_str(more);
            code.push('\n');
        }
        if let Some(name) = macro_accessor(&directive) {
            found.push(Accessor { name, line: number + 1 });
        }
    }
    found.extend(functions(&code));
    found.sort_by_key(|accessor| accessor.line);
    found
}

/// The name that a `#define` gives to an accessor, if it does.
fn macro_accessor(directive: &str) -> Option<String> {
    let rest = directive.trim_start().strip_prefix('#')?.trim_start().strip_prefix("define")?;
    let rest = rest.strip_prefix(|c: char| c.is_whitespace())?.trim_start();
    let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    if let Some(arguments) = rest.strip_prefix('(') {
        let arguments = &arguments[..arguments.find(')')?];
        let takes_pointer = arguments.split(',').any(|argument| POINTERS.contains(&argument.trim()));
        return (takes_pointer || is_mode_call(name)).then(|| name.to_owned());
    }
    // `#define pmdp_establish generic_pmdp_establish`: another name for an accessor. `#define x x` only marks it.
    let target = rest.trim();
    let alias = target != name && !target.is_empty() && target.chars().all(is_word);
    (alias && (has_entry_prefix(target) || is_mode_call(name))).then(|| name.to_owned())
}

fn has_entry_prefix(name: &str) -> bool {
    ["ptep_", "pmdp_", "pudp_", "set_pte", "set_pmd", "set_pud", "generic_pmdp_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

fn is_mode_call(name: &str) -> bool {
    name.contains("lazy_mmu")
}

/// Functions declared or defined outside of any braces whose parameters hold a pointer to an entry.
fn functions(code: &str) -> Vec<Accessor> {
    let mut found = Vec::new();
    let bytes = code.as_bytes();
    let (mut at, mut line, mut depth) = (0, 1, 0_usize);
    while at < bytes.len() {
        match bytes[at] {
            b'\n' => {
                line += 1;
                // The kernel closes a function in the first column. This repairs what the two branches of an #if
                // did to the count.
                if bytes.get(at + 1) == Some(&b'}') {
                    depth = 1;
                }
                at += 1;
            }
            b'{' => {
                depth += 1;
                at += 1;
            }
            b'}' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            byte if depth == 0 && is_word(byte as char) => {
                let length = code[at..].find(|c: char| !is_word(c)).unwrap_or(code.len() - at);
                let name = &code[at..at + length];
                let open = at + length + code[at + length..].len() - code[at + length..].trim_start().len();
                if bytes.get(open) == Some(&b'(')
                    && !KEYWORDS.contains(&name)
                    && let Some(parameters) = parenthesized(&code[open..])
                    && (takes_entry(parameters) || (is_mode_call(name) && !name.starts_with("LAZY")))
                {
                    found.push(Accessor { name: name.to_owned(), line });
                    line += code[at..open + parameters.len()].matches('\n').count();
                    at = open + parameters.len();
                } else {
                    at += length;
                }
            }
            _ => at += 1,
        }
    }
    found
}

/// From an opening parenthesis to the one that closes it.
fn parenthesized(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(&text[..=at]);
                }
            }
            ';' | '{' => return None,
            _ => {}
        }
    }
    None
}

fn takes_entry(parameters: &str) -> bool {
    ["pte_t", "pmd_t", "pud_t"].iter().any(|kind| {
        parameters.match_indices(kind).any(|(at, _)| {
            let before = parameters[..at].chars().next_back();
            before.is_none_or(|c| !is_word(c)) && parameters[at + kind.len()..].trim_start().starts_with('*')
        })
    })
}

/// Where C functions with one of these names are defined (not just declared): line and name of each.
pub(crate) fn definitions(source: &str, names: &BTreeSet<String>) -> Vec<Accessor> {
    let text = blank_comments(source);
    let mut found = Vec::new();
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        // A definition begins in the first column with its type; a call is indented.
        if line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && let Some(open) = line.find('(')
        {
            let head = line[..open].trim_end();
            let name = &head[head.rfind(|c: char| !is_word(c)).map_or(0, |at| at + 1)..];
            if names.contains(name)
                && let Some(parameters) = parenthesized(&text[offset + open..])
                && text[offset + open + parameters.len()..].trim_start().starts_with('{')
            {
                found.push(Accessor { name: name.to_owned(), line: number + 1 });
            }
        }
        offset += line.len();
    }
    found
}

/// The text with comments and string literals blanked, line for line.
fn blank_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['/', '"']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with('"') {
            string_length(rest)
        } else {
            out.push('/');
            rest = &rest[1..];
            continue;
        };
        out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

fn string_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            b'\n' => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(header: &str) -> Vec<String> {
        accessors(header).into_iter().map(|accessor| accessor.name).collect()
    }

    #[test]
    fn declarations_definitions_and_macros_are_found_with_their_lines() {
        let header = "\
#ifndef ptep_look
static inline pte_t ptep_look(pte_t *ptep)
{
	return look(ptep, other((pte_t *)ptep));
}
#endif
extern int ptep_change(struct vm_area_struct *vma,
		       unsigned long address, pte_t
		       *ptep, int dirty);
#define put_pte(mm, ptep, pte) \\
	put(mm, ptep)
#define pmdp_swap generic_pmdp_swap
#define ptep_look ptep_look
";
        let found = accessors(header);
        let expected = [("ptep_look", 2), ("ptep_change", 7), ("put_pte", 10), ("pmdp_swap", 12)];
        assert_eq!(found.iter().map(|a| (a.name.as_str(), a.line)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn both_branches_of_a_condition_are_seen_even_if_they_open_two_braces() {
        let header = "\
#ifdef A
static inline int one(pmd_t *p) {
#else
static inline int two(pmd_t *p) {
#endif
	return 0;
}
static inline int three(pud_t *pudp)
{
	return 0;
}
";
        assert!(names(header).contains(&"three".to_owned()), "{:?}", names(header));
    }

    #[test]
    fn values_comments_and_calls_are_no_accessors() {
        let header = "\
/* int commented(pte_t *ptep); */
static inline pte_t pte_mk(pte_t pte)
{
	return store((pte_t *)0, pte);
}
static inline pmd_t *pmd_find(unsigned long address);
#define plain(a, b) (a)
";
        assert_eq!(names(header), Vec::<String>::new());
    }

    #[test]
    fn mode_calls_are_found() {
        let header = "static inline void arch_enter_lazy_mmu_mode(void)\n{\n}\n#define arch_x_lazy_mmu_mode() do {} while (0)\n";
        assert_eq!(names(header), ["arch_enter_lazy_mmu_mode", "arch_x_lazy_mmu_mode"]);
    }

    #[test]
    fn only_definitions_count_as_definitions() {
        let wrapped = BTreeSet::from(["ptep_change".to_owned(), "ptep_other".to_owned()]);
        let source = "\
int ptep_other(pte_t *ptep);
static void user(void)
{
	if (ptep_change(vma, a, p)) {
	}
}
int ptep_change(struct vm_area_struct *vma,
		unsigned long address, pte_t *ptep)
{
}
";
        let found = definitions(source, &wrapped);
        assert_eq!(found, [Accessor { name: "ptep_change".to_owned(), line: 7 }]);
    }
}
