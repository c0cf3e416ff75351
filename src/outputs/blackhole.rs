//! The `blackhole` output: discards all events.
//!
//! Guarantees: does not read the events, so a benchmark with this output measures the rest of the product. Discarded events
//! are counted in the usual counters of an output.

use super::encoding::output_full;
use crate::config::component::{Component, Facts, Mistake, OutputSettings};
use crate::config::types::{Batching, Retry, WhenFull};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::env::Env;
use tailwater_shards::plugin::{
    Delivery, LocalFuture, OpenResult, Outcome, Output, OutputContext, OutputSpec, Placement, Resume,
};

/// The settings of the output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How deliveries are grouped.
    pub batch: Batching,
    /// How failed deliveries are retried. Deliveries to this output never fail.
    pub retry: Retry,
    /// What happens to its events if the WAL is full because of this output.
    pub when_full: WhenFull,
}

impl Component for Settings {
    const NAME: &'static str = "blackhole";
    const SUMMARY: &'static str = "Discards all events; for tests and benchmarks.";
    const EXAMPLE: &'static str = "type: blackhole\n";

    fn check(&self) -> Vec<Mistake> {
        Vec::new()
    }
}

impl<E: Env> OutputSettings<E> for Settings {
    fn spec(&self, _: &Facts, _: &str) -> Arc<dyn OutputSpec<E>> {
        Arc::new(Spec)
    }

    fn batching(&self) -> Batching {
        self.batch
    }

    fn retry(&self) -> Retry {
        self.retry
    }

    fn when_full(&self) -> OutputFull {
        output_full(self.when_full)
    }

    fn held_bytes_max(&self) -> u64 {
        0
    }

    fn descriptors_max(&self) -> u64 {
        0
    }
}

struct Spec;

impl<E: Env> OutputSpec<E> for Spec {
    fn placement(&self) -> Placement {
        Placement::Every
    }

    fn open(&self, _: OutputContext<E>, _: Resume) -> LocalFuture<'static, OpenResult> {
        Box::pin(async { Ok(Box::new(Blackhole) as Box<dyn Output>) })
    }
}

struct Blackhole;

impl Output for Blackhole {
    fn deliver<'a>(&'a mut self, _: &'a Delivery<'a>) -> LocalFuture<'a, Outcome> {
        Box::pin(async { Outcome::Delivered })
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoding::testing::delivery;
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn all_events_are_delivered() {
        let mut lines = delivery(&["{}\n".to_owned()], 1);
        assert!(matches!(block_on(Blackhole.deliver(&lines)), Outcome::Delivered));
        lines = delivery(&[], 1);
        assert!(matches!(block_on(Blackhole.deliver(&lines)), Outcome::Delivered));
    }

    #[test]
    fn unknown_key_is_rejected() {
        assert!(serde_json::from_str::<Settings>(r#"{"when_full": "sample"}"#).is_ok());
        assert!(serde_json::from_str::<Settings>(r#"{"path": "/x"}"#).is_err());
    }
}
