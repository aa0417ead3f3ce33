//! Puts the drop-in into a kernel tree: its own files, and one line each in a few files of the kernel.
//!
//! All edits are computed first. A tree that one of them does not fit is left as it is. The lines are found again by the
//! drop-in's name, so applying twice changes nothing, and an older version is replaced. This does not configure or build.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::accessors::Table;
use super::dropin::{Dropin, MARK};
use super::scan;
use super::tree::Tree;

/// The line that files which define accessors get.
const OFF: &str = "#define LAZY_MMU_HOOKS_OFF /* defines what <linux/lazy_mmu_hooks.h> wraps */";

/// Xen PV's half of the mode. It is not a user of it: up to 6.14 it calls `arch_leave_lazy_mmu_mode()` and
/// `arch_enter_lazy_mmu_mode()` to flush and to switch tasks (arch/x86/xen/mmu_pv.c and enlighten_pv.c, 6.12).
const IMPLEMENTATION: &[&str] = &["arch/x86/xen/mmu_pv.c", "arch/x86/xen/enlighten_pv.c"];

/// Architectures that have the mode in some version; their `mm/` may define accessors.
const ARCHITECTURES: &[&str] = &["x86", "arm64", "powerpc", "s390", "sparc"];

/// Where a line goes.
enum Anchor {
    /// Before the last line that is not empty, which must be this one.
    BeforeLast(&'static str),
    /// After the last line that is not empty, which must begin with this.
    AfterLast(&'static str),
    /// Before the first line that begins with this.
    BeforeFirst(&'static str),
}

/// One line in one file of the kernel.
struct Edit {
    path: String,
    line: &'static str,
    anchor: Anchor,
}

/// A file that has to change.
pub(crate) struct Change {
    path: String,
    text: String,
}

/// Applies the drop-in and returns the files that changed, from the root of the tree.
pub(crate) fn apply(tree: &Tree, dropin: &Dropin) -> Result<Vec<String>> {
    let changes = plan(tree, dropin)?;
    for change in &changes {
        write(&tree.root.join(&change.path), &change.text)?;
    }
    Ok(changes.into_iter().map(|change| change.path).collect())
}

/// What has to change in the tree; nothing if it has this drop-in already.
pub(crate) fn plan(tree: &Tree, dropin: &Dropin) -> Result<Vec<Change>> {
    let table = Table::load(dropin)?;
    table.check(tree)?;
    let mut changes = Vec::new();
    let mut misfits = Vec::new();
    for file in &dropin.files {
        match tree.read(file.path)? {
            Some(text) if text == file.text => {}
            Some(text) if !text.contains(MARK) => misfits.push(format!(
                "{}:1: expected no such file, or one of the {MARK}; found {}",
                file.path,
                quote(text.lines().next())
            )),
            _ => changes.push(Change { path: file.path.to_owned(), text: file.text.clone() }),
        }
    }
    for edit in edits(tree, &table)? {
        let Some(old) = tree.read(&edit.path)? else {
            misfits.push(format!("{}: expected this file; the tree has none", edit.path));
            continue;
        };
        match edit.insert(&old) {
            Ok(text) if text == old => {}
            Ok(text) => changes.push(Change { path: edit.path, text }),
            Err(misfit) => misfits.push(misfit),
        }
    }
    if misfits.is_empty() {
        return Ok(changes);
    }
    bail!(
        "failed to fit the drop-in to {} (Linux {}); nothing was changed:\n  {}",
        tree.root.display(),
        tree.version,
        misfits.join("\n  ")
    )
}

fn edits(tree: &Tree, table: &Table) -> Result<Vec<Edit>> {
    let mut edits = vec![
        Edit {
            path: "include/linux/pgtable.h".to_owned(),
            line: "#include <linux/lazy_mmu_hooks.h> /* must be the last */",
            anchor: Anchor::BeforeLast("#endif /* _LINUX_PGTABLE_H */"),
        },
        Edit {
            path: "mm/Kconfig".to_owned(),
            line: "source \"mm/Kconfig.lazy_mmu_hooks\"",
            anchor: Anchor::BeforeLast("endmenu"),
        },
        Edit {
            path: "mm/Makefile".to_owned(),
            line: "obj-$(CONFIG_LAZY_MMU_HOOKS) += lazy_mmu_hooks.o",
            anchor: Anchor::AfterLast("obj-$(CONFIG_"),
        },
    ];
    edits.extend(off_files(tree, table)?.into_iter().map(|path| Edit {
        path,
        line: OFF,
        anchor: Anchor::BeforeFirst("#include"),
    }));
    Ok(edits)
}

/// The files in which the accessors must keep their own meaning: those that define one, and Xen PV's.
fn off_files(tree: &Tree, table: &Table) -> Result<Vec<String>> {
    let is_c = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "c");
    let mut candidates = tree.files("mm", false, is_c)?;
    for architecture in ARCHITECTURES {
        candidates.extend(tree.files(&format!("arch/{architecture}/mm"), true, is_c)?);
    }
    let names = table.names();
    let mut off = Vec::new();
    for path in candidates {
        let text = tree.read(&path)?.unwrap_or_default();
        if !scan::definitions(&text, &names).is_empty() {
            off.push(path);
        }
    }
    for path in IMPLEMENTATION {
        if tree.root.join(path).exists() {
            off.push((*path).to_owned());
        }
    }
    Ok(off)
}

impl Edit {
    /// The text with the line at its place, once; or what does not fit.
    fn insert(&self, text: &str) -> Result<String, String> {
        // Lines of the drop-in, of whatever version, are not the kernel's.
        let mut lines: Vec<(usize, &str)> = text
            .split_inclusive('\n')
            .enumerate()
            .filter(|(_, line)| !line.contains("lazy_mmu_hooks") && !line.contains("LAZY_MMU_HOOKS"))
            .collect();
        let last = lines.iter().rposition(|(_, line)| !line.trim().is_empty());
        let found = |at: Option<usize>| {
            let (number, line) = at.and_then(|at| lines.get(at)).map_or((0, None), |(n, l)| (*n, Some(*l)));
            (number + 1, quote(line))
        };
        let misfit = |wanted: String| {
            let (number, line) = found(last);
            format!("{}:{number}: expected {wanted}; found {line}", self.path)
        };
        let at = match self.anchor {
            Anchor::BeforeLast(wanted) => last
                .filter(|at| lines[*at].1.trim() == wanted)
                .ok_or_else(|| misfit(format!("the last line to be `{wanted}`"))),
            Anchor::AfterLast(wanted) => last
                .filter(|at| lines[*at].1.starts_with(wanted) && lines[*at].1.ends_with('\n'))
                .map(|at| at + 1)
                .ok_or_else(|| misfit(format!("the last line to begin with `{wanted}`"))),
            Anchor::BeforeFirst(wanted) => lines
                .iter()
                .position(|(_, line)| line.starts_with(wanted))
                .ok_or_else(|| misfit(format!("a line that begins with `{wanted}`, to the end of the file"))),
        }?;
        let line = format!("{}\n", self.line);
        lines.insert(at, (0, &line));
        Ok(lines.into_iter().map(|(_, line)| line).collect())
    }
}

fn quote(line: Option<&str>) -> String {
    line.map_or_else(|| "an empty file".to_owned(), |line| format!("`{}`", line.trim_end()))
}

/// Writes a file by renaming a complete one over it.
fn write(path: &Path, text: &str) -> Result<()> {
    let failed = || format!("failed to write {}", path.display());
    let directory = path.parent().with_context(failed)?;
    fs::create_dir_all(directory).with_context(failed)?;
    let mut name = path.file_name().with_context(failed)?.to_owned();
    name.push(".lazymmu-new");
    let new = directory.join(name);
    fs::write(&new, text).with_context(failed)?;
    if let Ok(old) = fs::metadata(path) {
        fs::set_permissions(&new, old.permissions()).with_context(failed)?;
    }
    fs::rename(&new, path).with_context(failed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tempfile::TempDir;

    use super::*;
    use crate::kernel::dropin::File;

    const PGTABLE: &str = "\
#ifndef _LINUX_PGTABLE_H
#define _LINUX_PGTABLE_H
static inline pte_t ptep_get(pte_t *ptep)
{
	return *ptep;
}
pte_t ptep_clear_flush(struct vm_area_struct *vma, pte_t *ptep);

#endif /* _LINUX_PGTABLE_H */
";
    const GENERIC: &str = "\
// SPDX-License-Identifier: GPL-2.0
/* Generic accessors. */

#include <linux/pagemap.h>
#include <linux/pgtable.h>

pte_t ptep_clear_flush(struct vm_area_struct *vma, pte_t *ptep)
{
	return *ptep;
}
";

    /// A drop-in with two accessors.
    fn dropin(version: &str) -> Dropin {
        let hooks = format!(
            "/* {MARK} {version} */\n__LMH_READ(ptep_get, pte_t, LMO_PTEP_GET)\n__LMH_RMW(ptep_clear_flush, pte_t, LMO_CF)\n"
        );
        let names = format!(
            "/* {MARK} */\n#define ptep_get(...)\t__lmh_ptep_get(__VA_ARGS__)\n\
             #define ptep_clear_flush(...)\t__lmh_ptep_clear_flush(__VA_ARGS__)\n"
        );
        let ops = format!(
            "/* {MARK} */\n\top(LMO_PTEP_GET, 1, \"ptep_get\")\n\top(LMO_CF, 69, \"ptep_clear_flush\")\n"
        );
        let file = |path, text| File { path, text };
        Dropin {
            files: vec![
                file("include/linux/lazy_mmu_hooks.h", hooks),
                file("include/linux/lazy_mmu_names.h", names),
                file("include/linux/lazy_mmu_ops.h", ops),
            ],
            accessors: "[wrapped]\nptep_get = \"ptep_get\"\nptep_clear_flush = \"ptep_clear_flush\"\n\
                        [wrapped-where-present]\n[exempt]\n"
                .to_owned(),
        }
    }

    fn fake_tree() -> (TempDir, Tree) {
        let directory = tempfile::tempdir().unwrap();
        let files = [
            ("Makefile", "VERSION = 7\nPATCHLEVEL = 2\n"),
            ("include/linux/pgtable.h", PGTABLE),
            ("mm/Kconfig", "menu \"Memory\"\n\nsource \"mm/damon/Kconfig\"\n\nendmenu\n"),
            ("mm/Makefile", "obj-y := memory.o\nobj-$(CONFIG_X) += x.o\n"),
            ("mm/pgtable-generic.c", GENERIC),
            (
                "mm/memory.c",
                "#include <linux/mm.h>\nstatic void f(pte_t *p)\n{\n\tptep_clear_flush(0, p);\n}\n",
            ),
            ("arch/x86/xen/mmu_pv.c", "#include <linux/mm.h>\n"),
        ];
        for (path, text) in files {
            write(&directory.path().join(path), text).unwrap();
        }
        let tree = Tree::open(directory.path()).unwrap();
        (directory, tree)
    }

    fn snapshot(tree: &Tree) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for directory in ["include", "mm", "arch"] {
            for path in tree.files(directory, true, |_| true).unwrap() {
                let text = tree.read(&path).unwrap().unwrap();
                all.insert(path, text);
            }
        }
        all
    }

    #[test]
    fn each_file_gets_one_line_at_its_place() {
        let (_directory, tree) = fake_tree();
        let changed = apply(&tree, &dropin("1")).unwrap();
        assert_eq!(changed.len(), 8, "{changed:?}");
        let read = |path: &str| tree.read(path).unwrap().unwrap();
        assert!(read("include/linux/pgtable.h").ends_with(
            "\n\n#include <linux/lazy_mmu_hooks.h> /* must be the last */\n#endif /* _LINUX_PGTABLE_H */\n"
        ));
        assert!(read("mm/Kconfig").ends_with("\nsource \"mm/Kconfig.lazy_mmu_hooks\"\nendmenu\n"));
        assert!(read("mm/Makefile").ends_with("x.o\nobj-$(CONFIG_LAZY_MMU_HOOKS) += lazy_mmu_hooks.o\n"));
        for path in ["mm/pgtable-generic.c", "arch/x86/xen/mmu_pv.c"] {
            assert!(read(path).contains(&format!("{OFF}\n#include <linux/")), "{}", read(path));
        }
        assert!(!read("mm/memory.c").contains("HOOKS_OFF"));
    }

    #[test]
    fn applying_again_changes_nothing() {
        let (_directory, tree) = fake_tree();
        apply(&tree, &dropin("1")).unwrap();
        let once = snapshot(&tree);
        assert_eq!(apply(&tree, &dropin("1")).unwrap(), Vec::<String>::new());
        assert_eq!(snapshot(&tree), once);
    }

    #[test]
    fn an_older_version_is_replaced() {
        let (_directory, tree) = fake_tree();
        apply(&tree, &dropin("1")).unwrap();
        let fresh = snapshot(&tree);
        // As an older version may have left it: another file, another form of the line.
        write(&tree.root.join("include/linux/lazy_mmu_hooks.h"), &format!("/* {MARK} 0 */\n")).unwrap();
        write(
            &tree.root.join("mm/pgtable-generic.c"),
            &GENERIC.replace("/* Generic", "#define LAZY_MMU_HOOKS_OFF\n/* Generic"),
        )
        .unwrap();
        let changed = apply(&tree, &dropin("1")).unwrap();
        assert_eq!(changed, ["include/linux/lazy_mmu_hooks.h", "mm/pgtable-generic.c"]);
        assert_eq!(snapshot(&tree), fresh);
    }

    #[test]
    fn a_tree_that_does_not_fit_is_refused_untouched_with_file_and_line() {
        let (_directory, tree) = fake_tree();
        write(&tree.root.join("mm/Kconfig"), "menu \"Memory\"\nendmenu\n\nconfig LATE\n").unwrap();
        write(&tree.root.join("include/linux/lazy_mmu_ops.h"), "/* somebody else's */\n").unwrap();
        fs::remove_file(tree.root.join("mm/Makefile")).unwrap();
        let before = snapshot(&tree);
        let refusal = apply(&tree, &dropin("1")).unwrap_err().to_string();
        for part in [
            "mm/Kconfig:4: expected the last line to be `endmenu`; found `config LATE`",
            "include/linux/lazy_mmu_ops.h:1: expected no such file",
            "`/* somebody else's */`",
            "mm/Makefile: expected this file",
            "nothing was changed",
        ] {
            assert!(refusal.contains(part), "{refusal}");
        }
        assert_eq!(snapshot(&tree), before);
    }
}
