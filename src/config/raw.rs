//! The keys of a configuration file, their types and defaults. The JSON Schema is generated from here.
//!
//! Guarantees: every section and every component is read separately, so one run reports the problems of all of them. Does not
//! know which names exist or which values fit together: [`super::plan`] does.

use super::admin::Admin;
use super::component::Table;
use super::de::{Fault, FaultKind, read, suggestion};
use super::dlq::Dlq;
use super::nearest::meant;
use super::node::{Key, Node, Value, kind_of};
use super::pipeline::{Pipeline, check_pipeline};
use super::problem::{Problem, Span};
use super::recover::{Recovered, faults_of_any_type, recover};
use super::timezone::Timezone;
use super::trial::{RawTrial, Trials, read_trials};
use super::types::{ByteSize, Period};
use crate::inputs::InputConfig;
use crate::outputs::OutputConfig;
use crate::transforms::Step;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tailwater_shards::limits;

/// The data directory if neither the file nor the command line sets one.
pub const DATA_DIR_DEFAULT: &str = "/var/lib/tailwater";

/// A configuration file.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Tailwater configuration")]
pub struct Raw {
    /// The directory of the write-ahead log and all positions. Only one process can use it at a time. Default:
    /// /var/lib/tailwater.
    pub data_dir: Option<PathBuf>,
    /// How many shards run: `auto` for one per core, a number from 1 to 256, or a list of CPUs to pin one shard each to.
    #[schemars(default)]
    pub shards: Shards,
    /// The admin endpoint, or `false` to turn it off.
    #[schemars(default)]
    pub admin: Admin,
    /// The write-ahead log.
    #[schemars(default)]
    pub wal: Wal,
    /// The dead letter queue.
    #[schemars(default)]
    pub dlq: Dlq,
    /// How long a shutdown waits for outputs to deliver what was read. The rest stays in the write-ahead log.
    #[schemars(default)]
    pub drain_timeout: DrainTimeout,
    /// The time zone of times that have none: a name such as `Europe/Berlin`, an offset such as `"+02:00"`, `UTC` (the default),
    /// or `local` for the zone of the machine. Inputs and transforms can set their own.
    #[schemars(default)]
    pub timezone: Timezone,
    /// The application log: Tailwater's own messages on standard error.
    #[schemars(default)]
    pub log: Log,
    /// The inputs, by name. Events come from them.
    #[schemars(with = "BTreeMap<String, InputConfig>")]
    pub inputs: Vec<(String, InputConfig)>,
    /// The pipelines, by name. Each sends the events of some inputs to some outputs.
    #[schemars(with = "BTreeMap<String, Pipeline>")]
    pub pipelines: Vec<(String, Pipeline)>,
    /// The outputs, by name. Events go to them.
    #[schemars(with = "BTreeMap<String, OutputConfig>")]
    pub outputs: Vec<(String, OutputConfig)>,
    /// What `tailwater test` runs: events and what is expected of each. A map from names to tests, or a list of tests.
    #[schemars(with = "Option<Trials>")]
    pub tests: Vec<RawTrial>,
}

/// The keys of a configuration file.
pub const KEYS: &[&str] = &[
    "data_dir",
    "shards",
    "admin",
    "wal",
    "dlq",
    "drain_timeout",
    "timezone",
    "log",
    "inputs",
    "pipelines",
    "outputs",
    "tests",
];

/// Which cores run shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shards {
    /// One shard for each core that the process may use.
    #[default]
    Auto,
    /// This number of shards.
    Count(u16),
    /// One shard pinned to each of these CPUs.
    Cpus(Vec<usize>),
}

impl<'de> Deserialize<'de> for Shards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shards, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Shards;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`auto`, a number from 1 to {}, or a list of cpu numbers", limits::SHARDS_MAX)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Shards, E> {
                match text {
                    "auto" => Ok(Shards::Auto),
                    // A number in quotes, which a variable requires.
                    _ if text.parse::<u16>().is_ok() => self.visit_u64(text.parse().unwrap_or_default()),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Shards, E> {
                match u16::try_from(number) {
                    Ok(count @ 1..) if usize::from(count) <= limits::SHARDS_MAX => Ok(Shards::Count(count)),
                    _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shards, A::Error> {
                let mut cpus = Vec::new();
                while let Some(cpu) = items.next_element()? {
                    if cpus.contains(&cpu) {
                        return Err(A::Error::custom(format!("cpu {cpu} is listed twice")));
                    }
                    cpus.push(cpu);
                }
                match cpus.len() {
                    1..=limits::SHARDS_MAX => Ok(Shards::Cpus(cpus)),
                    length => Err(A::Error::invalid_length(length, &self)),
                }
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl Serialize for Shards {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Shards::Auto => serializer.serialize_str("auto"),
            Shards::Count(count) => serializer.serialize_u16(*count),
            Shards::Cpus(cpus) => cpus.serialize(serializer),
        }
    }
}

impl JsonSchema for Shards {
    fn schema_name() -> Cow<'static, str> {
        "Shards".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {"const": "auto"},
                {"type": "integer", "minimum": 1, "maximum": limits::SHARDS_MAX},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": true}
            ]
        })
    }
}

/// Where segments are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WalKind {
    /// In files under `data_dir`, which survive a restart.
    #[default]
    Disk,
    /// In memory; nothing survives a restart, so each start reads files from `start_at` again.
    Memory,
}

/// When appended events are synced to the disk and acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// After each batch, before it is acknowledged.
    EveryBatch,
    /// Never by this process.
    Never,
    /// At this interval.
    Interval(Duration),
}

impl<'de> Deserialize<'de> for Sync {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sync, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Sync;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`every_batch`, `never`, or an interval from 1ms to 1h such as 100ms")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Sync, E> {
                match (text, text.parse::<Period>()) {
                    ("every_batch", _) => Ok(Sync::EveryBatch),
                    ("never", _) => Ok(Sync::Never),
                    (_, Ok(Period(interval))) if (SYNC_MIN..=SYNC_MAX).contains(&interval) => {
                        Ok(Sync::Interval(interval))
                    }
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Form)
    }
}

const SYNC_MIN: Duration = Duration::from_millis(1);
const SYNC_MAX: Duration = Duration::from_secs(3600);

impl Serialize for Sync {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Sync::EveryBatch => serializer.serialize_str("every_batch"),
            Sync::Never => serializer.serialize_str("never"),
            Sync::Interval(interval) => Period(*interval).serialize(serializer),
        }
    }
}

impl JsonSchema for Sync {
    fn schema_name() -> Cow<'static, str> {
        "Sync".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(every_batch|never|[0-9]+ ?(us|ms|s|m|h|d))$" })
    }
}

/// The write-ahead log (WAL): every event is written to it before it is acknowledged or delivered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wal {
    /// Where segments are kept.
    #[serde(rename = "type")]
    pub kind: WalKind,
    /// When events are synced and acknowledged: `every_batch`, `never`, or an interval from 1ms to 1h.
    pub sync: Sync,
    /// Size of one segment file, 64KiB to 1GiB. Default: 32MiB, more if `max_line_bytes` of an input needs it, less if
    /// `max_bytes` is set and too small for it.
    pub segment_bytes: Option<ByteSize>,
    /// Size of the whole write-ahead log, split evenly over the shards; at least four segments for each. Two segments of each
    /// shard never hold events, and each pipeline of an input stores its own copy of each event. Default: 4GiB, more with many
    /// shards.
    pub max_bytes: Option<ByteSize>,
}

impl Default for Wal {
    fn default() -> Wal {
        Wal {
            kind: WalKind::default(),
            sync: Sync::Interval(Duration::from_millis(100)),
            segment_bytes: None,
            max_bytes: None,
        }
    }
}

/// How long a shutdown waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct DrainTimeout(pub Period);

impl Default for DrainTimeout {
    fn default() -> DrainTimeout {
        DrainTimeout(Period(Duration::from_secs(30)))
    }
}

/// Levels of the application log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Data was lost or someone has to act.
    Error,
    /// Something went wrong and Tailwater recovered.
    Warn,
    /// Actions of the operator and changes of state.
    #[default]
    Info,
    /// Details for debugging.
    Debug,
    /// Everything.
    Trace,
}

/// Formats of the application log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Lines that are easy to read.
    Text,
    /// One JSON object per line.
    Json,
}

/// The application log: Tailwater's own messages on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least severe level that is written. The variable TAILWATER_LOG overrides it.
    pub level: LogLevel,
    /// The format of its lines.
    pub format: LogFormat,
}

/// Reads the file's contents. A section that cannot be read is in `problems` and has its default here. The tree is the one that was
/// read: the numbers of list items in the contents are those of this tree.
pub fn read_file(root: &Node, problems: &mut Vec<Problem>) -> (Raw, Node) {
    let mut tree = root.clone();
    if let Some(entries) = root.entries() {
        for (key, _) in entries.iter().filter(|(key, _)| !KEYS.contains(&key.text.as_str())) {
            let fault = Fault {
                kind: FaultKind::Key { name: key.text.clone(), known: KEYS },
                span: Some(key.span),
                inner: None,
            };
            problems.push(fault.problem());
        }
    }
    doubt_field_names(root, problems);
    let raw = Raw {
        data_dir: section(root, "data_dir", problems),
        shards: section(root, "shards", problems),
        admin: section(root, "admin", problems),
        wal: section(root, "wal", problems),
        dlq: section(root, "dlq", problems),
        drain_timeout: section(root, "drain_timeout", problems),
        timezone: section(root, "timezone", problems),
        log: section(root, "log", problems),
        inputs: components(root, "inputs", &mut tree, problems),
        pipelines: pipelines(root, &mut tree, problems),
        outputs: components(root, "outputs", &mut tree, problems),
        tests: read_trials(root, problems),
    };
    (raw, tree)
}

/// Words that mean `false` or `true` in YAML 1.1 and are strings here.
const OLD_BOOLEANS: [&str; 4] = ["no", "off", "yes", "on"];

/// Warns of names of fields that are probably meant as `false`: `host: no` names the field `no`.
fn doubt_field_names(root: &Node, problems: &mut Vec<Problem>) {
    let inputs = root.entry("inputs").and_then(|(_, inputs)| inputs.entries()).unwrap_or_default();
    let fields = inputs.iter().filter_map(|(_, input)| input.entry("fields")?.1.entries());
    for (_, node) in fields.flatten() {
        let Value::Scalar(scalar) = &node.value else { continue };
        if !scalar.plain || scalar.variables {
            continue;
        }
        let Some(word) = OLD_BOOLEANS.iter().find(|word| scalar.text.eq_ignore_ascii_case(word)) else { continue };
        let help = match *word {
            "no" | "off" => {
                format!("to leave the field out, write `false`; to call it so, write quotes: \"{}\"", scalar.text)
            }
            _ => format!("to keep the field, leave the key out; to call it so, write quotes: \"{}\"", scalar.text),
        };
        let problem =
            Problem::warning(node.span, format!("`{}` is a string: it becomes the name of the field", scalar.text));
        problems.push(problem.label("not a boolean").help(help));
    }
}

fn section<T: DeserializeOwned + Default>(root: &Node, key: &str, problems: &mut Vec<Problem>) -> T {
    let Some((_, node)) = root.entry(key) else { return T::default() };
    let recovered = recover(node, |node| read(node));
    problems.extend(recovered.faults.into_iter().map(Fault::problem));
    recovered.value.unwrap_or_default()
}

fn components<T: Table>(root: &Node, section: &str, tree: &mut Node, problems: &mut Vec<Problem>) -> Vec<(String, T)> {
    named(root, section, tree, problems, T::read, |recovered, problems| {
        let Some(component) = &recovered.value else {
            let others = faults_of_any_type::<T>(&recovered.node);
            let is_new = |fault: &Fault| recovered.faults.iter().all(|told| told.span != fault.span);
            return problems.extend(others.into_iter().filter(is_new).map(Fault::problem));
        };
        let mistakes = component.check().into_iter().filter(|mistake| !recovered.explains(mistake, &[]));
        problems.extend(mistakes.map(|mistake| mistake.problem(&recovered.node, &[])));
    })
}

fn pipelines(root: &Node, tree: &mut Node, problems: &mut Vec<Problem>) -> Vec<(String, Pipeline)> {
    let read_one = |node: &Node| {
        read(node).map_err(|fault| match fault.kind {
            FaultKind::Word { name, known, .. } if known == Step::NAMES => {
                Fault { kind: FaultKind::Word { name, known, noun: "transform" }, ..fault }
            }
            _ => fault,
        })
    };
    named(root, "pipelines", tree, problems, read_one, check_pipeline)
}

/// The entries of a section whose keys are names that the user chooses.
fn named<T>(
    root: &Node,
    section: &str,
    tree: &mut Node,
    problems: &mut Vec<Problem>,
    read_one: impl Fn(&Node) -> Result<T, Fault>,
    check: impl Fn(&Recovered<T>, &mut Vec<Problem>),
) -> Vec<(String, T)> {
    let Some((key, node)) = root.entry(section) else {
        // The word of another collector for it was reported.
        if written(root, section).is_some() {
            return Vec::new();
        }
        problems.push(
            Problem::error(
                Span { start: root.span.start, end: root.span.start },
                format!("the key `{section}` is missing"),
            )
            .help(format!("add `{section}:` with at least one name below it")),
        );
        return Vec::new();
    };
    let entries = match &node.value {
        Value::Map(entries) if !entries.is_empty() => entries,
        Value::Scalar(scalar) if scalar.text.is_empty() => &Vec::new(),
        Value::Map(entries) => entries,
        _ => {
            let problem = Problem::error(node.span, format!("expected a map of names under `{section}`"));
            problems.push(problem.label(format!("this is {}", kind_of(node))));
            return Vec::new();
        }
    };
    if entries.is_empty() {
        problems.push(Problem::error(key.span, format!("`{section}` is empty")).help("at least one is needed"));
    }
    let (mut all, mut mistakes) = (Vec::with_capacity(entries.len()), Vec::new());
    for (name, node) in entries {
        if let Some(wrong) = wrong_name(&name.text) {
            problems
                .push(Problem::error(name.span, format!("`{}` cannot be a name: {wrong}", name.text)).help(NAME_RULE));
        }
        let mut recovered = recover(node, &read_one);
        check(&recovered, &mut mistakes);
        for fault in recovered.faults.drain(..) {
            // A missing key is a problem of the whole component, so its name is underlined instead of its first key.
            let whole = matches!(fault.kind, FaultKind::Missing(_)) && fault.span.is_none_or(|span| span == node.span);
            let span = if whole { Some(name.span) } else { fault.span.or(Some(node.span)) };
            problems.push(Fault { span, ..fault }.problem());
        }
        if let Some(one) = recovered.value {
            all.push((name.text.clone(), one));
            tree.replace(&[section, &name.text], recovered.node);
        }
    }
    problems.append(&mut mistakes);
    all
}

/// Which names are valid.
pub const NAME_RULE: &str =
    "a name has at most 64 characters: a-z, 0-9, `_` and `-`, because it becomes part of metric labels and paths";

/// Why a string is not a valid name, if it is not.
pub fn wrong_name(name: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    match name.len() {
        0 => Some("it is empty".to_owned()),
        65.. => Some("it is too long".to_owned()),
        _ => name.chars().find(|c| !good(*c)).map(|c| format!("`{}` is not allowed in a name", c.escape_debug())),
    }
}

/// The names under a section, including those that could not be read, so that a reference to a broken one is not unknown.
pub fn names<'a>(root: &'a Node, section: &str) -> Vec<&'a str> {
    let entries = written(root, section).and_then(Node::entries).unwrap_or_default();
    entries.iter().map(|(key, _)| key.text.as_str()).collect()
}

/// A section, also under the wrong key that probably means it.
fn written<'a>(root: &'a Node, section: &str) -> Option<&'a Node> {
    let means = |(key, _): &&(Key, Node)| !KEYS.contains(&key.text.as_str()) && meant(&key.text, KEYS) == Some(section);
    let own = root.entry(section).map(|(_, node)| node);
    own.or_else(|| root.entries()?.iter().find(means).map(|(_, node)| node))
}

/// The help for a reference to a name that does not exist.
pub fn unknown_name_help(name: &str, section: &str, known: &[&str]) -> String {
    match known.is_empty() {
        true => format!("define it under `{section}`"),
        false => suggestion(name, known, &format!("define it under `{section}`, where there are")),
    }
}
