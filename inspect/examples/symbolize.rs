//! Names the addresses of the running kernel, or of another one, and says what it cost.
//!
//!     symbolize VMLINUX KALLSYMS ADDRESS...
//!
//! `-` for VMLINUX looks for the one of the running kernel. An address is in hexadecimal, or a name and an offset
//! (`copy_pte_range+0x20`). This is for measuring; the product's own way is `lazymmu record`.

use std::path::Path;
use std::time::Instant;

use lazymmu_inspect::address::RuntimeAddr;
use lazymmu_inspect::build_id::BuildId;
use lazymmu_inspect::kallsyms::Kallsyms;
use lazymmu_inspect::symbolizer::Symbolizer;
use lazymmu_inspect::vmlinux::{self, Vmlinux};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(symbols)) = (arguments.next(), arguments.next()) else {
        return Err("usage: symbolize VMLINUX KALLSYMS ADDRESS...".into());
    };
    let start = Instant::now();
    let kallsyms = Kallsyms::from_file(&symbols)?;
    cost("kallsyms", start);

    let start = Instant::now();
    let vmlinux = if path == "-" { find()? } else { Some(Vmlinux::open(Path::new(&path))?) };
    cost("open vmlinux", start);

    let mut addresses = Vec::new();
    for argument in arguments {
        addresses.push(address(&kallsyms, &argument)?);
    }
    let mut symbolizer = Symbolizer::new(kallsyms, vmlinux);
    for address in addresses {
        let start = Instant::now();
        let frames = symbolizer.frames(address).to_vec();
        cost(&address.to_string(), start);
        for frame in frames {
            let place = frame.file.map(|file| format!("{file}:{}", frame.line.unwrap_or_default()));
            let inlined = if frame.inlined { " (inlined)" } else { "" };
            println!("  {}+{:#x} {}{inlined}", frame.function, frame.offset, place.unwrap_or_default());
        }
    }
    eprintln!("{}", symbolizer.source_lines());
    Ok(())
}

fn find() -> Result<Option<Vmlinux>> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let search = vmlinux::search(&BuildId::of_running_kernel()?, release.trim(), Path::new("/"));
    for refused in &search.refused {
        eprintln!("not used: failed to {refused}");
    }
    Ok(search.vmlinux)
}

fn address(kallsyms: &Kallsyms, text: &str) -> Result<RuntimeAddr> {
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
    match text.split_once('+') {
        None => Ok(RuntimeAddr(hex(text)?)),
        Some((name, offset)) => {
            let start = kallsyms.address_of(name).ok_or_else(|| format!("no function {name}"))?;
            Ok(RuntimeAddr(start.0 + hex(offset)?))
        }
    }
}

/// Time since `start`, and the most memory that the process ever had.
fn cost(what: &str, start: Instant) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim();
    eprintln!("{what}: {:.3} s, peak {peak}", start.elapsed().as_secs_f64());
}
