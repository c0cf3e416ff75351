//! What a delivery does when an attempt fails: it waits, says so, and says when it is over.
//!
//! Guarantees: no wait is longer than [`crate::retry`] says, and none lasts beyond the age at which a delivery is given up: an attempt
//! that would begin later is not begun. What fails is there for readers with the time since when ([`crate::counters::Trouble`]), and
//! its end is logged once. Does not decide what becomes of events that are given up.

use super::letters::Ended;
use super::source::{LogReader, Taken};
use super::{COMMIT_INTERVAL, Deliverer, End};
use crate::env::{Env, Monotonic};
use crate::retry::Backoff;
use crate::stop::Phase;
use futures_lite::future::or;
use std::time::Duration;

impl<E: Env> Deliverer<E> {
    /// Waits after an attempt that failed; why there is no other, if so.
    pub(super) async fn retry(
        &mut self,
        backoff: &mut Backoff,
        after: Option<Duration>,
        error: &str,
        begun: Monotonic,
        taken: &[Taken<E::Disk>],
    ) -> Result<Option<Ended>, End> {
        self.context.counters.retries.add(1);
        let drawn = backoff.next(self.context.env.random(), after);
        let wait = self.left_of_age(begun).map_or(drawn, |left| drawn.min(left));
        self.fails(error, wait);
        if let Some(ended) = self.ends_attempts(begun, taken) {
            return Ok(Some(ended));
        }
        // After the intakes have ended nothing but this output is waited for; the log keeps its events.
        if self.pause(wait, taken).await {
            return Err(End::Forced);
        }
        let is_too_old = self.left_of_age(begun).is_some_and(|left| left.is_zero());
        Ok(is_too_old.then_some(Ended::TooOld))
    }

    /// How long a delivery that began then may still wait for an attempt; none if for ever.
    fn left_of_age(&self, begun: Monotonic) -> Option<Duration> {
        let age = self.context.env.now().since(begun);
        self.options.retry.age_max.map(|age_max| age_max.saturating_sub(age))
    }

    /// Waits before the next attempt to deliver, or until the log is full because of an output that gives way. True when the engine
    /// is forced to end meanwhile.
    async fn pause(&mut self, wait: Duration, taken: &[Taken<E::Disk>]) -> bool {
        let deadline = self.context.env.now().after(wait);
        loop {
            let (left, last) = self.slice_of(deadline);
            let _ = self.unless_forced(self.context.env.sleep(left)).await;
            if self.stop.phase() == Phase::Forced {
                return true;
            }
            if last || self.options.when_full.gives_way() && self.blocks_a_full_log(taken) {
                return false;
            }
        }
    }

    /// The same before an attempt to open the output. Also true when it need not be opened any more: a stop does not wait for an
    /// output that has nothing to deliver.
    pub(super) async fn pause_closed(&mut self, wait: Duration) -> bool {
        let deadline = self.context.env.now().after(wait);
        loop {
            if self.stop.phase() == Phase::Forced || self.is_needless().await {
                return true;
            }
            let (left, last) = self.slice_of(deadline);
            let (intakes, news) = (&self.intakes, &self.news);
            let ended = async {
                // After that, only time changes anything.
                let waits = !intakes.all_ended();
                while waits && !intakes.all_ended() {
                    news.wait().await;
                }
                if !waits {
                    std::future::pending::<()>().await;
                }
                false
            };
            let slept = async {
                self.context.env.sleep(left).await;
                true
            };
            let slept = self.unless_forced(or(slept, ended)).await.unwrap_or(false);
            if slept && last || self.options.when_full.gives_way() && self.a_log_is_full() {
                return self.stop.phase() == Phase::Forced;
            }
        }
    }

    /// How long to wait at once until `deadline`, and whether it is over then: an output that gives way looks at the log meanwhile.
    fn slice_of(&self, deadline: Monotonic) -> (Duration, bool) {
        let left = deadline.since(self.context.env.now());
        let slice = if self.options.when_full.gives_way() { left.min(COMMIT_INTERVAL) } else { left };
        (slice, slice >= left)
    }

    /// An attempt failed, and the next comes after `wait`.
    pub(super) fn fails(&self, error: &str, wait: Duration) {
        let counters = &self.context.counters;
        counters.errors.add(1);
        counters.trouble.add(self.context.env.wall(), error);
        tracing::warn!(
            component_id = %self.context.name,
            component_kind = "output",
            waiting_events = self.waiting(),
            next_attempt_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            "{error}"
        );
    }

    /// An attempt succeeded.
    pub(super) fn recovers(&self, what: &str) {
        let Some(trouble) = self.context.counters.trouble.take() else { return };
        let lasted = self.context.env.wall().0.saturating_sub(trouble.since.0).max(0);
        tracing::info!(
            component_id = %self.context.name,
            component_kind = "output",
            waiting_events = self.waiting(),
            failed_attempts = trouble.attempts,
            failed_for_ms = lasted / 1_000_000,
            "the output `{}` {what} again",
            self.context.name
        );
    }

    /// Events in the logs that wait for this instance, the present delivery included.
    fn waiting(&self) -> u64 {
        let appended: u64 = self.readers.iter().map(LogReader::appended).sum();
        u64::try_from(i128::from(appended) - self.context.counters.left()).unwrap_or(0)
    }
}
