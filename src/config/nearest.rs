//! Finds the name that the user probably meant: the nearest one, or the equivalent of a name from another collector.
//!
//! Guarantees: suggests a name only if a typing error explains the difference, so that no nonsense is suggested.

/// The candidate nearest to `name`, if at most a third of its characters differ.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count().max(3) / 3).min(3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&normal(name), &normal(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Differences in case and separators are the most common slips and count as equal.
fn normal(name: &str) -> Vec<char> {
    name.chars().map(|c| if c == '-' || c == ' ' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Characters to insert, delete, replace or swap with their neighbor (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: [Vec<usize>; 3] = [vec![0; b.len() + 1], (0..=b.len()).collect(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        rows[2][0] = i;
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[1][j] + 1).min(rows[2][j - 1] + 1).min(rows[1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = best;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

/// The equivalent here of a name from another collector.
pub fn foreign(name: &str, known: &[&str]) -> Option<&'static str> {
    let same = |(foreign, here): &&(&str, &str)| foreign.eq_ignore_ascii_case(name) && known.contains(here);
    FOREIGN.iter().find(same).map(|(_, here)| *here)
}

/// The form that belongs in the place of a key from further inside.
pub fn form(name: &str, known: &[&str]) -> Option<&'static str> {
    let inner = name.strip_prefix("basic.").unwrap_or(name);
    let is_of_basic = ["user", "username", "password"].contains(&inner) && known.contains(&"basic");
    is_of_basic.then_some("basic: {user: ..., password: ...}")
}

/// The known key that an unknown key probably means.
pub fn meant<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    foreign(name, known).or_else(|| nearest(name, known.iter().copied()))
}

/// Names from other collectors (Vector, Fluent Bit, Fluentd, Logstash, Filebeat, Promtail) and their equivalents here.
const FOREIGN: [(&str, &str); 116] = [
    ("sources", "inputs"),
    ("source", "inputs"),
    ("input", "inputs"),
    ("sinks", "outputs"),
    ("sink", "outputs"),
    ("output", "outputs"),
    ("targets", "outputs"),
    ("filters", "transforms"),
    ("filter", "transforms"),
    ("processors", "transforms"),
    ("pipeline_stages", "transforms"),
    ("scrape_configs", "inputs"),
    ("api", "admin"),
    ("server", "admin"),
    ("metrics", "admin"),
    ("clients", "outputs"),
    ("filebeat", "inputs"),
    ("filebeat.inputs", "inputs"),
    ("output.elasticsearch", "outputs"),
    ("output.file", "outputs"),
    ("output.console", "outputs"),
    ("logging.level", "log"),
    ("path.data", "data_dir"),
    ("pipeline", "pipelines"),
    ("state_dir", "data_dir"),
    ("http_server", "admin"),
    ("buffer", "wal"),
    ("queue", "wal"),
    ("storage", "wal"),
    ("dead_letter_queue", "dlq"),
    ("log_level", "log"),
    ("logging", "log"),
    ("workers", "shards"),
    ("threads", "shards"),
    ("path", "include"),
    ("paths", "include"),
    ("exclude_path", "exclude"),
    ("exclude_files", "exclude"),
    ("ignore_files", "exclude"),
    ("read_from", "start_at"),
    ("read_from_head", "start_at"),
    ("start_position", "start_at"),
    ("ignore_older_secs", "ignore_older"),
    ("close_inactive", "rotate_wait"),
    ("max_bytes", "max_line_bytes"),
    ("buffer_max_size", "max_line_bytes"),
    ("message_max_bytes", "max_line_bytes"),
    ("skip_long_lines", "line_too_long"),
    ("skip_empty_lines", "skip_empty"),
    ("mem_buf_limit", "ring"),
    ("charset", "encoding"),
    ("codec", "parse"),
    ("codec", "encode"),
    ("decoding", "parse"),
    ("parser", "parse"),
    ("format", "encode"),
    ("encoding", "encode"),
    ("hosts", "endpoints"),
    ("host", "endpoints"),
    ("endpoint", "endpoints"),
    ("document_id", "id"),
    ("id_key", "id"),
    ("doc_id", "id"),
    ("ssl", "tls"),
    ("ssl_enabled", "tls"),
    ("cacert", "tls"),
    ("ssl_certificate_authorities", "tls"),
    ("compress", "compression"),
    ("compression_level", "compression"),
    ("http_compression", "compression"),
    ("workers", "concurrency"),
    ("worker", "concurrency"),
    ("action", "op"),
    ("write_operation", "op"),
    ("proxy_url", "proxy"),
    ("request_timeout", "timeout"),
    ("backoff", "retry"),
    ("retry_limit", "retry"),
    ("max_retries", "retry"),
    ("from", "inputs"),
    ("to", "outputs"),
    ("index_name", "index"),
    ("username", "user"),
    ("user_name", "user"),
    ("login", "user"),
    ("passwd", "password"),
    ("pass", "password"),
    ("uri", "url"),
    ("endpoint", "url"),
    ("host", "url"),
    ("hosts", "url"),
    ("filename", "path"),
    ("file", "path"),
    ("date", "timestamp"),
    ("geoip", "enrich"),
    ("lookup", "enrich"),
    ("gsub", "replace"),
    ("drop_event", "drop"),
    ("drop_fields", "remove"),
    ("remove_field", "remove"),
    ("rename_fields", "rename"),
    ("add_fields", "add"),
    ("add_field", "add"),
    ("include_fields", "keep"),
    ("prune", "keep"),
    ("fingerprint", "hash"),
    ("deduplicate", "dedupe"),
    ("rate_limit", "throttle"),
    ("limit", "throttle"),
    ("condition", "when"),
    ("route", "when"),
    ("tail", "file"),
    ("files", "file"),
    ("opensearch", "elasticsearch"),
    ("es", "elasticsearch"),
    ("stdout", "console"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_fingers_find_their_name() {
        let names = ["inputs", "outputs", "pipelines", "data_dir", "when_full"];
        for (typed, meant) in [
            ("input", "inputs"),
            ("ouptuts", "outputs"),
            ("pipelnies", "pipelines"),
            ("data-dir", "data_dir"),
            ("WhenFull", "when_full"),
        ] {
            assert_eq!(nearest(typed, names), Some(meant), "{typed}");
        }
    }

    #[test]
    fn strangers_are_not_suggested() {
        for typed in ["transforms", "x", "", "sources", "a_very_long_key_that_nobody_knows"] {
            assert_eq!(nearest(typed, ["inputs", "outputs", "pipelines"]), None, "{typed}");
        }
    }

    #[test]
    fn distance_counts_each_slip_once() {
        let of = |a: &str, b: &str| distance(&normal(a), &normal(b));
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("abc", "abc"), 0);
        assert_eq!(of("abcd", "acbd"), 1);
        assert_eq!(of("kitten", "sitting"), 3);
    }
}
