//! The tracker alone: what it reports as settled, in whatever order ranges become durable, and what it makes WALs forget.

use super::*;
use crate::batch::Batch;

const FIRST: Recorded = Recorded { epoch: 1, at: Timestamp(0) };

const LANES: usize = 3;

fn source(key: u128) -> Arc<Source> {
    let (input, name) = ("app".into(), key.to_string().into_bytes());
    Arc::new(Source { key: SourceKey(key), input, name, descriptor: Vec::new(), repeatable: true })
}

/// A tracker, with one WAL per lane that records what it receives.
struct Fixture {
    spread: Spread,
    logs: Vec<SourceTable>,
    lane: usize,
}

impl Fixture {
    fn new(ranges_max: usize, resume: Vec<SourceState>) -> Fixture {
        let mut log = SourceTable::new();
        resume.iter().for_each(|state| log.absorb(state.clone()));
        let spread = Spread::new(Arc::new(resume), ranges_max);
        Fixture { spread, logs: vec![log; LANES], lane: 0 }
    }

    fn record(&mut self, lane: usize, batch: &Batch) {
        let gone = batch.gone.then_some(batch.received);
        self.logs[lane].insert(&batch.source, &batch.settled, None, FIRST);
        self.logs[lane].insert(&batch.source, &batch.range, gone, FIRST);
    }

    /// Sends a range to the next WAL in turn. Returns what was settled.
    fn sends(&mut self, key: u128, from: u64, to: u64) -> (u64, u64) {
        self.sends_last(key, from, to, false)
    }

    fn sends_last(&mut self, key: u128, from: u64, to: u64, gone: bool) -> (u64, u64) {
        let mut batch = Batch::new(0, source(key));
        batch.range = SourceRange { from, to, marker: to + 7 };
        (batch.gone, batch.received) = (gone, Timestamp(9));
        self.spread.sends(&mut batch);
        self.record(self.lane, &batch);
        self.lane = (self.lane + 1) % LANES;
        (batch.settled.from, batch.settled.to)
    }

    fn durable(&mut self, key: u128, from: u64, to: u64) {
        let range = SourceRange { from, to, marker: to + 7 };
        self.spread.is_durable(&Sent { ticket: 0, source: SourceKey(key), range });
    }

    /// Notifies WALs that have space. Returns how many were notified.
    fn tell(&mut self, waiting: bool, room: usize) -> usize {
        let (mut told, mut batches) = (0, Vec::new());
        self.spread.tell(waiting, LANES, |lane, notice| {
            told += usize::from(told < room);
            let has_room = batches.len() < room;
            if has_room {
                let mut batch = Batch::new(0, notice.source);
                (batch.range, batch.settled, batch.gone) = (notice.range, notice.settled, notice.gone);
                batches.push((lane, batch));
            }
            has_room
        });
        batches.iter().for_each(|(lane, batch)| self.record(*lane, batch));
        told
    }

    fn intervals(&self, key: u128) -> Vec<usize> {
        let of = |log: &SourceTable| log.get(SourceKey(key)).map_or(0, |state| state.intervals.len());
        self.logs.iter().map(of).collect()
    }

    fn gone(&self, key: u128) -> Vec<bool> {
        let of = |log: &SourceTable| log.get(SourceKey(key)).is_some_and(|state| state.gone.is_some());
        self.logs.iter().map(of).collect()
    }
}

fn state(key: u128, intervals: &[(u64, u64)]) -> SourceState {
    let marker = intervals.last().map_or(0, |interval| interval.1) + 7;
    SourceState {
        source: source(key),
        intervals: intervals.to_vec(),
        marker,
        gone: None,
        told: 1,
        recorded: Timestamp(0),
    }
}

#[test]
fn settled_follows_what_is_durable_without_a_gap() {
    let mut one = Fixture::new(100, Vec::new());
    for at in 0..5 {
        assert_eq!(one.sends(1, at * 10, at * 10 + 10), (0, 0), "nothing is durable");
    }
    one.durable(1, 10, 20);
    one.durable(1, 30, 40);
    assert_eq!(one.sends(1, 50, 60), (0, 0), "the first range is not");
    one.durable(1, 0, 10);
    assert_eq!(one.sends(1, 60, 70), (0, 20));
    one.durable(1, 20, 30);
    assert_eq!(one.sends(1, 70, 80), (0, 40));
    assert_eq!(one.sends(2, 0, 10), (0, 0), "each source by itself");
}

#[test]
fn settled_covers_what_a_start_found_and_what_fills_its_holes() {
    let mut one = Fixture::new(100, vec![state(1, &[(0, 100), (200, 300)]), state(2, &[(0, 50)])]);
    assert_eq!(one.sends(1, 100, 150), (0, 100));
    assert_eq!(one.sends(1, 150, 200), (0, 100));
    assert_eq!(one.sends(1, 300, 310), (0, 100), "the hole is not filled durably");
    one.durable(1, 150, 200);
    one.durable(1, 100, 150);
    assert_eq!(one.sends(1, 310, 320), (0, 300));
    assert_eq!(one.sends(2, 50, 60), (0, 50));
    // Another instance has read the source in between: the settled range continues after that.
    one.durable(2, 50, 60);
    assert_eq!(one.sends(2, 90, 95), (0, 60));
    one.durable(2, 90, 95);
    assert_eq!(one.sends(2, 95, 99), (90, 95));
}

#[test]
fn dropped_ranges_settle_when_they_travel_on_as_one() {
    let mut one = Fixture::new(100, Vec::new());
    for at in 0..4 {
        one.sends(1, at * 10, at * 10 + 10);
    }
    one.durable(1, 30, 40);
    one.durable(1, 0, 30);
    assert_eq!(one.sends(1, 40, 50), (0, 40));
}

/// Each lane is durable up to a different batch: no WAL ever keeps more ranges than were separate when it received its last
/// batch.
#[test]
fn no_log_keeps_a_range_for_each_batch() {
    let mut one = Fixture::new(1_000, Vec::new());
    let mut lanes = [const { VecDeque::new() }; LANES];
    let mut most = 0;
    for at in 0..10_000_u64 {
        let lane = one.lane;
        one.sends(1, at * 10, at * 10 + 10);
        lanes[lane].push_back(at);
        // The three are synced at different times, and hold on to at most so many batches meanwhile.
        for (lane, sent) in lanes.iter_mut().enumerate().filter(|(lane, _)| at.is_multiple_of(20 + *lane as u64)) {
            assert!(sent.len() <= 8, "lane {lane}");
            sent.drain(..).for_each(|at| one.durable(1, at * 10, at * 10 + 10));
        }
        most = most.max(one.intervals(1).into_iter().max().unwrap_or(0));
        assert!(one.spread.ranges <= 1_000);
    }
    assert!((2..=24).contains(&most), "{most} ranges lay apart");
    lanes.iter_mut().flat_map(|lane| lane.drain(..)).for_each(|at| one.durable(1, at * 10, at * 10 + 10));
    assert_eq!(one.sends(1, 100_000, 100_010), (0, 100_000));
}

#[test]
fn ranges_that_lie_apart_are_bounded_over_all_sources() {
    let mut one = Fixture::new(100, Vec::new());
    let mut sent = [0; 8];
    for turn in 0..1_000 {
        let key = turn % 8;
        if one.spread.is_full() {
            break;
        }
        one.sends(key as u128, sent[key] * 10, sent[key] * 10 + 10);
        sent[key] += 1;
    }
    assert!(one.spread.is_full(), "the input has to wait");
    let all: u64 = sent.iter().sum();
    let limit = 100 + (8 + 1) * (SPREAD_RANGES_FREE as u64 + 1);
    assert!(all <= limit, "{all} ranges lie apart");
    assert_eq!(one.tell(true, 100), 0, "nothing is durable yet");
    for (key, &sent) in sent.iter().enumerate() {
        (0..sent / 2 + 1).for_each(|at| one.durable(key as u128, at * 10, at * 10 + 10));
    }
    one.tell(true, 1_000);
    assert!(!one.spread.is_full(), "what was told lies apart no longer");
    for (key, &sent) in sent.iter().enumerate() {
        let most = one.intervals(key as u128).into_iter().max().unwrap_or(0) as u64;
        assert!(most <= sent / 2 + 1, "source {key}: {most} of {sent}");
    }
}

#[test]
fn quiet_source_leaves_one_range_in_each_log() {
    let mut one = Fixture::new(1_000, Vec::new());
    let many = 3 * SPREAD_RANGES_FREE as u64;
    for at in 0..many {
        one.sends(1, at * 10, at * 10 + 10);
    }
    for at in 0..3 {
        one.sends(2, at * 10, at * 10 + 10);
    }
    assert_eq!(one.intervals(1), [SPREAD_RANGES_FREE; LANES]);
    (0..many).for_each(|at| one.durable(1, at * 10, at * 10 + 10));
    assert_eq!(one.tell(false, 100), 0, "it was busy since the last look");
    assert_eq!((one.tell(false, 2), one.tell(false, 100)), (2, 1), "the log without room is told later");
    assert_eq!(one.intervals(1), [1; LANES]);
    assert_eq!(one.intervals(2), [1; LANES], "few ranges are left as they are");
    assert!(!one.spread.has_wide() || one.tell(false, 100) == 0);
    assert!(!one.spread.has_wide());
}

#[test]
fn source_that_is_gone_is_gone_in_every_log() {
    let mut one = Fixture::new(1_000, vec![state(3, &[(0, 40)])]);
    one.sends(1, 0, 10);
    one.sends(1, 10, 20);
    one.sends_last(1, 20, 20, true);
    one.sends_last(3, 40, 40, true);
    assert_eq!(one.tell(false, 100), LANES, "of one all is durable");
    assert_eq!((one.gone(3), one.gone(1)), (vec![true; LANES], vec![false, false, true]));
    one.durable(1, 10, 20);
    assert_eq!(one.tell(false, 100), 0);
    one.durable(1, 0, 10);
    assert_eq!((one.tell(false, 1), one.tell(false, 100)), (1, LANES - 1));
    assert_eq!((one.gone(1), one.intervals(1)), (vec![true; LANES], vec![1; LANES]));
    assert!(one.spread.sources.is_empty() && one.spread.ranges == 0, "nothing is kept of it");

    // One that comes back before all were told exists.
    one.sends_last(2, 0, 0, true);
    assert_eq!(one.tell(false, 2), 2);
    one.sends(2, 0, 10);
    one.durable(2, 0, 10);
    assert_eq!(one.tell(false, 100), 0);
    assert!(!one.spread.has_wide());
}

#[test]
fn sources_that_are_gone_wait_in_a_bounded_number() {
    let mut one = Fixture::new(100, Vec::new());
    let sent = (0..100).take_while(|key| {
        one.sends_last(*key, 0, 0, true);
        !one.spread.is_full()
    });
    assert!(sent.count() < 100 / SPREAD_RANGES_FREE + 1);
    one.tell(true, 100);
    assert!(!one.spread.is_full());
}

#[test]
fn what_died_with_its_input_is_not_waited_for() {
    let mut one = Fixture::new(100, Vec::new());
    one.sends(1, 0, 10);
    one.sends(1, 10, 20);
    one.sends(1, 20, 30);
    one.durable(1, 0, 10);
    one.spread.forget_pending();
    let range = SourceRange { from: 10, to: 20, marker: 27 };
    let sent = Sent { ticket: 2, source: SourceKey(1), range };
    one.spread.wait_for(&sent);
    let positions = one.spread.positions();
    assert_eq!(positions.get(SourceKey(1)).map(|state| state.intervals.clone()), Some(vec![(0, 20)]));
    assert_eq!(one.sends(1, 20, 30), (0, 10));
    one.durable(1, 10, 20);
    assert_eq!(one.sends(1, 30, 40), (0, 20));
}

#[test]
fn joined_ranges_are_sorted_disjoint_and_marked_by_their_ends() {
    let range = |from, to| SourceRange { from, to, marker: to + 7 };
    let mut ranges = Vec::new();
    for (from, to) in [(10, 20), (30, 40), (50, 60), (20, 25), (0, 5), (24, 30), (12, 18), (38, 55), (7, 7)] {
        join(&mut ranges, range(from, to));
    }
    assert_eq!(ranges, [range(0, 5), range(10, 60)]);
}
