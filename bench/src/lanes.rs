//! The ring, and the lane that uses it: both ends on one thread, as on a shard that sends to itself.

use crate::Outcome;
use crate::data::{fold, source};
use futures_lite::future::block_on;
use std::sync::Arc;
use std::time::Instant;
use tailwater_shards::counters::InputCounters;
use tailwater_shards::lane::LaneOptions;
use tailwater_shards::signal::Signal;

/// One event is one item; the ring is half full on average.
pub fn ring(events: u64) -> Option<Outcome> {
    let (mut producer, mut consumer) = tailwater_shards::ring::ring(64);
    let begun = Instant::now();
    let (mut hash, mut pushed, mut popped) = (0, 0u64, 0);
    while popped < events {
        while pushed < events && producer.push(pushed).is_ok() {
            pushed += 1;
        }
        while let Some(item) = consumer.pop() {
            hash = fold(hash, item);
            popped += 1;
        }
    }
    Some(Outcome { elapsed: begun.elapsed(), hash })
}

/// One event is one complete round trip of a batch: acquired, sent, received, returned, acknowledged.
pub fn lane(events: u64) -> Option<Outcome> {
    let counters = Arc::new(InputCounters::default());
    let (sender, mut receiver, _meter) =
        tailwater_shards::lane::lane(LaneOptions::default(), Arc::new(Signal::new()), counters);
    let acknowledger = receiver.acknowledger();
    let source = source();
    let begun = Instant::now();
    let mut hash = 0;
    for number in 0..events {
        let mut batch = block_on(sender.batch(&source));
        batch.range.from = number;
        batch.range.to = number + 1;
        let ticket = block_on(sender.send(batch))?;
        let received = receiver.pop(|_| false)?;
        hash = fold(hash, received.range.to + received.ticket);
        receiver.give_back(received);
        acknowledger.acknowledge(ticket);
    }
    hash = fold(hash, sender.acknowledged());
    Some(Outcome { elapsed: begun.elapsed(), hash })
}
