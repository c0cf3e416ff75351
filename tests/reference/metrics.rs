//! The tables of `docs/metrics.md`: every metric as it is declared, and the meaning of each `reason`.

use crate::compare;
use std::fmt::Write as _;
use tailwater::telemetry::table::{self, Metric};

/// The sections of the page, by name prefix.
const SECTIONS: [(&str, &[&str]); 6] = [
    ("All components", &["tailwater_component_"]),
    ("Inputs", &["tailwater_input_", "tailwater_ring_", "tailwater_file", "tailwater_lost_"]),
    ("Pipelines", &["tailwater_pipeline_"]),
    ("Outputs", &["tailwater_output_"]),
    ("Write-ahead log and dead letter queue", &["tailwater_wal_", "tailwater_dlq_"]),
    ("Process", &["tailwater_plugin_", "tailwater_shard_", "tailwater_log_", "tailwater_build_"]),
];

/// The labels that identify a component are one word in the tables.
const COMPONENT: &[&str] = &["component_id", "component_kind", "component_type"];

fn row(metric: &Metric) -> String {
    let rest = metric.labels.strip_prefix(COMPONENT);
    let component = rest.map(|_| "component".to_owned());
    let others = rest.unwrap_or(metric.labels).iter().map(|label| format!("`{label}`"));
    let labels: Vec<String> = component.into_iter().chain(others).collect();
    format!("| `{}` | {} | {} | {} |", metric.name, metric.kind.name(), labels.join(", "), metric.help)
}

fn page() -> String {
    let mut page = String::new();
    let mut shown = 0;
    for (title, beginnings) in SECTIONS {
        let _ = write!(page, "\n### {title}\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n");
        let belongs = |metric: &&Metric| beginnings.iter().any(|beginning| metric.name.starts_with(beginning));
        for metric in table::ALL.iter().filter(belongs) {
            let _ = writeln!(page, "{}", row(metric));
            shown += 1;
        }
    }
    assert_eq!(shown, table::ALL.len(), "each metric belongs to exactly one section");
    for (metric, reasons) in table::reasons() {
        let _ = write!(page, "\n### Reasons of `{}`\n\n| `reason` | meaning |\n|---|---|\n", metric.name);
        for (name, meaning) in reasons {
            let _ = writeln!(page, "| `{name}` | {meaning} |");
        }
    }
    page.trim_start().to_owned()
}

#[test]
fn the_page_of_the_metrics_is_current() {
    compare("docs/metrics.md", &page());
}
