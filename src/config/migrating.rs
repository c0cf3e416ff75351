//! What people who come from another collector write first, and what to write instead where no key of the same place means it.
//!
//! Guarantees: each row says the place in which it is true by a key that is known there. Words with an equivalent in the same
//! place are in [`super::nearest`].

/// A word of other collectors (Vector, Fluent Bit, Fluentd, Logstash, Filebeat, Promtail).
struct Row {
    /// The words.
    words: &'static [&'static str],
    /// A key that is known in the place and in no other.
    place: &'static str,
    /// What to write.
    help: &'static str,
}

/// What to write instead of `word` in a place with the keys `known`.
pub fn advice(word: &str, known: &[&str]) -> Option<&'static str> {
    let is_meant =
        |row: &&Row| known.contains(&row.place) && row.words.iter().any(|known| known.eq_ignore_ascii_case(word));
    ROWS.iter().find(is_meant).map(|row| row.help)
}

/// Which other collector the text of a whole file was written for, if it was.
pub fn other_format(text: &str) -> Option<&'static str> {
    let first =
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?.to_ascii_lowercase();
    let begins = |starts: &[&str]| starts.iter().any(|start| first.starts_with(start));
    let opens = ["input", "filter", "output"]
        .iter()
        .any(|word| first.strip_prefix(word).is_some_and(|rest| rest.trim_start().starts_with('{')));
    match () {
        () if opens => Some("Logstash"),
        () if begins(&["[service]", "[input]", "[filter]", "[output]", "[parser]"]) => Some("Fluent Bit"),
        () if begins(&["[sources.", "[transforms.", "[sinks.", "[api]"]) => Some("Vector"),
        () if begins(&["<source", "<match", "<filter", "<system"]) => Some("Fluentd"),
        () => None,
    }
}

const AUTH: &str = "put it in `auth`: {basic: {user: ..., password: ...}}, {bearer: ...} or {api_key: ...}";
const POSITIONS: &str = "Tailwater keeps positions itself, below the top-level key `data_dir`: leave the key out";
const TEXT: &str = "only JSON is parsed into fields; to take one field from text, `copy` the text to a new field and `replace` all but the part";
const PIPELINE: &str =
    "inputs and outputs are connected by a pipeline: `pipelines: {main: {inputs: [...], outputs: [...]}}`";
const TRANSFORMS: &str =
    "transforms belong in a pipeline: `pipelines: {main: {inputs: [...], transforms: [...], outputs: [...]}}`";

const fn row(words: &'static [&'static str], place: &'static str, help: &'static str) -> Row {
    Row { words, place, help }
}

const ROWS: [Row; 31] = [
    // The top level.
    row(
        &["transforms", "transform", "filters", "filter", "processors", "pipeline_stages", "match", "routes", "route"],
        "pipelines",
        TRANSFORMS,
    ),
    row(
        &["service"],
        "pipelines",
        "`log_level` is `log.level` here, `http_server` is `admin`, `flush` is `batch.max_age` of an output",
    ),
    row(&["parsers", "multiline_parsers"], "pipelines", "an input says how it is parsed: `parse: json`"),
    row(&["enrichment_tables"], "pipelines", "the transform `enrich` names its file itself"),
    row(&["positions", "registry", "filebeat.registry.path"], "pipelines", "positions are kept below `data_dir`"),
    row(
        &["secret", "secrets", "env"],
        "pipelines",
        "write variables of the environment as \"${NAME}\" where they are needed",
    ),
    row(&["include", "includes", "filebeat.config.inputs"], "pipelines", "a configuration is one file"),
    // Inputs.
    row(
        &["sincedb_path", "sincedb_write_interval", "db", "db.sync", "pos_file", "positions", "registry_file"],
        "include",
        POSITIONS,
    ),
    row(
        &["refresh_interval", "scan_frequency", "discover_interval", "stat_interval", "glob_minimum_cooldown_ms"],
        "include",
        "new files and lines are found without a setting: leave the key out",
    ),
    row(
        &["multiline", "multiline.parser", "multiline.pattern", "multiline_parser"],
        "shard_by",
        "lines are not joined: each line is an event",
    ),
    row(
        &["tag", "tags", "add_field", "labels", "static_labels", "add_fields"],
        "shard_by",
        "to add fields, use the transform `add` in the pipeline",
    ),
    row(&["filters", "transforms", "processors", "pipeline_stages"], "shard_by", TRANSFORMS),
    // Outputs.
    row(
        &[
            "user",
            "username",
            "password",
            "http_user",
            "http_passwd",
            "http_password",
            "api_key",
            "cloud_auth",
            "bearer_token",
            "token",
            "basic_auth",
            "basic",
            "basic.user",
            "basic.password",
            "bearer",
            "authorization",
        ],
        "auth",
        AUTH,
    ),
    row(&["port"], "endpoints", "the port is a part of the endpoint: `endpoints: [\"http://host:9200\"]`"),
    row(&["port"], "url", "the port is a part of the URL: `url: http://host:8080/path`"),
    row(&["inputs", "input", "match", "match_regex", "source", "sources"], "retry", PIPELINE),
    row(&["filters", "transforms", "processors"], "retry", TRANSFORMS),
    row(
        &["when", "condition", "if"],
        "retry",
        "a pipeline says which events go to an output: `outputs: [{to: NAME, when: CONDITION}]`",
    ),
    row(
        &["logstash_format", "logstash_prefix"],
        "endpoints",
        "write the date into the index: `index: logstash-%Y.%m.%d`",
    ),
    row(&["mode", "data_stream"], "endpoints", "for a data stream, write its name as `index` and `op: create`"),
    row(
        &["flush_interval", "timeout_secs", "flush", "bulk_max_size", "flush_size", "max_bulk_size"],
        "batch",
        "the size and age of a batch are in `batch`",
    ),
    // Transforms.
    row(&["type"], "flatten", "write the name of the transform as the key, for example `- filter: level == \"error\"`"),
    row(
        &[
            "grok",
            "dissect",
            "regex",
            "parse_regex",
            "regex_parser",
            "parser",
            "kv",
            "logfmt",
            "key_value",
            "csv",
            "syslog",
            "multiline",
            "split",
        ],
        "flatten",
        TEXT,
    ),
    row(
        &["mutate", "modify", "record_modifier", "record_transformer", "alter"],
        "flatten",
        "it is several transforms here: `add`, `remove`, `rename`, `copy`, `replace`, `convert`, `lowercase`, `uppercase`",
    ),
    row(
        &["remap", "vrl", "ruby", "lua", "script", "wasm", "template"],
        "flatten",
        "there is no script language: use `add`, `copy`, `rename`, `replace`, `convert`, `if`, and conditions for `filter` and `drop`",
    ),
    row(
        &["route", "exclusive_route", "rewrite_tag", "swimlanes"],
        "flatten",
        "the outputs of a pipeline choose events: `outputs: [{to: NAME, when: CONDITION}]`",
    ),
    row(&["reduce", "log_to_metric", "metrics"], "flatten", "to combine events, use `aggregate`"),
    row(
        &["json", "decode_json_fields", "parse_json", "json_parser"],
        "flatten",
        "to parse a field, use `parse`; to parse the whole line, set `parse: json` at the input",
    ),
    row(
        &["output", "labels", "tenant", "pack", "static_labels"],
        "flatten",
        "to add a field, use `add`; to rename one, use `rename`",
    ),
    row(
        &["select", "record_accessor", "include", "exclude"],
        "flatten",
        "to choose events, use `filter` or `drop`; to choose fields, `keep` or `remove`",
    ),
    row(&["nest"], "flatten", "use `flatten`, `unflatten` or `rename`"),
];

/// Formats of `parse` that do not exist.
pub fn format_advice(word: &str, known: &[&str]) -> Option<&'static str> {
    const FORMATS: [&str; 17] = [
        "regex",
        "grok",
        "logfmt",
        "syslog",
        "csv",
        "kv",
        "key_value",
        "nginx",
        "apache",
        "apache2",
        "ltsv",
        "cri",
        "docker",
        "common",
        "combined",
        "clf",
        "xml",
    ];
    (*known == ["json"] && FORMATS.iter().any(|format| format.eq_ignore_ascii_case(word))).then_some(TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_another_collector_is_recognised_by_its_first_line() {
        for (text, whose) in [
            ("# x\n\ninput {\n  file { path => \"/a\" }\n}\n", Some("Logstash")),
            ("input{ stdin {} }", Some("Logstash")),
            ("[SERVICE]\n    Flush 1\n", Some("Fluent Bit")),
            ("[sources.app]\ntype = \"file\"\n", Some("Vector")),
            ("<source>\n  @type tail\n</source>\n", Some("Fluentd")),
            ("inputs: {}\n", None),
            ("input: {}\n", None),
            ("", None),
        ] {
            assert_eq!(other_format(text), whose, "{text}");
        }
    }

    #[test]
    fn each_word_has_one_advice_in_a_place() {
        for (number, row) in ROWS.iter().enumerate() {
            for word in row.words {
                let again =
                    ROWS[number + 1..].iter().find(|other| other.place == row.place && other.words.contains(word));
                assert!(again.is_none(), "{word} below {}", row.place);
            }
        }
    }
}
