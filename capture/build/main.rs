//! Embeds the eBPF object if there is one of the present sources. Makes none: the compiler for that target is not
//! needed to build the rest.

mod stamp;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use stamp::{Found, OBJECT, SOURCES, Stamp};

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let root = manifest.parent().unwrap_or(&manifest);

    println!("cargo:rerun-if-env-changed=LAZYMMU_BPF_OBJECT");
    println!("cargo:rerun-if-changed=build");
    for source in SOURCES {
        watch(&root.join(source));
    }
    let object = match env::var_os("LAZYMMU_BPF_OBJECT") {
        Some(path) if !path.is_empty() => {
            let path = PathBuf::from(path);
            watch(&path);
            watch(&Stamp::path(&path));
            path
        }
        _ => {
            // The directory, which is always there: cargo takes a file that is missing for one that has changed.
            let path = root.join(OBJECT);
            watch(path.parent().unwrap_or(root));
            path
        }
    };

    let (bytes, state) = match Found::look(root, &object) {
        Found::Fresh(bytes) => (bytes, "embedded"),
        Found::Missing => (Vec::new(), "missing"),
        Found::Stale(why) => (Vec::new(), why),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("lazymmu.bpf.o"), bytes)?;
    println!("cargo:rustc-env=LAZYMMU_BPF_STATE={state}");
    Ok(())
}

fn watch(path: &Path) {
    println!("cargo:rerun-if-changed={}", path.display());
}
