//! `hazard:NAME`: one hazard, committed on demand by kernel/hazards in the kernel, or its correct twin `hazard:NAME-ok`.
//!
//! They are the ground truth for the rules: what is to be found is known. Nothing is loaded here.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::error::Error;
use crate::{Hazard, Outcome};

/// What the names begin with.
pub(crate) const PREFIX: &str = "hazard:";

/// Where it offers what it can do on this kernel.
const OFFERED: &str = "/sys/kernel/debug/lazymmu_hazards";

/// Every hazard, in the order of the rules. A twin has the same name with `-ok` behind it.
pub(crate) const HAZARDS: &[Hazard] = &[
    Hazard { rule: "read-pending", what: "reads an entry that it has just written" },
    Hazard {
        rule: "remote-read-pending",
        what: "has a thread on another CPU read an entry that it has just written",
    },
    Hazard { rule: "rmw-pending", what: "clears an entry that it has just written" },
    Hazard {
        rule: "write-reorder",
        what: "writes an entry with a store that waits and then with one that does not",
    },
    Hazard { rule: "raw-access", what: "reads an entry that it has just written without an accessor" },
    Hazard { rule: "use-before-flush", what: "uses a page that it has just mapped" },
    Hazard { rule: "tlb-before-flush", what: "flushes the TLB for an entry that it has just changed" },
    Hazard { rule: "nested-section", what: "enters a section inside a section, before 7.0" },
    Hazard { rule: "switch-in-section", what: "lets another thread run inside a section (the twin alone)" },
    Hazard { rule: "irq-access", what: "has an interrupt read an entry that it has just written" },
    Hazard { rule: "section-leak", what: "ends a thread inside a section" },
    Hazard { rule: "sleep-in-section", what: "sleeps inside a section" },
    Hazard {
        rule: "pause-misuse",
        what: "leaves a section that is paused; before 7.0 has the mode off inside one",
    },
    Hazard { rule: "wasted-section", what: "enters many sections for one entry each" },
];

/// What it offers to tests besides: not in any list of hazards.
const BESIDES: [&str; 3] = ["panic", "hang", "mend-fork-exclusive"];

/// Whether that name is one of a hazard or a twin, with the prefix, or of what is offered besides.
pub(crate) fn is_known(name: &str) -> bool {
    let Some(name) = name.strip_prefix(PREFIX) else { return false };
    let rule = name.strip_suffix("-ok").unwrap_or(name);
    BESIDES.contains(&name) || HAZARDS.iter().any(|hazard| hazard.rule == rule)
}

/// Commits one, or runs a twin.
pub(crate) fn run(name: &str) -> Result<Outcome, Error> {
    commit(Path::new(OFFERED), name.strip_prefix(PREFIX).unwrap_or(name))
}

fn commit(offered: &Path, name: &str) -> Result<Outcome, Error> {
    let attempt = || format!("commit the hazard {name}");
    let missing = |lacking: String| Error::Missing { attempt: attempt(), lacking };
    let loaded = offered.try_exists().map_err(|source| Error::System {
        attempt: format!("look for {}, which takes root", offered.display()),
        source,
    })?;
    if !loaded {
        let lacking = "lazymmu_hazards is not there; boot a kernel that was built with it, or build kernel/hazards as a module and \
                       load it (kernel/README.md), with debugfs on /sys/kernel/debug";
        return Err(missing(lacking.to_owned()));
    }
    let asked =
        File::options().write(true).open(offered.join(name)).and_then(|mut file| file.write_all(b"1"));
    match asked {
        Ok(()) => Ok(Outcome::new("done, on an entry that nobody else uses")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(missing(format!("on this kernel {} does not offer it", offered.display())))
        }
        Err(error) if error.raw_os_error() == Some(NO_DEVICE) => Err(missing("it takes two CPUs".to_owned())),
        Err(source) => Err(Error::System { attempt: attempt(), source }),
    }
}

/// ENODEV: it wants another CPU, and there is none.
const NO_DEVICE: i32 = 19;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn hazards_and_twins_have_names() {
        for name in
            ["hazard:read-pending", "hazard:read-pending-ok", "hazard:wasted-section-ok", "hazard:panic"]
        {
            assert!(is_known(name), "{name}");
        }
        for name in ["read-pending", "hazard:", "hazard:-ok", "hazard:read-pending-ok-ok", "hazard:panic-ok"]
        {
            assert!(!is_known(name), "{name}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let error = commit(&directory.path().join("none"), "read-pending").unwrap_err();
        assert!(
            matches!(&error, Error::Missing { lacking, .. } if lacking.contains("is not there")),
            "{error}"
        );
        let error = commit(&directory.path().join("none/x"), "read-pending").unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
        // A directory that is one for another file.
        fs::create_dir(directory.path().join("read-pending")).unwrap();
        let error = commit(directory.path(), "read-pending").unwrap_err();
        assert!(matches!(error, Error::System { .. }), "{error}");
        fs::write(directory.path().join("rmw-pending"), "").unwrap();
        commit(directory.path(), "rmw-pending").unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("rmw-pending")).unwrap(), "1");
    }
}
