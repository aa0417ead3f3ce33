//! Settings of the kernel that are changed while instructions are probed, and put back: at the end, and if the process
//! was killed, at the next start.
//!
//! Probes are set and taken away one by one, and the kernel waits for all CPUs at each: with these settings several times
//! less. What is changed is written down in a file of its own under `/run/lazymmu` before it is changed, and the file is
//! locked as long as the process lives. Whoever starts next and finds a file that nobody has locked puts back what it
//! says, unless someone else has changed it meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Whether the kernel makes jumps of probes that stay (Documentation/trace/kprobes.rst): it waits for that. 0 for no.
const OPTIMIZATION: &str = "/proc/sys/debug/kprobes-optimization";
/// Whether the kernel hurries where it waits for all CPUs (Documentation/RCU). 1 for yes.
const EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// Where the files are.
const DIRECTORY: &str = "/run/lazymmu";
const EXTENSION: &str = "tuning";

/// One setting, changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Changed {
    path: PathBuf,
    before: String,
    now: &'static str,
}

/// The settings that are changed, until this is dropped.
#[derive(Debug)]
pub(crate) struct Tuning {
    optimization: Option<Changed>,
    expedited: Option<Changed>,
    /// The file and its name.
    noted: Option<(PathBuf, File)>,
}

impl Tuning {
    /// Puts back what a killed process has left changed, then notes what is going to be changed and changes it. What
    /// cannot be changed or noted stays as it is: then setting probes takes longer.
    pub(crate) fn start() -> Self {
        Self::start_in(Path::new(DIRECTORY), Path::new(OPTIMIZATION), Path::new(EXPEDITED))
    }

    fn start_in(directory: &Path, optimization: &Path, expedited: &Path) -> Self {
        restore_left(directory);
        let mut tuning = Self {
            optimization: Changed::to(optimization, "0"),
            expedited: Changed::to(expedited, "1"),
            noted: None,
        };
        let all = || tuning.optimization.iter().chain(&tuning.expedited);
        if all().next().is_none() {
            return tuning;
        }
        match note(directory, all()) {
            Ok(noted) => tuning.noted = Some(noted),
            Err(error) => {
                log::info!(
                    "failed to note in {} which settings of the kernel are changed, so none is: {error}",
                    directory.display()
                );
                return Self { optimization: None, expedited: None, noted: None };
            }
        }
        for changed in tuning.optimization.iter().chain(&tuning.expedited) {
            changed.apply();
        }
        tuning
    }

    /// The kernel is to hurry, or no more.
    pub(crate) fn hurry(&self, hurry: bool) {
        if let Some(expedited) = &self.expedited {
            if hurry { expedited.apply() } else { expedited.restore() }
        }
    }
}

impl Drop for Tuning {
    fn drop(&mut self) {
        for changed in self.optimization.iter().chain(&self.expedited) {
            changed.restore();
        }
        if let Some((path, _)) = &self.noted {
            let _ = fs::remove_file(path);
        }
    }
}

impl Changed {
    /// `None` if there is no such setting, or it is so already.
    fn to(path: &Path, now: &'static str) -> Option<Self> {
        let before = read(path).ok()?;
        (before != now).then(|| Self { path: path.to_owned(), before, now })
    }

    fn apply(&self) {
        if let Err(error) = fs::write(&self.path, self.now) {
            log::info!("failed to write {} to {}: {error}", self.now, self.path.display());
        }
    }

    fn restore(&self) {
        restore(&self.path, &self.before, self.now);
    }
}

fn read(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// Unless it is not what it was changed to any more.
fn restore(path: &Path, before: &str, now: &str) {
    if read(path).is_ok_and(|value| value == now)
        && let Err(error) = fs::write(path, before)
    {
        log::warn!("failed to put {} back to {before}: {error}", path.display());
    }
}

/// Writes down what is going to be changed, in a file that stays locked.
fn note<'a>(directory: &Path, all: impl Iterator<Item = &'a Changed>) -> io::Result<(PathBuf, File)> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("{}.{EXTENSION}", std::process::id()));
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.set_len(0)?;
    for Changed { path, before, now } in all {
        writeln!(file, "{}\t{before}\t{now}", path.display())?;
    }
    file.sync_all()?;
    Ok((path, file))
}

/// Puts back what processes that are no more have left changed.
fn restore_left(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let Ok(mut file) = OpenOptions::new().read(true).write(true).open(&path) else { continue };
        // Whoever has it locked lives.
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let mut text = String::new();
        if file.rewind().and_then(|()| file.read_to_string(&mut text)).is_err() {
            continue;
        }
        for line in text.lines() {
            let mut parts = line.split('\t');
            if let (Some(setting), Some(before), Some(now)) = (parts.next(), parts.next(), parts.next()) {
                log::info!("putting {setting} back to {before}, which a killed lazymmu has left at {now}");
                restore(Path::new(setting), before, now);
            }
        }
        let _ = fs::remove_file(&path);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Settings {
        directory: tempfile::TempDir,
    }

    impl Settings {
        fn new() -> Self {
            let settings = Self { directory: tempfile::tempdir().unwrap() };
            fs::write(settings.path("optimization"), "1\n").unwrap();
            fs::write(settings.path("expedited"), "0\n").unwrap();
            settings
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn start(&self) -> Tuning {
            Tuning::start_in(&self.path("run"), &self.path("optimization"), &self.path("expedited"))
        }

        fn values(&self) -> (String, String) {
            (read(&self.path("optimization")).unwrap(), read(&self.path("expedited")).unwrap())
        }

        fn notes(&self) -> usize {
            fs::read_dir(self.path("run")).map_or(0, Iterator::count)
        }
    }

    fn pair(optimization: &str, expedited: &str) -> (String, String) {
        (optimization.to_owned(), expedited.to_owned())
    }

    #[test]
    fn what_is_changed_is_put_back() {
        let settings = Settings::new();
        let tuning = settings.start();
        assert_eq!((settings.values(), settings.notes()), (pair("0", "1"), 1));
        tuning.hurry(false);
        assert_eq!(settings.values(), pair("0", "0"));
        tuning.hurry(true);
        drop(tuning);
        assert_eq!((settings.values(), settings.notes()), (pair("1", "0"), 0));
    }

    #[test]
    fn what_a_killed_process_left_is_put_back_at_the_next_start() {
        let settings = Settings::new();
        fs::create_dir(settings.path("run")).unwrap();
        // As one leaves it that is killed while it sets probes.
        let line = |name: &str, before, now| format!("{}\t{before}\t{now}\n", settings.path(name).display());
        let note = line("optimization", 1, 0) + &line("expedited", 0, 1);
        fs::write(settings.path("run/1.tuning"), note).unwrap();
        fs::write(settings.path("optimization"), "0").unwrap();
        fs::write(settings.path("expedited"), "1").unwrap();
        drop(settings.start());
        assert_eq!((settings.values(), settings.notes()), (pair("1", "0"), 0));
    }

    #[test]
    fn what_another_process_has_changed_and_still_uses_stays() {
        let settings = Settings::new();
        let first = settings.start();
        restore_left(&settings.path("run"));
        assert_eq!((settings.values(), settings.notes()), (pair("0", "1"), 1));
        drop(first);
        assert_eq!(settings.values(), pair("1", "0"));
    }

    #[test]
    fn what_someone_else_has_set_meanwhile_stays() {
        let settings = Settings::new();
        let tuning = settings.start();
        fs::write(settings.path("expedited"), "2").unwrap();
        drop(tuning);
        assert_eq!(settings.values(), pair("1", "2"));
    }

    #[test]
    fn nothing_is_changed_that_cannot_be_noted() {
        let settings = Settings::new();
        fs::write(settings.path("run"), "no directory").unwrap();
        let tuning = settings.start();
        assert_eq!(settings.values(), pair("1", "0"));
        drop(tuning);
        assert_eq!(settings.values(), pair("1", "0"));
    }
}
