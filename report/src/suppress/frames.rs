//! A sequence of functions, against a call stack.

use lazymmu_hazard::without_suffixes;

use crate::glob::Glob;
use crate::stack::StackFrame;

/// Functions that follow each other on a stack, innermost first. The stack may go on before and after them.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<Item>);

#[derive(Clone, Debug)]
enum Item {
    /// Any number of frames, or none.
    Gap,
    /// A frame with such a name.
    Frame(Glob),
}

impl Pattern {
    /// `None` if it has no name, so that it would match every stack.
    pub(super) fn new(items: &[String]) -> Option<Self> {
        let item = |item: &String| if item == "*" { Item::Gap } else { Item::Frame(Glob::new(item)) };
        let inner: Vec<_> = items.iter().map(item).collect();
        let names = inner.iter().any(|item| matches!(item, Item::Frame(_)));
        names.then(|| Self([Item::Gap].into_iter().chain(inner).chain([Item::Gap]).collect()))
    }

    /// Whether the stack has such a sequence. Names are compared with and without the suffixes of the compiler.
    pub(super) fn matches(&self, frames: &[StackFrame]) -> bool {
        let Self(items) = self;
        let (mut at, mut from) = (0, 0);
        // As for letters in a pattern: back to the last gap, which then takes one frame more.
        let mut retry = (0, 0);
        while from < frames.len() {
            match items.get(at) {
                Some(Item::Gap) => {
                    at += 1;
                    retry = (at, from);
                }
                Some(Item::Frame(name)) if fits(name, &frames[from]) => {
                    at += 1;
                    from += 1;
                }
                _ => {
                    retry.1 += 1;
                    (at, from) = retry;
                }
            }
        }
        items[at..].iter().all(|item| matches!(item, Item::Gap))
    }
}

fn fits(name: &Glob, frame: &StackFrame) -> bool {
    name.matches(without_suffixes(&frame.function)) || name.matches(&frame.function)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &[&str]) -> Vec<StackFrame> {
        let frame = |name: &&str| StackFrame {
            function: (*name).to_owned(),
            offset: 0,
            module: None,
            file: None,
            line: None,
            inlined: false,
        };
        names.iter().map(frame).collect()
    }

    #[test]
    fn sequences() {
        let stack = ["copy_pte_range", "copy_page_range", "dup_mmap.isra.0", "dup_mm", "copy_process"];
        for (pattern, fits) in [
            (&["copy_page_range", "*", "dup_mm"][..], true),
            (&["copy_page_range", "*", "dup_mmap"], true),
            (&["copy_page_range", "dup_mmap.isra.0"], true),
            (&["copy_page_range", "dup_mm"], false),
            (&["copy_page_range", "?*", "dup_mm"], true),
            (&["dup_mm", "*", "copy_page_range"], false),
            (&["copy_*", "copy_*", "dup_*"], true),
            (&["copy_*", "dup_*", "dup_*", "copy_process"], true),
            (&["copy_process", "*"], true),
            (&["copy_process", "?*"], false),
            (&["*", "copy_pte_range"], true),
            (&["exit_mmap"], false),
        ] {
            let items: Vec<_> = pattern.iter().map(|item| (*item).to_owned()).collect();
            assert_eq!(Pattern::new(&items).unwrap().matches(&frames(&stack)), fits, "{pattern:?}");
        }
        assert!(!Pattern::new(&["x".to_owned()]).unwrap().matches(&[]), "a stack that was lost");
    }

    #[test]
    fn a_pattern_needs_a_name() {
        assert!(Pattern::new(&[]).is_none());
        assert!(Pattern::new(&["*".to_owned(), "*".to_owned()]).is_none());
    }
}
