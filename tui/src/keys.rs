//! Keys: how they are written, which action each means, and scripts of them.

use std::collections::BTreeMap;
use std::fmt;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::action::{ACTIONS, Action};

/// A key with its modifiers, in one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub struct Key {
    /// The key.
    pub code: KeyCode,
    /// With Ctrl.
    pub ctrl: bool,
    /// With Alt.
    pub alt: bool,
}

/// Names of keys that are no characters.
const NAMED: [(&str, KeyCode); 18] = [
    ("Enter", KeyCode::Enter),
    ("Esc", KeyCode::Esc),
    ("Tab", KeyCode::Tab),
    ("Shift-Tab", KeyCode::BackTab),
    ("Backspace", KeyCode::Backspace),
    ("Delete", KeyCode::Delete),
    ("Space", KeyCode::Char(' ')),
    ("Up", KeyCode::Up),
    ("Down", KeyCode::Down),
    ("Left", KeyCode::Left),
    ("Right", KeyCode::Right),
    ("PageUp", KeyCode::PageUp),
    ("PageDown", KeyCode::PageDown),
    ("Home", KeyCode::Home),
    ("End", KeyCode::End),
    ("F1", KeyCode::F(1)),
    ("F5", KeyCode::F(5)),
    ("Insert", KeyCode::Insert),
];

impl Key {
    /// From the terminal.
    #[must_use]
    pub fn of(event: &KeyEvent) -> Self {
        let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        let alt = event.modifiers.contains(KeyModifiers::ALT);
        let shift = event.modifiers.contains(KeyModifiers::SHIFT);
        let code = match event.code {
            KeyCode::Tab if shift => KeyCode::BackTab,
            KeyCode::Char(c) if ctrl => KeyCode::Char(c.to_ascii_lowercase()),
            code => code,
        };
        Self { code, ctrl, alt }
    }

    /// From its name: `j`, `Ctrl-s`, `Enter`, `Alt-x`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if let Some((_, code)) = NAMED.iter().find(|(named, _)| named.eq_ignore_ascii_case(name)) {
            return Some(Self { code: *code, ctrl: false, alt: false });
        }
        let mut chars = name.chars();
        if let (Some(c), None) = (chars.next(), chars.next()) {
            return Some(Self { code: KeyCode::Char(c), ctrl: false, alt: false });
        }
        let (modifier, rest) = name.split_once('-')?;
        let key = Self::parse(rest)?;
        match modifier.to_ascii_lowercase().as_str() {
            "ctrl" => Some(Self { ctrl: true, ..key }),
            "alt" => Some(Self { alt: true, ..key }),
            _ => None,
        }
    }

    /// The character that it types, if it does.
    #[must_use]
    pub fn typed(&self) -> Option<char> {
        match self.code {
            KeyCode::Char(c) if !self.ctrl && !self.alt => Some(c),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            f.write_str("Ctrl-")?;
        }
        if self.alt {
            f.write_str("Alt-")?;
        }
        match (NAMED.iter().find(|(_, code)| *code == self.code), self.code) {
            (Some((name, _)), _) => f.write_str(name),
            (None, KeyCode::Char(c)) => write!(f, "{c}"),
            (None, code) => write!(f, "{code:?}"),
        }
    }
}

/// Which key means what.
#[derive(Clone, Debug, PartialEq)]
pub struct Keymap {
    keys: Vec<(Key, Action)>,
}

impl Default for Keymap {
    fn default() -> Self {
        let all = ACTIONS.iter().flat_map(|info| info.keys.iter().map(|key| (*key, info.action)));
        Self { keys: all.filter_map(|(key, action)| Some((Key::parse(key)?, action))).collect() }
    }
}

impl Keymap {
    /// What a key means.
    #[must_use]
    pub fn action(&self, key: Key) -> Option<Action> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, action)| *action)
    }

    /// The keys of an action.
    pub fn keys(&self, action: Action) -> impl Iterator<Item = Key> {
        self.keys.iter().filter(move |(_, of)| *of == action).map(|(key, _)| *key)
    }

    /// The keys of an action in one word; empty if it has none.
    #[must_use]
    pub fn shown(&self, action: Action) -> String {
        self.keys(action).map(|key| key.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// Gives actions other keys, by their names. Each gets those keys and no others, and takes them away from who had
    /// them.
    ///
    /// # Errors
    ///
    /// Says which name or key is not known, or is wanted twice.
    pub fn patch(&mut self, patch: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
        let mut wanted: Vec<(Key, Action)> = Vec::new();
        for (name, keys) in patch {
            let action = Action::by_name(name).ok_or_else(|| format!("there is no action {name}"))?;
            for key in keys {
                let parsed = Key::parse(key).ok_or_else(|| format!("{key} (for {name}) is no key"))?;
                if let Some((_, other)) = wanted.iter().find(|(known, of)| *known == parsed && *of != action)
                {
                    return Err(format!("{key} is for both {} and {name}", other.info().name));
                }
                wanted.push((parsed, action));
            }
            self.keys.retain(|(_, of)| *of != action);
        }
        self.keys.retain(|(key, _)| wanted.iter().all(|(taken, _)| taken != key));
        self.keys.extend(wanted);
        if self.keys(Action::Quit).next().is_none() {
            return Err("no key would be left to quit".to_owned());
        }
        Ok(())
    }
}

/// Reads a script such as `jj<Enter>/copy<Enter>`; `<lt>` is a `<`. White space at the end of a line is nothing.
///
/// # Errors
///
/// Says which key is not known.
pub fn script(text: &str) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for line in text.lines().map(str::trim_end) {
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let named = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
            if let Some((name, after)) = named {
                let name = if name == "lt" { "<" } else { name };
                keys.push(Key::parse(name).ok_or_else(|| format!("<{name}> is no key"))?);
                rest = after;
            } else {
                keys.push(Key { code: KeyCode::Char(c), ctrl: false, alt: false });
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_table_is_one_and_means_one_thing() {
        let map = Keymap::default();
        for info in &ACTIONS {
            for key in info.keys {
                let parsed = Key::parse(key).unwrap_or_else(|| panic!("{key}"));
                assert_eq!(map.action(parsed), Some(info.action), "{key}");
                assert_eq!(parsed.to_string(), *key);
            }
        }
        assert_eq!(map.keys.len(), ACTIONS.iter().map(|info| info.keys.len()).sum::<usize>());
    }

    #[test]
    fn scripts() {
        let shown = |text| script(text).unwrap().iter().map(Key::to_string).collect::<Vec<_>>();
        assert_eq!(
            shown("j<Enter>/a b<lt><Ctrl-s>\n"),
            ["j", "Enter", "/", "a", "Space", "b", "<", "Ctrl-s"]
        );
        assert_eq!(shown("<a"), ["<", "a"]);
        assert!(script("<Nope>").unwrap_err().contains("<Nope>"));
    }

    #[test]
    fn a_patch_takes_keys_from_others_and_is_refused_if_it_contradicts_itself() {
        let patch = |entries: &[(&str, &[&str])]| {
            let entries = entries
                .iter()
                .map(|(name, keys)| ((*name).to_owned(), keys.iter().map(|key| (*key).to_owned()).collect()));
            let mut map = Keymap::default();
            map.patch(&entries.collect()).map(|()| map)
        };
        let map = patch(&[("down", &["n", "Ctrl-n"]), ("copy", &[])]).unwrap();
        assert_eq!(map.shown(Action::Down), "n Ctrl-n");
        assert_eq!(map.shown(Action::SearchNext), "");
        assert_eq!(map.shown(Action::Copy), "");
        assert!(patch(&[("nothing", &["x"])]).unwrap_err().contains("nothing"));
        assert!(patch(&[("down", &["Hyper-x"])]).unwrap_err().contains("Hyper-x"));
        assert!(patch(&[("down", &["x"]), ("up", &["x"])]).unwrap_err().contains("both"));
        assert!(patch(&[("quit", &[])]).unwrap_err().contains("quit"));
    }
}
