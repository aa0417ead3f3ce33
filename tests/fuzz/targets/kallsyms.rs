//! Symbol tables as /proc/kallsyms has them: what was read is found again.

use std::path::Path;

use lazymmu_inspect::address::RuntimeAddr;
use lazymmu_inspect::kallsyms::Kallsyms;

/// Reads the bytes as a symbol table.
pub fn check(bytes: &[u8]) {
    let Ok(table) = Kallsyms::parse(bytes, Path::new("fuzz")) else { return };
    assert!(!table.is_empty());
    for address in [0, 1, 1 << 40, 0xffff_ffff_8100_0000, u64::MAX] {
        let _ = table.lookup(RuntimeAddr(address));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in text.lines().take(16).filter_map(|line| line.split_whitespace().nth(2)) {
        let Some(address) = table.address_of(name) else { continue };
        let found = table.lookup(address).expect("a symbol is found at its own address");
        assert_eq!(found.offset, 0);
    }
}

/// Whether the reader takes it.
pub fn is_table(bytes: &[u8]) -> bool {
    Kallsyms::parse(bytes, Path::new("corpus")).is_ok()
}
