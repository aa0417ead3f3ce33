//! A stale object is never used.

use std::fs;
use std::path::{Path, PathBuf};

use crate::stamp::{Digest, Found, OBJECT, SOURCES, Stamp};

/// A checkout in small, with an object of its sources.
fn checkout() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    for source in SOURCES {
        let path = root.path().join(source);
        let file = if path.extension().is_some() { path } else { path.join("main.rs") };
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("// {source}\n")).unwrap();
    }
    let object = root.path().join(OBJECT);
    fs::create_dir_all(object.parent().unwrap()).unwrap();
    make(root.path(), &object, b"\x7fELF");
    (root, object)
}

fn make(root: &Path, object: &Path, bytes: &[u8]) {
    fs::write(object, bytes).unwrap();
    let stamp = Stamp {
        sources: Digest::of_sources(root).unwrap().to_string(),
        object: Digest::of(bytes).to_string(),
        made_with: "rustc \"1.0\"".to_owned(),
    };
    fs::write(Stamp::path(object), stamp.to_text()).unwrap();
}

#[test]
fn an_object_of_the_present_sources_is_used() {
    let (root, object) = checkout();
    assert_eq!(Found::look(root.path(), &object), Found::Fresh(b"\x7fELF".to_vec()));
}

#[test]
fn no_object_is_no_error() {
    let (root, object) = checkout();
    fs::remove_file(&object).unwrap();
    assert_eq!(Found::look(root.path(), &object), Found::Missing);
}

#[test]
fn a_change_of_any_source_makes_it_stale() {
    for source in SOURCES {
        let (root, object) = checkout();
        let path = root.path().join(source);
        let file = if path.is_dir() { path.join("main.rs") } else { path };
        let mut text = fs::read_to_string(&file).unwrap();
        text.push(' ');
        fs::write(&file, &text).unwrap();
        assert!(matches!(Found::look(root.path(), &object), Found::Stale(_)), "{source}");
        // And made again it is fresh.
        make(root.path(), &object, b"new");
        assert_eq!(Found::look(root.path(), &object), Found::Fresh(b"new".to_vec()), "{source}");
    }
}

#[test]
fn a_new_a_renamed_and_a_removed_source_make_it_stale() {
    let (root, object) = checkout();
    let src = root.path().join("probe-ebpf/src");
    fs::write(src.join("new.rs"), "").unwrap();
    assert!(matches!(Found::look(root.path(), &object), Found::Stale(_)));
    fs::remove_file(src.join("new.rs")).unwrap();
    assert!(matches!(Found::look(root.path(), &object), Found::Fresh(_)));
    fs::rename(src.join("main.rs"), src.join("other.rs")).unwrap();
    assert!(matches!(Found::look(root.path(), &object), Found::Stale(_)));
    fs::remove_dir_all(root.path().join("probe-abi")).unwrap();
    assert!(matches!(Found::look(root.path(), &object), Found::Stale(_)));
}

#[test]
fn an_object_that_was_changed_or_has_no_stamp_is_stale() {
    let (root, object) = checkout();
    fs::write(&object, b"\x7fELG").unwrap();
    assert!(matches!(Found::look(root.path(), &object), Found::Stale(_)));
    fs::write(&object, b"\x7fELF").unwrap();
    fs::remove_file(Stamp::path(&object)).unwrap();
    assert!(matches!(Found::look(root.path(), &object), Found::Stale(_)));
}

#[test]
fn stamps_survive_being_written_and_read() {
    let stamp = Stamp { sources: "a".to_owned(), object: "b".to_owned(), made_with: "c d".to_owned() };
    assert_eq!(Stamp::from_text(&stamp.to_text()), Some(stamp));
    assert_eq!(Stamp::from_text("sources = \"a\"\n"), None);
    let hostile =
        Stamp { sources: "a".to_owned(), object: "b".to_owned(), made_with: "x\"\nobject = \"y".to_owned() };
    assert_eq!(Stamp::from_text(&hostile.to_text()).unwrap().object, "b");
}
