//! The kernel's own symbol table, as /proc/kallsyms or System.map list it: which function an address is in.
//!
//! Only text is kept. Data symbols serve one purpose here, to say where text ends, and are dropped after that.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use crate::address::RuntimeAddr;

/// The running kernel's list.
pub const RUNNING_KERNEL: &str = "/proc/kallsyms";

/// Why there is no symbol table.
#[derive(Debug, thiserror::Error)]
pub enum KallsymsError {
    /// The file could not be read.
    #[error("read the kernel's symbols from {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no such file.
    #[error(
        "read the kernel's symbols from {}: no such file; the kernel must be built with CONFIG_KALLSYMS=y and \
         /proc be mounted", .0.display()
    )]
    Missing(PathBuf),
    /// The kernel shows zeros instead of addresses.
    #[error(
        "read the kernel's symbols from {}: every address is hidden; run as root (or with CAP_SYSLOG) and \
         set the sysctl kernel.kptr_restrict to 1 or 0", .0.display()
    )]
    Hidden(PathBuf),
    /// There is no text symbol in it.
    #[error("read the kernel's symbols from {}: it lists no function", .0.display())]
    Empty(PathBuf),
    /// A line is not of the form `address type name`.
    #[error("read the kernel's symbols from {}: line {line} is not \"address type name\"", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
}

/// The function that an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Its name, with whatever the compiler added (`.isra.0`, `.cold`).
    pub name: &'a str,
    /// Bytes from its start to the address.
    pub offset: u64,
    /// The module it belongs to; `None` for the kernel itself.
    pub module: Option<&'a str>,
}

/// No function is longer. A list without data symbols does not say where the last function of a module ends.
const MAX_FUNCTION: u64 = 1 << 24;

/// Marks an entry where text ends: no function begins there.
const END_OF_TEXT: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    /// Where the name begins in `names`.
    name: u32,
    name_len: u16,
    /// 0 for the kernel, else an index into `modules` plus one, or [`END_OF_TEXT`].
    module: u16,
}

/// All text symbols, by address.
#[derive(Debug)]
pub struct Kallsyms {
    names: String,
    modules: Vec<String>,
    entries: Vec<Entry>,
}

impl Kallsyms {
    /// Reads the symbols of the running kernel.
    pub fn of_running_kernel() -> Result<Self, KallsymsError> {
        Self::from_file(RUNNING_KERNEL)
    }

    /// Reads a file like /proc/kallsyms or System.map.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KallsymsError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => KallsymsError::Missing(path.to_owned()),
            _ => KallsymsError::Io { path: path.to_owned(), source },
        })?;
        Self::parse(BufReader::with_capacity(1 << 16, file), path)
    }

    /// Reads such a list; `path` is only for messages.
    pub fn parse(mut input: impl BufRead, path: &Path) -> Result<Self, KallsymsError> {
        let mut table = Self { names: String::new(), modules: Vec::new(), entries: Vec::new() };
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let read = input.read_until(b'\n', &mut bytes);
            if read.map_err(|source| KallsymsError::Io { path: path.to_owned(), source })? == 0 {
                break;
            }
            let line = std::str::from_utf8(&bytes).ok().and_then(Line::parse);
            table.add(&line.ok_or_else(|| KallsymsError::Line { path: path.to_owned(), line: number })?);
        }
        table.finish(path)
    }

    /// The function that holds an address; `None` outside kernel text.
    pub fn lookup(&self, address: RuntimeAddr) -> Option<Symbol<'_>> {
        let after = self.entries.partition_point(|entry| entry.address <= address.0);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        let offset = address.0 - entry.address;
        if entry.module == END_OF_TEXT || offset >= MAX_FUNCTION {
            return None;
        }
        let module = usize::from(entry.module).checked_sub(1).and_then(|index| self.modules.get(index));
        Some(Symbol { name: self.name(entry), offset, module: module.map(String::as_str) })
    }

    /// Where a text symbol of the kernel itself stands.
    pub fn address_of(&self, name: &str) -> Option<RuntimeAddr> {
        let mut kernel = self.entries.iter().filter(|entry| entry.module == 0);
        kernel.find(|entry| self.name(entry) == name).map(|entry| RuntimeAddr(entry.address))
    }

    /// Where a text symbol of the kernel itself stands, and how far the next one is.
    pub fn extent_of(&self, name: &str) -> Option<(RuntimeAddr, u64)> {
        let start = self.address_of(name)?;
        let after = self.entries.partition_point(|entry| entry.address <= start.0);
        let len = self.entries.get(after)?.address - start.0;
        (len < MAX_FUNCTION).then_some((start, len))
    }

    /// How many text symbols there are, the marks where text ends included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: a table without symbols is an error.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn name(&self, entry: &Entry) -> &str {
        let start = entry.name as usize;
        self.names.get(start..start + usize::from(entry.name_len)).unwrap_or_default()
    }

    fn add(&mut self, line: &Line<'_>) {
        let (Ok(name), Ok(name_len)) = (u32::try_from(self.names.len()), u16::try_from(line.name.len()))
        else {
            return;
        };
        let module = match line.module {
            _ if !line.text => END_OF_TEXT,
            None => 0,
            Some(module) => self.module(module),
        };
        if line.text {
            self.names.push_str(line.name);
        }
        self.entries.push(Entry { address: line.address, name, name_len, module });
    }

    /// The number of a module. Lines of one module stand together, so the last ones are looked at first.
    fn module(&mut self, name: &str) -> u16 {
        let known = self.modules.iter().rposition(|module| module == name);
        let index = known.unwrap_or_else(|| {
            self.modules.push(name.to_owned());
            self.modules.len() - 1
        });
        u16::try_from(index + 1).unwrap_or(END_OF_TEXT)
    }

    fn finish(mut self, path: &Path) -> Result<Self, KallsymsError> {
        if !self.entries.iter().any(|entry| entry.module != END_OF_TEXT) {
            return Err(KallsymsError::Empty(path.to_owned()));
        }
        if self.entries.iter().all(|entry| entry.address == 0) {
            return Err(KallsymsError::Hidden(path.to_owned()));
        }
        let mut entries = std::mem::take(&mut self.entries);
        // The best name of an address comes last: that is the one which a lookup finds.
        entries.sort_by_key(|entry| (entry.address, Reverse(self.rank(entry))));
        // One mark is enough where text ends.
        entries.dedup_by(|next, entry| next.module == END_OF_TEXT && entry.module == END_OF_TEXT);
        entries.shrink_to_fit();
        self.names.shrink_to_fit();
        Ok(Self { entries, ..self })
    }

    /// Which of several names of one address is shown, the lowest first. `_etext` and `_einittext` are of type
    /// text and stand where text ends. `_text`, `_stext` and their like mark sections, so a function at the same
    /// place goes first; among functions the one with the fewest underscores in front is the one in the source.
    fn rank(&self, entry: &Entry) -> (bool, bool, usize) {
        let name = self.name(entry);
        let underscores = name.len() - name.trim_start_matches('_').len();
        let mark = matches!(name, "_text" | "_stext" | "_sinittext");
        (entry.module == END_OF_TEXT, mark, underscores)
    }
}

/// `ffffffff81000000 T _text`, and `\t[module]` behind it for a symbol of a module (kernel/kallsyms.c, `s_show`).
pub(crate) struct Line<'a> {
    pub(crate) address: u64,
    pub(crate) text: bool,
    pub(crate) name: &'a str,
    pub(crate) module: Option<&'a str>,
}

impl<'a> Line<'a> {
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let address = u64::from_str_radix(fields.next()?, 16).ok()?;
        let kind = fields.next()?;
        let name = fields.next()?;
        let module = match fields.next() {
            Some(module) => Some(module.strip_prefix('[')?.strip_suffix(']')?),
            None => None,
        };
        let end = matches!(name, "_etext" | "_einittext");
        // Weak functions are of type W; V is for weak data.
        let text = matches!(kind, "T" | "t" | "W" | "w") && !end;
        Some(Self { address, text, name, module })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
0000000000000000 A fixed_percpu_data
0000000000001000 A cpu_data
ffffffff81000000 T srso_alias_untrain_ret
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 t __pfx_copy_pte_range
ffffffff81000110 t copy_pte_range
ffffffff81000400 T __x64_sys_fork
ffffffff81000400 t sys_fork.isra.0
ffffffff81000500 W weak_function
ffffffff81000600 T _etext
ffffffff81000700 D some_data
ffffffff81000800 D more_data
ffffffffc0000000 t hmm_init\t[test_hmm]
ffffffffc0000040 t hmm_open\t[test_hmm]
ffffffffc0001000 d hmm_data\t[test_hmm]
ffffffffc0002000 t bpf_prog_6deef7357e7b4530_x\t[bpf]
";

    fn table() -> Kallsyms {
        Kallsyms::parse(LIST.as_bytes(), Path::new("test")).unwrap()
    }

    fn at(table: &Kallsyms, address: u64) -> Option<(&str, u64, Option<&str>)> {
        table.lookup(RuntimeAddr(address)).map(|symbol| (symbol.name, symbol.offset, symbol.module))
    }

    #[test]
    fn an_address_is_in_the_function_before_it() {
        let table = table();
        assert_eq!(at(&table, 0xffffffff81000110), Some(("copy_pte_range", 0, None)));
        assert_eq!(at(&table, 0xffffffff810003ff), Some(("copy_pte_range", 0x2ef, None)));
        assert_eq!(at(&table, 0xffffffffc0000044), Some(("hmm_open", 4, Some("test_hmm"))));
        assert_eq!(at(&table, 0xffffffffc0002010), Some(("bpf_prog_6deef7357e7b4530_x", 16, Some("bpf"))));
    }

    #[test]
    fn what_is_not_text_has_no_name() {
        let table = table();
        for address in [
            0,
            0x1000,
            0xffffffff80ffffff,
            0xffffffff81000600,
            0xffffffff81000900,
            0xffffffffc0001800,
            u64::MAX,
        ] {
            assert_eq!(at(&table, address), None, "{address:#x}");
        }
    }

    #[test]
    fn of_several_names_the_one_in_the_source_is_shown() {
        let table = table();
        assert_eq!(at(&table, 0xffffffff81000000), Some(("srso_alias_untrain_ret", 0, None)));
        assert_eq!(at(&table, 0xffffffff81000404), Some(("sys_fork.isra.0", 4, None)));
    }

    #[test]
    fn a_name_leads_to_its_address() {
        let table = table();
        assert_eq!(
            table.address_of("_text"),
            Some(RuntimeAddr(0xffffffff81000000)),
            "a name that is not shown"
        );
        assert_eq!(table.address_of("copy_pte_range"), Some(RuntimeAddr(0xffffffff81000110)));
        assert_eq!(table.address_of("hmm_open"), None, "names of modules are not unique");
        assert_eq!(table.address_of("some_data"), None);
    }

    #[test]
    fn system_map_reads_as_well_and_order_does_not_matter() {
        let list = "ffffffff81000200 T b\nffffffff81000100 T a\n";
        let table = Kallsyms::parse(list.as_bytes(), Path::new("System.map")).unwrap();
        assert_eq!(at(&table, 0xffffffff81000104), Some(("a", 4, None)));
    }

    #[test]
    fn hidden_empty_and_broken_lists_are_told_apart() {
        let parse = |list: &str| Kallsyms::parse(list.as_bytes(), Path::new("list")).unwrap_err();
        let hidden = parse("0000000000000000 T _text\n0000000000000000 T _stext\n");
        assert!(matches!(hidden, KallsymsError::Hidden(_)));
        assert!(
            hidden.to_string().contains("kernel.kptr_restrict") && hidden.to_string().contains("CAP_SYSLOG")
        );
        assert!(matches!(parse(""), KallsymsError::Empty(_)));
        assert!(matches!(parse("ffffffff81000000 D data\n"), KallsymsError::Empty(_)));
        let broken = ["ffffffff81000000 T", "x T y", "ffffffff81000000 T y module", "\u{7f}"];
        for line in broken {
            let error = parse(&format!("ffffffff81000000 T first\n{line}\n"));
            assert!(matches!(error, KallsymsError::Line { line: 2, .. }), "{line}: {error}");
        }
        let missing = Kallsyms::from_file("/nonexistent").unwrap_err();
        assert!(
            missing.to_string().contains("/nonexistent") && missing.to_string().contains("CONFIG_KALLSYMS")
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let error = Kallsyms::parse(&b"\xff\xfe\n"[..], Path::new("list")).unwrap_err();
        assert!(matches!(error, KallsymsError::Line { line: 1, .. }));
    }

    proptest::proptest! {
        #[test]
        fn a_function_never_begins_behind_its_address(
            lines in proptest::collection::vec("[0-9a-f]{1,16} [TtDA] [a-z_]{1,3}(\t\\[[a-z]{1,2}\\])?", 1..9),
            addresses in proptest::collection::vec(proptest::prelude::any::<u64>(), 4),
        ) {
            if let Ok(table) = Kallsyms::parse(lines.join("\n").as_bytes(), Path::new("list")) {
                for address in addresses.into_iter().chain([0, u64::MAX]) {
                    let found = table.lookup(RuntimeAddr(address));
                    proptest::prop_assert!(found.is_none_or(|symbol| symbol.offset <= address));
                }
            }
        }
    }
}
