//! Compares a kernel's configuration with the fragments that it was made from.

use std::collections::BTreeSet;

/// The lines of fragments that the configuration does not have. Of lines about the same symbol the last one counts.
pub(crate) fn lost(fragments: &[String], config: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let lines = fragments.iter().flat_map(|fragment| fragment.lines()).map(str::trim);
    let settings: Vec<&str> = lines.filter(|line| line.starts_with("CONFIG_")).collect();
    let mut last: Vec<&str> =
        settings.into_iter().rev().filter(|line| seen.insert(line.split('=').next())).collect();
    last.reverse();
    last.into_iter()
        .filter(|line| match line.strip_suffix("=n") {
            Some(symbol) => {
                config.lines().any(|set| set.strip_prefix(symbol).is_some_and(|rest| rest.starts_with('=')))
            }
            None => !config.lines().any(|set| set == *line),
        })
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lost_line_is_named() {
        let fragment = "# why\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\nCONFIG_D=n\nCONFIG_E=\"x\"\nCONFIG_F=n\n";
        let config = "CONFIG_A=y\n# CONFIG_B is not set\n# CONFIG_C is not set\nCONFIG_D=y\nCONFIG_E=\"x\"\nCONFIG_F_MORE=y\n";
        assert_eq!(lost(&[fragment.to_owned()], config), ["CONFIG_B=y", "CONFIG_D=n"]);
    }

    #[test]
    fn a_later_fragment_overrides_an_earlier_one() {
        let fragments = ["CONFIG_A=y\nCONFIG_B=y\n".to_owned(), "CONFIG_A=n\n".to_owned()];
        assert!(lost(&fragments, "# CONFIG_A is not set\nCONFIG_B=y\n").is_empty());
        assert_eq!(lost(&fragments, "CONFIG_A=y\nCONFIG_B=y\n"), ["CONFIG_A=n"]);
    }
}
