//! What the settings of each component declare, and how settings become a spec.
//!
//! A component is one file with a `Settings` type (strict serde, schema, defaults) that implements [`Component`] and either
//! [`InputSettings`] or [`OutputSettings`], and one line in the table of its kind, which [`components!`](crate::components)
//! makes.

pub use super::facts::Facts;

use super::de::{Fault, FaultKind};
use super::node::{Node, Value, kind_of};
use super::problem::Problem;
use super::types::{Batching, FieldNames, Retry, Ring};
use crate::codec::framing::Rules;
use crate::parsers::Events;
use schemars::Schema;
use serde_json::json;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::dlq;
use tailwater_shards::env::{Disk, Env};
use tailwater_shards::plugin::{InputSpec, OutputSpec};
use tailwater_shards::route::ShardBy;

/// What help, reference docs and `schema` print about a component.
pub trait Component: Sized {
    /// The value of `type`.
    const NAME: &'static str;
    /// A one-line summary.
    const SUMMARY: &'static str;
    /// An example section of a configuration file that `validate` accepts.
    const EXAMPLE: &'static str;

    /// Checks what types alone cannot express: returns every mistake with its key.
    fn check(&self) -> Vec<Mistake>;
    /// Checks the files that the component reads when it opens and returns every reason why they cannot be used. May block.
    fn check_files<D: Disk>(&self, disk: &D) -> Vec<Mistake> {
        let _ = disk;
        Vec::new()
    }
    /// What is valid and exposes secrets, each with its key.
    fn doubts(&self) -> Vec<Mistake> {
        Vec::new()
    }
    /// The files that it reads, and that decide who is trusted.
    fn trusted_files(&self) -> Vec<TrustedFile> {
        Vec::new()
    }
}

/// A file that decides who is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedFile {
    /// The key that names it, dotted.
    pub key: &'static str,
    /// Its path.
    pub path: PathBuf,
    /// Whether it holds a secret.
    pub is_secret: bool,
}

/// What to do about a file that cannot be used.
pub const UNREAD_HELP: &str =
    "the user that runs Tailwater must be able to read it; to validate on another machine, use `validate --no-files`";

/// A setting that is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key, dotted from the component down, such as `rotate.bytes`.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub help: String,
    /// Further keys that it is concluded from; dotted likewise. Without them it is concluded from all that is below its own.
    pub needs: Vec<String>,
}

impl Mistake {
    /// A mistake at a key.
    pub fn new(key: impl Into<String>, what: impl Into<String>, help: impl Into<String>) -> Mistake {
        Mistake { key: key.into(), what: what.into(), help: help.into(), needs: Vec::new() }
    }

    /// The same, concluded from its key and these others: it is not reported if one of them could not be read.
    pub fn needing(self, keys: &[&str]) -> Mistake {
        Mistake { needs: keys.iter().map(|&key| key.to_owned()).collect(), ..self }
    }

    /// The same mistake with `key` in front of its path.
    pub fn below(self, key: &str) -> Mistake {
        let below = |inner: String| match inner.as_str() {
            "" => key.to_owned(),
            inner => format!("{key}.{inner}"),
        };
        Mistake { key: below(self.key), needs: self.needs.into_iter().map(below).collect(), ..self }
    }

    /// The keys on the way to where it is, from `above` down.
    pub fn path<'a>(&'a self, above: &[&'a str]) -> Vec<&'a str> {
        path(above, &self.key)
    }

    /// The keys that it is concluded from beside its own, each likewise.
    pub fn needs<'a>(&'a self, above: &[&'a str]) -> Vec<Vec<&'a str>> {
        self.needs.iter().map(|need| path(above, need)).collect()
    }

    /// The error for people, at its place in `node`.
    pub fn problem(self, node: &Node, above: &[&str]) -> Problem {
        let span = node.span_at(&self.path(above));
        Problem::error(span, self.what).label("here").help(self.help).independent()
    }
}

fn path<'a>(above: &[&'a str], key: &'a str) -> Vec<&'a str> {
    above.iter().copied().chain(key.split('.').filter(|key| !key.is_empty())).collect()
}

/// A value that is valid but probably not what is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubtful {
    /// What is odd, and at which key.
    pub mistake: Mistake,
    /// The bytes of the value that it is about.
    pub place: Range<usize>,
}

impl Doubtful {
    /// The same doubt with `key` in front of its path.
    pub fn below(self, key: &str) -> Doubtful {
        Doubtful { mistake: self.mistake.below(key), ..self }
    }

    /// The warning for people, at its place in `node`.
    pub fn problem(self, node: &Node, above: &[&str]) -> Problem {
        let span = node.span_inside(&self.mistake.path(above), &self.place);
        Problem::warning(span, self.mistake.what).label("here").help(self.mistake.help).independent()
    }
}

/// Settings of an input.
pub trait InputSettings<E: Env>: Component {
    /// What the engine runs.
    fn spec(&self, facts: &Facts) -> Arc<dyn InputSpec<E>>;
    /// What its events are and how they are parsed.
    fn events(&self) -> Events;
    /// The names of the fields of its events.
    fn fields(&self) -> &FieldNames;
    /// Size and full policy of its lanes.
    fn ring(&self) -> &Ring;
    /// How its batches are assigned to shards.
    fn shard_by(&self) -> ShardBy;
    /// The longest line that it accepts, in bytes.
    fn line_bytes_max(&self) -> usize;
    /// How it splits bytes into lines.
    fn rules(&self) -> Rules;
    /// The most file descriptors that an instance has open at a time.
    fn descriptors_max(&self) -> u64;
    /// Whether it follows files, in the room for positions.
    fn follows_files(&self) -> bool {
        false
    }
    /// What it reads if only one input of a process can read it.
    fn exclusive(&self) -> Option<&'static str> {
        None
    }
}

/// Settings of an output.
pub trait OutputSettings<E: Env>: Component {
    /// What the engine runs.
    fn spec(&self, facts: &Facts, name: &str) -> Arc<dyn OutputSpec<E>>;
    /// How deliveries are grouped.
    fn batching(&self) -> Batching;
    /// How failed deliveries are retried.
    fn retry(&self) -> Retry;
    /// What happens to its events when the WAL is full.
    fn when_full(&self) -> OutputFull;
    /// What happens to a dead letter beyond its share of the queue; none if the queue decides.
    fn letters_full(&self) -> Option<dlq::WhenFull> {
        None
    }
    /// The most bytes that an instance holds in addition to its current delivery.
    fn held_bytes_max(&self) -> u64;
    /// The most file descriptors that an instance has open at a time.
    fn descriptors_max(&self) -> u64;
}

/// Keys that every component has in addition to its settings.
pub const KEYS: &[&str] = &["type", "was"];

/// A row of a table of components, for help and docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The value of `type`.
    pub name: &'static str,
    /// A one-line summary.
    pub summary: &'static str,
    /// A configuration that `validate` accepts.
    pub example: &'static str,
}

/// The table of one kind of component; `type` selects a row.
pub trait Table: Sized {
    /// `input` or `output`.
    const KIND: &'static str;
    /// What the value of `type` is called in messages.
    const NOUN: &'static str;
    /// All types.
    const ROWS: &'static [Row];
    /// The names of all types.
    const NAMES: &'static [&'static str];

    /// Reads the settings of the type called `name`; `None` if the type is unknown.
    fn read_type(name: &str, node: &Node) -> Option<Result<Self, Fault>>;
    /// The value of `type`.
    fn type_name(&self) -> &'static str;
    /// Checks what types alone cannot express: returns every mistake.
    fn check(&self) -> Vec<Mistake>;
    /// Checks the files that the component reads when it opens and returns every reason why they cannot be used. May block.
    fn check_files<D: Disk>(&self, disk: &D) -> Vec<Mistake>;
    /// What is valid and exposes secrets, each with its key.
    fn doubts(&self) -> Vec<Mistake>;
    /// See [`Component::trusted_files`].
    fn trusted_files(&self) -> Vec<TrustedFile>;

    /// Reads a component; `type` may be anywhere among its keys.
    fn read(node: &Node) -> Result<Self, Fault> {
        if node.entries().is_none() {
            let expected = format!("an {}: a map with the key `type`", Self::KIND);
            return Err(Fault {
                kind: FaultKind::Value { found: Some(kind_of(node)), expected },
                span: Some(node.span),
                inner: None,
            });
        }
        let Some((_, kind)) = node.entry("type") else {
            return Err(Fault { kind: FaultKind::Missing(vec!["type"]), span: Some(node.span), inner: None });
        };
        let Value::Scalar(name) = &kind.value else {
            let expected = format!("the name of a type of {}", Self::KIND);
            return Err(Fault {
                kind: FaultKind::Value { found: Some(kind_of(kind)), expected },
                span: Some(kind.span),
                inner: None,
            });
        };
        Self::read_type(&name.text, node).unwrap_or_else(|| {
            let shown = (!name.variables).then(|| name.text.clone());
            Err(Fault {
                kind: FaultKind::Word { name: shown, known: Self::NAMES, noun: Self::NOUN },
                span: Some(kind.span),
                inner: None,
            })
        })
    }
}

/// The schema of a component: that of its settings plus [`KEYS`].
pub fn typed_schema(mut settings: Schema, name: &str, summary: &str) -> Schema {
    let map = settings.ensure_object();
    map.insert("description".to_owned(), json!(summary));
    map.insert("title".to_owned(), json!(name));
    if let Some(properties) = map.entry("properties").or_insert_with(|| json!({})).as_object_mut() {
        properties.insert("type".to_owned(), json!({"const": name}));
        let was = "The previous name of a renamed component. It continues where it stopped under that name: an output with \
                   the events that wait in the write-ahead log, an input with its positions. The key can stay after the rename.";
        properties.insert("was".to_owned(), json!({"type": ["string", "null"], "description": was}));
    }
    if let Some(required) = map.entry("required").or_insert_with(|| json!([])).as_array_mut() {
        required.insert(0, json!("type"));
    }
    settings
}

/// Makes the table of a kind: `components! { pub enum InputConfig: input { File => file::Settings, } }`.
#[macro_export]
macro_rules! components {
    ($(#[$meta:meta])* pub enum $table:ident: $kind:ident { $($variant:ident => $settings:ty),* $(,)? }) => {
        $(#[$meta])*
        pub enum $table {
            $(
                #[allow(missing_docs, reason = "the row of the table says what it is")]
                $variant($settings),
            )*
        }

        impl $crate::config::component::Table for $table {
            const KIND: &'static str = stringify!($kind);
            const NOUN: &'static str = concat!("type of ", stringify!($kind));
            const ROWS: &'static [$crate::config::component::Row] = &[$($crate::config::component::Row {
                name: <$settings as $crate::config::component::Component>::NAME,
                summary: <$settings as $crate::config::component::Component>::SUMMARY,
                example: <$settings as $crate::config::component::Component>::EXAMPLE,
            }),*];
            const NAMES: &'static [&'static str] =
                &[$(<$settings as $crate::config::component::Component>::NAME),*];

            fn read_type(
                name: &str,
                node: &$crate::config::node::Node,
            ) -> Option<Result<Self, $crate::config::de::Fault>> {
                $(if name == <$settings as $crate::config::component::Component>::NAME {
                    return Some($crate::config::de::read_without(node, $crate::config::component::KEYS).map(Self::$variant));
                })*
                None
            }

            fn type_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$settings as $crate::config::component::Component>::NAME,)*
                }
            }

            fn check(&self) -> Vec<$crate::config::component::Mistake> {
                match self {
                    $(Self::$variant(settings) => $crate::config::component::Component::check(settings),)*
                }
            }

            fn doubts(&self) -> Vec<$crate::config::component::Mistake> {
                match self {
                    $(Self::$variant(settings) => $crate::config::component::Component::doubts(settings),)*
                }
            }

            fn trusted_files(&self) -> Vec<$crate::config::component::TrustedFile> {
                match self {
                    $(Self::$variant(settings) => $crate::config::component::Component::trusted_files(settings),)*
                }
            }

            fn check_files<D: tailwater_shards::env::Disk>(
                &self,
                disk: &D,
            ) -> Vec<$crate::config::component::Mistake> {
                match self {
                    $(Self::$variant(settings) => $crate::config::component::Component::check_files(settings, disk),)*
                }
            }
        }

        impl schemars::JsonSchema for $table {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($kind).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let types: Vec<schemars::Schema> = vec![$($crate::config::component::typed_schema(
                    <$settings as schemars::JsonSchema>::json_schema(generator),
                    <$settings as $crate::config::component::Component>::NAME,
                    <$settings as $crate::config::component::Component>::SUMMARY,
                )),*];
                schemars::json_schema!({ "oneOf": types })
            }
        }

        $crate::components!(@dispatch $kind $table { $($variant),* });
    };

    (@dispatch input $table:ident { $($variant:ident),* }) => {
        /// Forwards to the settings of the chosen type.
        impl $table {
            /// What the engine runs.
            pub fn spec<E: tailwater_shards::env::Env>(
                &self,
                facts: &$crate::config::component::Facts,
            ) -> std::sync::Arc<dyn tailwater_shards::plugin::InputSpec<E>> {
                match self { $(Self::$variant(settings) => $crate::config::component::InputSettings::<E>::spec(settings, facts),)* }
            }
            /// What its events are and how they are parsed.
            pub fn events<E: tailwater_shards::env::Env>(&self) -> $crate::parsers::Events {
                match self { $(Self::$variant(settings) => $crate::config::component::InputSettings::<E>::events(settings),)* }
            }
            /// The names of the fields of its events.
            pub fn fields<E: tailwater_shards::env::Env>(&self) -> &$crate::config::types::FieldNames {
                match self { $(Self::$variant(settings) => $crate::config::component::InputSettings::<E>::fields(settings),)* }
            }
            /// Size and full policy of its lanes.
            pub fn ring<E: tailwater_shards::env::Env>(&self) -> &$crate::config::types::Ring {
                match self { $(Self::$variant(settings) => $crate::config::component::InputSettings::<E>::ring(settings),)* }
            }
            /// How its batches are assigned to shards.
            pub fn shard_by<E: tailwater_shards::env::Env>(&self) -> tailwater_shards::route::ShardBy {
                match self { $(Self::$variant(settings) => $crate::config::component::InputSettings::<E>::shard_by(settings),)* }
            }
            /// The longest line that it accepts, in bytes.
            pub fn line_bytes_max<E: tailwater_shards::env::Env>(&self) -> usize {
                match self { $(Self::$variant(settings) => $crate::config::component::InputSettings::<E>::line_bytes_max(settings),)* }
            }
            /// How it splits bytes into lines.
            pub fn rules<E: tailwater_shards::env::Env>(&self) -> $crate::codec::framing::Rules {
                match self { $(Self::$variant(settings) => $crate::config::component::InputSettings::<E>::rules(settings),)* }
            }
            /// The most file descriptors that an instance has open at a time.
            pub fn descriptors_max<E: tailwater_shards::env::Env>(&self) -> u64 {
                match self { $(Self::$variant(settings) => $crate::config::component::InputSettings::<E>::descriptors_max(settings),)* }
            }
            /// Whether it follows files, in the room for positions.
            pub fn follows_files<E: tailwater_shards::env::Env>(&self) -> bool {
                match self { $(Self::$variant(settings) => $crate::config::component::InputSettings::<E>::follows_files(settings),)* }
            }
            /// What it reads if only one input of a process can read it.
            pub fn exclusive<E: tailwater_shards::env::Env>(&self) -> Option<&'static str> {
                match self { $(Self::$variant(settings) => $crate::config::component::InputSettings::<E>::exclusive(settings),)* }
            }
        }
    };

    (@dispatch output $table:ident { $($variant:ident),* }) => {
        /// Forwards to the settings of the chosen type.
        impl $table {
            /// What the engine runs.
            pub fn spec<E: tailwater_shards::env::Env>(
                &self,
                facts: &$crate::config::component::Facts,
                name: &str,
            ) -> std::sync::Arc<dyn tailwater_shards::plugin::OutputSpec<E>> {
                match self { $(Self::$variant(settings) => $crate::config::component::OutputSettings::<E>::spec(settings, facts, name),)* }
            }
            /// How deliveries are grouped.
            pub fn batching<E: tailwater_shards::env::Env>(&self) -> $crate::config::types::Batching {
                match self { $(Self::$variant(settings) => $crate::config::component::OutputSettings::<E>::batching(settings),)* }
            }
            /// How failed deliveries are retried.
            pub fn retry<E: tailwater_shards::env::Env>(&self) -> $crate::config::types::Retry {
                match self { $(Self::$variant(settings) => $crate::config::component::OutputSettings::<E>::retry(settings),)* }
            }
            /// What happens to its events when the WAL is full.
            pub fn when_full<E: tailwater_shards::env::Env>(&self) -> tailwater_shards::delivery::OutputFull {
                match self { $(Self::$variant(settings) => $crate::config::component::OutputSettings::<E>::when_full(settings),)* }
            }
            /// What happens to a dead letter beyond its share of the queue; none if the queue decides.
            pub fn letters_full<E: tailwater_shards::env::Env>(&self) -> Option<tailwater_shards::dlq::WhenFull> {
                match self { $(Self::$variant(settings) => $crate::config::component::OutputSettings::<E>::letters_full(settings),)* }
            }
            /// The most bytes that an instance holds in addition to its current delivery.
            pub fn held_bytes_max<E: tailwater_shards::env::Env>(&self) -> u64 {
                match self { $(Self::$variant(settings) => $crate::config::component::OutputSettings::<E>::held_bytes_max(settings),)* }
            }
            /// The most file descriptors that an instance has open at a time.
            pub fn descriptors_max<E: tailwater_shards::env::Env>(&self) -> u64 {
                match self { $(Self::$variant(settings) => $crate::config::component::OutputSettings::<E>::descriptors_max(settings),)* }
            }
        }
    };
}
