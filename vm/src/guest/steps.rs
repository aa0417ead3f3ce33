//! Does the steps of a job, one after the other.

use std::fs;
use std::path::Path;
use std::thread;

use rustix::system::finit_module;

use super::channel::Channel;
use super::{mounts, program};
use crate::job::{Job, Step};

/// Returns the exit code of the first program that ended badly, or 0.
pub(super) fn run(job: &Job, channel: &Channel) -> Result<i32, String> {
    let mut code = 0;
    for step in &job.steps {
        match step {
            Step::Run(command) => {
                let status = program::run(command, channel)?;
                channel.step_end(status)?;
                if code == 0 {
                    code = status.code();
                }
            }
            Step::Mount { kind, target, options } => mounts::one(kind, target, options)?,
            Step::Write { path, text } => {
                fs::write(path, text).map_err(|error| format!("write to {}: {error}", path.display()))?;
            }
            Step::Copy { from, to } => {
                // Files of procfs and tracefs say that they are empty, so they are read to their end.
                let copied = fs::read(from).and_then(|data| fs::write(to, data));
                copied.map_err(|error| format!("copy {} to {}: {error}", from.display(), to.display()))?;
            }
            Step::Module(path) => load(path)?,
            Step::Sleep(time) => thread::sleep(*time),
        }
    }
    Ok(code)
}

fn load(module: &Path) -> Result<(), String> {
    /// The file is compressed (`MODULE_INIT_COMPRESSED_FILE` of include/uapi/linux/module.h, 5.17 and later).
    const COMPRESSED: i32 = 4;
    let compressed = module.extension().is_some_and(|extension| extension != "ko");
    let loaded = fs::File::open(module)
        .and_then(|file| Ok(finit_module(file, c"", if compressed { COMPRESSED } else { 0 })?));
    loaded.map_err(|error| format!("load {}: {error}", module.display()))
}
