//! Running other programs: in the open, with what they say passed on as it comes.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::paths;

/// The cargo that runs us, at the root of the checkout.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root()).stdin(Stdio::null());
    command
}

/// A command as it would be typed, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let program = words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
    std::iter::once(program).chain(words.iter().skip(1).map(|word| &**word)).collect::<Vec<_>>().join(" ")
}

/// Runs it with its output on our standard error, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("failed to start `{shown}`; is it installed?"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}; its messages are above");
    }
    Ok(())
}

/// Runs it, passes on every line of its two outputs, and returns them all with the status.
pub(crate) fn run_and_read(command: &mut Command) -> Result<(ExitStatus, Vec<String>)> {
    let shown = shown(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start `{shown}`; is it installed?"))?;
    let streams = (child.stdout.take(), child.stderr.take());
    let lines = thread::scope(|scope| {
        let stderr = scope.spawn(|| streams.1.map(pass_on));
        let mut lines = streams.0.map(pass_on).unwrap_or_default();
        // A reader that died has said so by itself; what it read is lost, which the counts will show.
        lines.extend(stderr.join().ok().flatten().unwrap_or_default());
        lines
    });
    let status = child.wait().with_context(|| format!("failed to wait for `{shown}`"))?;
    Ok((status, lines))
}

fn pass_on(stream: impl std::io::Read) -> Vec<String> {
    let mut lines = Vec::new();
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        eprintln!("{line}");
        lines.push(line);
        bytes.clear();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_are_read() {
        let (status, mut lines) =
            run_and_read(Command::new("sh").args(["-c", "echo a; echo b >&2; printf c; exit 3"])).unwrap();
        lines.sort();
        assert_eq!((status.code(), lines), (Some(3), vec!["a".to_owned(), "b".into(), "c".into()]));
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = run(Command::new("sh").args(["-c", "exit 7"])).unwrap_err().to_string();
        assert!(error.contains("`sh -c exit 7` ended with exit status: 7"), "{error}");
        let error = run(&mut Command::new("/nowhere/tool")).unwrap_err().to_string();
        assert!(error.contains("`tool`"), "{error}");
    }
}
