//! An output that was removed from the configuration, while its waiting events become dead letters.
//!
//! Guarantees: every event is in the dead letter queue before the cursor passes it, so a start that ends early continues there. It is
//! not in the table of outputs: no configuration can name it.

use std::sync::Arc;
use tailwater_shards::delivery::{BatchOptions, DeliveryOptions, OutputFull};
use tailwater_shards::engine::OutputPlan;
use tailwater_shards::env::Env;
use tailwater_shards::plugin::{
    Delivery, LocalFuture, OpenResult, Outcome, Output, OutputContext, OutputSpec, Placement, Resume,
};
use tailwater_shards::retry::RetryOptions;

use std::time::Duration;

/// The value of the label `component_type`.
pub const NAME: &str = "removed";

/// Maximum number of events that wait in the dead letter queue at a time.
const EVENTS_MAX: u64 = 1000;

/// The plan of the removed output `name`, which only drains its waiting events.
pub fn output<E: Env>(name: &str) -> OutputPlan<E> {
    OutputPlan {
        name: name.into(),
        spec: Arc::new(Gone),
        options: DeliveryOptions {
            batch: BatchOptions { bytes_max: 1024 * 1024, events_max: EVENTS_MAX, age_max: Duration::ZERO },
            retry: RetryOptions {
                initial: Duration::from_millis(100),
                max: Duration::from_secs(30),
                after_max: Duration::ZERO,
                age_max: None,
            },
            when_full: OutputFull::Block,
            letters_full: None,
        },
        was: None,
    }
}

struct Gone;

impl<E: Env> OutputSpec<E> for Gone {
    fn placement(&self) -> Placement {
        Placement::One
    }

    fn open(&self, _: OutputContext<E>, _: Resume) -> LocalFuture<'static, OpenResult> {
        Box::pin(async { Ok(Box::new(Gone) as Box<dyn Output>) })
    }
}

impl Output for Gone {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery<'a>) -> LocalFuture<'a, Outcome> {
        let reason = || "its output was removed from the configuration".to_owned();
        let all = (0..delivery.events).map(|event| (event, reason())).collect();
        Box::pin(async move { Outcome::Rejected(all) })
    }
}
