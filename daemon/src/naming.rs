//! Names for the addresses of call stacks, found on a thread of its own: to read debug information takes seconds, and
//! the ring must be drained meanwhile.

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result};
use lazymmu_inspect::address::RuntimeAddr;
use lazymmu_inspect::build_id::BuildId;
use lazymmu_inspect::kallsyms::{Kallsyms, KallsymsError};
use lazymmu_inspect::plan::is_accessor;
use lazymmu_inspect::symbolizer::Symbolizer;
use lazymmu_inspect::vmlinux::{Vmlinux, search};
use lazymmu_trace::Frame;
use tokio::sync::mpsc as async_mpsc;

use crate::{ExitStatus, Failure};

/// An address and what stands there.
pub(crate) struct Named {
    pub(crate) address: u64,
    pub(crate) frames: Vec<Frame>,
}

/// The thread that names addresses.
pub(crate) struct Naming {
    /// Gone when no more will be asked.
    questions: Option<mpsc::Sender<u64>>,
    answers: async_mpsc::UnboundedReceiver<Named>,
    notes: mpsc::Receiver<String>,
}

impl Naming {
    /// Reads the running kernel's symbols and starts the thread. `vmlinux` is the one that the user named; without it
    /// one is looked for by the kernel's build id.
    ///
    /// A stack that begins at one of the addresses `probed` begins inside of an accessor that was inlined. That is left
    /// out, so that it begins with whoever used the accessor, as all others do. `prepare` is done on the thread first.
    pub(crate) fn start(
        release: &str,
        vmlinux: Option<&Path>,
        probed: HashSet<u64>,
        prepare: fn(),
    ) -> Result<Self> {
        let kallsyms = Kallsyms::of_running_kernel().map_err(|error| {
            let status = match error {
                KallsymsError::Hidden(_) => ExitStatus::NotPermitted,
                _ => ExitStatus::CannotTrace,
            };
            Failure::to(status, error)
        })?;
        let vmlinux = find(release, vmlinux)?;
        let (questions, asked) = mpsc::channel::<u64>();
        let (answer, answers) = async_mpsc::unbounded_channel();
        let (note, notes) = mpsc::channel();
        thread::Builder::new()
            .name("naming".to_owned())
            .spawn(move || {
                prepare();
                let mut symbolizer = Symbolizer::new(kallsyms, vmlinux);
                for address in asked {
                    let mut frames = symbolizer.frames(RuntimeAddr(address)).to_vec();
                    if probed.contains(&address) {
                        leave_accessors(&mut frames);
                    }
                    if answer.send(Named { address, frames }).is_err() {
                        return;
                    }
                }
                // The session may have ended: then nobody wants to know.
                let _ = note.send(symbolizer.source_lines().to_string());
            })
            .context("failed to start a thread")?;
        Ok(Self { questions: Some(questions), answers, notes })
    }

    /// Asks for the names at an address.
    pub(crate) fn ask(&self, address: u64) {
        if let Some(questions) = &self.questions {
            // The thread ends only with the questions; had it panicked, the address would stay without a name.
            let _ = questions.send(address);
        }
    }

    /// The next answer; never, if all are given. May be cancelled.
    pub(crate) async fn answer(&mut self) -> Named {
        match self.answers.recv().await {
            Some(named) => named,
            None => std::future::pending().await,
        }
    }

    /// The rest of the answers, and whether source lines were known.
    pub(crate) fn finish(mut self) -> (Vec<Named>, Option<String>) {
        self.questions = None;
        let mut rest = Vec::new();
        // Blocks: capturing has ended, nothing else is to be done.
        while let Some(named) = self.answers.blocking_recv() {
            rest.push(named);
        }
        (rest, self.notes.recv().ok())
    }
}

/// Leaves out the inlined accessors that the innermost code is in.
fn leave_accessors(frames: &mut Vec<Frame>) {
    let accessors = frames.iter().take_while(|frame| frame.inlined && is_accessor(&frame.function)).count();
    frames.drain(..accessors);
}

fn find(release: &str, named: Option<&Path>) -> Result<Option<Vmlinux>> {
    let running = BuildId::of_running_kernel();
    if let Some(path) = named {
        let vmlinux = match &running {
            Ok(id) => Vmlinux::open_matching(path, id),
            // Without a build id nothing can be compared; the user chose the file.
            Err(_) => Vmlinux::open(path),
        };
        return Ok(Some(vmlinux.map_err(|error| Failure::to(ExitStatus::Usage, error))?));
    }
    let Ok(id) = running else { return Ok(None) };
    let search = search(&id, release, Path::new("/"));
    for refused in &search.refused {
        eprintln!("lazymmu: a vmlinux was found, but failed to {refused}");
    }
    Ok(search.vmlinux)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_begins_with_who_used_the_accessor() {
        let frame = |function: &str, inlined| Frame {
            function: function.to_owned(),
            offset: 0,
            module: None,
            file: None,
            line: None,
            inlined,
        };
        let mut frames = vec![
            frame("set_pte", true),
            frame("set_ptes", true),
            frame("copy_pte_range", true),
            frame("copy_page_range", false),
        ];
        leave_accessors(&mut frames);
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].function, "copy_pte_range");
        // One that was put out of line is a function like others.
        let mut frames = vec![frame("set_ptes", false)];
        leave_accessors(&mut frames);
        assert_eq!(frames.len(), 1);
    }
}
