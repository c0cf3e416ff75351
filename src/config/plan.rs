//! What will run: names resolved, defaults filled, and the rules that span several keys.
//!
//! Guarantees: as far as the file alone can tell, a plan can be started; every rule reports all its violations at once. Opens
//! nothing: [`super::files`] checks files, and whether directories and addresses are usable shows at the start.

use super::admin::{self, AdminPlan};
use super::component::Table;
use super::dlq;
use super::node::{Node, Value};
use super::pipeline::Match;
use super::problem::{Problem, Severity, Span};
use super::raw::{self, Log, LogFormat, LogLevel, Raw, Shards, Sync, WalKind};
use super::trial::{TrialPlan, plan_trials};
use super::types::{ByteSize, FieldName, FieldNames, OnConflict, Period};
use super::was::earlier_names;
use crate::codec::zone::Zone;
use crate::inputs::InputConfig;
use crate::outputs::OutputConfig;
use crate::parsers::Events;
use crate::process::Chain;
use crate::telemetry::log::LogOptions;
use crate::transforms::theirs::EVENT;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::env::Env;
use tailwater_shards::limits::{self, sums::Sums};
use tailwater_shards::wal::{SyncPolicy, WalOptions, WalType};

/// What will run.
pub struct Plan {
    /// The directory of the write-ahead log.
    pub data_dir: PathBuf,
    /// Which cores run shards.
    pub shards: Shards,
    /// The number of shards on this host.
    pub shard_count: usize,
    /// The admin endpoint, if it is on.
    pub admin: Option<AdminPlan>,
    /// The WAL of each shard.
    pub wal: WalOptions,
    /// The dead letter queue of each shard.
    pub dead_letters: tailwater_shards::dlq::Options,
    /// How long a shutdown waits for deliveries.
    pub drain_timeout: Duration,
    /// The time zone of times that have none.
    pub timezone: Zone,
    /// The application log.
    pub log: Log,
    /// All inputs, in the order of the file; [`PipelinePlan::inputs`] index it.
    pub inputs: Vec<InputPlan>,
    /// All outputs, in the order of the file; [`PipelinePlan::outputs`] index it.
    pub outputs: Vec<OutputPlan>,
    /// The paths from inputs to outputs.
    pub pipelines: Vec<PipelinePlan>,
    /// What `tailwater test` runs.
    pub tests: Vec<TrialPlan>,
    /// The most memory, descriptors and disk space that it uses.
    pub sums: Sums,
    /// Inputs and outputs that the command line declares removed for good.
    pub given_up: Vec<GivenUp>,
}

/// An input or output that is no longer in the configuration and whose state is discarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Its name.
    pub name: String,
    /// Whether the events that wait for it go to the dead letter queue. Otherwise they are discarded.
    pub dead_letters: bool,
}

impl Plan {
    /// Bytes of positions that the WALs of all shards can hold.
    pub fn positions_bytes(&self) -> u64 {
        limits::positions_bytes(self.wal.segment_bytes).saturating_mul(self.shard_count as u64)
    }

    /// The options to start the application log with.
    pub fn log_options(&self) -> LogOptions {
        let level = match self.log.level {
            LogLevel::Error => tracing::Level::ERROR,
            LogLevel::Warn => tracing::Level::WARN,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Debug => tracing::Level::DEBUG,
            LogLevel::Trace => tracing::Level::TRACE,
        };
        let json = match self.log.format {
            LogFormat::Auto => None,
            LogFormat::Text => Some(false),
            LogFormat::Json => Some(true),
        };
        LogOptions { level, json }
    }
}

/// An input that will run.
pub struct InputPlan {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: InputConfig,
    /// Whether a pipeline uses it. If not, it is not started.
    pub used: bool,
    /// Its previous name.
    pub was: Option<String>,
}

/// An output that will run.
pub struct OutputPlan {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: OutputConfig,
    /// Whether a pipeline uses it. If not, it is not started.
    pub used: bool,
    /// Its previous name.
    pub was: Option<String>,
}

/// A path from inputs to outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelinePlan {
    /// Its name.
    pub name: String,
    /// Indices into [`Plan::inputs`].
    pub inputs: Vec<usize>,
    /// Indices into [`Plan::outputs`].
    pub outputs: Vec<usize>,
    /// The transforms, and which events go to which of `outputs`.
    pub chain: Arc<Chain>,
}

/// What the plan depends on besides the file.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// Overrides the file's `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// Cores that the process may use: what `shards: auto` means.
    pub cpus: usize,
}

impl Circumstances {
    /// The circumstances of this process.
    pub fn here(data_dir: Option<PathBuf>) -> Circumstances {
        Circumstances { data_dir, cpus: std::thread::available_parallelism().map_or(1, usize::from) }
    }
}

/// Makes the plan from what the file says, without its sums. `root` is the tree as it was read, `written` the tree as it is in the file.
/// If `problems` contains an error afterwards, the plan must not be used.
pub fn plan<E: Env>(raw: Raw, root: &Node, written: &Node, here: &Circumstances, problems: &mut Vec<Problem>) -> Plan {
    let pipelines = resolve(&raw, root, written, problems);
    let inputs: Vec<&str> = raw.inputs.iter().map(|(name, _)| name.as_str()).collect();
    let inputs_were = earlier_names("inputs", &inputs, root, problems);
    let outputs: Vec<&str> = raw.outputs.iter().map(|(name, _)| name.as_str()).collect();
    let outputs_were = earlier_names("outputs", &outputs, root, problems);
    let tests = plan_trials(&raw, &pipelines, root, problems);
    for (name, input) in &raw.inputs {
        check_fields(input.fields::<E>(), &["inputs", name, "fields"], root, problems);
        check_event(&input.events::<E>(), &["inputs", name, "fields"], root, problems);
    }
    if raw.outputs.len() > limits::OUTPUTS_MAX {
        let span = root.span_at(&["outputs", &raw.outputs[limits::OUTPUTS_MAX].0]);
        problems.push(
            Problem::error(span, format!("more than {} outputs", limits::OUTPUTS_MAX))
                .label(format!("the {}th of {}", limits::OUTPUTS_MAX + 1, raw.outputs.len()))
                .help("run a second process with its own data_dir for the others"),
        );
    }
    let shard_count = match &raw.shards {
        Shards::Auto => here.cpus.clamp(1, limits::SHARDS_MAX),
        Shards::Count(count) => usize::from(*count),
        Shards::Cpus(cpus) => cpus.len(),
    };
    let longest = raw.inputs.iter().map(|(_, input)| input.line_bytes_max::<E>()).max().unwrap_or(0);
    let wal = wal(&raw, shard_count, longest, root, problems);
    let admin = admin::plan(raw.admin.clone(), root, problems);
    let dead_letters = dlq::options(raw.dlq, shard_count, longest, root, problems);
    let data_dir =
        here.data_dir.clone().or(raw.data_dir.clone()).unwrap_or_else(|| PathBuf::from(raw::DATA_DIR_DEFAULT));
    if data_dir.as_os_str().is_empty() {
        let problem = Problem::error(root.span_at(&["data_dir"]), "`data_dir` is empty");
        problems.push(problem.label("here").help("name a directory, or remove the key for /var/lib/tailwater"));
    }
    if problems.iter().all(|problem| problem.severity == Severity::Warning) {
        // After an error this would be noise: the part that is broken may be what uses the component.
        check_unused(&raw, root, problems);
        check_memory(&raw, root, problems);
    }
    let Period(drain_timeout) = raw.drain_timeout.0;
    let used =
        |indices: fn(&PipelinePlan) -> &[usize], index: usize| pipelines.iter().any(|p| indices(p).contains(&index));
    let name_input =
        |(index, ((name, settings), was))| InputPlan { used: used(|p| &p.inputs, index), name, settings, was };
    let name_output =
        |(index, ((name, settings), was))| OutputPlan { used: used(|p| &p.outputs, index), name, settings, was };
    Plan {
        data_dir,
        shards: raw.shards,
        shard_count,
        admin,
        wal,
        dead_letters,
        drain_timeout,
        timezone: raw.timezone.0,
        log: raw.log,
        inputs: raw.inputs.into_iter().zip(inputs_were).enumerate().map(name_input).collect(),
        outputs: raw.outputs.into_iter().zip(outputs_were).enumerate().map(name_output).collect(),
        pipelines,
        tests,
        sums: Sums::default(),
        given_up: Vec::new(),
    }
}

fn resolve(raw: &Raw, root: &Node, written: &Node, problems: &mut Vec<Problem>) -> Vec<PipelinePlan> {
    let inputs: Vec<&str> = raw.inputs.iter().map(|(name, _)| name.as_str()).collect();
    let outputs: Vec<&str> = raw.outputs.iter().map(|(name, _)| name.as_str()).collect();
    let all = raw.pipelines.iter().map(|(name, pipeline)| {
        let from: Vec<&str> = pipeline.inputs.iter().map(String::as_str).collect();
        let to: Vec<&str> = pipeline.outputs.iter().map(|target| target.to.as_str()).collect();
        PipelinePlan {
            name: name.clone(),
            inputs: references(name, "inputs", &from, &inputs, [root, written], problems),
            outputs: references(name, "outputs", &to, &outputs, [root, written], problems),
            chain: Arc::new(Chain {
                name: name.as_str().into(),
                steps: pipeline.transforms.clone(),
                routes: pipeline.outputs.iter().map(|target| target.route.clone()).collect(),
                first_only: pipeline.matching == Match::First,
            }),
        }
    });
    all.collect()
}

/// The indices of the components that a pipeline names in a section.
fn references(
    pipeline: &str,
    section: &str,
    named: &[&str],
    known: &[&str],
    [root, file]: [&Node; 2],
    problems: &mut Vec<Problem>,
) -> Vec<usize> {
    let written = raw::names(root, section);
    let kind = section.trim_end_matches('s');
    let mut indices = Vec::with_capacity(named.len());
    for (place, name) in named.iter().enumerate() {
        let place = place.to_string();
        let path = ["pipelines", pipeline, section, &place, "to"];
        if root.is_assumed(&path) {
            continue;
        }
        let span = root.span_at(&path);
        match known.iter().position(|candidate| candidate == name) {
            Some(index) if indices.contains(&index) => problems.push(
                Problem::error(span, format!("the {kind} `{name}` is named twice in the pipeline `{pipeline}`"))
                    .label("the second time")
                    .help("remove it"),
            ),
            Some(index) => indices.push(index),
            // It exists but could not be read, which is already reported.
            None if written.contains(name) => {}
            None => problems.push(
                Problem::error(span, format!("unknown {kind} `{name}`"))
                    .label(format!("no {kind} has this name"))
                    .help(raw::unknown_name_help(name, section, &written)),
            ),
        }
    }
    // If the list is empty because its items could not be read, that is already reported.
    let path = ["pipelines", pipeline, section];
    if named.is_empty()
        && file.at(&path).is_some_and(|node| matches!(&node.value, Value::List(items) if items.is_empty()))
    {
        let span = root.span_at(&path);
        problems.push(
            Problem::error(span, format!("the pipeline `{pipeline}` has no {section}"))
                .label("empty")
                .help(format!("name at least one {kind}, or remove the pipeline")),
        );
    }
    indices
}

/// An input or output that no pipeline uses does nothing, which is rarely intended.
fn check_unused(raw: &Raw, root: &Node, problems: &mut Vec<Problem>) {
    let from: HashSet<&str> = raw.pipelines.iter().flat_map(|(_, p)| p.inputs.iter().map(String::as_str)).collect();
    let to: HashSet<&str> = raw.pipelines.iter().flat_map(|(_, p)| p.outputs.iter().map(|t| t.to.as_str())).collect();
    let unused = |section: &str, effect: &str| {
        let used = if section == "inputs" { &from } else { &to };
        let kind = section.trim_end_matches('s');
        let names = raw::names(root, section).into_iter().filter(|name| !used.contains(name));
        let warnings = names.map(|name| {
            Problem::warning(key_span(root, section, name), format!("the {kind} `{name}` is in no pipeline"))
                .label(effect)
                .help(format!("add it to the `{section}` of a pipeline, or remove it"))
        });
        warnings.collect::<Vec<_>>()
    };
    let inputs = unused("inputs", "is not read");
    problems.extend(inputs);
    problems.extend(unused("outputs", "gets nothing"));
}

/// A WAL in memory keeps no positions, which surprises users who follow files.
fn check_memory(raw: &Raw, root: &Node, problems: &mut Vec<Problem>) {
    let follows_files = raw.inputs.iter().any(|(_, input)| input.type_name() == "file");
    if raw.wal.kind == WalKind::Memory && follows_files {
        problems.push(
            Problem::warning(root.span_at(&["wal", "type"]), "a WAL in memory keeps no file positions")
                .label("each start reads the files from `start_at` again")
                .help("use `type: disk`, or set `start_at: end` and accept that lines written between two runs are skipped"),
        );
    }
}

fn key_span(root: &Node, section: &str, name: &str) -> Span {
    root.entry(section).and_then(|(_, node)| node.entry(name)).map_or(root.span, |(key, _)| key.span)
}

fn check_fields(fields: &FieldNames, path: &[&str; 3], root: &Node, problems: &mut Vec<Problem>) {
    let all = [
        ("message", &fields.message),
        ("timestamp", &fields.timestamp),
        ("host", &fields.host),
        ("file", &fields.file),
        ("offset", &fields.offset),
        ("truncated", &fields.truncated),
    ];
    for (index, (key, field)) in all.iter().enumerate() {
        let FieldName::Named(name) = field else { continue };
        let earlier = all[..index].iter().find(|(_, other)| other == field);
        if let Some((other, _)) = earlier {
            let [section, input, fields] = *path;
            let written = |key: &str| root.span_at(&[section, input, fields, key]);
            // If one name is a default and the other is written in the file, the written one is the cause.
            let start = root.span_at(path);
            let span = if written(key) == start { written(other) } else { written(key) };
            problems.push(
                Problem::error(span, format!("two fields are called `{name}`"))
                    .label(format!("`{other}` and `{key}` cannot be the same field"))
                    .help(format!("rename one of them, or leave one out with `{key}: false`")),
            );
        }
    }
}

/// A field of the input cannot be where the values are kept that events have for such fields.
fn check_event(events: &Events, path: &[&str; 3], root: &Node, problems: &mut Vec<Problem>) {
    let fields = &events.fields;
    let all = [
        ("timestamp", &fields.timestamp),
        ("host", &fields.host),
        ("file", &fields.file),
        ("offset", &fields.offset),
        ("truncated", &fields.truncated),
    ];
    let is_event = |field: &FieldName| matches!(field, FieldName::Named(name) if name == EVENT);
    let wrong = all.into_iter().filter(|(_, field)| events.on_conflict == OnConflict::Ours && is_event(field));
    problems.extend(wrong.map(|(key, _)| {
        let [section, input, fields] = *path;
        Problem::error(
            root.span_at(&[section, input, fields, key]),
            format!("the field of `{key}` is called `{EVENT}`"),
        )
        .label("this object keeps the values that events have for fields of the input")
        .help("choose another name; or, if events may set these fields, write `on_conflict: theirs`")
    }));
}

fn wal(raw: &Raw, shards: usize, longest_line: usize, root: &Node, problems: &mut Vec<Problem>) -> WalOptions {
    let said = raw.wal.max_bytes.map(|ByteSize(total)| total);
    let share = said.map(|total| total / shards as u64);
    let segment =
        raw.wal.segment_bytes.map_or(limits::segment_bytes_default(longest_line, share), |ByteSize(bytes)| bytes);
    let total = said.unwrap_or_else(|| limits::wal_bytes_default(shards, segment));
    let at = |key: &str| root.span_at(&["wal", key]);
    let frame = limits::frame_bytes_max(longest_line) as u64 + limits::SEGMENT_RESERVE_BYTES;
    let least = frame.max(limits::SEGMENT_BYTES_MIN);
    let safe = ByteSize(limits::segment_bytes_for(longest_line));
    if segment <= least {
        problems.push(
            Problem::error(at("segment_bytes"), "`wal.segment_bytes` is too small for the longest line")
                .label(format!("{} cannot hold a line of {}", ByteSize(segment), ByteSize(longest_line as u64)))
                .help(format!("leave it out, use at least {safe}, or lower `max_line_bytes` of the inputs")),
        );
    }
    if segment > limits::SEGMENT_BYTES_MAX {
        problems.push(
            Problem::error(at("segment_bytes"), "`wal.segment_bytes` is too large")
                .label(format!("the maximum is {}", ByteSize(limits::SEGMENT_BYTES_MAX)))
                .help("leave it out, or use 32MiB"),
        );
    }
    let outputs = raw.outputs.len().min(limits::OUTPUTS_MAX);
    let state = limits::commit_state_bytes_max(segment, outputs, shards);
    if state < limits::COMMIT_STATE_BYTES_MIN {
        let per_output = 4 * (limits::COMMIT_STATE_BYTES_MIN + limits::commit_bytes(shards)) * outputs;
        let least = (per_output as u64).next_multiple_of(limits::SEGMENT_BYTES_MIN);
        let key = if raw.wal.segment_bytes.is_some() { "segment_bytes" } else { "max_bytes" };
        problems.push(
            Problem::error(at(key), format!("segments of the WAL are too small for {outputs} outputs"))
                .label(format!("{} leave {state} bytes for commit records", ByteSize(segment)))
                .help(format!("use `segment_bytes` of at least {}, or leave out both sizes", ByteSize(least))),
        );
    }
    let needed = segment.saturating_mul(limits::SEGMENTS_MIN).saturating_mul(shards as u64);
    if total < needed && segment <= limits::SEGMENT_BYTES_MAX {
        let smaller = match raw.wal.segment_bytes {
            Some(_) => "`wal.segment_bytes`",
            None => "`max_line_bytes` of the inputs",
        };
        problems.push(
            Problem::error(at("max_bytes"), "`wal.max_bytes` is too small")
                .label(format!(
                    "{shards} shards with at least {} segments of {} each need {}",
                    limits::SEGMENTS_MIN,
                    ByteSize(segment),
                    ByteSize(needed)
                ))
                .help(format!("use at least {}, or leave it out, or lower {smaller} or `shards`", ByteSize(needed))),
        );
    }
    let share = total / shards as u64;
    WalOptions {
        kind: match raw.wal.kind {
            WalKind::Disk => WalType::Disk,
            WalKind::Memory => WalType::Memory,
        },
        sync: match raw.wal.sync {
            Sync::EveryBatch => SyncPolicy::EveryBatch,
            Sync::Never => SyncPolicy::Never,
            Sync::Interval(interval) => SyncPolicy::Interval(interval),
        },
        segment_bytes: segment,
        log_bytes: share.checked_div(segment).map_or(0, |segments| segments * segment),
    }
}
