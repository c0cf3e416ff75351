//! Concurrent futures in one task.
//!
//! Guarantees: each future is polled when it is added and whenever the task wakes. Results are returned in arbitrary order.
//! Dropping the set drops the futures. Meant for a few futures: each wake polls all of them.

use std::future::poll_fn;
use std::task::Poll;
use tailwater_shards::plugin::LocalFuture;

/// See the module.
pub struct Flights<'a, T> {
    futures: Vec<LocalFuture<'a, T>>,
    landed: Vec<T>,
}

impl<'a, T> Flights<'a, T> {
    /// An empty set.
    pub fn new() -> Flights<'a, T> {
        Flights { futures: Vec::new(), landed: Vec::new() }
    }

    /// Number of futures that are running or whose result was not returned yet.
    pub fn count(&self) -> usize {
        self.futures.len() + self.landed.len()
    }

    /// Adds a future, polls it, and yields so that tasks it started can run.
    pub async fn launch(&mut self, future: LocalFuture<'a, T>) {
        self.futures.push(future);
        poll_fn(|context| {
            self.poll(context);
            Poll::Ready(())
        })
        .await;
        futures_lite::future::yield_now().await;
    }

    /// The result of a future that ended; none if the set is empty.
    pub async fn next(&mut self) -> Option<T> {
        if self.count() == 0 {
            return None;
        }
        poll_fn(|context| {
            if self.landed.is_empty() {
                self.poll(context);
            }
            self.landed.pop().map_or(Poll::Pending, |landed| Poll::Ready(Some(landed)))
        })
        .await
    }

    fn poll(&mut self, context: &mut std::task::Context<'_>) {
        let landed = &mut self.landed;
        self.futures.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(value) => {
                landed.push(value);
                false
            }
            Poll::Pending => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, yield_now};

    #[test]
    fn all_results_are_returned_fast_ones_first() {
        block_on(async {
            let mut flights = Flights::new();
            for steps in [5, 0, 2] {
                let flight = async move {
                    for _ in 0..steps * 4 {
                        yield_now().await;
                    }
                    steps
                };
                flights.launch(Box::pin(flight)).await;
            }
            assert_eq!(flights.count(), 3);
            let landed = [flights.next().await, flights.next().await, flights.next().await, flights.next().await];
            assert_eq!(landed, [Some(0), Some(2), Some(5), None]);
        });
    }
}
