//! What is typed, waited for in such a way that a terminal that goes away is noticed.
//!
//! Crossterm reads the end of such a terminal again and again and does not come back, so it is asked only while there is one.

use std::fs::File;
use std::io::{self, IsTerminal as _, stdin};
use std::os::fd::AsFd as _;
use std::time::Duration;

use crossterm::event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What came of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// There is something to be read.
    Something,
    Nothing,
    /// Nobody will type any more.
    Gone,
}

/// The terminal that crossterm reads from.
pub(crate) struct Keyboard(File);

impl Keyboard {
    pub(crate) fn new() -> io::Result<Self> {
        if stdin().is_terminal() {
            return Ok(Self(stdin().as_fd().try_clone_to_owned()?.into()));
        }
        File::open("/dev/tty").map(Self)
    }

    /// Waits until something is typed, for so long at most. A signal ends that as well.
    pub(crate) fn wait(&self, most: Duration) -> io::Result<Typed> {
        // What was read already is asked for before anything is waited for.
        for time in [Duration::ZERO, most] {
            if self.is_gone_within(time)? {
                return Ok(Typed::Gone);
            }
            if is_typed()? {
                return Ok(Typed::Something);
            }
            if most.is_zero() {
                break;
            }
        }
        Ok(Typed::Nothing)
    }

    /// Waits until there is something to read, or never will be.
    fn is_gone_within(&self, time: Duration) -> io::Result<bool> {
        let time = Timespec::try_from(time).map_err(io::Error::other)?;
        let mut terminal = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut terminal, Some(&time)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(terminal[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL))
    }
}

fn is_typed() -> io::Result<bool> {
    match event::poll(Duration::ZERO) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        polled => polled,
    }
}
