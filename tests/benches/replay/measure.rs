//! What a run took: processor time and memory, as the kernel counts them for this process and those that it started.

use std::error::Error;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The shortest of several runs: what disturbs a run only makes it longer.
pub(crate) struct Best {
    pub(crate) seconds: f64,
}

impl Default for Best {
    fn default() -> Self {
        Self { seconds: f64::INFINITY }
    }
}

impl Best {
    /// Runs it and takes the time that this thread, the only one, had the processor.
    pub(crate) fn time<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = cpu_time()?;
        let result = work()?;
        self.seconds = self.seconds.min(cpu_time()?.saturating_sub(start).as_secs_f64());
        Ok(result)
    }

    /// Runs another program and takes the time that all its threads had the processor.
    pub(crate) fn time_program(&mut self, command: &mut Command) -> Result<()> {
        let start = children_time()?;
        let status = command.status()?;
        if !status.success() {
            return Err(format!("{command:?} ended with {status}").into());
        }
        self.seconds = self.seconds.min(children_time()?.saturating_sub(start).as_secs_f64());
        Ok(())
    }

    /// Runs it and takes the time on the wall, for what runs on several processors.
    pub(crate) fn time_on_the_wall<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = work()?;
        self.seconds = self.seconds.min(start.elapsed().as_secs_f64());
        Ok(result)
    }

    /// Millions in a second.
    #[allow(clippy::cast_precision_loss, reason = "a count of millions, shown with few digits")]
    pub(crate) fn rate(&self, count: u64) -> f64 {
        count as f64 / self.seconds / 1e6
    }

    pub(crate) fn shown(&self, count: u64) -> String {
        let rate = self.rate(count);
        format!("{rate:.2} M records/s, {:.1} ns each", 1e3 / rate)
    }
}

fn cpu_time() -> Result<Duration> {
    let schedstat = fs::read_to_string("/proc/self/schedstat")?;
    let nanos = schedstat.split_whitespace().next().ok_or("/proc/self/schedstat is empty")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// Of the processes that were waited for: `cutime` and `cstime` of proc(5), in hundredths of a second.
fn children_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in parentheses, in which anything may stand.
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/self/stat has no name")?;
    let ticks = fields
        .split_whitespace()
        .skip(13)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<std::result::Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The most memory that this process ever had resident, in bytes.
pub(crate) fn peak_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}
