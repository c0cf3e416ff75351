//! The work of pipelines: parse, every transform, conditions of outputs, encoding.

use crate::steps::count;
use std::sync::Arc;
use tailwater::codec::envelope::EnvelopeKind;
use tailwater::config::component::Facts;
use tailwater::config::de::read;
use tailwater::config::node::{Node, parse};
use tailwater::config::pipeline::{Match, Pipeline};
use tailwater::config::types::{FieldNames, OnConflict};
use tailwater::parsers::{Events, Parse};
use tailwater::process::{self, Chain};
use tailwater::transforms::Step;
use tailwater_shards::batch::{Batch, EventSpan, Source, SourceKey};
use tailwater_shards::dlq::Letters;
use tailwater_shards::env::{ShardId, Timestamp};
use tailwater_shards::glommio_env::RealDisk;
use tailwater_shards::limits::{CHUNK_BYTES, LINE_BYTES_DEFAULT};
use tailwater_shards::plugin::Frames;
use tailwater_shards::wal::builder::Group;

/// Events of several shapes: one with escapes, one with values for fields of the input, and some that are not JSON objects.
const EVENTS: [&str; 9] = [
    r#"{"level":"info","user":{"id":7,"name":"J\u00fcrgen","mail":"j@example.org"},"msg":"served from cache","status":200}"#,
    r#"{"level":"warn","msg":"said \"no\"","status":503,"tags":["a","b",{"c":1}],"took":12.5,"client":"10.1.2.3"}"#,
    r#"{"status":404,"msg":"","user":{"name":"x"},"level":"info","level":"debug","secret":"s3cr3t"}"#,
    r#"{"time":"2026-11-23T10:20:30.5Z","log":"{\"inner\":1,\"status\":5}","msg":"wrapped","status":"200"}"#,
    r#"{"host":"x","event":{"host":1},"log":"{\"file\":1,\"truncated\":2,\"event\":{}}","truncated.x":1,"status":500}"#,
    r#"{}"#,
    "no JSON at all",
    r#"{"status":"#,
    r#"[1,2]"#,
];

/// Transforms of all kinds, each with fields that some of the events have.
const PIPELINE: &str = r#"
inputs: [in]
transforms:
  - drop: level == "trace"
  - filter: has(level) || has(origin().file) && origin().offset >= 0
  - remove: [secret, user.mail, "tags[1]"]
  - rename: {msg: message, user.name: login, took: times.took}
  - copy: {user.id: user_id, status: code}
  - add: {env: production, at: "{{ hostname }} {{ origin().file }} {{ level }} {{ %H:%M }}", nested.deep: [1, {x: y}]}
  - if: status >= 500
    then: [{add: {alert: true}}]
    else: [{keep: [message, status, level, login, env, at, parse_error]}]
outputs:
  - {to: errors, when: 'level in ["warn", "error"] || message.contains("no")'}
  - {to: rest, else: true}
"#;

fn node(text: &str) -> Node {
    let (root, problems) = parse(text, &|_| None);
    root.unwrap_or_else(|| panic!("{problems:?}"))
}

fn chain() -> Chain {
    let pipeline: Pipeline = read(&node(PIPELINE)).unwrap_or_else(|fault| panic!("{fault}"));
    let routes = pipeline.outputs.into_iter().map(|target| target.route).collect();
    Chain { steps: pipeline.transforms, routes, first_only: pipeline.matching == Match::First, ..Chain::default() }
}

/// A transform as in its documentation, for every event.
fn examples() -> Vec<(&'static str, Chain)> {
    let of = |row: &tailwater::transforms::Row| {
        let step: Step = read(&node(row.example)).unwrap_or_else(|fault| panic!("{}: {fault}", row.name));
        (row.name, Chain { steps: vec![step], ..Chain::default() })
    };
    Step::ROWS.iter().map(of).collect()
}

/// Lookups that have a match.
fn lookups(table: &std::path::Path) -> Chain {
    std::fs::write(table, "code,team,note\n200,web,\"x, y\"\n503,ops,\n").expect("a table");
    let step = format!("enrich: {{file: \"{}\", key: {{code: status}}, prefix: owner.}}", table.display());
    let step: Step = read(&node(&step)).unwrap_or_else(|fault| panic!("{fault}"));
    step.kept().iter().try_for_each(|kept| kept.load(&RealDisk::new())).expect("the table is read");
    Chain { steps: vec![step], ..Chain::default() }
}

fn batch() -> Batch {
    let source = Source {
        key: SourceKey(1),
        input: "app".into(),
        name: b"/var/log/app/current.log".to_vec(),
        descriptor: Vec::new(),
        repeatable: true,
    };
    let mut batch = Batch::new(CHUNK_BYTES, Arc::new(source));
    let mut length = 0;
    for line in EVENTS.iter().cycle().take(200) {
        batch.chunk.spare()[length..length + line.len()].copy_from_slice(line.as_bytes());
        batch.events.push(EventSpan { start: length as u32, end: (length + line.len()) as u32 });
        length += line.len() + 1;
        batch.chunk.spare()[length - 1] = b'\n';
    }
    batch.chunk.set_length(length);
    batch.received = Timestamp(1_795_392_754_567_890_123);
    batch
}

/// See the module.
pub fn pipelines(wrong: &mut Vec<String>) {
    let mut batch = batch();
    let table = tempfile::NamedTempFile::new().expect("a temporary file");
    let chains = [("a pipeline", chain()), ("lookups", lookups(table.path()))].into_iter().chain(examples());
    for (name, chain) in chains {
        let chain = Arc::new(chain);
        for parse in [Some(Parse::Json(Default::default())), None] {
            let name = format!("{name}, {}", if parse.is_some() { "parsed" } else { "text" });
            let (fields, kind) = (FieldNames::default(), EnvelopeKind::File);
            let on_conflict = OnConflict::Ours;
            let events = Events { fields, on_conflict, kind, parse, timezone: None, bytes_max: LINE_BYTES_DEFAULT };
            let facts = Facts::of("web-03");
            // Two pipelines, so that the second one sees the results of the first.
            let mut processor = process::spec(&events, vec![chain.clone(), chain.clone()], &facts).open(ShardId(0));
            let (mut group, mut letters) = (Group::new(), Letters::new());
            count(&name, wrong, || {
                group.clear();
                batch.received.0 += 1_000_000;
                processor.begin(&batch);
                for place in 0..2 {
                    processor.process(&batch, place, &mut Frames::new(&mut group, 0, 3, &[1, 2], &mut letters));
                    processor.take_tally();
                    group.last().expect("a frame").finish();
                }
            });
        }
    }
}
