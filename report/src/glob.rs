//! Patterns for names and paths: `*` stands for any characters, `?` for one. Everything else stands for itself; there
//! is no way to ask for a literal `*`, which no name in a kernel has.

use std::fmt;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// The pattern that a text says.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether the whole text fits the pattern.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut at, mut from) = (0, 0);
        // Where to go on if this way fails: after the last star, with one more byte taken by it.
        let mut retry: Option<(usize, usize)> = None;
        while from < text.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    at += 1;
                    retry = Some((at, from));
                }
                Some(one) if *one == b'?' || *one == text[from] => {
                    at += 1;
                    from += 1;
                }
                _ => match &mut retry {
                    None => return false,
                    Some((star, taken)) => {
                        *taken += 1;
                        (at, from) = (*star, *taken);
                    }
                },
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has no wildcard, so that it is a name.
    pub fn is_name(&self) -> bool {
        !self.0.contains(['*', '?'])
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, fits) in [
            ("copy_pte_range", "copy_pte_range", true),
            ("copy_pte_range", "copy_pte_range2", false),
            ("copy_*", "copy_pte_range", true),
            ("*_range", "copy_pte_range", true),
            ("*pte*", "copy_pte_range", true),
            ("*ab", "aab", true),
            ("a*b*c", "axxbxbxc", true),
            ("a*b*c", "axxbxbx", false),
            ("mm/*.c", "mm/memory.c", true),
            ("mm/*.c", "arch/x86/mm/fault.c", false),
            ("?", "", false),
            ("?*", "x", true),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("x**", "x", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_forever() {
        assert!(!Glob::new("a*".repeat(200) + "b").matches(&"a".repeat(5_000)));
    }
}
