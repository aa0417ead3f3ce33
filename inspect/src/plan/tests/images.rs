//! Files that a kernel comes in: boot images, the running kernel's own, and such as are of no use.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use lazymmu_abi::Op;

use super::{Kernel, plan, run};
use crate::image::Image;
use crate::plan::Plan;

/// A boot image with this payload, as the kernel's build makes it.
fn boot_image(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024];
    // One sector of set-up code behind the boot sector; the rest stands in the order of its offset.
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    image[0x300..0x312].copy_from_slice(b"7.2.99-boot (x) #1");
    image.extend_from_slice(payload);
    image
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    with_length(encoder.finish().unwrap(), bytes)
}

/// As scripts/xz_wrap.sh has it: the jumps of x86 made absolute, a large dictionary.
fn xz(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut options = lzma_rust2::XzOptions::with_preset(1);
    options.prepend_pre_filter(lzma_rust2::FilterType::BcjX86, 0);
    options.lzma_options.dict_size = 128 << 20;
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(bytes).unwrap();
    with_length(encoder.finish().unwrap(), bytes)
}

fn lzma(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let options = lzma_rust2::LzmaOptions::with_preset(1);
    let mut encoder = lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None).unwrap();
    encoder.write_all(bytes).unwrap();
    with_length(encoder.finish().unwrap(), bytes)
}

fn with_length(mut packed: Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    packed.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    packed
}

#[test]
fn a_boot_image_gives_the_same_plan_as_its_vmlinux_without_debug_information() {
    let kernel = Kernel::build();
    run(Command::new("objcopy").arg("--strip-debug").arg(&kernel.vmlinux).arg(kernel.path("plain")));
    run(Command::new("strip").arg(&kernel.vmlinux).arg("-o").arg(kernel.path("stripped")));
    let listed = Command::new("nm").arg(&kernel.vmlinux).output().unwrap().stdout;
    // As a running kernel lists it: moved, and with a module behind it.
    let mut list = String::new();
    for line in String::from_utf8(listed).unwrap().lines() {
        let (address, rest) = line.split_once(' ').unwrap();
        let address = u64::from_str_radix(address, 16).unwrap() + 0x1c00_0000;
        writeln!(list, "{address:016x} {rest}").unwrap();
    }
    list.push_str("ffffffffc0000000 t hmm_init\t[test_hmm]\n");
    std::fs::write(kernel.path("list"), list).unwrap();
    let stripped = std::fs::read(kernel.path("stripped")).unwrap();
    let zstd = zstd::encode_all(&stripped[..], 1).unwrap();
    for payload in [gzip(&stripped), xz(&stripped), lzma(&stripped), zstd] {
        std::fs::write(kernel.path("vmlinuz"), boot_image(&payload)).unwrap();
        let image = Image::open(&kernel.path("vmlinuz"), Some(&kernel.path("list"))).unwrap();
        let booted = Plan::of(&image).unwrap();
        assert_eq!(booted.kernel.release.as_deref(), Some("7.2.99-boot"));
        assert_eq!((booted.made_from.image.as_str(), booted.made_from.symbols.as_str()), ("vmlinuz", "list"));
        assert_eq!(booted.probes, plan(&kernel.path("plain")).probes);
        // For the build id alone no symbols are needed.
        assert_eq!(Image::build_id_of(&kernel.path("vmlinuz")).unwrap().as_ref(), image.build_id());
    }
    of_the_running_kernel(&kernel);
    let packed = gzip(&stripped);
    let error = |bytes: &[u8]| {
        std::fs::write(kernel.path("vmlinuz"), bytes).unwrap();
        Image::open(&kernel.path("vmlinuz"), Some(&kernel.path("list"))).unwrap_err().to_string()
    };
    assert!(error(&boot_image(&packed)[..2000]).contains("the file is cut"));
    assert!(error(&boot_image(&packed[..packed.len() / 2])).contains("its payload is damaged"));
    let lz4 = error(&boot_image(b"\x02\x21\x4c\x18\x04\0\0\0\x10a\x99\0"));
    assert!(lz4.contains("its payload is damaged: a copy is of bytes that are not there"), "{lz4}");
    assert!(error(&boot_image(b"\xfd7zXZ\0 and so on")).contains("its payload is damaged"));
    let packed_by_xz = xz(&stripped);
    assert!(error(&boot_image(&packed_by_xz[..packed_by_xz.len() / 2])).contains("its payload is damaged"));
    assert!(error(&boot_image(b"BZh91AY&SY")).contains("compressed with bzip2"));
    // Whatever is in there to look back to 4 GiB.
    let greedy = error(&boot_image(b"\x5d\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0"));
    assert!(greedy.contains("its payload is damaged"), "{greedy}");
    std::fs::write(kernel.path("vmlinuz"), boot_image(&packed)).unwrap();
    let no_list = Image::open(&kernel.path("vmlinuz"), None).unwrap_err().to_string();
    assert!(no_list.contains("--symbols"), "{no_list}");
    std::fs::write(kernel.path("list"), "ffffffffc0000000 t _text\nffffffffd0000000 t other\n").unwrap();
    assert!(error(&boot_image(&packed)).contains("of another kernel"));
}

/// The boot image that was made last is that of the running kernel, which has the list of symbols.
fn of_the_running_kernel(kernel: &Kernel) {
    let root = kernel.path("root");
    for folder in ["proc", "boot", "sys/kernel"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let copy = |from: &str, to: &str| std::fs::copy(kernel.path(from), root.join(to)).map(drop).unwrap();
    let error = || Image::of_running_kernel("r", &root).unwrap_err().to_string();
    assert!(error().contains("sys/kernel/notes"));
    run(Command::new("objcopy")
        .args(["-O", "binary", "--only-section=.note.gnu.build-id"])
        .args([&kernel.vmlinux, &root.join("sys/kernel/notes")]));
    assert!(error().contains("boot/vmlinuz-r, ") && error().contains("--vmlinux"), "{}", error());
    copy("vmlinuz", "boot/vmlinuz-r");
    std::fs::write(root.join("proc/kallsyms"), "0000000000000000 T _text\n").unwrap();
    assert!(error().contains("every address is hidden"), "{}", error());
    copy("list", "proc/kallsyms");
    let image = Image::of_running_kernel("r", &root).unwrap();
    assert_eq!((image.kind().name(), image.symbols_from()), ("vmlinuz", "list"));
    // One with debug information is better.
    copy("vmlinux", "boot/vmlinux-r");
    assert!(Image::of_running_kernel("r", &root).unwrap().has_debug_info());
    std::fs::remove_file(root.join("boot/vmlinux-r")).unwrap();
    run(Command::new("objcopy")
        .args(["--remove-section=.note.gnu.build-id"])
        .args([&kernel.path("stripped"), &kernel.path("nameless")]));
    copy("nameless", "boot/vmlinuz-r");
    assert!(error().contains("it is of another kernel"), "{}", error());
}

#[test]
fn each_unusable_image_has_an_error_of_its_own() {
    let kernel = Kernel::build();
    let whole = std::fs::read(&kernel.vmlinux).unwrap();
    let error = |name: &str, bytes: &[u8]| {
        std::fs::write(kernel.path(name), bytes).unwrap();
        let image = Image::open(&kernel.path(name), None);
        image.map_or_else(|error| error.to_string(), |_| "none".to_owned())
    };
    assert!(error("empty", b"").contains("it is empty"));
    assert!(error("text", b"#!/bin/sh\n").contains("it is no ELF file"));
    assert!(error("xz", b"\xfd7zXZ\0").contains("compressed with xz"));
    assert!(error("header", &whole[..12]).contains("cut inside of its header"));
    assert!(error("cut", &whole[..whole.len() / 2]).contains("the file is cut"));
    let mut other = whole.clone();
    other[4] = 1;
    assert!(error("32", &other).contains("32-bit"));
    other.clone_from(&whole);
    other[18..20].copy_from_slice(&183_u16.to_le_bytes());
    assert!(error("arm64", &other).contains("it is for arm64; plans can be made for x86_64"));
    run(Command::new("strip").arg(&kernel.vmlinux).arg("-o").arg(kernel.path("stripped")));
    assert!(error("stripped", &std::fs::read(kernel.path("stripped")).unwrap()).contains("it is stripped"));
    run(Command::new("objcopy").arg("--only-keep-debug").args([&kernel.vmlinux, &kernel.path("debug")]));
    assert!(error("debug", &std::fs::read(kernel.path("debug")).unwrap()).contains("it has no code"));
    assert!(Image::open(Path::new("/nonexistent"), None).unwrap_err().to_string().contains("/nonexistent"));
    assert!(Image::open(kernel.folder.path(), None).unwrap_err().to_string().contains("no regular file"));
    run(Command::new("cc")
        .current_dir(kernel.folder.path())
        .args([
            "-x",
            "c",
            "-nostdlib",
            "-static",
            "-Wl,-e,main",
            "kernel.c",
            "-fno-pie",
            "-no-pie",
            "-o",
            "program",
        ])
        .args(["-O2", "-ffreestanding", "-Dstart_kernel=main", "-fno-stack-protector"]));
    let program = std::fs::read(kernel.path("program")).unwrap();
    assert!(error("program", &program).contains("it is no Linux kernel"));
}

#[test]
fn damaged_debug_information_is_an_error_and_no_panic() {
    let kernel = Kernel::build();
    let whole = std::fs::read(&kernel.vmlinux).unwrap();
    // Every 61st byte is turned over, one at a time: headers, debug information and symbols alike.
    for at in (0..whole.len()).step_by(61) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        std::fs::write(kernel.path("damaged"), damaged).unwrap();
        if let Ok(image) = Image::open(&kernel.path("damaged"), None) {
            let _ =
                Plan::of(&image).map_err(|error| assert!(error.to_string().contains("damaged"), "{error}"));
        }
    }
}

const MODULE_C: &str = r#"
typedef struct { unsigned long pte; } pte_t;
extern struct pv { void *cpu; void (*set_pte)(pte_t *, pte_t); void (*leave)(void); } pv_ops;
static inline __attribute__((always_inline)) pte_t ptep_get(pte_t *ptep) { return *(volatile pte_t *)ptep; }
__attribute__((noinline)) unsigned long other(unsigned long x) { return x * 3; }
unsigned long look(pte_t *ptep)
{
	asm volatile("call *%c2(%%rip)" : "+D"(ptep) : "S"(1UL), "i"(&pv_ops.set_pte) : "rax", "rcx", "rdx", "memory");
	return ptep_get(ptep).pte;
}
static const char name[] __attribute__((section(".modinfo"), used)) = "name=small";
static const char magic[] __attribute__((section(".modinfo"), used)) = "vermagic=7.2.99-test SMP";
"#;

/// A module as the kernel's build leaves it: not linked.
fn module(kernel: &Kernel, source: &str) -> std::path::PathBuf {
    let (c, ko) = (kernel.path("small.c"), kernel.path("small.ko"));
    std::fs::write(&c, source).unwrap();
    run(Command::new("gcc")
        .args(["-O2", "-g", "-c", "-mcmodel=kernel", "-fno-pic", "-fcf-protection=none"])
        .arg(&c)
        .arg("-o")
        .arg(&ko));
    ko
}

#[test]
fn a_module_is_part_of_a_plan() {
    let kernel = Kernel::build();
    let image = Image::open(&kernel.vmlinux, None).unwrap();
    let ko = module(&kernel, MODULE_C);
    let packed = kernel.path("small.ko.xz");
    let mut bytes = xz(&std::fs::read(&ko).unwrap());
    bytes.truncate(bytes.len() - 4);
    std::fs::write(&packed, bytes).unwrap();
    for path in [ko, packed] {
        let mut plan = Plan::of(&image).unwrap();
        let whole = plan.tally(|_| true).found;
        plan.add_module(&Image::open_module(&path).unwrap(), image.btf().unwrap().unwrap()).unwrap();
        let [small] = plan.modules.as_slice() else { panic!("{:?}", plan.modules) };
        assert_eq!(small.kernel.module.as_deref(), Some("small"));
        assert_eq!(small.kernel.release.as_deref(), Some("7.2.99-test"));
        assert!(small.made_from.debug_info);
        let found: Vec<_> = small.probes.iter().map(|probe| (probe.op, probe.function.as_str())).collect();
        assert_eq!(found, [(Op::SetPte, "look"), (Op::PtepGet, "look")], "{:#?}", small.probes);
        // Counted from the start of `.text`, and behind the function that comes first there.
        assert!(small.probes.iter().all(|probe| (1..200).contains(&probe.address.0)), "{:#?}", small.probes);
        assert_eq!(plan.tally(|_| true).found, whole + 2);
        assert!(plan.table().contains("small"), "{}", plan.table());
        let again = plan.add_module(&Image::open_module(&path).unwrap(), image.btf().unwrap().unwrap());
        assert!(again.unwrap_err().to_string().contains("already"));
    }
}

#[test]
fn a_module_of_another_kernel_is_refused() {
    let kernel = Kernel::build();
    let image = Image::open(&kernel.vmlinux, None).unwrap();
    let ko = module(&kernel, &MODULE_C.replace("7.2.99-test", "7.2.98"));
    let mut plan = Plan::of(&image).unwrap();
    let error =
        plan.add_module(&Image::open_module(&ko).unwrap(), image.btf().unwrap().unwrap()).unwrap_err();
    assert!(error.to_string().contains("it is for Linux 7.2.98"), "{error}");
    assert!(Image::open_module(&kernel.vmlinux).unwrap_err().to_string().contains("linked already"));
}
