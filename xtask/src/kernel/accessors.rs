//! The proof that the drop-in sees every access: each accessor of a tree is wrapped, or listed with the reason why not.
//!
//! `kernel/accessors.toml` is the list. Here it is compared with a kernel tree, and with the drop-in's own headers. What
//! counts as an accessor is decided by [`super::scan`].

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::dropin::Dropin;
use super::scan;
use super::tree::Tree;

/// `kernel/accessors.toml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Table {
    /// Accessors that every tree has and the drop-in wraps, with the operation that they are reported as.
    wrapped: BTreeMap<String, String>,
    /// The same for those that only some trees have.
    wrapped_where_present: BTreeMap<String, String>,
    /// Accessors that are not wrapped, with the reason.
    exempt: BTreeMap<String, String>,
}

impl Table {
    /// Reads the drop-in's table and compares it with the drop-in's headers.
    pub(crate) fn load(dropin: &Dropin) -> Result<Self> {
        let table: Self =
            toml::from_str(&dropin.accessors).context("failed to read kernel/accessors.toml")?;
        let mut wrong = table.against_itself();
        wrong.extend(table.against_names(dropin.text("include/linux/lazy_mmu_names.h")));
        wrong.extend(table.against_wrappers(
            dropin.text("include/linux/lazy_mmu_hooks.h"),
            dropin.text("include/linux/lazy_mmu_ops.h"),
        ));
        if !wrong.is_empty() {
            bail!("the drop-in and kernel/accessors.toml disagree:\n  {}", wrong.join("\n  "));
        }
        Ok(table)
    }

    /// The names that the drop-in wraps.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.wrapped.keys().chain(self.wrapped_where_present.keys()).cloned().collect()
    }

    fn op(&self, name: &str) -> Option<&str> {
        self.wrapped.get(name).or_else(|| self.wrapped_where_present.get(name)).map(String::as_str)
    }

    fn against_itself(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, reason) in &self.exempt {
            if self.op(name).is_some() {
                wrong.push(format!("{name} is both wrapped and exempt"));
            }
            if reason.trim().is_empty() {
                wrong.push(format!("{name} is exempt without a reason"));
            }
        }
        for name in self.wrapped.keys().filter(|name| self.wrapped_where_present.contains_key(*name)) {
            wrong.push(format!("{name} is in both tables of wrapped accessors"));
        }
        wrong
    }

    /// Each name of the table is redefined by the header, and the header redefines no other.
    fn against_names(&self, header: &str) -> Vec<String> {
        let defined: BTreeSet<&str> = header
            .lines()
            .filter_map(|line| line.strip_prefix("#define ")?.split_once("(...)"))
            .filter(|(name, target)| target.trim() == format!("__lmh_{name}(__VA_ARGS__)"))
            .map(|(name, _)| name)
            .collect();
        let names = self.names();
        let missing = names.iter().filter(|name| !defined.contains(name.as_str()));
        let extra = defined.iter().filter(|name| !names.contains(**name));
        missing
            .map(|name| format!("{name} is listed as wrapped, but lazy_mmu_names.h does not redefine it"))
            .chain(
                extra.map(|name| {
                    format!("{name} is redefined by lazy_mmu_names.h, but not listed as wrapped")
                }),
            )
            .collect()
    }

    /// Each name of the table has a wrapper that reports the operation of the table, and there is no other wrapper.
    fn against_wrappers(&self, header: &str, ops: &str) -> Vec<String> {
        let ops: BTreeMap<&str, &str> =
            operations(ops).into_iter().map(|op| (op.constant, op.name)).collect();
        let wrappers = wrappers(header);
        let mut wrong = Vec::new();
        for name in self.names() {
            match wrappers.get(name.as_str()) {
                None => wrong
                    .push(format!("{name} is listed as wrapped, but lazy_mmu_hooks.h has no wrapper for it")),
                Some(constant) => {
                    let reported = ops.get(constant).copied();
                    if reported != self.op(&name) {
                        wrong.push(format!(
                            "{name} is listed as {}, but its wrapper reports {}",
                            self.op(&name).unwrap_or("nothing"),
                            reported.unwrap_or(constant),
                        ));
                    }
                }
            }
        }
        let names = self.names();
        for name in wrappers.keys().filter(|name| !names.contains(**name)) {
            wrong.push(format!("{name} has a wrapper, but is not listed"));
        }
        wrong
    }

    /// Each accessor of the tree is in the table, and what the drop-in wraps everywhere is in the tree.
    pub(crate) fn check(&self, tree: &Tree) -> Result<()> {
        let mut present = BTreeSet::new();
        let mut wrong = Vec::new();
        for path in headers(tree)? {
            let Some(text) = tree.read(&path)? else { continue };
            for accessor in scan::accessors(&text) {
                let name = accessor.name;
                if self.op(&name).is_none() && !self.exempt.contains_key(&name) {
                    wrong.push(format!(
                        "{path}:{}: {name} is neither wrapped nor listed as exempt",
                        accessor.line
                    ));
                }
                present.insert(name);
            }
        }
        for name in self.wrapped.keys().filter(|name| !present.contains(*name)) {
            wrong.push(format!("include/linux/pgtable.h: {name}, which the drop-in wraps, is in no header"));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        bail!(
            "Linux {} in {} has accessors that the drop-in does not know; wrap them in \
             kernel/include/linux/lazy_mmu_hooks.h, or list them in kernel/accessors.toml:\n  {}",
            tree.version,
            tree.root.display(),
            wrong.join("\n  ")
        )
    }
}

/// The headers that define accessors: generic and x86.
fn headers(tree: &Tree) -> Result<Vec<String>> {
    let defines = |name: &str| {
        let stem = name.strip_suffix(".h").unwrap_or_default();
        ["pgtable", "paravirt"].iter().any(|prefix| stem.starts_with(prefix))
            || matches!(stem, "pgalloc" | "hugetlb")
    };
    let mut headers = vec!["include/linux/pgtable.h".to_owned()];
    headers.extend(tree.files("include/asm-generic", false, defines)?);
    headers.extend(tree.files("arch/x86/include/asm", false, defines)?);
    Ok(headers)
}

/// One line of `LAZY_MMU_OPS`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    /// The C constant.
    pub(crate) constant: &'a str,
    /// The number in the records.
    pub(crate) number: u8,
    /// The name in ftrace's output.
    pub(crate) name: &'a str,
}

/// The operations that `lazy_mmu_ops.h` lists.
pub(crate) fn operations(header: &str) -> Vec<Operation<'_>> {
    header
        .lines()
        .filter_map(|line| {
            let mut parts = line.trim().strip_prefix("op(")?.split([',', ')']).map(str::trim);
            let constant = parts.next()?;
            let number = parts.next()?.parse().ok()?;
            let name = parts.next()?.trim_matches('"');
            Some(Operation { constant, number, name })
        })
        .collect()
}

/// The accessors that `lazy_mmu_hooks.h` has wrappers for, with the constant that each reports: written out, or made by
/// a `__LMH_*(name, ..., LMO_*)` macro.
fn wrappers(header: &str) -> BTreeMap<&str, &str> {
    let mut wrappers = BTreeMap::new();
    for (at, _) in header.match_indices("__lmh_") {
        let name = word(&header[at + "__lmh_".len()..]);
        let body = &header[at..];
        let body = &body[..body.find("\n}").unwrap_or(body.len())];
        if !name.is_empty()
            && let Some(constant) = constant(body)
        {
            wrappers.insert(name, constant);
        }
    }
    for (at, _) in header.match_indices("\n__LMH_") {
        let call = &header[at + 1..];
        let Some(open) = call.find('(') else { continue };
        let Some(close) = call.find(')') else { continue };
        if open < close
            && let Some(constant) = constant(&call[open..close])
        {
            wrappers.insert(word(&call[open + 1..]), constant);
        }
    }
    wrappers
}

fn constant(text: &str) -> Option<&str> {
    text.find("LMO_").map(|at| word(&text[at..]))
}

fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use lazymmu_abi::Op;

    use super::*;

    const TABLE: &str = "
[wrapped]
ptep_get = \"ptep_get\"
set_ptes = \"set_ptes\"
[wrapped-where-present]
[exempt]
pte_index = \"computes an address\"
";
    const OPS: &str = "\top(LMO_PTEP_GET,\t1, \"ptep_get\")\t\\\n\top(LMO_SET_PTES, 33, \"set_ptes\")\n";
    const NAMES: &str = "#undef ptep_get
#define ptep_get(...)	__lmh_ptep_get(__VA_ARGS__)
#define set_ptes(...)	__lmh_set_ptes(__VA_ARGS__)
";
    const HOOKS: &str = "
__LMH_READ(ptep_get, pte_t, LMO_PTEP_GET)

static void __lmh_set_ptes(pte_t *p, pte_t v, unsigned int nr)
{
	set_ptes(p, v, nr);
	__LMH_TRACE(write, p, v, nr, LMO_SET_PTES, 0);
}
";

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    fn disagreements(table_text: &str, names: &str, hooks: &str) -> Vec<String> {
        let table = table(table_text);
        [table.against_itself(), table.against_names(names), table.against_wrappers(hooks, OPS)].concat()
    }

    #[test]
    fn this_checkouts_table_fits_its_headers() {
        let table = Table::load(&Dropin::load().unwrap()).unwrap();
        assert!(table.names().len() > 50, "the header was hardly read: {:?}", table.names());
    }

    #[test]
    fn the_operations_of_the_header_are_those_of_the_records() {
        let dropin = Dropin::load().unwrap();
        let header = operations(dropin.text("include/linux/lazy_mmu_ops.h"));
        // Blocked and Preempted come from the scheduler's tracepoint.
        let other =
            |op: &&Op| matches!(op, Op::Blocked | Op::Preempted) || Op::NOT_OF_THE_DROP_IN.contains(op);
        let records = Op::ALL.iter().filter(|op| !other(op));
        assert_eq!(
            header.iter().map(|op| (op.number, op.name)).collect::<Vec<_>>(),
            records.map(|op| (*op as u8, op.name())).collect::<Vec<_>>()
        );
    }

    #[test]
    fn agreement_is_silent() {
        assert_eq!(disagreements(TABLE, NAMES, HOOKS), Vec::<String>::new());
    }

    #[test]
    fn every_disagreement_is_named() {
        let exempt_too = format!("{TABLE}ptep_get = \"x\"\nempty = \" \"\n");
        let found = disagreements(&exempt_too, NAMES, HOOKS).join("; ");
        assert!(found.contains("ptep_get is both wrapped and exempt"), "{found}");
        assert!(found.contains("empty is exempt without a reason"), "{found}");

        let found = disagreements(TABLE, "#define other(...)	__lmh_other(__VA_ARGS__)\n", HOOKS).join("; ");
        assert!(found.contains("ptep_get is listed as wrapped, but lazy_mmu_names.h"), "{found}");
        assert!(found.contains("other is redefined"), "{found}");

        let wrong_op = HOOKS.replace("LMO_PTEP_GET", "LMO_SET_PTES");
        let found = disagreements(TABLE, NAMES, &wrong_op).join("; ");
        assert!(
            found.contains("ptep_get is listed as ptep_get, but its wrapper reports set_ptes"),
            "{found}"
        );

        let unlisted = format!("{HOOKS}\n__LMH_READ(pmdp_get, pmd_t, LMO_PTEP_GET)\n");
        let found = disagreements(TABLE, NAMES, &unlisted).join("; ");
        assert!(found.contains("pmdp_get has a wrapper, but is not listed"), "{found}");
    }

    #[test]
    fn an_accessor_that_nobody_knows_is_named_with_file_and_line() {
        let directory = tempfile::tempdir().unwrap();
        let header = directory.path().join("include/linux/pgtable.h");
        std::fs::create_dir_all(header.parent().unwrap()).unwrap();
        std::fs::write(directory.path().join("Makefile"), "VERSION = 7\nPATCHLEVEL = 9\n").unwrap();
        let known = "pte_t ptep_get(pte_t *ptep);\nvoid set_ptes(pte_t *ptep, pte_t pte);\n";
        std::fs::write(&header, known).unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        table(TABLE).check(&tree).unwrap();

        std::fs::write(&header, format!("{known}void ptep_spin(pte_t *ptep);\n")).unwrap();
        let refusal = table(TABLE).check(&tree).unwrap_err().to_string();
        assert!(refusal.contains("include/linux/pgtable.h:3: ptep_spin is neither"), "{refusal}");

        std::fs::write(&header, "pte_t ptep_get(pte_t *ptep);\n").unwrap();
        let refusal = table(TABLE).check(&tree).unwrap_err().to_string();
        assert!(refusal.contains("set_ptes, which the drop-in wraps, is in no header"), "{refusal}");
    }
}
