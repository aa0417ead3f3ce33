//! Compares a kernel's configuration with the fragments that it was made from.

/// The lines of a fragment that the configuration does not have.
pub(crate) fn lost(fragment: &str, config: &str) -> Vec<String> {
    fragment
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("CONFIG_"))
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
        assert_eq!(lost(fragment, config), ["CONFIG_B=y", "CONFIG_D=n"]);
    }
}
