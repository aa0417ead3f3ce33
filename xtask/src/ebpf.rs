//! The eBPF toolchain and the object it makes.
//!
//! Needed are a Rust compiler together with the sources of its own core library, and bpf-linker, built against the
//! LLVM of that compiler. Debian has the first as `rustc-web` and `rust-web-src`; elsewhere a rustup nightly with
//! `rust-src` does. What is there is used; the linker is built into the cache if none fits.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, bail, ensure};

use crate::{paths, setup};
use stamp::{Digest, OBJECT, Stamp};

#[allow(dead_code)]
#[path = "../../capture/build/stamp.rs"]
mod stamp;

/// The linker that this version of lazymmu is tried with.
const LINKER: &str = "0.13.0";
/// The majors of LLVM that it can be built against.
const LLVM: [u32; 3] = [21, 22, 23];

/// Debian's compiler with its sources.
const DEBIAN: [&str; 2] = ["rustc-web", "rust-web-src"];

const HELP: &str = "on Debian: `apt-get install --no-install-recommends rustc-web rust-web-src`; elsewhere: \
                    `rustup toolchain install nightly --component rust-src`";

/// What `cargo xtask ebpf` takes.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Build the object, which the next build of lazymmu embeds, and print its path
    Build,
}

/// Runs it.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Build => println!("{}", build()?.display()),
    }
    Ok(())
}

/// Installs the toolchain where that is possible without the user; says how to get it elsewhere.
pub(crate) fn setup() -> Result<()> {
    let compiler = match Compiler::find() {
        Err(_) if setup::is_debian() && env::var_os("LAZYMMU_BPF_RUSTC").is_none() => {
            setup::install_debian(&DEBIAN)?;
            // A compiler of a machine's old package lists may be older than what bpf-linker wants.
            Compiler::find().or_else(|_| {
                setup::install_newest_debian(&DEBIAN)?;
                Compiler::find()
            })?
        }
        found => found?,
    };
    let linker = Linker::find_or_install(&compiler)?;
    eprintln!("setup: eBPF is made with {} and {}", compiler.version, linker.version);
    Ok(())
}

/// Builds the eBPF object and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    let compiler = Compiler::find()?;
    eprintln!("eBPF compiler: {} ({})", compiler.version, compiler.rustc.display());
    let linker = Linker::find_or_install(&compiler)?;
    eprintln!("eBPF linker: {} ({})", linker.version, linker.directory.display());

    let source = paths::root().join("probe-ebpf");
    let target = paths::target().join("ebpf");
    succeed(
        compiler
            .cargo()
            .args(["build", "--release", "--locked", "--target-dir"])
            .arg(&target)
            .env("PATH", with_first(&linker.directory)?)
            .current_dir(&source),
    )
    .context("failed to build the eBPF object")?;

    let made = target.join("bpfel-unknown-none/release/lazymmu");
    let bytes = fs::read(&made).with_context(|| format!("failed to read {}", made.display()))?;
    let stamp = Stamp {
        sources: Digest::of_sources(paths::root())
            .context("failed to read the sources of the eBPF object")?
            .to_string(),
        object: Digest::of(&bytes).to_string(),
        made_with: format!("{}; {}", compiler.version, linker.version),
    };
    let object = paths::root().join(OBJECT);
    // The stamp last: an object without a stamp of its own is never used.
    write_if_changed(&object, &bytes)?;
    write_if_changed(&Stamp::path(&object), stamp.to_text().as_bytes())?;
    Ok(object)
}

/// Leaves the file alone if it has these contents, so that nothing is built again for it.
fn write_if_changed(path: &Path, contents: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == contents) {
        return Ok(());
    }
    // Of its own, as two builds may run at once.
    let new = path.with_extension(format!("{}.new", process::id()));
    fs::write(&new, contents)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("failed to write {}", path.display()))
}

/// A compiler that can make eBPF.
struct Compiler {
    rustc: PathBuf,
    /// The first line of what it says of itself.
    version: String,
    /// `commit-hash`, which also names its LLVM.
    commit: String,
    llvm_major: u32,
    sysroot: PathBuf,
}

impl Compiler {
    /// The first of the candidates that will do.
    fn find() -> Result<Self> {
        let mut unfit = Vec::new();
        for rustc in Self::candidates() {
            match Self::look_at(&rustc) {
                Ok(compiler) => return Ok(compiler),
                Err(error) => unfit.push(format!("{}: {error:#}", rustc.display())),
            }
        }
        let tried = if unfit.is_empty() { String::new() } else { format!("; tried {}", unfit.join("; ")) };
        bail!("failed to find a Rust compiler with the sources of its own core library; {HELP}{tried}")
    }

    /// `$LAZYMMU_BPF_RUSTC` alone if it is set; else rustup's nightly, the compiler of the path, Debian's.
    fn candidates() -> Vec<PathBuf> {
        if let Some(rustc) = env::var_os("LAZYMMU_BPF_RUSTC") {
            return vec![rustc.into()];
        }
        let mut candidates = Vec::new();
        if let Ok(nightly) =
            output(process::Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]))
        {
            candidates.push(nightly.trim().into());
        }
        candidates.extend([PathBuf::from("rustc"), PathBuf::from("/usr/bin/rustc")]);
        candidates
    }

    fn look_at(rustc: &Path) -> Result<Self> {
        let said = output(process::Command::new(rustc).arg("-vV"))?;
        let field = |name: &str| {
            said.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned)
        };
        let llvm = field("LLVM version:").context("it does not say its LLVM")?;
        let llvm_major =
            llvm.split('.').next().and_then(|major| major.parse().ok()).context("its LLVM has no number")?;
        ensure!(
            LLVM.contains(&llvm_major),
            "it has LLVM {llvm}, and bpf-linker {LINKER} wants one of {LLVM:?}"
        );
        let sysroot =
            PathBuf::from(output(process::Command::new(rustc).args(["--print", "sysroot"]))?.trim());
        let library = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        ensure!(library.exists(), "it has no sources of its core library ({} is missing)", library.display());
        Ok(Self {
            rustc: rustc.to_owned(),
            version: said.lines().next().unwrap_or_default().to_owned(),
            commit: field("commit-hash:").context("it does not say its commit")?,
            llvm_major,
            sysroot,
        })
    }

    /// Cargo with this compiler, free of what the calling cargo has put into the environment.
    fn cargo(&self) -> process::Command {
        let beside = self.sysroot.join("bin/cargo");
        let program = match env::var_os("CARGO") {
            _ if self.sysroot.starts_with(rustup_home()) && beside.exists() => beside.into_os_string(),
            Some(cargo) => cargo,
            None => "cargo".into(),
        };
        let mut cargo = process::Command::new(program);
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(name);
        }
        for name in ["RUSTC_WORKSPACE_WRAPPER", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"] {
            cargo.env_remove(name);
        }
        // Debian's compiler is a stable one; building core and inline eBPF assembly are not stable.
        cargo.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        cargo
    }

    /// The LLVM that it uses, as a shared library: its own, or the system's.
    fn llvm_library(&self) -> Result<PathBuf> {
        let version = format!("libLLVM.so.{}", self.llvm_major);
        let old_name = format!("libLLVM-{}", self.llvm_major);
        let triple = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
        let places = [self.sysroot.join("lib"), triple.into(), "/usr/lib64".into(), "/usr/lib".into()];
        for place in &places {
            let Ok(entries) = fs::read_dir(place) else { continue };
            let mut found: Vec<PathBuf> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    name.starts_with(&version) || (name.starts_with(&old_name) && name.contains(".so"))
                })
                // The toolchains of rustup have a linker script of the same name, which is no library.
                .filter(|path| is_elf(path))
                .collect();
            found.sort();
            if let Some(first) = found.into_iter().next() {
                return Ok(first);
            }
        }
        bail!("failed to find LLVM {} as a shared library, which {} came with", self.llvm_major, self.version)
    }
}

fn rustup_home() -> PathBuf {
    env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".rustup")))
        .unwrap_or_else(|| "/nonexistent".into())
}

fn is_elf(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// bpf-linker.
struct Linker {
    /// Where it lies.
    directory: PathBuf,
    /// What it says of itself.
    version: String,
}

impl Linker {
    /// The one in the cache that was built for this compiler, built first if there is none. One of the user's path
    /// is not taken: it does not say which LLVM it has, and an older one than the compiler's fails in odd ways.
    fn find_or_install(compiler: &Compiler) -> Result<Self> {
        let key: String = compiler.commit.chars().take(12).collect();
        let root = paths::cache()?.join(format!("tools/bpf-{LINKER}-{key}"));
        if let Ok(linker) = Self::look_at(&root) {
            return Ok(linker);
        }
        Self::install(compiler, &root)
            .with_context(|| format!("failed to build bpf-linker {LINKER} into {}", root.display()))?;
        Self::look_at(&root)
    }

    fn look_at(root: &Path) -> Result<Self> {
        let directory = root.join("bin");
        let version = output(process::Command::new(directory.join("bpf-linker")).arg("--version"))?;
        Ok(Self { directory, version: version.trim().to_owned() })
    }

    fn install(compiler: &Compiler, root: &Path) -> Result<()> {
        let llvm = compiler.llvm_library()?;
        eprintln!("building bpf-linker {LINKER} against {} (once, about a minute)", llvm.display());
        // The build wants a prefix with the library in it under its plain name, and nothing else of LLVM.
        let prefix = root.join("llvm");
        let lib = prefix.join("lib");
        fs::create_dir_all(&lib)?;
        let link = lib.join("libLLVM.so");
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink(&llvm, &link)?;
        let found_at_run_time = llvm.parent().unwrap_or(Path::new("/usr/lib"));

        let mut cargo = process::Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        succeed(
            cargo
                .args(["install", &format!("bpf-linker@{LINKER}"), "--locked", "--no-default-features"])
                .args(["--features", &format!("llvm-{}", compiler.llvm_major), "--root"])
                .arg(root)
                .arg("--target-dir")
                .arg(root.join("target"))
                .env_remove("CARGO_ENCODED_RUSTFLAGS")
                .env("RUSTFLAGS", format!("-Clink-arg=-Wl,-rpath,{}", found_at_run_time.display()))
                .env("LLVM_PREFIX", &prefix)
                .envs([
                    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
                    ("CARGO_PROFILE_RELEASE_STRIP", "true"),
                    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
                    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
                ])
                // Not in a checkout, whose configuration is for other builds.
                .current_dir(root),
        )?;
        // Only the linker itself is kept.
        fs::remove_dir_all(root.join("target"))?;
        Ok(())
    }
}

/// The path with this directory before all others.
fn with_first(directory: &Path) -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(directory.to_owned()).chain(env::split_paths(&path));
    env::join_paths(all).context("failed to put the eBPF linker into PATH")
}

fn succeed(command: &mut process::Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("failed to run {name}"))?;
    ensure!(status.success(), "{name} ended with {status}");
    Ok(())
}

fn output(command: &mut process::Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("failed to run {name}"))?;
    ensure!(output.status.success(), "{name} ended with {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("failed to read what {name} said"))
}

#[cfg(test)]
mod tests {
    use super::{Compiler, paths, stamp};

    #[test]
    fn the_sources_of_the_object_are_in_this_checkout() {
        for source in stamp::SOURCES {
            assert!(paths::root().join(source).exists(), "{source}");
        }
    }

    #[test]
    fn a_compiler_that_is_not_there_is_no_candidate() {
        assert!(Compiler::look_at("/nonexistent/rustc".as_ref()).is_err());
    }
}
