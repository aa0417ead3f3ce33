//! Builds a kernel with the drop-in, unless the cache has one that was built from the same things.
//!
//! tinyconfig plus our fragments, out of the source tree, with an object tree that is kept, so that a change of the
//! drop-in compiles what it touches. Paths and times are kept out of the result: the same inputs give the same build id.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use object::Object;
use sha2::{Digest, Sha256};

use super::apply;
use super::config;
use super::debuginfo;
use super::dropin::{self, Dropin};
use super::hazards;
use super::source::{self, Series};
use super::store::{BuiltKernel, Info, Store};
use super::tree::Tree;
use super::variant::Variant;

/// To be raised with every change in here, or in [`super::apply`], that changes what a build gives.
const RECIPE: u32 = 4;

/// What is fixed so that a build can be repeated.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("KBUILD_BUILD_USER", "lazymmu"),
    ("KBUILD_BUILD_HOST", "lazymmu"),
    ("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970"),
    ("LC_ALL", "C"),
];

/// What file:line and inlined frames do not need.
const DROPPED_SECTIONS: &[&str] =
    &[".debug_loclists", ".debug_aranges", ".debug_frame", ".debug_str_offsets"];

/// How to build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How many compilers at a time.
    pub(crate) jobs: usize,
    /// Look for a newer source package.
    pub(crate) refresh: bool,
    /// Have kernel/hazards in it, if it is somebody's own tree. The usual kernel of a series always has.
    pub(crate) hazards: bool,
}

/// A kernel of a series.
pub(crate) fn series(
    store: &Store,
    series: Series,
    variant: Variant,
    options: Options,
) -> Result<BuiltKernel> {
    let package = source::resolve(store, series, options.refresh)?;
    let dropin = Dropin::load()?;
    let label = package.label();
    let compiler = Compiler::find(variant)?;
    // The tests want them, and they do nothing until they are asked to.
    let hazards = variant == Variant::Plain;
    let key = key(&dropin, &compiler, (variant, hazards), &label)?;
    let name = format!("{}{}-{key}", package.version.replace([':', '/'], "-"), variant.suffix());
    let shown = format!("{}{}", series.name(), variant.suffix());
    eprintln!("kernel {shown}: {} {}", package.name, package.version);
    if let Some(built) = store.built(&name) {
        return Ok(built);
    }
    // All variants are built from the one tree, which must not change meanwhile.
    let _lock = store.lock(&label)?;
    if let Some(built) = store.built(&name) {
        return Ok(built);
    }
    let tree = Tree::open(&source::unpack(store, series, &package)?)?;
    apply::apply(&tree, &dropin)?;
    let source = format!("{} {}", package.name, package.version);
    let label = label + variant.suffix();
    let build = Build { store, tree: &tree, label: &label, variant, hazards, jobs: options.jobs };
    build.run(&name, source, compiler, key)
}

/// The kernel of somebody's own tree, which gets the drop-in.
pub(crate) fn tree(
    store: &Store,
    directory: &Path,
    variant: Variant,
    options: Options,
) -> Result<BuiltKernel> {
    let tree = Tree::open(directory)?;
    if tree.root.join(".config").exists() || tree.root.join("include/config").exists() {
        bail!(
            "failed to build {}: it was configured or built in place, and the kernel's build refuses to build such a \
             tree elsewhere; run `make mrproper` in it",
            tree.root.display()
        );
    }
    let dropin = Dropin::load()?;
    for path in apply::apply(&tree, &dropin)? {
        eprintln!("changed {path}");
    }
    let label = format!("tree-{}", hex(&Sha256::digest(tree.root.as_os_str().as_encoded_bytes())[..8]));
    let compiler = Compiler::find(variant)?;
    let hazards = options.hazards;
    let key = key(&dropin, &compiler, (variant, hazards), &state_of(&tree)?)?;
    let name = format!("{label}{}-{key}", variant.suffix());
    if let Some(built) = store.built(&name) {
        return Ok(built);
    }
    let _lock = store.lock(&label)?;
    if let Some(built) = store.built(&name) {
        return Ok(built);
    }
    let source = tree.root.display().to_string();
    let label = label + variant.suffix();
    let build = Build { store, tree: &tree, label: &label, variant, hazards, jobs: options.jobs };
    build.run(&name, source, compiler, key)
}

/// One build under its lock.
struct Build<'a> {
    store: &'a Store,
    tree: &'a Tree,
    label: &'a str,
    variant: Variant,
    hazards: bool,
    jobs: usize,
}

impl Build<'_> {
    fn run(&self, name: &str, source: String, compiler: Compiler, key: String) -> Result<BuiltKernel> {
        let objects = self.store.objects(self.label);
        fs::create_dir_all(&objects).with_context(|| format!("failed to make {}", objects.display()))?;
        let log = self.store.log(self.label);
        fs::write(&log, "").with_context(|| format!("failed to write {}", log.display()))?;
        eprintln!("building Linux {} (minutes, the first time); log: {}", self.tree.version, log.display());
        self.configure(&objects, &compiler)?;
        let _added = if self.hazards { Some(hazards::Added::to(self.tree)?) } else { None };
        self.make(&objects, &compiler, &["bzImage"])?;

        let files = self.store.scratch(self.label)?;
        collect(&objects, files.path())?;
        let vmlinux = fs::read(files.path().join("vmlinux")).context("failed to read the built vmlinux")?;
        let build_id = object::File::parse(&*vmlinux)
            .ok()
            .and_then(|elf| elf.build_id().ok().flatten().map(hex))
            .context("failed to find a build id in the built vmlinux")?;
        let release = dropin::read(&objects.join("include/config/kernel.release"))?.trim().to_owned();
        let info = Info { release, build_id, source, compiler: compiler.version, key };
        self.store.publish(name, &files.keep(), &info)
    }

    fn configure(&self, objects: &Path, compiler: &Compiler) -> Result<()> {
        let fragments = dropin::fragments(self.tree.version, self.variant);
        self.make(objects, compiler, &["tinyconfig"])?;
        let mut merge = Command::new(self.tree.root.join("scripts/kconfig/merge_config.sh"));
        merge.arg("-O").arg(objects).arg("-m").arg(objects.join(".config")).args(&fragments);
        self.logged(merge.current_dir(&self.tree.root), "merge_config.sh")?;
        self.make(objects, compiler, &["olddefconfig"])?;
        let config = dropin::read(&objects.join(".config"))?;
        let texts: Vec<String> = fragments.iter().map(|path| dropin::read(path)).collect::<Result<_>>()?;
        let lost = config::lost(&texts, &config);
        if !lost.is_empty() {
            bail!(
                "failed to configure Linux {}: Kconfig did not take these lines of kernel/config*.fragment:\n  {}",
                self.tree.version,
                lost.join("\n  ")
            );
        }
        Ok(())
    }

    fn make(&self, objects: &Path, compiler: &Compiler, targets: &[&str]) -> Result<()> {
        // Names in debug information are relative to the source tree, and no path of this machine is in the result.
        let maps = format!(
            "-ffile-prefix-map={}/= -fdebug-prefix-map={}=.",
            self.tree.root.display(),
            objects.display()
        );
        let mut make = Command::new("nice");
        make.args(["-n", "5", "make", "-C"]).arg(&self.tree.root);
        make.arg(format!("O={}", objects.display())).arg(format!("-j{}", self.jobs));
        make.arg(format!("CC={}", compiler.program));
        make.arg(format!("KCFLAGS={maps}")).arg(format!("KAFLAGS={maps}"));
        if self.hazards {
            make.arg(hazards::SWITCH);
        }
        make.args(targets);
        self.logged(&mut make, &format!("make {}", targets.join(" ")))
    }

    /// Runs a program with its output going to the log.
    fn logged(&self, command: &mut Command, what: &str) -> Result<()> {
        let path = self.store.log(self.label);
        let log = File::options()
            .append(true)
            .open(&path)
            .with_context(|| format!("failed to open {}", path.display()))?;
        let errors = log.try_clone().context("failed to share the log")?;
        let status = command
            .envs(ENVIRONMENT.iter().copied())
            .env_remove("MAKEFLAGS")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .status()
            .with_context(|| format!("failed to run {what}; `cargo xtask setup` installs what is needed"))?;
        if status.success() {
            return Ok(());
        }
        let text = fs::read(&path).unwrap_or_default();
        bail!(
            "failed to build Linux {}: {what} ended with {status}; the whole log is {}; it ends:\n{}",
            self.tree.version,
            path.display(),
            tell_tale(&String::from_utf8_lossy(&text), 25)
        )
    }
}

/// Copies a kernel's files out of an object tree.
fn collect(objects: &Path, to: &Path) -> Result<()> {
    for (from, name) in [
        ("arch/x86/boot/bzImage", "bzImage"),
        ("vmlinux", "vmlinux"),
        (".config", "config"),
        ("System.map", "System.map"),
    ] {
        fs::copy(objects.join(from), to.join(name))
            .with_context(|| format!("failed to copy {from} out of {}", objects.display()))?;
    }
    debug(to)
}

/// Makes `vmlinux.debug` of `vmlinux`: symbols, and as much debug information as file:line and inlined frames need.
fn debug(files: &Path) -> Result<()> {
    let elf = fs::read(files.join("vmlinux")).context("failed to read the built vmlinux")?;
    let reduced = debuginfo::reduce(&elf)?;
    let work = tempfile::tempdir_in(files).context("failed to make a directory for debug information")?;
    let mut keep = Command::new("objcopy");
    keep.arg("--only-keep-debug");
    for section in DROPPED_SECTIONS {
        keep.arg(format!("--remove-section={section}"));
    }
    for (section, bytes) in [(".debug_info", &reduced.info), (".debug_abbrev", &reduced.abbrev)] {
        let path = work.path().join(&section[1..]);
        fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))?;
        keep.arg("--update-section").arg(format!("{section}={}", path.display()));
    }
    // In one step with the rest, objcopy would mark the new sections as compressed and not compress them.
    let plain = work.path().join("plain");
    source::run(keep.arg(files.join("vmlinux")).arg(&plain))
        .context("failed to take the debug information out of vmlinux")?;
    let mut compress = Command::new("objcopy");
    compress.arg("--compress-debug-sections=zlib").arg(&plain).arg(files.join("vmlinux.debug"));
    source::run(&mut compress).context("failed to compress the debug information")
}

/// The programs whose versions a build depends on.
struct Compiler {
    /// Its name in the path.
    program: String,
    /// Its version line.
    version: String,
    /// Those of the others.
    tools: String,
}

impl Compiler {
    fn find(variant: Variant) -> Result<Self> {
        let version = |program: &str| -> Result<String> {
            let text = source::run_for_output(Command::new(program).arg("--version"))?;
            Ok(text.lines().next().unwrap_or_default().to_owned())
        };
        let program = variant.compiler()?;
        let tools = [version("ld")?, version("pahole")?].join("\n");
        Ok(Self { version: version(&program)?, program, tools })
    }
}

/// Hash of everything that goes into a build: of a variant, with or without what commits hazards.
fn key(
    dropin: &Dropin,
    compiler: &Compiler,
    (variant, hazards): (Variant, bool),
    source: &str,
) -> Result<String> {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(&RECIPE.to_string());
    add(source);
    add(&compiler.version);
    add(&compiler.tools);
    for file in &dropin.files {
        add(file.path);
        add(&file.text);
    }
    for fragment in dropin::all_fragments(variant) {
        add(&dropin::read(&fragment)?);
    }
    if hazards {
        for source in hazards::sources()? {
            add(&dropin::read(&source)?);
        }
    }
    Ok(hex(&hash.finalize()[..8]))
}

/// A text that changes when a file of the tree does: path, size and time of each.
fn state_of(tree: &Tree) -> Result<String> {
    let mut hash = Sha256::new();
    let mut pending: Vec<PathBuf> = vec![tree.root.clone()];
    while let Some(directory) = pending.pop() {
        let failed = || format!("failed to list {}", directory.display());
        let mut entries = fs::read_dir(&directory)
            .with_context(failed)?
            .collect::<Result<Vec<_>, _>>()
            .with_context(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let meta = entry.metadata().with_context(failed)?;
            let path = entry.path();
            if meta.is_dir() {
                if entry.file_name() != ".git" {
                    pending.push(path);
                }
                continue;
            }
            let changed = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update(meta.len().to_le_bytes());
            hash.update(changed.unwrap_or_default().as_nanos().to_le_bytes());
        }
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The last lines of a log, and before them the first error if it is not among them: with several jobs, the others go
/// on for a while.
fn tell_tale(log: &str, count: usize) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines.len().saturating_sub(count);
    let error = lines[..tail].iter().position(|line| line.contains("error: ") || line.contains("*** ["));
    let mut shown: Vec<&str> = Vec::new();
    if let Some(error) = error {
        shown.extend(&lines[error..(error + 4).min(tail)]);
        shown.push("[...]");
    }
    shown.extend(&lines[tail..]);
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::dropin::File as DropinFile;

    fn dropin(text: &str) -> Dropin {
        let file = DropinFile { path: "mm/lazy_mmu_hooks.c", text: text.to_owned() };
        Dropin { files: vec![file], accessors: String::new() }
    }

    #[test]
    fn the_key_follows_everything_that_goes_in() {
        let compiler = |version: &str| Compiler {
            program: String::new(),
            version: version.to_owned(),
            tools: String::new(),
        };
        let key = |text: &str, version: &str, source: &str| {
            key(&dropin(text), &compiler(version), (Variant::Plain, false), source).unwrap()
        };
        let first = key("a", "gcc 12", "linux_1");
        assert_eq!(first, key("a", "gcc 12", "linux_1"));
        let others =
            [key("b", "gcc 12", "linux_1"), key("a", "gcc 13", "linux_1"), key("a", "gcc 12", "linux_2")];
        assert!(!others.contains(&first), "{others:?}");
        for other in [(Variant::Kasan, false), (Variant::Plain, true)] {
            assert_ne!(super::key(&dropin("a"), &compiler("gcc 12"), other, "linux_1").unwrap(), first);
        }
    }

    #[test]
    fn the_state_of_a_tree_follows_its_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("Makefile"), "VERSION = 7\nPATCHLEVEL = 2\n").unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        let first = state_of(&tree).unwrap();
        fs::create_dir(directory.path().join(".git")).unwrap();
        fs::write(directory.path().join(".git/index"), "x").unwrap();
        assert_eq!(state_of(&tree).unwrap(), first);
        fs::write(directory.path().join("new.c"), "x").unwrap();
        assert_ne!(state_of(&tree).unwrap(), first);
    }

    #[test]
    fn a_tree_built_in_place_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("Makefile"), "VERSION = 7\nPATCHLEVEL = 2\n").unwrap();
        fs::write(directory.path().join(".config"), "").unwrap();
        let store = Store::open_in(&directory.path().join("cache")).unwrap();
        let options = Options { jobs: 1, refresh: false, hazards: false };
        let refusal = tree(&store, directory.path(), Variant::Plain, options).unwrap_err().to_string();
        assert!(refusal.contains("make mrproper"), "{refusal}");
    }

    #[test]
    fn the_end_of_a_log_is_shown_and_the_first_error() {
        assert_eq!(tell_tale("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tell_tale("a\n", 2), "a");
        let log =
            "CC x.o\nx.c:1: error: no\n 1 | x\nCC a.o\nCC b.o\nCC c.o\nCC d.o\nmake: *** [x.o] Error 1\n";
        assert_eq!(
            tell_tale(log, 2),
            "x.c:1: error: no\n 1 | x\nCC a.o\nCC b.o\n[...]\nCC d.o\nmake: *** [x.o] Error 1"
        );
    }
}
