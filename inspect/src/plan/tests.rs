//! Plans of a small "kernel" that the C compiler makes here: real code, real debug information, known accesses. It is
//! never run.

use std::path::{Path, PathBuf};
use std::process::Command;

mod images;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../../../report/tests/golden_support/schema.rs"]
mod schema;

use lazymmu_abi::{Kind, Level, Op};

use super::{Count, Evidence, Plan, Probe, Refusal, Source, Verdict};
use crate::arch::{Operand, Register, Value};
use crate::btf::tests::Builder;
use crate::image::Image;

const KERNEL_C: &str = r#"
typedef struct { unsigned long pte; } pte_t;
typedef struct { unsigned long pmd; } pmd_t;
struct page { unsigned long flags; };
struct fault { unsigned long address; pmd_t *pmd; };
struct pv { void *cpu; void (*set_pte)(pte_t *, pte_t); void (*leave)(void); } pv_ops = { &pv_ops };
const char linux_banner[] = "Linux version 7.2.99-test (somebody) #1";
#define inline __inline__ __attribute__((always_inline))
#define noinline __attribute__((noinline, noclone, noipa))
#define CLOBBERED "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory"

static inline pte_t ptep_get(pte_t *ptep) { return *(volatile pte_t *)ptep; }
static inline void set_pte(pte_t *ptep, pte_t pte)
{
	asm volatile("call *%c2" : "+D"(ptep), "+S"(pte) : "i"(&pv_ops.set_pte) : CLOBBERED);
}
static inline void arch_leave_lazy_mmu_mode(void)
{
	asm volatile("call *%c0" :: "i"(&pv_ops.leave) : "rdi", "rsi", CLOBBERED);
}
static inline pte_t ptep_get_and_clear(void *mm, unsigned long addr, pte_t *ptep)
{
	pte_t old = { 0 };
	/* As the kernel's xchg() has it: what is exchanged is no pte_t for the compiler. */
	unsigned long *word = &ptep->pte;
	asm volatile("xchgq %0, %1" : "+r"(old.pte), "+m"(*word) :: "memory");
	return old;
}
noinline void set_ptes(void *mm, unsigned long addr, pte_t *ptep, pte_t pte, unsigned int nr)
{
	for (; nr; nr--) set_pte(ptep++, pte);
}
noinline void pte_clear(void *mm, unsigned long addr, pte_t *ptep) { *(volatile unsigned long *)&ptep->pte = 0; }

noinline void copy_range(pte_t *src, pte_t *dst, unsigned long n)
{
	for (unsigned long i = 0; i < n; i++) set_pte(dst + i, ptep_get(src + i));
	arch_leave_lazy_mmu_mode();
}
noinline unsigned long zap(pte_t *ptep) { return ptep_get_and_clear(0, 0, ptep).pte; }
noinline int is_young(pte_t *ptep) { return (ptep_get(ptep).pte & 32) != 0; }
static inline pte_t ptep_clear_flush(struct fault *vmf, pte_t *ptep)
{
	unsigned long address = *(volatile unsigned long *)&vmf->address;
	pte_t old;
	asm volatile("call change" : "=a"(old.pte) : "D"(address), "S"(ptep) : "rcx", "rdx", "r8", "r9", "r10", "r11", "memory");
	return old;
}
static inline pmd_t pmdp_get(struct fault *vmf)
{
	pmd_t *pmd = *(pmd_t *volatile *)&vmf->pmd;
	return *(volatile pmd_t *)pmd;
}
noinline unsigned long change(unsigned long address, pte_t *ptep) { return address; }
noinline unsigned long flushed(struct fault *vmf, pte_t *ptep) { return ptep_clear_flush(vmf, ptep).pte + vmf->address; }
noinline unsigned long through(struct fault *vmf) { return pmdp_get(vmf).pmd + vmf->address; }
noinline pmd_t *find_pmd(unsigned long address) { return (pmd_t *)address; }
noinline unsigned long member(struct fault *vmf) { unsigned long val = vmf->pmd->pmd; return val + vmf->address; }
noinline unsigned long given(unsigned long address) { unsigned long val = find_pmd(address)->pmd; asm volatile(""); return val; }
noinline unsigned long kept(struct fault *vmf)
{
	pmd_t *pmd = vmf->pmd;
	set_ptes(0, vmf->address, 0, (pte_t){ 0 }, 0);
	return pmd[1].pmd;
}
noinline unsigned long either(struct fault *vmf, struct page *page, int which)
{
	void *word = which ? (void *)vmf->pmd : (void *)page;
	asm volatile("" : "+r"(word));
	return *(unsigned long *)word;
}
noinline unsigned long walk(pmd_t *pmd, struct page *page) { return pmd->pmd + page->flags; }
noinline void batch(pte_t *ptep, pte_t pte) { set_ptes(0, 0, ptep, pte, 4); asm volatile(""); }
noinline void drop(pte_t *ptep) { pte_clear(0, 0, ptep); asm volatile(""); }
noinline unsigned long hidden(pte_t *ptep) { return ptep_get(ptep).pte; }
noinline unsigned long guarded(pte_t *ptep) { return ptep_get(ptep).pte; }
__attribute__((section(".init.text"))) noinline unsigned long boot(pte_t *ptep) { return ptep_get(ptep).pte; }

#define JUMP_LABEL(bytes) asm volatile("1: " bytes "\n\t.pushsection __jump_table, \"a\"; .long 1b - ., 0; .quad 0; .popsection")
noinline unsigned long behind_jump(pte_t *ptep) { asm volatile(".nops 5"); JUMP_LABEL(".byte 0x66, 0x90"); return ptep_get(ptep).pte; }
noinline unsigned long at_jump(pte_t *ptep) { JUMP_LABEL(""); return ptep_get(ptep).pte; }

asm(".pushsection mcount_loc, \"a\"; .quad set_ptes, copy_range, zap, is_young, walk, batch, drop, guarded, behind_jump, at_jump; .popsection");
asm(".pushsection kprobe_blacklist, \"a\"; .quad guarded; .popsection");
extern char __start_mcount_loc[], __stop_mcount_loc[], __start_kprobe_blacklist[], __stop_kprobe_blacklist[];
extern char __start___jump_table[], __stop___jump_table[];
char *tables[] = { __start_mcount_loc, __stop_mcount_loc, __start_kprobe_blacklist, __stop_kprobe_blacklist,
	__start___jump_table, __stop___jump_table };

struct page a_page;
pte_t table[512];
pmd_t a_pmd;
void start_kernel(void)
{
	copy_range(table, table + 8, 4); zap(table); is_young(table); walk(&a_pmd, &a_page); batch(table, table[1]);
	struct fault fault = { 0, &a_pmd };
	member(&fault); given(fault.address); kept(&fault); either(&fault, &a_page, fault.address);
	flushed(&fault, table); through(&fault);
	drop(table); hidden(table); guarded(table); boot(table);
	behind_jump(table); at_jump(table);
}
"#;

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What `pv_ops` looks like, and that the mode counts its nesting.
fn btf() -> Builder {
    let mut builder = Builder::default();
    let byte = builder.int("unsigned char", 1);
    let pointer = builder.pointer(0);
    let lazy = builder.strukt("pv_lazy_ops", 8, &[("leave", pointer, 0)]);
    let mmu = builder.strukt("pv_mmu_ops", 16, &[("set_pte", pointer, 0), ("lazy_mode", lazy, 64)]);
    builder.strukt("paravirt_patch_template", 24, &[("cpu", pointer, 0), ("mmu", mmu, 64)]);
    let state = builder.strukt("lazy_mmu_state", 2, &[("enable_count", byte, 0), ("pause_count", byte, 8)]);
    builder.strukt("task_struct", 64, &[("stack", pointer, 0), ("lazy_mmu_state", state, 64)]);
    let long = builder.int("unsigned long", 8);
    let entry = builder.strukt("", 8, &[("pmd", long, 0)]);
    let pmd = builder.typedef("pmd_t", entry);
    let pmdp = builder.pointer(pmd);
    let fault = builder.strukt("fault", 16, &[("address", long, 0), ("pmd", pmdp, 64)]);
    let faultp = builder.pointer(fault);
    let takes = builder.proto(&[faultp, pointer, long]);
    for name in ["member", "kept", "either"] {
        builder.func(name, takes);
    }
    let gives = builder.proto_giving(pmdp, &[long]);
    builder.func("find_pmd", gives);
    builder
}

struct Kernel {
    folder: tempfile::TempDir,
    vmlinux: PathBuf,
}

impl Kernel {
    fn build() -> Self {
        Self::with_btf(&btf().bytes())
    }

    /// A kernel with the drop-in, as its type information tells.
    fn with_the_drop_in() -> Self {
        let mut builder = btf();
        let takes = builder.proto(&[]);
        let pointer = builder.pointer(takes);
        for name in ["section", "read", "write", "rmw"] {
            builder.typedef(&format!("btf_trace_lazy_mmu_{name}"), pointer);
        }
        Self::with_btf(&builder.bytes())
    }

    fn with_btf(btf: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("kernel.c"), KERNEL_C).unwrap();
        std::fs::write(path("btf"), btf).unwrap();
        run(Command::new("cc")
            .current_dir(folder.path())
            .args(["-O2", "-g", "-fcf-protection=none", "-fno-pie", "-no-pie", "-nostdlib", "-static"])
            .args(["-ffreestanding", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"])
            .args(["-Wl,--build-id=sha1", "-Wl,-e,start_kernel", "-Wl,--defsym=_text=set_ptes"])
            .args(["kernel.c", "-o", "vmlinux"]));
        run(Command::new("objcopy")
            .arg("--add-section")
            .arg(format!(".BTF={}", path("btf").display()))
            .arg(path("vmlinux")));
        let vmlinux = path("vmlinux");
        Self { folder, vmlinux }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn plan(&self) -> Plan {
        plan(&self.vmlinux)
    }
}

fn plan(path: &Path) -> Plan {
    Plan::of(&Image::open(path, None).unwrap()).unwrap()
}

/// What was found in a function.
fn within<'p>(plan: &'p Plan, function: &str) -> Vec<&'p Probe> {
    plan.probes.iter().filter(|probe| probe.function == function).collect()
}

fn one<'p>(plan: &'p Plan, function: &str) -> &'p Probe {
    let found = within(plan, function);
    assert_eq!(found.len(), 1, "{function}: {found:#?}");
    found[0]
}

#[test]
fn reads_writes_and_mode_calls_are_found_where_they_were_inlined() {
    let plan = Kernel::build().plan();
    let found = within(&plan, "copy_range");
    let read = found.iter().find(|probe| probe.kind == Kind::Read).unwrap();
    assert_eq!((read.op, read.level, read.size), (Op::PtepGet, Some(Level::Pte), Some(8)));
    assert_eq!(read.inlined, ["ptep_get"]);
    assert_eq!((read.read, read.written), (Some(Value::Memory), None));
    assert_eq!((&read.verdict, read.patched), (&Verdict::Probe, false));
    assert!(read.entry.unwrap().base.is_some());

    let write = found.iter().find(|probe| probe.kind == Kind::Write).unwrap();
    assert_eq!((write.op, write.level), (Op::SetPte, Some(Level::Pte)));
    assert_eq!(write.entry, Some(Operand::register(Register::Rdi)));
    assert_eq!(write.written, Some(Value::Register { register: Register::Rsi }));
    assert!(write.patched && write.found.contains(&Evidence::ParavirtCall), "{write:?}");
    assert!(write.found.contains(&Evidence::InlinedAccessor), "{write:?}");

    let leave = found.iter().find(|probe| probe.kind == Kind::Section).unwrap();
    assert_eq!(
        (leave.op, leave.entry),
        (Op::ArchLeave, None),
        "the mode counts, so the call is the architecture's"
    );
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(plan.kernel.nesting);
    assert_eq!(plan.state.iter().map(|field| field.offset).collect::<Vec<_>>(), [8, 9]);
}

/// Whoever judges a record does not know one whose operation is not of its kind.
#[test]
fn every_probe_is_of_the_kind_of_its_operation() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/plans");
    let mut plans = vec![Kernel::build().plan()];
    plans.extend(std::fs::read_dir(kept).unwrap().map(|file| Plan::load(&file.unwrap().path()).unwrap()));
    assert!(plans.len() > 4);
    for plan in plans {
        for probe in &plan.probes {
            assert_eq!(probe.kind, probe.op.info().kind, "{:?}: {probe:?}", plan.kernel.release);
        }
    }
}

#[test]
fn a_load_that_was_merged_into_a_test_is_found() {
    let plan = Kernel::build().plan();
    let read = one(&plan, "is_young");
    assert_eq!((read.kind, read.op), (Kind::Read, Op::PtepGet));
    assert_eq!(read.entry, Some(Operand::register(Register::Rdi)));
}

#[test]
fn one_step_changes_tell_what_was_and_what_comes() {
    let plan = Kernel::build().plan();
    let rmw = one(&plan, "zap");
    assert_eq!((rmw.kind, rmw.op), (Kind::Rmw, Op::PtepGetAndClear));
    assert_eq!(rmw.entry, Some(Operand::register(Register::Rdi)));
    assert_eq!(rmw.read, Some(Value::Memory));
    assert!(matches!(rmw.written, Some(Value::Register { .. })), "{rmw:?}");
}

#[test]
fn what_goes_around_the_accessors_is_found_by_its_type_and_nothing_else_is() {
    let plan = Kernel::build().plan();
    let raw = one(&plan, "walk");
    assert_eq!((raw.kind, raw.op, raw.level), (Kind::Read, Op::RawRead, Some(Level::Pmd)));
    assert_eq!(raw.found, [Evidence::TypedVariable, Evidence::Dataflow]);
    // Its other load is of a page's flags.
    assert_eq!(raw.entry, Some(Operand::register(Register::Rdi)));
}

#[test]
fn what_an_accessor_loads_to_get_at_the_entry_is_no_access() {
    let plan = Kernel::build().plan();
    assert_eq!(within(&plan, "flushed"), Vec::<&Probe>::new());
    let read = one(&plan, "through");
    assert_eq!((read.op, read.level), (Op::PmdpGet, Some(Level::Pmd)));
    assert_eq!(read.entry.map(|entry| entry.displacement), Some(0), "not the field of the fault");
}

#[test]
fn of_an_out_of_line_accessor_its_entry_is_probed_or_else_its_calls() {
    let plan = Kernel::build().plan();
    let entry = within(&plan, "set_ptes");
    let entry = entry.iter().find(|probe| probe.source == Source::Symbol).unwrap();
    assert_eq!((entry.op, entry.offset, &entry.verdict), (Op::SetPtes, 0, &Verdict::Probe));
    assert_eq!(entry.entry, Some(Operand::register(Register::Rdx)));
    assert_eq!(entry.written, Some(Value::Register { register: Register::Rcx }));
    assert_eq!(entry.count, Count::Register(Register::R8));
    let covered = Verdict::Covered { by: "set_ptes".to_owned() };
    assert!(within(&plan, "set_ptes").iter().all(|probe| probe.offset == 0 || probe.verdict == covered));
    assert_eq!(one(&plan, "batch").verdict, covered);

    // pte_clear is not in the list of what can be traced, so its call is probed.
    let call = one(&plan, "drop");
    assert_eq!((call.op, &call.verdict), (Op::PteClear, &Verdict::Probe));
    assert_eq!(call.found, [Evidence::AccessorCall]);
    assert_eq!(call.entry, Some(Operand::register(Register::Rdx)));
    assert_eq!(call.written, Some(Value::Immediate { value: 0 }));
}

#[test]
fn what_the_kernel_would_refuse_is_told() {
    let plan = Kernel::build().plan();
    let refused = |function| match &one(&plan, function).verdict {
        Verdict::Refused { reason } => *reason,
        other => panic!("{function}: {other:?}"),
    };
    assert_eq!(refused("hidden"), Refusal::Notrace);
    assert_eq!(refused("guarded"), Refusal::Nokprobe);
    assert_eq!(refused("boot"), Refusal::InitText);
    assert_eq!(refused("at_jump"), Refusal::JumpLabel);
    assert_eq!(one(&plan, "behind_jump").verdict, Verdict::Probe, "the jump before it has two bytes");
    let table = plan.table();
    assert!(table.contains("Plan for Linux 7.2.99-test"), "{table}");
    assert!(table.contains("the function is NOKPROBE: guarded"), "{table}");
}

#[test]
fn the_instructions_of_a_kernel_with_the_drop_in_are_judged_as_those_of_one_without() {
    let kernel = Kernel::with_the_drop_in();
    let plan = kernel.plan();
    assert_eq!(plan.tracepoints.len(), 4);
    let left = Verdict::Covered { by: "the drop-in's tracepoints".to_owned() };
    for function in ["is_young", "batch", "hidden", "guarded", "boot"] {
        assert_eq!(one(&plan, function).verdict, left, "{function}");
    }
    let image = Image::open(&kernel.vmlinux, None).unwrap();
    let all = Plan::of_instructions(&image).unwrap();
    assert_eq!(all.tracepoints, Vec::<String>::new());
    assert_eq!(all.probes, Kernel::build().plan().probes);
}

#[test]
fn without_debug_information_writes_and_mode_calls_are_left() {
    let kernel = Kernel::build();
    run(Command::new("objcopy").arg("--strip-debug").arg(&kernel.vmlinux).arg(kernel.path("plain")));
    let plan = plan(&kernel.path("plain"));
    assert!(!plan.made_from.debug_info);
    assert!(plan.table().contains("without debug information"), "{}", plan.table());
    let found: Vec<_> = within(&plan, "copy_range").iter().map(|probe| probe.op).collect();
    assert_eq!(found, [Op::SetPte, Op::ArchLeave]);
    let reads = plan.probes.iter().filter(|probe| probe.kind == Kind::Read);
    assert!(reads.clone().all(|probe| probe.found == [Evidence::Dataflow] && probe.op == Op::PmdpGet));
    // Only where types alone lead to the entry.
    let functions: Vec<_> = reads.map(|probe| probe.function.as_str()).collect();
    assert_eq!(functions, ["member", "given", "kept"]);
}

#[test]
fn pointers_in_no_variable_are_followed_to_where_they_are_used() {
    let plan = Kernel::build().plan();
    for (function, displacement) in [("member", 0), ("given", 0), ("kept", 8)] {
        let reads = within(&plan, function).into_iter().filter(|probe| probe.kind == Kind::Read);
        let reads: Vec<_> = reads.collect();
        let [read] = reads[..] else { panic!("{function}: {reads:?}") };
        assert_eq!(
            (read.kind, read.op, read.level),
            (Kind::Read, Op::RawRead, Some(Level::Pmd)),
            "{function}"
        );
        assert!(read.found.contains(&Evidence::Dataflow), "{read:?}");
        assert_eq!(read.entry.map(|entry| entry.displacement), Some(displacement), "{function}");
    }
    assert_eq!(within(&plan, "either"), Vec::<&Probe>::new(), "it may be of a page as well");
}

#[test]
fn a_plan_is_for_the_kernel_that_it_was_made_of() {
    let kernel = Kernel::build();
    let image = Image::open(&kernel.vmlinux, None).unwrap();
    let plan = kernel.plan();
    plan.check_kernel(image.build_id().unwrap()).unwrap();
    assert_eq!(Plan::parse(plan.to_json().unwrap().as_bytes(), Path::new("p")).unwrap(), plan);
    // Making it twice gives the same bytes.
    assert_eq!(kernel.plan().to_json().unwrap(), plan.to_json().unwrap());
}

#[test]
fn a_plan_keeps_to_its_schema() {
    let document: serde_json::Value =
        serde_json::from_str(&Kernel::build().plan().to_json().unwrap()).unwrap();
    assert_eq!(schema::of("plan.schema.json").errors(&document), Vec::<String>::new());
}
