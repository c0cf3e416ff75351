//! How long to wait before the next attempt. Pure functions.
//!
//! Guarantees: the limit doubles from `initial` to `max`, and each wait is uniformly distributed below it (full jitter), so
//! that many clients of a recovering destination do not retry at the same time. Does not limit the attempts: the caller decides
//! when to stop.

use std::time::Duration;

/// Settings of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOptions {
    /// Limit of the first wait.
    pub initial: Duration,
    /// Limit of any wait.
    pub max: Duration,
    /// How long one delivery is retried. Forever if none.
    pub age_max: Option<Duration>,
}

/// The waits of one series of attempts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    options: RetryOptions,
    bound: Duration,
}

impl Backoff {
    /// Starts a series.
    pub fn new(options: RetryOptions) -> Backoff {
        Backoff { options, bound: options.initial.min(options.max) }
    }

    /// The next wait. `random` are 64 random bits.
    pub fn next(&mut self, random: u64) -> Duration {
        let bound = self.bound;
        self.bound = bound.saturating_mul(2).min(self.options.max);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(((u128::from(random) * u128::from(nanos)) >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_spread_below_it() {
        let second = Duration::from_secs(1);
        let options = RetryOptions { initial: second, max: second * 5, age_max: None };
        let mut backoff = Backoff::new(options);
        let highest: Vec<u64> = (0..5).map(|_| backoff.next(u64::MAX).as_millis() as u64).collect();
        assert_eq!(highest, [999, 1999, 3999, 4999, 4999]);
        let mut backoff = Backoff::new(options);
        assert_eq!(backoff.next(0), Duration::ZERO);
        assert_eq!(backoff.next(u64::MAX / 2).as_millis(), 999);
    }
}
