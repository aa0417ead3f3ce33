//! BTF, the kernel's type information: whatever it is asked gives an answer or an error.

use lazymmu_inspect::btf::Btf;

/// Reads the bytes as raw BTF and asks what captures ask, and by names that are in it.
pub fn check(bytes: &[u8]) {
    let Ok(btf) = Btf::from_bytes(bytes.to_vec()) else { return };
    ask(&btf, "task_struct", "lazy_mmu_state.enable_count");
    for name in bytes.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()).take(32) {
        ask(&btf, name, name);
        ask(&btf, "s", name);
    }
}

fn ask(btf: &Btf, outer: &str, member: &str) {
    let _ = btf.member_offset(outer, member);
    let _ = btf.member_size(outer, member);
    let _ = btf.struct_size(outer);
    let _ = btf.has_typedef(outer);
    let _ = btf.has_struct(outer);
    let _ = btf.has_function(outer);
    let _ = btf.tracepoint_arguments(outer);
    let _ = btf.function_arguments(outer);
}

/// Whether the reader takes it.
pub fn is_btf(bytes: &[u8]) -> bool {
    Btf::from_bytes(bytes.to_vec()).is_ok()
}
