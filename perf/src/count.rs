//! How many events have left a program, according to its own statistics, which are requested or read.
//!
//! Guarantees: a program that does not answer has a count of zero, so no program is done before its own numbers say so.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The response to a GET, including the head. Empty while nothing answers.
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut text = String::new();
    let Ok(mut stream) = TcpStream::connect_timeout(&address, TIMEOUT) else { return text };
    let asked = stream.set_read_timeout(Some(TIMEOUT)).and_then(|()| {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        stream.read_to_string(&mut text)
    });
    if asked.is_err() { String::new() } else { text }
}

/// The answer of syslog-ng's control socket, which ends with a line of one dot.
pub fn ask_socket(path: &Path, question: &str) -> String {
    let Ok(mut stream) = UnixStream::connect(path) else { return String::new() };
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    if stream.set_read_timeout(Some(TIMEOUT)).and_then(|()| stream.write_all(question.as_bytes())).is_err() {
        return String::new();
    }
    while !text.ends_with(b"\n.\n") {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(length) => text.extend_from_slice(&part[..length]),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The sum of a metric over the lines whose labels contain `label`.
fn sum(metrics: &str, name: &str, label: &str) -> u64 {
    let labels = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') && rest.contains(label));
    let value = |line: &str| {
        // Some exporters add a timestamp after the value.
        let rest = line.rsplit_once('}').map_or("", |(_, rest)| rest);
        rest.split_whitespace().next().and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0)
    };
    metrics.lines().filter(|line| labels(line)).map(value).sum::<f64>() as u64
}

/// Tailwater: events that outputs delivered.
pub fn tailwater(metrics: &str) -> u64 {
    sum(metrics, "tailwater_component_sent_events_total", "component_kind=\"output\"")
}

/// Tailwater: events that were put into its write-ahead logs.
pub fn tailwater_log_events(metrics: &str) -> u64 {
    sum(metrics, "tailwater_wal_appended_events_total", "shard=")
}

/// Tailwater: bytes that were put into its write-ahead logs.
pub fn tailwater_log_bytes(metrics: &str) -> u64 {
    sum(metrics, "tailwater_wal_appended_bytes_total", "shard=")
}

/// Tailwater: files that are followed, names that wait for room, and positions that were dropped.
pub fn tailwater_crowd(metrics: &str) -> (u64, u64, u64) {
    let all = |name| sum(metrics, name, "");
    (all("tailwater_files"), all("tailwater_files_waiting"), all("tailwater_wal_positions_dropped_total"))
}

/// Vector: events that the sink `out` sent.
pub fn vector(metrics: &str) -> u64 {
    sum(metrics, "vector_component_sent_events_total", "component_id=\"out\"")
}

/// Fluent Bit: records that its one output processed.
pub fn fluent_bit(metrics: &str) -> u64 {
    sum(metrics, "fluentbit_output_proc_records_total", "name=\"out\"")
}

/// The OpenTelemetry Collector: records that its one exporter sent.
pub fn otelcol(metrics: &str) -> u64 {
    ["otelcol_exporter_sent_log_records", "otelcol_exporter_sent_log_records_total"]
        .iter()
        .map(|name| sum(metrics, name, "exporter="))
        .sum()
}

/// The digits after `before` in the last line that contains `mark` and `before`.
fn last_number(text: &str, mark: &str, before: &str) -> u64 {
    let line = text.lines().rev().find(|line| line.contains(mark) && line.contains(before));
    let rest = line.and_then(|line| line.rsplit_once(before)).map_or("", |(_, rest)| rest.trim_start());
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or(0)
}

/// rsyslog: what the action `out` processed, in the last statistics.
pub fn rsyslog(statistics: &str) -> u64 {
    last_number(statistics, "\"name\": \"out\"", "\"processed\":")
}

/// syslog-ng: what the destination `out` wrote.
pub fn syslog_ng(statistics: &str) -> u64 {
    last_number(statistics, "dst.file;out#", ";written;")
}

/// Telegraf: what its one output for log lines wrote.
pub fn telegraf(statistics: &str) -> u64 {
    last_number(statistics, "alias=out", "metrics_written=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_events_are_those_of_outputs_on_all_shards() {
        let metrics = "# TYPE tailwater_component_sent_events_total counter\n\
            tailwater_component_sent_events_total{component_id=\"out\",component_kind=\"output\",shard=\"0\"} 40\n\
            tailwater_component_sent_events_total{component_id=\"out\",component_kind=\"output\",shard=\"1\"} 2\n\
            tailwater_component_sent_events_total{component_id=\"in\",component_kind=\"input\",shard=\"1\"} 7\n";
        assert_eq!(tailwater(metrics), 42);
        assert_eq!(
            vector("vector_component_sent_events_total{component_id=\"out\",host=\"x\"} 12 1700000000000\n"),
            12
        );
    }

    #[test]
    fn last_statistics_count() {
        let statistics = "{ \"name\": \"out\", \"origin\": \"core.action\", \"processed\": 5, \"failed\": 0 }\n\
            { \"name\": \"other\", \"origin\": \"core.action\", \"processed\": 99, \"failed\": 0 }\n\
            { \"name\": \"out\", \"origin\": \"core.action\", \"processed\": 12, \"failed\": 0 }\n\
            { \"name\": \"other\", \"origin\": \"core.action\", \"processed\": 99, \"failed\": 0 }\n";
        assert_eq!(rsyslog(statistics), 12);
        assert_eq!(rsyslog(""), 0);
        let statistics = "dst.file;out#0;/dev/null;a;written;7\ndst.file;out#0;/dev/null;a;processed;9\nx;y\n.\n";
        assert_eq!(syslog_ng(statistics), 7);
    }
}
