//! E2: at every moment between two polls the counters account for every event.

use super::*;
use crate::counters::DeadLettered;
use crate::delivery::OutputFull;
use crate::env::ShardId;
use crate::lane::WhenFull;
use crate::sim::SimDisk;
use crate::sim::oracle::Event;
use crate::sim::script::decode_line;
use crate::wal::Position;
use crate::wal::cursor::Cursor;
use std::collections::BTreeMap;

/// Events that the log may hold in memory: less than a block of them, which is small in tests, plus a batch.
const STAGED_MAX: u64 = 64;

/// Follows the log independently of the engine, by reading its bytes.
struct Follower {
    cursor: Cursor<SimDisk>,
    /// Events seen, those of earlier lives included.
    seen: u64,
    /// Number of events seen up to each event.
    places: BTreeMap<(u64, u64), u64>,
    /// Events of earlier lives.
    before: u64,
}

impl Follower {
    fn new(cluster: &Cluster) -> Follower {
        let log = cluster.alive().meters.board.get(ShardId(0)).expect("the shard is up");
        let cursor = Cursor::open(log, Position::default());
        let mut follower = Follower { cursor, seen: 0, places: BTreeMap::new(), before: 0 };
        follower.follow();
        follower.before = follower.seen;
        follower
    }

    fn follow(&mut self) {
        while let Some(frame) = self.cursor.next().expect("nothing is damaged") {
            let payload = frame.payload();
            for line in payload.split_inclusive(|&byte| byte == b'\n') {
                let Event { source, ordinal, .. } = decode_line(line).expect("a scripted line");
                self.seen += 1;
                self.places.insert((source, ordinal), self.seen);
            }
        }
    }
}

/// Compares the counters of one life with what was counted without them.
fn check(cluster: &Cluster, follower: &mut Follower, seed: u64) -> bool {
    follower.follow();
    let meters = &cluster.alive().meters;
    let (input, lane, output) = (&meters.inputs[0], meters.inputs[0].lanes[0].counters(), &meters.outputs[0].counters);
    let sampled_out = meters.wal_full[0][usize::from(meters.outputs[0].number.0)].total();
    let state = cluster.ledger.state();
    let record = &state.outputs[0];
    assert_eq!(output.sent_events.get(), record.accepted, "seed {seed}: sent is what the output took");
    // Rejected events are in transit to the dead letter queue until they are durable there.
    let refused = output.dead_lettered[DeadLettered::Rejected as usize].get();
    let dying = record.refused.checked_sub(refused).expect("what is a dead letter was refused");

    let received = input.counters.received_events.get();
    let discarded_before = input.counters.discarded.total() + lane.dropped_events.get() + sampled_out;
    let logged = follower.seen - follower.before;
    let in_lane = received - input.counters.discarded.total() - lane.taken_events.get();
    let log = meters.board.get(ShardId(0)).expect("the shard is up");
    assert_eq!(log.counters.events.get(), logged, "seed {seed}: what counts as appended can be read");
    // For its output, the log also counts what it has not written yet.
    let staged = log.appended(meters.outputs[0].number) - logged;
    assert!(staged <= STAGED_MAX, "seed {seed}: {staged} events in the log that are not written");
    let in_hand = lane.taken_events.get() - lane.dropped_events.get() - sampled_out - logged - staged;
    // Between polls, the intake holds a batch only while the log has no space for it.
    assert!(in_hand == 0 || meters.shards[0].wal_full.get() > 0, "seed {seed}: {in_hand} events in hand");
    let came = received + output.recovered_events.get();
    let went = output.sent_events.get() + output.dead_lettered_total() + output.discarded.total() + discarded_before;
    let in_log = (came - went).checked_sub(in_lane + in_hand + staged);
    let Some(in_log) = in_log else {
        panic!("seed {seed}: {came} came, {went} went, {in_lane} + {in_hand} + {staged} wait")
    };
    match record.last.filter(|_| output.discarded.total() == 0) {
        // The output receives the log's events in order: the waiting ones come after the last that it accepted.
        Some(last) => {
            let place = follower.places[&(last.source, last.ordinal)];
            assert_eq!(in_log, follower.seen - place + dying, "seed {seed}: events in the log");
            true
        }
        None => false,
    }
}

#[test]
fn e2_counters_balance_at_every_scrape() {
    let lanes = [WhenFull::Block, WhenFull::DropOldest, WhenFull::Sample, WhenFull::DropNewest];
    let outputs = [OutputFull::Block, OutputFull::DropOldest, OutputFull::Sample];
    let (mut exact, mut scrapes) = (0, 0);
    for seed in 0..36 {
        let mut setup = Setup::plain(seed);
        setup.inputs[0].lane.when_full = lanes[seed as usize % 4];
        setup.inputs[0].lane.bytes = 128 * 1024;
        setup.outputs[0].options.when_full = outputs[seed as usize % 3];
        setup.wal.log_bytes = setup.wal.segment_bytes * 3;
        let mut cluster = Cluster::new(setup);
        for life in 0..2 {
            cluster.start(1).expect("a crash leaves a directory that can be opened");
            let board = cluster.alive().meters.board.clone();
            cluster.simulation.must("the shard is up", || board.get(ShardId(0)).is_some(), SECOND * 60);
            let mut follower = Follower::new(&cluster);
            for slice in 0..60 {
                set_mood(&mut cluster, slice);
                let events = cluster.chance.below(40);
                cluster.make_some(events);
                for _ in 0..20 {
                    cluster.simulation.run_steps(cluster.chance.between(1, 9));
                    scrapes += 1;
                    exact += u64::from(check(&cluster, &mut follower, seed));
                }
            }
            drop(follower);
            cluster.crash(if life == 0 { Crash::Process } else { Crash::Power });
        }
        cluster.finish();
    }
    assert!(exact > scrapes / 4, "{exact} of {scrapes} scrapes could be checked to the event");
}

/// Healthy, slow, dead and panicking in turn.
fn set_mood(cluster: &mut Cluster, slice: u64) {
    let mut state = cluster.ledger.state();
    let record = &mut state.outputs[0];
    record.rejects = true;
    record.mood = match slice / 10 % 3 {
        0 => Mood { slow: 300, panic: 20, ..Mood::default() },
        1 => Mood { retry: 900, ..Mood::default() },
        _ => Mood::default(),
    };
}

/// Lines of an earlier batch that are produced with a later batch are missing from a sampled output together with the later
/// batch, and are counted then.
#[test]
fn what_a_sampled_output_does_not_get_is_counted_where_lines_are_joined() {
    let mut counted = 0;
    for seed in 0..20 {
        let mut setup = Setup::plain(seed);
        setup.holding = crate::sim::script::Holding::Joins;
        setup.unreadable = true;
        setup.outputs.push(setup.outputs[0]);
        setup.outputs[1].options.when_full = crate::delivery::OutputFull::Sample;
        setup.pipelines = vec![(vec![0], vec![0, 1])];
        let mut cluster = started(setup, 1);
        cluster.ledger.state().outputs[1].mood = Mood { retry: 1000, ..Mood::default() };
        work(&mut cluster, 60, 30);
        cluster.heal();
        cluster.run_for(SECOND * 5);
        cluster.alive().stop.enter(crate::stop::Phase::Draining);
        let end = cluster.alive().end();
        cluster.simulation.must("the end of the drain", end, SECOND * 60);
        let meters = &cluster.alive().meters;
        let of = |output: usize| {
            let meter = meters.outputs.iter().find(|meter| meter.output == output).expect("it runs");
            let left_out = meters.wal_full[0][usize::from(meter.number.0)].total();
            counted += left_out;
            meter.counters.sent_events.get() + meter.counters.discarded.total() + left_out
        };
        let [all, sampled] = [0, 1].map(of);
        assert_eq!(sampled, all, "seed {seed}: what one output got is what the other got or is counted for it");
    }
    assert!(counted > 1000, "only {counted} events were left out");
}
