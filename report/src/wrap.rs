//! Lines of bearable length.

/// The width of the text, in characters.
pub(crate) const WIDTH: usize = 100;

/// The text in lines that begin with `indent` spaces. What is longer than a line stays whole.
pub(crate) fn wrap(text: &str, indent: usize) -> Vec<String> {
    text.lines().flat_map(|line| wrap_line(line, indent)).collect()
}

fn wrap_line(text: &str, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.into_iter().map(|line| format!("{:indent$}{line}", "")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_between_words() {
        let text = "word ".repeat(50);
        let lines = wrap(&text, 4);
        assert!(lines.len() > 2);
        assert!(lines.iter().all(|line| line.len() <= WIDTH && line.starts_with("    word")));
        assert_eq!(lines.join(" ").split_whitespace().count(), 50);
    }

    #[test]
    fn a_long_word_stays_whole() {
        let word = "x".repeat(300);
        assert_eq!(
            wrap(&format!("a {word} b"), 2),
            ["  a".to_owned(), format!("  {word}"), "  b".to_owned()]
        );
    }
}
