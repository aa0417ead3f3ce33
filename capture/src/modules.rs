//! Where the modules of a plan are, and whether they are those that the plan was made of. The kernel says it below
//! /sys/module (kernel/module/sysfs.c, 6.12).

use std::fs;
use std::path::Path;

use lazymmu_inspect::address::RuntimeAddr;
use lazymmu_inspect::build_id::BuildId;
use lazymmu_inspect::plan::Plan;

use crate::Error;

/// Below it each module has a directory.
pub(crate) const DIRECTORY: &str = "/sys/module";

/// Where the code of each module begins; `None` for one that is not loaded.
pub(crate) fn find(modules: &[Plan], directory: &Path) -> Result<Vec<Option<RuntimeAddr>>, Error> {
    modules.iter().map(|module| place(module, directory)).collect()
}

fn place(module: &Plan, directory: &Path) -> Result<Option<RuntimeAddr>, Error> {
    let name = module.kernel.module.clone().unwrap_or_default();
    let directory = directory.join(&name);
    let text = directory.join("sections/.text");
    // What was built in has a directory too, and no sections.
    if !text.exists() {
        return Ok(None);
    }
    let found = BuildId::from_notes_file(&directory.join("notes/.note.gnu.build-id"));
    let found = found.map_or_else(|_| "unknown".to_owned(), |id| id.to_string());
    if module.kernel.build_id.as_ref() != Some(&found) {
        let wanted = module.kernel.build_id.clone().unwrap_or_else(|| "unknown".to_owned());
        return Err(Error::OtherModule { name, found, wanted });
    }
    let read = fs::read_to_string(&text);
    let read = read.map_err(|source| Error::Io { what: format!("read {}", text.display()), source })?;
    let address = u64::from_str_radix(read.trim().trim_start_matches("0x"), 16).ok();
    // Zero is what a reader without privilege gets.
    match address.filter(|address| *address != 0) {
        Some(address) => Ok(Some(RuntimeAddr(address))),
        None => Err(Error::NotPermitted {
            reason: format!("{} does not tell where the module is", text.display()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(build_id: &str) -> Plan {
        let text = format!(
            r#"{{"version": {{"major": 1, "minor": 1}},
            "kernel": {{"release": "r", "build_id": "{build_id}", "architecture": "x86_64", "module": "m", "nesting": false}},
            "made_from": {{"image": "module", "debug_info": true, "symbols": "symtab", "lazymmu": "0.1.0"}},
            "tracepoints": [], "state": [], "probes": []}}"#
        );
        Plan::parse(text.as_bytes(), Path::new("plan")).unwrap()
    }

    /// A directory as the kernel has it, with the build id 00ff.
    fn loaded(text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("m/sections/.text", text.as_bytes()),
            ("m/notes/.note.gnu.build-id", b"\x04\0\0\0\x02\0\0\0\x03\0\0\0GNU\0\x00\xff\0\0"),
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        root
    }

    #[test]
    fn a_module_is_where_the_kernel_says() {
        let root = loaded("0xffffffffc0123000\n");
        let found = find(&[module("00ff")], root.path()).unwrap();
        assert_eq!(found, [Some(RuntimeAddr(0xffff_ffff_c012_3000))]);
        // It may be built in, or not loaded.
        assert_eq!(find(&[module("00ff")], Path::new("/nowhere")).unwrap(), [None]);
    }

    #[test]
    fn another_build_of_it_is_refused() {
        let root = loaded("0xffffffffc0123000\n");
        let error = find(&[module("0102")], root.path()).unwrap_err();
        assert!(matches!(&error, Error::OtherModule { .. }), "{error}");
        assert!(error.to_string().contains("0102") && error.to_string().contains("00ff"), "{error}");
    }

    #[test]
    fn a_hidden_address_is_no_address() {
        let root = loaded("0x0000000000000000\n");
        assert!(matches!(find(&[module("00ff")], root.path()), Err(Error::NotPermitted { .. })));
    }
}
