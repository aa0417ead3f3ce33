//! Puts `kernel/hazards/` into a tree for as long as a kernel is built with it.
//!
//! All variants are built of one tree, and most without it, so nothing of it may stay there. Should it, it does nothing:
//! the line in the makefile asks for a word that only builds with it say.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use anyhow::{Context, Result};

use super::dropin;
use super::tree::Tree;
use crate::paths;

/// What the build says to have them in.
pub(crate) const SWITCH: &str = "LAZYMMU_HAZARDS=y";

const DIRECTORY: &str = "mm/lazymmu_hazards";
const MAKEFILE: &str = "mm/Makefile";
const LINE: &str = "obj-$(LAZYMMU_HAZARDS) += lazymmu_hazards/\n";

/// They are in a tree, until this goes.
pub(crate) struct Added {
    directory: PathBuf,
    makefile: PathBuf,
    before: String,
    /// When the makefile was written, which says whether somebody's own tree has changed.
    time: SystemTime,
}

impl Added {
    /// Adds them to a tree that has the drop-in, whose line stays the last.
    pub(crate) fn to(tree: &Tree) -> Result<Self> {
        let (directory, makefile) = (tree.root.join(DIRECTORY), tree.root.join(MAKEFILE));
        let before = dropin::read(&makefile)?.replace(LINE, "");
        let last = before.trim_end().rfind('\n').map_or(0, |end| end + 1);
        let time = fs::metadata(&makefile).and_then(|metadata| metadata.modified());
        let time = time.with_context(|| format!("failed to look at {}", makefile.display()))?;
        let added = Self { directory, makefile, before, time };
        let text = format!("{}{LINE}{}", &added.before[..last], &added.before[last..]);
        fs::write(&added.makefile, text)
            .with_context(|| format!("failed to write {}", added.makefile.display()))?;
        fs::create_dir_all(&added.directory)
            .with_context(|| format!("failed to make {}", added.directory.display()))?;
        for source in sources()? {
            let to = added.directory.join(source.file_name().unwrap_or_default());
            // Only what changed is compiled again, by the times of the files.
            fs::copy(&source, &to).with_context(|| format!("failed to write {}", to.display()))?;
            let time = fs::metadata(&source).and_then(|metadata| metadata.modified());
            time.and_then(|time| set_time(&to, time))
                .with_context(|| format!("failed to set the time of {}", to.display()))?;
        }
        Ok(added)
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        // What stays does nothing.
        let _ = fs::write(&self.makefile, &self.before);
        let _ = set_time(&self.makefile, self.time);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn set_time(path: &Path, time: SystemTime) -> io::Result<()> {
    fs::File::options().write(true).open(path)?.set_modified(time)
}

/// The files of `kernel/hazards/`.
pub(crate) fn sources() -> Result<Vec<PathBuf>> {
    let directory = paths::root().join("kernel/hazards");
    let failed = || format!("failed to list {}", directory.display());
    let entries = fs::read_dir(&directory).with_context(failed)?;
    let mut sources: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .with_context(failed)?;
    sources.sort();
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_as_it_was_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("Makefile"), "VERSION = 7\nPATCHLEVEL = 2\n").unwrap();
        fs::create_dir(directory.path().join("mm")).unwrap();
        let makefile = directory.path().join(MAKEFILE);
        let before = "obj-y := memory.o\nobj-$(CONFIG_LAZY_MMU_HOOKS) += lazy_mmu_hooks.o\n";
        fs::write(&makefile, before).unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        for _ in 0..2 {
            let added = Added::to(&tree).unwrap();
            let text = fs::read_to_string(&makefile).unwrap();
            assert_eq!(
                text,
                format!("obj-y := memory.o\n{LINE}obj-$(CONFIG_LAZY_MMU_HOOKS) += lazy_mmu_hooks.o\n")
            );
            assert!(directory.path().join(DIRECTORY).join("main.c").is_file());
            // As if the build had died: the next one begins with what is left.
            std::mem::forget(added);
        }
        drop(Added::to(&tree).unwrap());
        assert_eq!(fs::read_to_string(&makefile).unwrap(), before);
        assert!(!directory.path().join(DIRECTORY).exists());
    }
}
