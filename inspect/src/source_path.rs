//! Source files named as the kernel's developers name them: `mm/memory.c`, never a path of the build machine.

/// The folders that all source files of one kernel are in.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceRoots {
    /// Normalised, the longest first.
    roots: Vec<Vec<String>>,
}

impl SourceRoots {
    /// `unit` and `folder` are the name of a compilation unit and the folder in which the compiler ran, as debug
    /// information has them; `known` is that unit's path in the kernel's tree. The folder counts as a root too:
    /// with `make O=` generated headers are there.
    pub(crate) fn from_unit(unit: &str, folder: &str, known: &str) -> Self {
        let mut roots = Vec::new();
        let full = normalise(&join(folder, unit));
        let tail = normalise(known);
        if full.ends_with(&tail) {
            roots.push(full[..full.len() - tail.len()].to_vec());
        }
        roots.push(normalise(folder));
        roots.sort_by_key(|root| std::cmp::Reverse(root.len()));
        roots.dedup();
        Self { roots }
    }

    /// The path in the kernel's tree; only the file's name for a file outside of it.
    pub(crate) fn relative(&self, path: &str) -> String {
        let parts = normalise(path);
        let inside = self.roots.iter().find_map(|root| parts.strip_prefix(root.as_slice()));
        match inside {
            Some(inside) if inside.first().is_some_and(|first| !is_outside(first)) => inside.join("/"),
            _ => parts.last().cloned().unwrap_or_default(),
        }
    }
}

fn is_outside(first: &str) -> bool {
    first == "/" || first == ".."
}

fn join(folder: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") }
}

/// The parts of a path without `.` and, where they can be resolved by the text alone, without `..`. An absolute
/// path has `/` as its first part.
fn normalise(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    if path.starts_with('/') {
        parts.push("/".to_owned());
    }
    for part in path.split('/') {
        match (part, parts.last().map(String::as_str)) {
            ("" | ".", _) | ("..", Some("/")) => {}
            ("..", Some(last)) if last != ".." => {
                parts.pop();
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_outside_of_the_tree() {
        let roots = SourceRoots::from_unit("/home/me/linux/init/main.c", "/home/me/build", "init/main.c");
        assert_eq!(roots.relative("/home/me/linux/mm/memory.c"), "mm/memory.c");
        assert_eq!(roots.relative("/home/me/build/../linux/include/linux/mm.h"), "include/linux/mm.h");
        assert_eq!(roots.relative("/home/me/build/include/generated/bounds.h"), "include/generated/bounds.h");
        assert_eq!(roots.relative("/usr/lib/gcc/x86_64-linux-gnu/12/include/stdarg.h"), "stdarg.h");
        assert_eq!(roots.relative("/home/me/linux2/mm/memory.c"), "memory.c");
    }

    #[test]
    fn a_build_in_the_tree_and_one_below_it() {
        let inside = SourceRoots::from_unit("init/main.c", "/src/linux", "init/main.c");
        assert_eq!(
            inside.relative("/src/linux/./arch/x86/include/asm/pgtable.h"),
            "arch/x86/include/asm/pgtable.h"
        );
        let below = SourceRoots::from_unit("../../init/main.c", "/src/linux/debian/build", "init/main.c");
        assert_eq!(below.relative("/src/linux/debian/build/../../mm/mremap.c"), "mm/mremap.c");
        assert_eq!(below.relative("/src/linux/debian/build/include/generated/x.h"), "include/generated/x.h");
    }

    #[test]
    fn prefixes_that_the_compiler_already_mapped_away() {
        let mapped = SourceRoots::from_unit("init/main.c", ".", "init/main.c");
        assert_eq!(mapped.relative("./mm/memory.c"), "mm/memory.c");
        let upward = SourceRoots::from_unit("../../../init/main.c", ".", "init/main.c");
        assert_eq!(upward.relative("../../../mm/memory.c"), "mm/memory.c");
    }

    #[test]
    fn without_a_root_only_the_name_is_left() {
        let unknown = SourceRoots::default();
        assert_eq!(unknown.relative("/home/me/linux/mm/memory.c"), "memory.c");
        let other = SourceRoots::from_unit("/x/other.c", "/y", "init/main.c");
        assert_eq!(other.relative("/x/other.c"), "other.c");
        assert_eq!(other.relative(""), "");
    }
}
