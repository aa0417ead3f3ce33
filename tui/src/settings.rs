//! The settings file: colours, characters, mouse, and other keys.

use serde::Deserialize;

use crate::drive::Keys;
use crate::state::Look;
use crate::theme::Theme;

/// What a settings file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    theme: Option<String>,
    ascii: Option<bool>,
    mouse: Option<bool>,
    keys: Keys,
}

impl Look {
    /// Changes it as a settings file says.
    ///
    /// # Errors
    ///
    /// Says what in the file is wrong.
    pub fn patch(&mut self, text: &str) -> Result<(), String> {
        let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
        if let Some(name) = settings.theme {
            self.theme = Theme::by_name(&name)
                .ok_or_else(|| format!("there is no theme {name}; there are dark, light and mono"))?;
        }
        self.glyphs.ascii = settings.ascii.unwrap_or(self.glyphs.ascii);
        self.mouse = settings.mouse.unwrap_or(self.mouse);
        self.keymap.patch(&settings.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Key};

    #[test]
    fn what_a_file_says_holds_and_the_rest_stays() {
        let mut look = Look::default();
        look.patch("theme = \"light\"\nmouse = false\n[keys]\nquit = [\"Q\"]").unwrap();
        assert_eq!((look.theme, look.mouse, look.glyphs.ascii), (Theme::Light, false, false));
        assert_eq!(look.keymap.action(Key::parse("Q").unwrap()), Some(Action::Quit));
        assert_eq!(look.keymap.action(Key::parse("q").unwrap()), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("theme = \"pink\"", "pink"),
            ("colour = 1", "colour"),
            ("[keys]\nquitt = [\"q\"]", "quitt"),
            ("[keys]\ndown = [\"jj\"]", "jj"),
        ] {
            let error = Look::default().patch(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
