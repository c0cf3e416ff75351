//! What every component's settings say about themselves, and how settings become a spec.
//!
//! A component is one file with a `Settings` type (strict serde, schema, defaults) that implements [`Component`] and either
//! [`InputSettings`] or [`OutputSettings`], and one line in the table of its kind.

use super::types::{Batching, FieldNames, Retry, Ring};
use std::sync::Arc;
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::env::Env;
use tailwater_shards::plugin::{EncoderSpec, InputSpec, OutputSpec};
use tailwater_shards::route::ShardBy;

/// What help, reference docs and `schema` print of a component.
pub trait Component: Sized {
    /// The value of `type`.
    const NAME: &'static str;
    /// One line.
    const SUMMARY: &'static str;
    /// Its part of a configuration file, which `validate` accepts as it is.
    const EXAMPLE: &'static str;

    /// Checks what types alone cannot: returns the key and what is wrong with it.
    fn check(&self) -> Result<(), Mistake>;
}

/// A value that does not make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key, dotted from the component down: `rotate.bytes`.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub help: String,
}

/// Facts of the host and the process that specs may need.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The host's name.
    pub host: Arc<str>,
}

/// Settings of an input.
pub trait InputSettings<E: Env>: Component {
    /// What runs.
    fn spec(&self, facts: &Facts) -> Arc<dyn InputSpec<E>>;
    /// How its events become lines.
    fn encoder(&self, facts: &Facts) -> Arc<dyn EncoderSpec>;
    /// The names of the fields of its events.
    fn fields(&self) -> &FieldNames;
    /// Bytes and policy of its lanes.
    fn ring(&self) -> &Ring;
    /// Where its batches go.
    fn shard_by(&self) -> ShardBy;
    /// The longest line it lets through, in bytes.
    fn line_bytes_max(&self) -> usize;
}

/// Settings of an output.
pub trait OutputSettings<E: Env>: Component {
    /// What runs.
    fn spec(&self, facts: &Facts, name: &str) -> Arc<dyn OutputSpec<E>>;
    /// How deliveries are grouped.
    fn batching(&self) -> Batching;
    /// How failed deliveries are tried again.
    fn retry(&self) -> Retry;
    /// What happens to its events when the log is full.
    fn when_full(&self) -> OutputFull;
}
