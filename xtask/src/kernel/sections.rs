//! Which functions of a kernel tree open or pause a lazy section, on x86: the list against which the workloads are held.
//!
//! Found by the text of the calls, so a call that a macro hides is not seen. Nothing is compiled.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;

use super::tree::Tree;

/// The calls that begin a section: of 7.x, and as the architecture has them before.
const OPENS: &[&str] = &["lazy_mmu_mode_enable(", "arch_enter_lazy_mmu_mode("];
/// The calls that interrupt one.
const PAUSES: &[&str] = &["lazy_mmu_mode_pause("];

/// Where kernel code that x86 runs lies, apart from the architectures.
const DIRECTORIES: &[&str] = &[
    "arch/x86", "block", "certs", "crypto", "drivers", "fs", "init", "io_uring", "ipc", "kernel", "lib", "mm",
];

/// A function that opens or pauses sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// Its name.
    pub(crate) function: String,
    /// Its file, from the root of the tree.
    pub(crate) path: String,
    /// The lines of its calls.
    pub(crate) lines: Vec<usize>,
    /// Whether it only pauses them.
    pub(crate) pauses: bool,
}

/// All of a tree, by path and line.
pub(crate) fn find(tree: &Tree) -> Result<Vec<Section>> {
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        for path in tree.files(directory, true, is_source)? {
            if let Some(text) = tree.read(&path)? {
                found.extend(of_file(&path, &text));
            }
        }
    }
    Ok(found)
}

/// KUnit tests enter the mode as well, and nothing is mapped there.
fn is_source(name: &str) -> bool {
    name.strip_suffix(".c").is_some_and(|stem| !stem.ends_with("kunit"))
}

/// As one line, for people and for the tests.
impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines.iter().map(usize::to_string).collect::<Vec<_>>().join(", :");
        let pauses = if self.pauses { ", pauses" } else { "" };
        write!(f, "{} {}:{lines}{pauses}", self.function, self.path)
    }
}

fn of_file(path: &str, text: &str) -> Vec<Section> {
    // Nearly all files have none.
    if !text.contains("_lazy_mmu_mode") && !text.contains("lazy_mmu_mode_") {
        return Vec::new();
    }
    let mut found: BTreeMap<(bool, String), Section> = BTreeMap::new();
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let opens = OPENS.iter().any(|call| line.contains(call));
        let pauses = PAUSES.iter().any(|call| line.contains(call));
        // At the start of a line stands a definition, after a star a comment.
        let is_code = line.starts_with(char::is_whitespace) && !line.trim_start().starts_with('*');
        if !is_code || !(opens || pauses) {
            continue;
        }
        let function = enclosing(&lines[..index]).unwrap_or("?").to_owned();
        let section = found.entry((pauses, function.clone())).or_insert_with(|| Section {
            function,
            path: path.to_owned(),
            lines: Vec::new(),
            pauses,
        });
        section.lines.push(index + 1);
    }
    let mut sections: Vec<Section> = found.into_values().collect();
    sections.sort_by(|a, b| a.lines.cmp(&b.lines));
    sections
}

/// The function whose body the end of these lines lies in: the name before the first bracket of its head, which begins
/// in the first column above the brace in the first column.
fn enclosing<'a>(before: &[&'a str]) -> Option<&'a str> {
    let brace = before.iter().rposition(|line| line.starts_with('{'))?;
    let heads = before[..brace].iter().rev();
    let head = heads
        .take(12)
        .find(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()) && line.contains('('))?;
    let name = head.split('(').next()?.trim_end();
    Some(name.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_their_calls() {
        let text = "\
/*
 * lazy_mmu_mode_enable() is called below.
 */
static inline int one(struct mm_struct *mm,
		      unsigned long addr)
{
	lazy_mmu_mode_enable();
again:
	lazy_mmu_mode_disable();
	lazy_mmu_mode_enable();
}

void *
two(void)
{
	int x;
	if (x) {
		lazy_mmu_mode_pause();
	}
}

static void three(int x)
{
	arch_enter_lazy_mmu_mode();
}
";
        let section = |function: &str, lines: &[usize], pauses| Section {
            function: function.to_owned(),
            path: "mm/x.c".to_owned(),
            lines: lines.to_vec(),
            pauses,
        };
        assert_eq!(
            of_file("mm/x.c", text),
            [section("one", &[7, 10], false), section("two", &[18], true), section("three", &[24], false)]
        );
    }
}
