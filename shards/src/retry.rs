//! How long to wait before the next attempt. Pure functions.
//!
//! Guarantees: the limit doubles from `initial` to `max`, and each wait is uniformly distributed below it (full jitter), so
//! that many clients of a recovering destination do not retry at the same time. A wait is longer than `max` only if the
//! destination asked for that, and never longer than `after_max`. Does not limit the attempts: the caller decides when to
//! stop.

use std::time::Duration;

/// Settings of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOptions {
    /// Limit of the first wait.
    pub initial: Duration,
    /// Limit of any wait that the destination did not ask for.
    pub max: Duration,
    /// Limit of a wait that it did ask for.
    pub after_max: Duration,
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

    /// The next wait. `random` are 64 random bits, and `after` is the wait that the destination asked for.
    pub fn next(&mut self, random: u64, after: Option<Duration>) -> Duration {
        let bound = self.bound;
        self.bound = bound.saturating_mul(2).min(self.options.max);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let drawn = Duration::from_nanos(((u128::from(random) * u128::from(nanos)) >> 64) as u64);
        drawn.max(after.unwrap_or_default().min(self.options.after_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_spread_below_it() {
        let second = Duration::from_secs(1);
        let options = RetryOptions { initial: second, max: second * 5, after_max: second * 60, age_max: None };
        let mut backoff = Backoff::new(options);
        let highest: Vec<u64> = (0..5).map(|_| backoff.next(u64::MAX, None).as_millis() as u64).collect();
        assert_eq!(highest, [999, 1999, 3999, 4999, 4999]);
        let mut backoff = Backoff::new(options);
        assert_eq!(backoff.next(0, None), Duration::ZERO);
        assert_eq!(backoff.next(u64::MAX / 2, None).as_millis(), 999);
    }

    #[test]
    fn destination_is_waited_for_as_it_asks_within_its_own_bound() {
        let second = Duration::from_secs(1);
        let options = RetryOptions { initial: second, max: second * 5, after_max: second * 60, age_max: None };
        let mut backoff = Backoff::new(options);
        assert_eq!(backoff.next(0, Some(second * 7)), second * 7);
        assert_eq!(backoff.next(0, Some(second * 3600)), second * 60);
        assert_eq!(backoff.next(u64::MAX, Some(second)).as_millis(), 3999, "its wish is the least");
        let short = RetryOptions { after_max: Duration::ZERO, ..options };
        assert_eq!(Backoff::new(short).next(0, Some(second * 7)), Duration::ZERO);
    }
}
