//! Call paths of a scenario: `FUNCTION < CALLER < ...`, made into stacks as a trace has them.

use std::collections::BTreeMap;

use lazymmu_abi::StackHash;

use super::error::Fault;
use super::line::{Line, number, small};
use crate::{Frame, Symbols};

/// Functions, innermost first.
pub(super) type Path = Vec<Frame>;

/// Reads `FUNCTION < CALLER < ...`.
pub(super) fn path(line: &mut Line<'_>) -> Result<Path, Fault> {
    let mut path = Vec::new();
    loop {
        path.push(line.read("a function, such as `copy_pte_range` or `f+0x1f@mm/memory.c:905`", frame)?);
        if !line.take("<") {
            return Ok(path);
        }
    }
}

/// `name`, then any of `+offset`, `[module]`, `@file:line` in that order.
fn frame(text: &str) -> Option<Frame> {
    let (text, place) = match text.split_once('@') {
        Some((text, at)) => (text, Some(place(at)?)),
        None => (text, None),
    };
    let (text, module) = match text.split_once('[') {
        Some((text, module)) => (text, Some(module.strip_suffix(']')?.to_owned())),
        None => (text, None),
    };
    let (function, offset) = match text.split_once('+') {
        Some((text, offset)) => (text, number(offset)?),
        None => (text, 0),
    };
    let first = function.chars().next()?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
    if first.is_ascii_digit() || !function.chars().all(legal) {
        return None;
    }
    let (file, line) = place.map_or((None, None), |(file, line)| (Some(file), Some(line)));
    Some(Frame { function: function.to_owned(), offset, module, file, line, inlined: false })
}

/// `file:line`.
pub(super) fn place(text: &str) -> Option<(String, u32)> {
    let (file, line) = text.rsplit_once(':')?;
    (!file.is_empty()).then_some((file.to_owned(), small(line)?))
}

/// The path of a step that stands in `outer`: a path that ends in the function in which `outer` begins goes on with
/// it from there; any other was called from it.
pub(super) fn inside(mut inner: Path, outer: &[Frame]) -> Path {
    let joined = match (inner.last(), outer.first()) {
        (Some(last), Some(first)) => last.function == first.function,
        _ => false,
    };
    inner.extend_from_slice(&outer[usize::from(joined)..]);
    inner
}

/// Gives stacks their ids and addresses.
#[derive(Default)]
pub(super) struct Stacks {
    addresses: BTreeMap<Frame, u64>,
    pub(super) symbols: Symbols,
}

/// Where the text of a made-up kernel begins: that of x86-64 without KASLR.
const TEXT: u64 = 0xffff_ffff_8100_0000;

impl Stacks {
    /// The id of a path's stack and its innermost return address; 0 and 0 for an empty path.
    pub(super) fn id(&mut self, path: &[Frame]) -> (u64, u64) {
        let addresses: Vec<u64> = path.iter().map(|frame| self.address(frame)).collect();
        let Some(caller) = addresses.first().copied() else { return (0, 0) };
        let id = StackHash::of(&addresses);
        self.symbols.insert_stack(id, addresses);
        (id, caller)
    }

    fn address(&mut self, frame: &Frame) -> u64 {
        let next = TEXT + 0x40 * self.addresses.len() as u64;
        let address = *self.addresses.entry(frame.clone()).or_insert(next);
        if address == next {
            self.symbols.insert_frames(address, vec![frame.clone()]);
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(path: &[Frame]) -> Vec<&str> {
        path.iter().map(|frame| frame.function.as_str()).collect()
    }

    fn read(text: &str) -> Path {
        path(&mut Line::new(text)).unwrap()
    }

    #[test]
    fn a_frame_has_offset_module_and_place() {
        let frame = frame("dmirror_excl.isra.0+0x1f[test_hmm]@lib/test_hmm.c:905").unwrap();
        assert_eq!((frame.function.as_str(), frame.offset), ("dmirror_excl.isra.0", 0x1f));
        assert_eq!((frame.module.as_deref(), frame.line), (Some("test_hmm"), Some(905)));
        assert_eq!(frame.file.as_deref(), Some("lib/test_hmm.c"));
    }

    #[test]
    fn what_is_no_frame() {
        for bad in ["", "9f", "f+", "f[m", "f@mm", "f@:3", "f@a:b", "a b", "f()"] {
            assert_eq!(frame(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_join_where_they_meet() {
        let outer = read("copy_pte_range@mm/memory.c:1275 < copy_page_range");
        let joined = inside(read("restore_exclusive_pte < copy_pte_range@mm/memory.c:1297"), &outer);
        assert_eq!(functions(&joined), ["restore_exclusive_pte", "copy_pte_range", "copy_page_range"]);
        assert_eq!(joined[1].line, Some(1297));
        let called = inside(read("helper"), &outer);
        assert_eq!(functions(&called), ["helper", "copy_pte_range", "copy_page_range"]);
    }

    #[test]
    fn the_same_path_is_the_same_stack() {
        let mut stacks = Stacks::default();
        let once = stacks.id(&read("a < b"));
        assert_eq!(stacks.id(&read("a < b")), once);
        assert_ne!(stacks.id(&read("a < c")).0, once.0);
        assert_eq!(stacks.id(&[]), (0, 0));
        assert_eq!(stacks.symbols.frames(once.0).count(), 2);
    }
}
