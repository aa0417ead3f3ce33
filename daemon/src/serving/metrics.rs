//! Metrics in the text form of OpenMetrics 1.0. docs/daemon.md lists them.

use std::fmt::{self, Write as _};

use lazymmu_protocol::Status;

use super::state::State;

/// Writes metric families.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.0.push_str(name);
        for (number, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if number == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl fmt::Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }
}

/// Everything that can be counted.
pub(super) fn text(status: &Status, state: &State, dropped: u64) -> String {
    let mut page = Page(String::new());
    let kernel = &state.header.kernel;
    page.family("lazymmu_build", "info", "Which lazymmu traces which kernel.");
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("kernel", &kernel.release),
        ("architecture", &kernel.architecture),
    ];
    page.sample("lazymmu_build_info", &labels, 1);

    page.family("lazymmu_records", "counter", "Records that came, by kind.");
    for (kind, count) in &status.records.by_kind {
        page.sample("lazymmu_records_total", &[("kind", kind)], count);
    }
    page.family("lazymmu_lost_records", "counter", "Records that were lost, by CPU.");
    for (cpu, count) in &status.losses.by_cpu {
        page.sample("lazymmu_lost_records_total", &[("cpu", cpu)], count);
    }
    let seen = u8::from(status.reasons.is_empty());
    page.gauge("lazymmu_complete", "Whether everything that matters was seen so far.", seen);
    sections(&mut page, status);

    page.family("lazymmu_hazards", "counter", "Hazards by finding.");
    for known in state.known.values() {
        let class = &known.class;
        let labels = [
            ("id", class.id.as_str()),
            ("rule", &class.rule),
            ("severity", &class.severity),
            ("state", &class.state),
        ];
        page.sample("lazymmu_hazards_total", &labels, class.count);
    }
    page.gauge("lazymmu_findings", "Findings that are not suppressed.", state.known.len());
    page.gauge("lazymmu_suppressed_findings", "Findings that do not count.", status.suppressed);
    page.gauge("lazymmu_clients", "Clients of the daemon.", status.clients);
    page.counter("lazymmu_dropped_lines", "Lines that clients were too slow for.", dropped);
    page.0.push_str("# EOF\n");
    page.0
}

fn sections(page: &mut Page, status: &Status) {
    let sections = &status.sections;
    page.counter("lazymmu_sections", "Outermost sections that were entered.", sections.entered);
    page.counter(
        "lazymmu_entries_written",
        "Entries that were written and may wait.",
        sections.entries_written,
    );
    page.family("lazymmu_flushes", "counter", "Batches that ended, by the operation that ended them.");
    for (op, count) in &status.flushed_by {
        page.sample("lazymmu_flushes_total", &[("op", op)], count);
    }
    page.gauge("lazymmu_open_sections", "Tasks inside a section.", status.tasks.len() + status.more_tasks);
    page.family("lazymmu_batch_entries", "histogram", "Entries of a batch.");
    let batches = &status.batches;
    let (mut sum, mut most) = (0, 0u64);
    let columns = batches.histogram.len();
    for (column, count) in batches.histogram.iter().enumerate() {
        sum += count;
        let bound = if column + 1 == columns { "+Inf".to_owned() } else { most.to_string() };
        page.sample("lazymmu_batch_entries_bucket", &[("le", &bound)], sum);
        most = most * 2 + 1;
    }
    page.sample("lazymmu_batch_entries_sum", &[], batches.flushed);
    page.sample("lazymmu_batch_entries_count", &[], sum);
}
