//! The JSON report, as a program that knows only docs/findings-json.md reads it.

use serde_json::Value;

/// A parsed report.
pub struct Report(
    /// The document.
    pub Value,
);

impl Report {
    /// Parses it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes)
            .map(Self)
            .map_err(|error| format!("the report is no JSON: {error}\n{}", String::from_utf8_lossy(bytes)))
    }

    /// `clean`, `hazards` or `inconclusive`.
    pub fn verdict(&self) -> &str {
        self.0["verdict"].as_str().unwrap_or_default()
    }

    /// A number by its path, for example `/records/in_sections`; 0 if there is none.
    pub fn number(&self, pointer: &str) -> u64 {
        self.0.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
    }

    /// The findings of a rule.
    pub fn findings(&self, rule: &str) -> Vec<&Value> {
        let all = self.0["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(|finding| finding["rule"] == rule).collect()
    }

    /// The functions of a call stack in a finding, innermost first: `write`, `access` or `opener`.
    pub fn functions<'a>(finding: &'a Value, site: &str) -> Vec<&'a str> {
        let frames = finding[site]["stack"].as_array().map(Vec::as_slice).unwrap_or_default();
        frames.iter().filter_map(|frame| frame["function"].as_str()).collect()
    }

    /// Whether a finding breaks a profile; `None` if the finding does not speak of it.
    pub fn breaks(finding: &Value, profile: &str) -> Option<bool> {
        let profiles = finding["profiles"].as_array()?;
        profiles.iter().find(|line| line["name"] == profile)?["breaks"].as_bool()
    }
}

/// The number before a word, as in `42 seen`.
pub fn number_before(text: &str, word: &str) -> Option<u64> {
    let before = text.split_once(&format!(" {word}"))?.0;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_before_a_word() {
        let line = "the kernel side produced 12 items: 10 seen, 2 lost";
        assert_eq!(number_before(line, "seen"), Some(10));
        assert_eq!(number_before(line, "items"), Some(12));
        assert_eq!(number_before(line, "lost"), Some(2));
        assert_eq!(number_before(line, "kept"), None);
    }

    #[test]
    fn a_report_is_read_by_its_documented_names() {
        let report = Report::parse(
            br#"{"verdict": "hazards", "records": {"in_sections": 5}, "findings": [{
                "rule": "read-pending", "profiles": [{"name": "xen-pv", "breaks": true}],
                "write": {"stack": [{"function": "a"}, {"function": "b"}]}}]}"#,
        )
        .unwrap();
        assert_eq!((report.verdict(), report.number("/records/in_sections")), ("hazards", 5));
        let finding = report.findings("read-pending")[0];
        assert_eq!(Report::functions(finding, "write"), ["a", "b"]);
        assert_eq!((Report::breaks(finding, "xen-pv"), Report::breaks(finding, "s390")), (Some(true), None));
    }
}
