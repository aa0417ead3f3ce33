//! `cargo xtask setup`: what must be installed, for which purpose, and how to get it.
//!
//! Debian and its relatives are served with apt. Elsewhere nothing is installed: the list says what is missing and
//! how it is called there. The eBPF toolchain has its own module, [`crate::ebpf`].

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::ebpf;

/// What `cargo xtask setup` takes.
#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Only say what is missing; fail if anything is
    #[arg(long)]
    check: bool,
}

/// How to tell that something is there.
enum Probe {
    /// A program in the path.
    Program(&'static str),
    /// A header under /usr/include, or its multiarch directory.
    Header(&'static str),
}

/// One thing that is needed.
struct Need {
    probe: Probe,
    debian: &'static str,
    fedora: &'static str,
    arch: &'static str,
}

const fn program(name: &'static str, debian: &'static str, fedora: &'static str, arch: &'static str) -> Need {
    Need { probe: Probe::Program(name), debian, fedora, arch }
}

const fn header(name: &'static str, debian: &'static str, fedora: &'static str, arch: &'static str) -> Need {
    Need { probe: Probe::Header(name), debian, fedora, arch }
}

/// Everything that is needed, by purpose. The only such list.
const NEEDS: &[(&str, &[Need])] = &[
    (
        "building kernels",
        &[
            program("gcc", "gcc", "gcc", "gcc"),
            program("make", "make", "make", "make"),
            program("ld", "binutils", "binutils", "binutils"),
            program("flex", "flex", "flex", "flex"),
            program("bison", "bison", "bison", "bison"),
            program("bc", "bc", "bc", "bc"),
            program("cpio", "cpio", "cpio", "cpio"),
            program("rsync", "rsync", "rsync", "rsync"),
            program("xz", "xz-utils", "xz", "xz"),
            program("depmod", "kmod", "kmod", "kmod"),
            program("perl", "perl", "perl", "perl"),
            program("pahole", "dwarves", "dwarves", "pahole"),
            header("stdlib.h", "libc6-dev", "glibc-devel", "glibc"),
            header("libelf.h", "libelf-dev", "elfutils-libelf-devel", "libelf"),
            header("elfutils/libdw.h", "libdw-dev", "elfutils-devel", "libelf"),
            header("openssl/ssl.h", "libssl-dev", "openssl-devel", "openssl"),
            header("zlib.h", "zlib1g-dev", "zlib-devel", "zlib"),
        ],
    ),
    // Other programs that must be able to read reports: the kernel's parser of KTAP is in Python. A browser is used where
    // there is one.
    ("tests of reports", &[program("python3", "python3", "python3", "python")]),
    (
        "virtual machines",
        &[program("qemu-system-x86_64", "qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86")],
    ),
];

/// Installs what is missing, and says what it did.
pub(crate) fn run(args: &Args) -> Result<()> {
    let missing = missing();
    let distribution = Distribution::read();
    if missing.is_empty() {
        eprintln!("setup: everything that kernels and virtual machines need is installed");
    } else if args.check || !matches!(distribution, Distribution::Debian) {
        bail!("{}", how_to_get(&missing, &distribution));
    } else {
        install(&missing)?;
    }
    if args.check { Ok(()) } else { ebpf::setup() }
}

const INSTALL: [&str; 4] = ["install", "--yes", "--quiet", "--no-install-recommends"];

/// Installs Debian packages without asking, as root or through sudo. For other modules' own needs as well.
pub(crate) fn install_debian(packages: &[&str]) -> Result<()> {
    // Without any list of packages (a fresh container) nothing would be found.
    if !has_package_lists() {
        apt(&["update", "--quiet"])?;
    }
    let install = [&INSTALL, packages].concat();
    if apt(&install).is_ok() {
        return Ok(());
    }
    // Lists that have aged name files that are gone.
    install_newest_debian(packages)
}

/// The same with package lists of this moment: lists that have aged name older versions, too.
pub(crate) fn install_newest_debian(packages: &[&str]) -> Result<()> {
    eprintln!("setup: trying again with fresh package lists");
    apt(&["update", "--quiet"])?;
    apt(&[&INSTALL, packages].concat())
}

/// Whether this is Debian or one of its relatives.
pub(crate) fn is_debian() -> bool {
    matches!(Distribution::read(), Distribution::Debian)
}

fn install(missing: &[(&str, Vec<&Need>)]) -> Result<()> {
    for (purpose, needs) in missing {
        eprintln!("setup: missing for {purpose}: {}", names(needs, &Distribution::Debian).join(" "));
    }
    let packages: Vec<&str> =
        missing.iter().flat_map(|(_, needs)| names(needs, &Distribution::Debian)).collect();
    install_debian(&packages)?;
    if let Some((purpose, needs)) = self::missing().first() {
        let names = names(needs, &Distribution::Debian).join(" ");
        bail!(
            "failed to complete the set-up: {names} should be installed, and what {purpose} needs is still missing"
        );
    }
    eprintln!("setup: installed {}", packages.join(" "));
    Ok(())
}

fn missing() -> Vec<(&'static str, Vec<&'static Need>)> {
    NEEDS
        .iter()
        .map(|(purpose, needs)| (*purpose, needs.iter().filter(|need| !need.probe.is_there()).collect()))
        .filter(|(_, needs): &(_, Vec<_>)| !needs.is_empty())
        .collect()
}

impl Probe {
    fn is_there(&self) -> bool {
        match self {
            Probe::Program(name) => find_program(name),
            Probe::Header(name) => ["/usr/include", concat!("/usr/include/", "x86_64-linux-gnu")]
                .iter()
                .any(|directory| Path::new(directory).join(name).exists()),
        }
    }
}

/// Whether a program is in the path, or where only root's path leads.
fn find_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/sbin".into(), "/usr/sbin".into()])
        .any(|directory| directory.join(name).is_file())
}

#[derive(Debug, PartialEq, Eq)]
enum Distribution {
    Debian,
    Fedora,
    Arch,
    Other(String),
}

impl Distribution {
    fn read() -> Self {
        Self::parse(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    /// From the text of os-release(5): the ID, or else those that it says it is like.
    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
        };
        let id = value("ID");
        let like = value("ID_LIKE");
        for one in [id.as_str()].into_iter().chain(like.split_whitespace()) {
            match one {
                "debian" => return Distribution::Debian,
                "fedora" => return Distribution::Fedora,
                "arch" => return Distribution::Arch,
                _ => {}
            }
        }
        Distribution::Other(id)
    }
}

fn names<'a>(needs: &[&'a Need], distribution: &Distribution) -> Vec<&'a str> {
    let mut names: Vec<&str> = needs
        .iter()
        .map(|need| match distribution {
            Distribution::Fedora => need.fedora,
            Distribution::Arch => need.arch,
            Distribution::Debian | Distribution::Other(_) => need.debian,
        })
        .collect();
    names.dedup();
    names
}

fn how_to_get(missing: &[(&str, Vec<&Need>)], distribution: &Distribution) -> String {
    let lines: Vec<String> = missing
        .iter()
        .map(|(purpose, needs)| {
            format!("\n  missing for {purpose}: {}", names(needs, distribution).join(" "))
        })
        .collect();
    let list = lines.concat();
    let all = missing.iter().flat_map(|(_, needs)| names(needs, distribution)).collect::<Vec<_>>().join(" ");
    let way = match distribution {
        Distribution::Debian => "\n  get them with: cargo xtask setup".to_owned(),
        Distribution::Fedora => format!("\n  get them with: dnf install {all}"),
        Distribution::Arch => format!("\n  get them with: pacman -S --needed {all}"),
        Distribution::Other(_) => {
            "\n  these are Debian's names; install what your distribution calls them, then run this again"
                .to_owned()
        }
    };
    format!("the set-up is not complete{list}{way}")
}

fn has_package_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

fn apt(arguments: &[&str]) -> Result<()> {
    let shown = format!("apt-get {}", arguments.join(" "));
    let mut command = if is_root() {
        Command::new("apt-get")
    } else if find_program("sudo") {
        let mut sudo = Command::new("sudo");
        // Never wait for a password that nobody will type.
        sudo.args(["--non-interactive", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo
    } else {
        bail!("failed to run `{shown}`: it needs root; run it yourself, then run this again");
    };
    eprintln!("setup: {shown}");
    let status = command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        // The standard output belongs to results.
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("failed to run `{shown}`"))?;
    if !status.success() {
        bail!("failed to install: `{shown}` ended with {status}; its messages are above");
    }
    Ok(())
}

fn is_root() -> bool {
    // The owner of a process's directory is its effective user.
    std::os::unix::fs::MetadataExt::uid(&match fs::metadata("/proc/self") {
        Ok(metadata) => metadata,
        Err(_) => return false,
    }) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_by_id_and_likeness() {
        let parse = Distribution::parse;
        assert_eq!(parse("ID=debian\nVERSION_ID=\"12\"\n"), Distribution::Debian);
        assert_eq!(parse("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), Distribution::Debian);
        assert_eq!(parse("NAME=Fedora\nID=fedora\n"), Distribution::Fedora);
        assert_eq!(parse("ID='manjaro'\nID_LIKE=arch\n"), Distribution::Arch);
        assert_eq!(parse("ID=nixos\n"), Distribution::Other("nixos".into()));
        assert_eq!(parse(""), Distribution::Other(String::new()));
    }

    #[test]
    fn elsewhere_the_list_says_how_to_get_it() {
        let (purpose, needs) = &NEEDS[0];
        let missing = vec![(*purpose, needs.iter().collect())];
        let fedora = how_to_get(&missing, &Distribution::Fedora);
        assert!(fedora.contains("dnf install") && fedora.contains("elfutils-devel"), "{fedora}");
        let other = how_to_get(&missing, &Distribution::Other("nixos".into()));
        assert!(other.contains("missing for building kernels") && other.contains("libdw-dev"), "{other}");
    }

    #[test]
    fn probes_tell_what_is_there() {
        assert!(Probe::Program("sh").is_there());
        assert!(!Probe::Program("no-such-program").is_there());
        assert!(!Probe::Header("no/such/header.h").is_there());
    }
}
