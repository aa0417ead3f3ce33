//! Other programs that can watch the drop-in's tracepoints: `bpftrace` and `trace-cmd`, with their libraries.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use lazymmu_vm::Initramfs;

use crate::Result;
use crate::ways::Way;

/// Keeps a map of what is pending by task and entry, as far as that language allows: a write is forgotten when its task
/// has left a section since, and only reads and read-modify-writes of the same task are compared.
const SCRIPT: &str = r#"
tracepoint:lazy_mmu:lazy_mmu_section { if (args->op != 128) { @flushes[tid]++; } }
tracepoint:lazy_mmu:lazy_mmu_write { @pending[tid, args->entry] = @flushes[tid] + 1; }
tracepoint:lazy_mmu:lazy_mmu_read { if (@pending[tid, args->entry] == @flushes[tid] + 1) { @found["read", args->caller] = count(); } }
tracepoint:lazy_mmu:lazy_mmu_rmw { if (@pending[tid, args->entry] == @flushes[tid] + 1) { @found["rmw", args->caller] = count(); } }
END { clear(@pending); clear(@flushes); }
"#;

const SCRIPT_PATH: &str = "/etc/pending.bt";

/// The ways that they are run.
pub(crate) fn ways(run: &[&'static str]) -> Vec<Way> {
    let way = |name, what, words| Way { name, what, words, most: None };
    let script: &'static str = Box::leak(run.join(" ").into_boxed_str());
    let trace_cmd = |options: &[&'static str]| {
        let start = ["/usr/bin/trace-cmd", "record", "-q", "-b", "4096"];
        let events = ["-e", "lazy_mmu", "-o", "/tmp/bench.dat"];
        start.iter().chain(options).chain(&events).chain(run).copied().collect()
    };
    vec![
        way(
            "bpftrace",
            "a bpftrace script with a map of pending writes",
            vec!["/usr/bin/bpftrace", "-q", SCRIPT_PATH, "-c", script],
        ),
        way("trace-cmd", "trace-cmd record", trace_cmd(&[])),
        way("trace-cmd-T", "trace-cmd record -T (ftrace's stacks)", trace_cmd(&["-T"])),
    ]
}

/// Where they are unpacked.
pub(crate) struct Peers(PathBuf);

impl Peers {
    /// From the environment; `None` if it does not say.
    pub(crate) fn open() -> Option<Self> {
        env::var_os("LAZYMMU_BENCH_PEERS").map(PathBuf::from).map(Self)
    }

    /// Puts them into a guest.
    pub(crate) fn add_to(&self, initramfs: &mut Initramfs) -> Result<()> {
        const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
        const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
        let libraries = LIBRARIES.map(|directory| self.0.join(directory));
        let loader = libraries[1].join("ld-linux-x86-64.so.2");
        initramfs.add_file(LOADER, &loader, 0o755)?;
        for program in ["usr/bin/bpftrace", "usr/bin/trace-cmd"] {
            let path = self.0.join(program);
            initramfs.add_file(program, &path, 0o755)?;
            // The loader itself tells which libraries it takes.
            let search = format!("{}:{}", libraries[0].display(), libraries[1].display());
            let output =
                Command::new(&loader).args(["--library-path", &search, "--list"]).arg(&path).output()?;
            let said = String::from_utf8(output.stdout)?;
            for library in
                said.lines().filter_map(|line| line.split_once(" => ")?.1.split_whitespace().next())
            {
                let library = Path::new(library);
                if let (Some(name), true) = (library.file_name(), library.starts_with(&self.0)) {
                    initramfs.add_file(Path::new("/lib/x86_64-linux-gnu").join(name), library, 0o755)?;
                }
            }
        }
        initramfs.add(SCRIPT_PATH, SCRIPT, 0o644);
        Ok(())
    }
}
