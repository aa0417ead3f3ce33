//! Frames of every view, of the embedded sample, against frames that were looked at.
//!
//! A script in `scripts/` is typed, and the frame that is then shown must be that in `frames/`. With `LAZYMMU_BLESS=1` in
//! the environment the frames are written instead: look at the difference.

#![allow(clippy::unwrap_used, reason = "a test")]

mod sample;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lazymmu_tui::{Dump, Look, Theme, dump, script};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

/// Those are compared in colour as well.
const VIEWS: [&str; 5] = ["findings", "finding", "section", "cpus", "hooks"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn scripts() -> Vec<(String, String)> {
    let files = fs::read_dir(folder("scripts")).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<_> = files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    scripts.sort();
    scripts
}

fn frame(keys: &str, size: (u16, u16), theme: Theme, colour: bool) -> String {
    let look = Look { theme, ..Look::default() };
    let keys = script(keys).unwrap();
    dump(&mut sample::source(), look, None, &Dump { size, keys: &keys, colour }).unwrap()
}

/// Compares, or writes down.
fn check(file: &str, frame: &str, wrong: &mut Vec<String>) {
    let path = folder("frames").join(file);
    if std::env::var_os("LAZYMMU_BLESS").is_some() {
        fs::write(path, frame).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if frame != expected {
        wrong.push(format!("{file} was expected to be\n{expected}\nand is\n{frame}"));
    }
}

#[test]
fn frames_are_as_they_were_looked_at() {
    let mut wrong = Vec::new();
    let mut files = BTreeSet::new();
    for (name, keys) in scripts() {
        for size in SIZES {
            let file = format!("{name}.{}x{}.txt", size.0, size.1);
            check(&file, &frame(&keys, size, Theme::Mono, false), &mut wrong);
            files.insert(file);
        }
        if VIEWS.contains(&name.as_str()) {
            for (theme, ending) in
                [(Theme::Dark, "dark.ansi"), (Theme::Light, "light.ansi"), (Theme::Mono, "mono.ansi")]
            {
                let file = format!("{name}.80x24.{ending}");
                check(&file, &frame(&keys, SIZES[0], theme, true), &mut wrong);
                files.insert(file);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // None is left over from a script that is no more.
    let there = fs::read_dir(folder("frames")).unwrap();
    let there: BTreeSet<_> = there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, files);
}

#[test]
fn mono_has_no_colour_and_colours_say_nothing_that_words_do_not() {
    for name in VIEWS {
        let keys = fs::read_to_string(folder("scripts").join(format!("{name}.keys"))).unwrap();
        let mono = frame(&keys, SIZES[1], Theme::Mono, true);
        // 30 to 49 and 90 to 107 are the colours.
        let coloured = mono.split("\x1b[").skip(1).any(|rest| {
            let codes = rest.split('m').next().unwrap();
            codes.split(';').any(|code| matches!(code.parse(), Ok(30..=49 | 90..=107)))
        });
        assert!(!coloured, "{name}");
        let text = |theme| frame(&keys, SIZES[1], theme, false);
        assert_eq!(text(Theme::Mono), text(Theme::Dark), "{name}");
    }
}

#[test]
fn ascii_is_ascii_on_any_size() {
    for (name, keys) in scripts() {
        for size in [(10, 3), (40, 10), (61, 17), (80, 24), (300, 100)] {
            // The script for it switches it off again.
            let keys = if name == "ascii" { String::new() } else { keys.clone() };
            let frame = frame(&format!("A{keys}"), size, Theme::Mono, false);
            assert!(frame.is_ascii(), "{name} at {size:?}:\n{frame}");
            assert_eq!(frame.lines().count(), usize::from(size.1), "{name} at {size:?}");
        }
    }
}
