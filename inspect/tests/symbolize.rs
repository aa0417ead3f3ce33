//! Symbolization of a small "kernel" that the C compiler makes here: real ELF, real DWARF, known lines.
//!
//! The program is never run. A kallsyms list is made from its symbol table, moved as KASLR would move it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lazymmu_inspect::address::RuntimeAddr;
use lazymmu_inspect::build_id::BuildId;
use lazymmu_inspect::kallsyms::Kallsyms;
use lazymmu_inspect::symbolizer::{SourceLines, Symbolizer};
use lazymmu_inspect::vmlinux::{self, Vmlinux, VmlinuxError};
use lazymmu_trace::Frame;

/// A wrapper as the drop-in has it (`__lmh_`), inlined into a helper that is inlined into the function.
const MEMORY_C: &str = r#"
#include "../include/linux/hooks.h"
static inline __attribute__((always_inline)) void copy_one(long *p)
{
	__lmh_set_pte(p, 1);			/* LINE: write */
	asm volatile("" ::: "memory");
}
__attribute__((noinline)) void copy_pte_range(long *p)
{
	asm volatile("" ::: "memory");
	copy_one(p);				/* LINE: inline */
	asm volatile("" ::: "memory");
}
__attribute__((noinline, noreturn)) void never_returns(void)
{
	for (;;) asm volatile("" ::: "memory");
}
__attribute__((noinline)) void dies(long *p)
{
	*p = 1;
	never_returns();			/* LINE: last */
}
"#;
const HOOKS_H: &str = r#"
void __lazy_mmu_write(long *p, long v);
static inline __attribute__((always_inline)) void __lmh_set_pte(long *p, long v)
{
	*p = v;
	__lazy_mmu_write(p, v);			/* LINE: hook */
	asm volatile("" ::: "memory");
}
"#;
const MAIN_C: &str = r#"
void copy_pte_range(long *p);
void dies(long *p);
__attribute__((noinline)) void __lazy_mmu_write(long *p, long v) { asm volatile("" :: "r"(p), "r"(v) : "memory"); }
long entry;
void start_kernel(void)
{
	copy_pte_range(&entry);			/* LINE: start */
	asm volatile("" ::: "memory");
	dies(&entry);
}
"#;

/// The line of a source file that is marked so.
fn line(source: &str, mark: &str) -> u32 {
    let at = source.lines().position(|line| line.contains(&format!("LINE: {mark} ")));
    u32::try_from(at.expect("the mark exists")).unwrap() + 1
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The "kernel" and the folder it was made in.
struct Kernel {
    folder: tempfile::TempDir,
    vmlinux: PathBuf,
}

impl Kernel {
    fn build(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("linux");
        let files = [("mm/memory.c", MEMORY_C), ("init/main.c", MAIN_C), ("include/linux/hooks.h", HOOKS_H)];
        for (name, text) in files {
            let path = tree.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        // As the kernel is built with O=: the compiler runs in another folder.
        let objects = folder.path().join("objects");
        std::fs::create_dir(&objects).unwrap();
        run(Command::new("cc")
            .current_dir(&objects)
            .args(["-O2", "-g", "-fno-omit-frame-pointer", "-fcf-protection=none", "-fno-pie", "-no-pie"])
            .args([
                "-nostdlib",
                "-static",
                "-Wl,--build-id=sha1",
                "-Wl,-e,start_kernel",
                "-Wl,--defsym=_text=copy_pte_range",
            ])
            .args(flags)
            .args([tree.join("mm/memory.c"), tree.join("init/main.c")])
            .args(["-o", "vmlinux"]));
        let vmlinux = objects.join("vmlinux");
        Self { folder, vmlinux }
    }

    /// A list of its symbols as the kernel would show it, moved by `slide`.
    fn kallsyms(&self, slide: u64) -> Kallsyms {
        let mut list = String::new();
        for symbol in run(Command::new("nm").arg(&self.vmlinux)).lines() {
            let (address, rest) = symbol.split_once(' ').unwrap();
            let address = u64::from_str_radix(address, 16).unwrap() + slide;
            writeln!(list, "{address:016x} {rest}").unwrap();
        }
        Kallsyms::parse(list.as_bytes(), Path::new("list")).unwrap()
    }

    /// The address behind the one call of `callee` in `function`.
    fn return_address(&self, function: &str, callee: &str) -> u64 {
        let text = run(Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(&self.vmlinux));
        let mut lines = text.lines().skip_while(|line| !line.contains(&format!("<{function}>:")));
        let call = lines.find(|line| line.contains(&format!("<{callee}>")) && !line.ends_with(':'));
        let call = call.unwrap_or_else(|| panic!("{function} calls {callee}"));
        let call = u64::from_str_radix(call.trim().split(':').next().unwrap(), 16).unwrap();
        // The next instruction, or the next function if the callee never returns.
        let addresses = text.lines().filter_map(|line| line.trim().split_once(":\t"));
        let mut addresses = addresses.filter_map(|(address, _)| u64::from_str_radix(address, 16).ok());
        addresses.find(|address| *address > call).unwrap()
    }

    fn symbolizer(&self, slide: u64) -> Symbolizer {
        Symbolizer::new(self.kallsyms(slide), Some(Vmlinux::open(&self.vmlinux).unwrap()))
    }
}

/// Function, file, line, inlined.
type Shape<'a> = (&'a str, Option<&'a str>, Option<u32>, bool);

fn shape(frames: &[Frame]) -> Vec<Shape<'_>> {
    frames
        .iter()
        .map(|frame| (frame.function.as_str(), frame.file.as_deref(), frame.line, frame.inlined))
        .collect()
}

/// Every way in which a vmlinux may come.
fn variants() -> Vec<(&'static str, Kernel)> {
    vec![
        ("plain", Kernel::build(&["-gdwarf-5"])),
        ("DWARF 4", Kernel::build(&["-gdwarf-4"])),
        ("zlib", Kernel::build(&["-gdwarf-5", "-Wl,--compress-debug-sections=zlib"])),
        ("zstd", Kernel::build(&["-gdwarf-5", "-Wl,--compress-debug-sections=zstd"])),
        ("debug only", {
            let kernel = Kernel::build(&["-gdwarf-5"]);
            run(Command::new("objcopy")
                .args(["--only-keep-debug", "--compress-debug-sections=zlib"])
                .arg(&kernel.vmlinux)
                .arg(kernel.folder.path().join("vmlinux.debug")));
            kernel
        }),
        ("without aranges", {
            let kernel = Kernel::build(&["-gdwarf-5"]);
            run(Command::new("objcopy").arg("--remove-section=.debug_aranges").arg(&kernel.vmlinux));
            kernel
        }),
    ]
}

#[test]
fn inlined_functions_and_lines_are_found_in_every_form_of_vmlinux() {
    const SLIDE: u64 = 0x1a20_0000;
    for (name, kernel) in variants() {
        let debug = kernel.folder.path().join("vmlinux.debug");
        let vmlinux = if debug.exists() { &debug } else { &kernel.vmlinux };
        let vmlinux = Vmlinux::open(vmlinux).unwrap();
        let mut symbolizer = Symbolizer::new(kernel.kallsyms(SLIDE), Some(vmlinux));

        let access = kernel.return_address("copy_pte_range", "__lazy_mmu_write");
        let frames = symbolizer.frames(RuntimeAddr(access + SLIDE)).to_vec();
        assert_eq!(
            shape(&frames),
            [
                // The frame of __lmh_set_pte is gone; what is left names the line of the access.
                ("copy_one", Some("mm/memory.c"), Some(line(MEMORY_C, "write")), true),
                ("copy_pte_range", Some("mm/memory.c"), Some(line(MEMORY_C, "inline")), false),
            ],
            "{name}"
        );
        let start = kernel.kallsyms(SLIDE).address_of("copy_pte_range").unwrap().0;
        assert_eq!(
            frames[1].offset,
            access + SLIDE - start,
            "{name}: the offset of the return address itself"
        );

        let caller = kernel.return_address("start_kernel", "copy_pte_range");
        assert_eq!(
            shape(symbolizer.frames(RuntimeAddr(caller + SLIDE))),
            [("start_kernel", Some("init/main.c"), Some(line(MAIN_C, "start")), false)],
            "{name}"
        );
        assert_eq!(symbolizer.source_lines(), &SourceLines::Known, "{name}");
    }
}

#[test]
fn a_call_that_never_returns_belongs_to_its_own_function() {
    let kernel = Kernel::build(&[]);
    let behind = kernel.return_address("dies", "never_returns");
    let mut symbolizer = kernel.symbolizer(0);
    let frames = symbolizer.frames(RuntimeAddr(behind));
    assert_eq!(shape(frames), [("dies", Some("mm/memory.c"), Some(line(MEMORY_C, "last")), false)]);
}

#[test]
fn without_a_vmlinux_there_are_functions() {
    let kernel = Kernel::build(&[]);
    let access = kernel.return_address("copy_pte_range", "__lazy_mmu_write");
    let mut symbolizer = Symbolizer::new(kernel.kallsyms(0), None);
    assert_eq!(symbolizer.source_lines(), &SourceLines::NoVmlinux);
    assert_eq!(shape(symbolizer.frames(RuntimeAddr(access))), [("copy_pte_range", None, None, false)]);
    assert_eq!(shape(symbolizer.frames(RuntimeAddr(0x10))), [("0x0000000000000010", None, None, false)]);
    let hook = kernel.kallsyms(0).address_of("__lazy_mmu_write").unwrap();
    assert_eq!(shape(symbolizer.frames(RuntimeAddr(hook.0 + 1))), [], "the hook's own frame says nothing");
}

#[test]
fn without_a_common_mark_there_are_functions() {
    let kernel = Kernel::build(&[]);
    run(Command::new("strip").arg("--strip-symbol=_text").arg(&kernel.vmlinux));
    let access = kernel.return_address("copy_pte_range", "__lazy_mmu_write");
    let mut symbolizer = kernel.symbolizer(0);
    assert_eq!(symbolizer.source_lines(), &SourceLines::NoSlide);
    assert_eq!(shape(symbolizer.frames(RuntimeAddr(access))), [("copy_pte_range", None, None, false)]);
}

/// Offset and size in the file of every section of debug information.
fn debug_sections(vmlinux: &Path) -> Vec<(usize, usize)> {
    let headers = run(Command::new("readelf").args(["-SW"]).arg(vmlinux));
    let sections = headers.lines().filter(|line| line.contains(" .debug_"));
    let range = |line: &str| {
        let fields: Vec<&str> = line.split(']').nth(1).unwrap().split_whitespace().collect();
        let hex = |field: &str| usize::from_str_radix(field, 16).unwrap();
        (hex(fields[3]), hex(fields[4]))
    };
    sections.map(range).collect()
}

#[test]
fn damaged_debug_information_costs_lines_and_nothing_else() {
    for (flags, checksum) in [(&[][..], false), (&["-Wl,--compress-debug-sections=zlib"], true)] {
        let kernel = Kernel::build(flags);
        let access = kernel.return_address("copy_pte_range", "__lazy_mmu_write");
        let right = kernel.symbolizer(0).frames(RuntimeAddr(access)).to_vec();
        let whole = std::fs::read(&kernel.vmlinux).unwrap();
        let mut noticed = 0;
        let sections = debug_sections(&kernel.vmlinux);
        assert!(sections.len() > 4);
        for at in sections.into_iter().flat_map(|(offset, size)| (offset..offset + size).step_by(101)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            std::fs::write(&kernel.vmlinux, bytes).unwrap();
            let mut symbolizer = kernel.symbolizer(0);
            let frames = symbolizer.frames(RuntimeAddr(access)).to_vec();
            assert_eq!(
                frames.last().map(|frame| frame.function.as_str()),
                Some("copy_pte_range"),
                "byte {at}"
            );
            match symbolizer.source_lines() {
                SourceLines::Damaged(_) => noticed += 1,
                // Compressed sections carry a checksum: what is not noticed must not matter.
                _ if checksum => assert_eq!(frames, right, "byte {at}"),
                _ => {}
            }
        }
        assert!(noticed > 0);
    }
}

#[test]
fn a_cut_vmlinux_is_refused() {
    let kernel = Kernel::build(&[]);
    let whole = std::fs::read(&kernel.vmlinux).unwrap();
    for len in (0..whole.len()).step_by(97) {
        std::fs::write(&kernel.vmlinux, &whole[..len]).unwrap();
        let error = Vmlinux::open(&kernel.vmlinux).unwrap_err();
        assert!(matches!(error, VmlinuxError::Elf(_)), "cut at {len}: {error}");
    }
}

#[test]
fn a_vmlinux_of_another_build_is_refused_with_both_ids() {
    let (ours, other) = (Kernel::build(&[]), Kernel::build(&["-O1"]));
    let ours_id = Vmlinux::open(&ours.vmlinux).unwrap().build_id().cloned().unwrap();
    let other_id = Vmlinux::open(&other.vmlinux).unwrap().build_id().cloned().unwrap();
    assert!(Vmlinux::open_matching(&ours.vmlinux, &ours_id).is_ok());
    let error = Vmlinux::open_matching(&other.vmlinux, &ours_id).unwrap_err();
    assert!(matches!(error, VmlinuxError::OtherBuild { .. }));
    let message = error.to_string();
    assert!(message.contains(&ours_id.to_string()) && message.contains(&other_id.to_string()), "{message}");
}

#[test]
fn what_is_no_vmlinux_says_so() {
    let kernel = Kernel::build(&[]);
    let folder = kernel.folder.path();
    let refused = |path: &Path| Vmlinux::open(path).unwrap_err().to_string();
    assert!(refused(&folder.join("none")).contains("No such file"));
    assert!(refused(folder).contains("no regular file"));
    std::fs::write(folder.join("text"), "this is no ELF file").unwrap();
    assert!(refused(&folder.join("text")).contains("64-bit ELF"));
    std::fs::write(folder.join("empty"), "").unwrap();
    assert!(refused(&folder.join("empty")).contains("64-bit ELF"));
    run(Command::new("strip").arg("-g").arg(&kernel.vmlinux));
    assert!(refused(&kernel.vmlinux).contains("no debug information"));
    let id = BuildId::new([1]);
    let nameless = Kernel::build(&["-Wl,--build-id=none"]);
    let error = Vmlinux::open_matching(&nameless.vmlinux, &id).unwrap_err();
    assert!(matches!(error, VmlinuxError::NoBuildId(_)), "{error}");
}

#[test]
fn the_search_finds_the_right_file_and_tells_what_it_refused() {
    let (ours, other) = (Kernel::build(&[]), Kernel::build(&["-O1"]));
    let id = Vmlinux::open(&ours.vmlinux).unwrap().build_id().cloned().unwrap();
    let root = tempfile::tempdir().unwrap();
    let place = |from: &Path, to: &str| {
        let to = root.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    };
    let none = vmlinux::search(&id, "7.2.13", root.path());
    assert!(none.vmlinux.is_none() && none.refused.is_empty());
    assert_eq!(none.looked_at.len(), 5);

    place(&other.vmlinux, "boot/vmlinux-7.2.13");
    place(&ours.vmlinux, "lib/modules/7.2.13/build/vmlinux");
    let found = vmlinux::search(&id, "7.2.13", root.path());
    assert_eq!(found.vmlinux.unwrap().path(), root.path().join("lib/modules/7.2.13/build/vmlinux"));
    assert!(matches!(found.refused.as_slice(), [VmlinuxError::OtherBuild { .. }]));

    let debug = format!("usr/lib/debug/{}", id.debug_path().display());
    place(&ours.vmlinux, &debug);
    let found = vmlinux::search(&id, "7.2.13", root.path());
    assert_eq!(found.vmlinux.unwrap().path(), root.path().join(debug));
    assert!(found.refused.is_empty(), "the first match ends the search");
}
