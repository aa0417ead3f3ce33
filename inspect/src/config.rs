//! The options that a kernel was built with: what `/proc/config.gz` shows, or a distribution keeps beside the boot image.

use std::io::Read;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

/// No kernel's list is longer.
const MAX_BYTES: u64 = 16 << 20;

/// Whether an option is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Built in, or of a value.
    On,
    /// Built as a module.
    Module,
    /// Not built, or not known to that kernel.
    Off,
}

/// The options of one kernel.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    path: PathBuf,
    set: FxHashMap<String, Setting>,
}

impl KernelConfig {
    /// Those of the running kernel, if they are anywhere. `release` is what `uname -r` prints; `root` is `/` except in tests.
    pub fn of_running_kernel(release: &str, root: &Path) -> Option<Self> {
        let packed = root.join("proc/config.gz");
        let plain = [format!("boot/config-{release}"), format!("lib/modules/{release}/config")];
        let unpacked = std::fs::File::open(&packed).ok().and_then(|file| {
            let mut text = String::new();
            flate2::read::GzDecoder::new(file).take(MAX_BYTES).read_to_string(&mut text).ok()?;
            Some(Self::parse(&text, packed))
        });
        unpacked.or_else(|| {
            plain.map(|place| root.join(place)).into_iter().find_map(|path| {
                let text = std::fs::read_to_string(&path).ok()?;
                Some(Self::parse(&text, path))
            })
        })
    }

    fn parse(text: &str, path: PathBuf) -> Self {
        let set = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
            let setting = match value {
                "n" => Setting::Off,
                "m" => Setting::Module,
                _ => Setting::On,
            };
            Some((name.to_owned(), setting))
        });
        Self { path, set: set.collect() }
    }

    /// Where they were read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An option, by its name without `CONFIG_`.
    pub fn get(&self, name: &str) -> Setting {
        self.set.get(name).copied().unwrap_or(Setting::Off)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &str =
        "# Linux\nCONFIG_KPROBES=y\n# CONFIG_FTRACE is not set\nCONFIG_ZRAM=m\nCONFIG_HZ=250\n";

    #[test]
    fn what_runs_is_asked_before_what_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(KernelConfig::of_running_kernel("r", root).is_none());
        std::fs::create_dir_all(root.join("boot")).unwrap();
        std::fs::write(root.join("boot/config-r"), TEXT).unwrap();
        let config = KernelConfig::of_running_kernel("r", root).unwrap();
        let options = ["KPROBES", "FTRACE", "ZRAM", "HZ", "NEVER_HEARD_OF"].map(|name| config.get(name));
        assert_eq!(options, [Setting::On, Setting::Off, Setting::Module, Setting::On, Setting::Off]);
        assert_eq!(config.path(), root.join("boot/config-r"));

        std::fs::create_dir_all(root.join("proc")).unwrap();
        let file = std::fs::File::create(root.join("proc/config.gz")).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gzip.write_all(b"CONFIG_FTRACE=y\n").unwrap();
        gzip.finish().unwrap();
        let config = KernelConfig::of_running_kernel("r", root).unwrap();
        assert_eq!((config.get("FTRACE"), config.get("KPROBES")), (Setting::On, Setting::Off));
    }
}
