//! Policies of a full lane, its limit, and its tickets, with both ends on one thread.

use super::*;
use crate::batch::{EventSpan, Source, SourceKey, SourceRange};
use crate::counters::Discard;
use crate::env::Timestamp;
use crate::limits::CHUNK_BYTES;
use futures_lite::future::{block_on, poll_once};

fn source() -> Arc<Source> {
    Arc::new(Source {
        key: SourceKey(7),
        input: "app".into(),
        name: Vec::new(),
        descriptor: Vec::new(),
        repeatable: true,
    })
}

struct Fixture {
    sender: LaneSender,
    receiver: LaneReceiver,
    meter: LaneMeter,
    counters: Arc<InputCounters>,
    source: Arc<Source>,
    at: u64,
}

impl Fixture {
    fn new(bytes: usize, when_full: WhenFull) -> Fixture {
        let counters = Arc::new(InputCounters::default());
        let options = LaneOptions { bytes, when_full };
        let (sender, receiver, meter) = lane(options, Arc::new(Signal::new()), counters.clone());
        Fixture { sender, receiver, meter, counters, source: source(), at: 0 }
    }

    /// Sends a batch of ten events of one byte each. Returns whether it was sent at once, and its ticket.
    fn send(&mut self) -> Option<Option<u64>> {
        let mut batch = block_on(poll_once(self.sender.batch(&self.source)))?;
        batch.events.extend((0..10).map(|i| EventSpan { start: i, end: i + 1 }));
        batch.chunk.set_length(10);
        batch.range = SourceRange { from: self.at, to: self.at + 10, marker: 0 };
        self.at += 10;
        block_on(poll_once(self.sender.send(batch)))
    }
}

#[test]
fn full_lane_stops_reading() {
    let mut lane = Fixture::new(3 * CHUNK_BYTES, WhenFull::Block);
    for ticket in 1..=3 {
        assert_eq!(lane.send(), Some(Some(ticket)));
    }
    assert_eq!(lane.send(), None, "a fourth batch waits");
    let batch = lane.receiver.pop(|_| false).expect("a batch was sent");
    assert_eq!(batch.ticket, 1);
    lane.receiver.give_back(batch);
    assert_eq!(lane.send(), Some(Some(4)));
    assert_eq!(lane.counters.discarded.total(), 0);
}

#[test]
fn dropped_newest_is_counted_and_its_range_travels_on() {
    let mut lane = Fixture::new(2 * CHUNK_BYTES, WhenFull::DropNewest);
    lane.send();
    lane.send();
    for _ in 0..3 {
        assert_eq!(lane.send(), Some(None));
    }
    assert_eq!(lane.counters.discarded.get(Discard::RingFull), 30);
    for _ in 0..2 {
        let batch = lane.receiver.pop(|_| false).expect("two were sent");
        lane.receiver.give_back(batch);
    }
    lane.sender.settle();
    let owed = lane.receiver.pop(|_| false).expect("the range of the dropped ones");
    assert_eq!((owed.range.from, owed.range.to, owed.dropped_events), (20, 50, 30));
    assert!(owed.events.is_empty());
    assert!(!lane.sender.owes());
}

#[test]
fn dropped_ranges_do_not_keep_their_batches_from_the_input() {
    let mut lane = Fixture::new(CHUNK_BYTES, WhenFull::DropNewest);
    lane.send();
    let large = |lane: &Fixture| block_on(poll_once(lane.sender.large_batch(&lane.source, 2 * CHUNK_BYTES)));
    for at in [100, 200] {
        let mut batch = large(&lane).expect("two large batches may exist");
        batch.range = SourceRange { from: at, to: at + 10, marker: 0 };
        assert_eq!(block_on(poll_once(lane.sender.send(batch))), Some(None), "the lane is full");
    }
    assert!(large(&lane).is_none(), "both hold ranges that are owed");
    for _ in 0..2 {
        let batch = lane.receiver.pop(|_| false).expect("what is owed is sent as soon as there is room");
        lane.receiver.give_back(batch);
        large(&lane).into_iter().for_each(|batch| lane.sender.put_back(batch));
    }
    assert!(large(&lane).is_some(), "the first came home");

    let mut lane = Fixture::new(CHUNK_BYTES, WhenFull::DropNewest);
    for at in 0..lane_batches(CHUNK_BYTES) as u64 {
        let mut batch = block_on(lane.sender.batch(&lane.source));
        batch.range = SourceRange { from: at * 20, to: at * 20 + 10, marker: 0 };
        block_on(poll_once(lane.sender.send(batch)));
    }
    assert!(block_on(poll_once(lane.sender.batch(&lane.source))).is_none(), "all are on their way or owed");
    let batch = lane.receiver.pop(|_| false).expect("one is on its way");
    lane.receiver.give_back(batch);
    assert!(block_on(poll_once(lane.sender.batch(&lane.source))).is_some(), "it came home");
}

#[test]
fn dropped_oldest_makes_room_and_keeps_its_range() {
    let mut lane = Fixture::new(2 * CHUNK_BYTES, WhenFull::DropOldest);
    lane.send();
    lane.send();
    assert_eq!(lane.send(), None, "it asks and waits");
    let dropped = lane.receiver.drop_oldest().expect("the sender asked");
    assert_eq!((dropped.range.from, dropped.range.to, dropped.events, dropped.ticket), (0, 10, 10, 1));
    assert!(lane.receiver.drop_oldest().is_none(), "one batch was enough");
    assert_eq!(lane.meter.counters().dropped_events.get(), 10);
    assert_eq!(lane.send(), Some(Some(3)));
    assert_eq!(lane.receiver.pop(|_| false).map(|batch| batch.ticket), Some(2));
}

#[test]
fn sampling_keeps_one_in_ten_above_half() {
    let mut lane = Fixture::new(4 * CHUNK_BYTES, WhenFull::Sample);
    for _ in 0..3 {
        lane.send();
    }
    lane.send();
    let kept: Vec<usize> =
        std::iter::from_fn(|| lane.receiver.pop(|_| false)).map(|batch| batch.events.len()).collect();
    assert_eq!(kept, [10, 10, 10, 1]);
    assert_eq!(lane.counters.discarded.get(Discard::RingFull), 9);
}

#[test]
fn memory_stays_within_its_bound() {
    let mut lane = Fixture::new(usize::MAX, WhenFull::Block);
    for _ in 0..LANE_SLOTS {
        assert!(lane.send().is_some());
    }
    assert_eq!(lane.send(), None, "no slot is left");
    assert!(lane.sender.made.get() <= lane_batches(usize::MAX));
}

#[test]
fn tickets_are_acknowledged_in_order() {
    let mut lane = Fixture::new(usize::MAX, WhenFull::Block);
    let ticket = lane.send().flatten().expect("it has room");
    assert!(block_on(poll_once(lane.sender.acknowledge_of(ticket))).is_none());
    lane.receiver.acknowledger().acknowledge(ticket);
    assert!(block_on(poll_once(lane.sender.acknowledge_of(ticket))).is_some());
}

#[test]
fn dropped_range_keeps_that_its_source_is_gone() {
    let mut lane = Fixture::new(CHUNK_BYTES, WhenFull::DropNewest);
    lane.send();
    assert_eq!(lane.send(), Some(None), "the lane is full");
    let send_empty = |lane: &mut Fixture, gone: bool| {
        let mut batch = block_on(lane.sender.batch(&lane.source));
        batch.range = SourceRange { from: lane.at, to: lane.at, marker: 0 };
        batch.received = Timestamp(5);
        batch.gone = gone;
        assert_eq!(block_on(poll_once(lane.sender.send(batch))), Some(None));
    };
    let owed = |lane: &mut Fixture| {
        let sent = lane.receiver.pop(|_| false).expect("one was sent");
        lane.receiver.give_back(sent);
        lane.sender.settle();
        let owed = lane.receiver.pop(|_| false).expect("the range of the dropped ones");
        let said = (owed.range.from, owed.range.to, owed.dropped_events, owed.gone, owed.received);
        lane.receiver.give_back(owed);
        said
    };
    send_empty(&mut lane, true);
    assert_eq!(owed(&mut lane), (10, 20, 10, true, Timestamp(5)));
    lane.send();
    lane.send();
    send_empty(&mut lane, true);
    send_empty(&mut lane, false);
    assert_eq!(owed(&mut lane), (30, 40, 10, false, Timestamp(5)), "it came back");
}

/// Under the sync policy `never`, a ticket is acknowledged before its events would survive a power loss.
#[test]
fn what_is_acknowledged_early_is_in_flight_until_it_is_hardened() {
    let durable = |lane: &Fixture| {
        let mut tickets = Vec::new();
        lane.sender.take_durable(|sent| tickets.push((sent.ticket, sent.range.to)));
        tickets
    };
    for early in [false, true] {
        let mut lane = Fixture::new(usize::MAX, WhenFull::Block);
        lane.sender.track();
        let acknowledger = lane.receiver.acknowledger();
        if early {
            acknowledger.acknowledges_early();
        }
        for _ in 0..3 {
            lane.send();
        }
        assert_eq!(durable(&lane), []);
        acknowledger.acknowledge(2);
        if early {
            assert_eq!(durable(&lane), []);
            acknowledger.harden(2);
        }
        assert_eq!(durable(&lane), [(1, 10), (2, 20)]);
        assert_eq!(durable(&lane), [], "each is taken once");
    }
}

#[test]
fn notice_takes_only_room_that_is_there() {
    let mut lane = Fixture::new(2 * CHUNK_BYTES, WhenFull::Block);
    let tell = |lane: &Fixture| lane.sender.try_tell(&lane.source, |batch| batch.gone = true);
    lane.send();
    assert!(tell(&lane));
    assert!(!tell(&lane), "no room is left");
    let batch = lane.receiver.pop(|_| false).expect("a batch was sent");
    lane.receiver.give_back(batch);
    assert!(lane.receiver.pop(|_| false).is_some_and(|notice| notice.gone && notice.events.is_empty()));
    assert!(tell(&lane));
}

fn source_of(key: u128) -> Arc<Source> {
    Arc::new(Source { key: SourceKey(key), ..Source::clone(&source()) })
}

/// Sends batches of the source until the lane stops its reader. Returns how many were sent.
fn fill(lane: &mut Fixture) -> usize {
    let mut sent = 0;
    while lane.send().flatten().is_some() {
        sent += 1;
    }
    sent
}

#[test]
fn batches_of_a_source_that_waits_step_aside_for_those_of_others() {
    for bytes in [3 * CHUNK_BYTES, crate::limits::LANE_BYTES_DEFAULT, usize::MAX] {
        let mut lane = Fixture::new(bytes, WhenFull::Block);
        let before = fill(&mut lane);
        assert!(before >= 3);
        let waits = |source: SourceKey| source == SourceKey(7);
        assert!(lane.receiver.pop(waits).is_none(), "all of them step aside");
        assert_eq!(lane.meter.counters().aside_batches.get(), before as u64);
        lane.receiver.rest(&[SourceKey(7)]);
        assert!(lane.sender.rests(SourceKey(7)) && !lane.sender.rests(SourceKey(8)));
        lane.source = source_of(8);
        let ticket = lane.send().flatten().expect("there is space for others");
        assert_eq!(lane.receiver.first_aside(), Some(1));
        let passed = lane.receiver.pop(waits).expect("it passes");
        assert_eq!((passed.ticket, passed.source.key), (ticket, SourceKey(8)));
        lane.receiver.give_back(passed);
        lane.receiver.rest(&[]);
        lane.source = source();
        let after = lane.send().flatten().expect("there is space");
        for expected in (1..=before as u64).chain([after]) {
            let batch = lane.receiver.pop(|_| false).expect("it no longer waits");
            assert_eq!(batch.ticket, expected, "in their order");
            lane.receiver.give_back(batch);
        }
        let counters = lane.meter.counters();
        assert_eq!(counters.sent_bytes.get(), counters.taken_bytes.get(), "each counts once");
        assert!(lane.receiver.pop(|_| false).is_none());
    }
}

#[test]
fn what_steps_aside_is_bounded() {
    let mut lane = Fixture::new(usize::MAX, WhenFull::Block);
    let waits = |source: SourceKey| source == SourceKey(7);
    let mut tight_at = None;
    for sent in 1.. {
        if lane.send().flatten().is_none() {
            break;
        }
        assert!(lane.receiver.pop(waits).is_none());
        if lane.receiver.is_aside_tight() {
            tight_at.get_or_insert(sent);
        }
        assert!(sent < 10 * LANE_SLOTS, "nothing stops the sender");
    }
    assert_eq!(lane.meter.counters().aside_batches.get(), lane_aside_max(usize::MAX) as u64);
    assert!(tight_at.is_some_and(|at| at <= 1 + lane_aside_max(usize::MAX) / 2), "{tight_at:?}");
    assert!(lane.sender.made.get() <= lane_batches(usize::MAX));
    // No space is left for those that wait, so the others wait too.
    lane.source = source_of(8);
    assert!(lane.receiver.pop(waits).is_none());
    while let Some(batch) = lane.receiver.pop(|_| false) {
        lane.receiver.give_back(batch);
    }
    assert!(lane.send().flatten().is_some());
}

#[test]
fn long_lines_of_a_source_that_waits_leave_space_for_those_of_others() {
    let mut lane = Fixture::new(usize::MAX, WhenFull::Block);
    let large = |lane: &Fixture| block_on(poll_once(lane.sender.large_batch(&lane.source, 2 * CHUNK_BYTES)));
    for _ in 0..2 {
        let batch = large(&lane).expect("two may exist");
        block_on(lane.sender.send(batch));
    }
    assert!(large(&lane).is_none());
    assert!(lane.receiver.pop(|source| source == SourceKey(7)).is_none());
    lane.source = source_of(8);
    assert!(large(&lane).is_some(), "those that stepped aside do not count");
    assert!(lane.receiver.is_aside_tight());
}

#[test]
fn nothing_steps_aside_if_the_lane_drops() {
    for when_full in [WhenFull::DropNewest, WhenFull::DropOldest, WhenFull::Sample] {
        let mut lane = Fixture::new(usize::MAX, when_full);
        lane.send();
        assert!(lane.receiver.pop(|_| true).is_some(), "{when_full:?}");
    }
}
