//! Models of a log whose writer recycles segments while readers on other cores claim, follow and release them.
//!
//! A recycled segment is overwritten at once, so a reader that still accesses it is a data race.

use super::{Turns, model};
use crate::env::Kind;
use crate::signal::Signal;
use crate::wal::{Cursor, Writer, at};
use loom::sync::Arc;
use loom::thread;

/// Sequences of the frames with events in [`three_segments`], one in each.
const EVENTS: [u64; 3] = [1, 4, 7];

/// A log of three segments with an event each: 1, seal 2 | snapshot 3, 4, seal 5 | snapshot 6, 7.
fn three_segments() -> Writer {
    let mut writer = Writer::open();
    for roll in [true, true, false] {
        writer.write(Kind::Events);
        if roll {
            writer.roll();
        }
    }
    writer.publish();
    writer
}

#[test]
fn reader_keeps_what_it_found_when_it_registered() {
    model(|| {
        let mut writer = three_segments();
        writer.synced(7);
        let (log, turns) = (writer.log.clone(), Turns::new());
        let theirs = turns.clone();
        let reading = thread::spawn(move || {
            let claim = log.register(at(1), Arc::new(Signal::new()));
            let found = log.segment_of(at(1)).map(|segment| segment.number);
            theirs.turn();
            let mut cursor = Cursor::open(log.clone(), at(1));
            let (first, segment) = cursor.next().expect("the active segment stays");
            assert_eq!(Some(segment), found, "a segment went that the reader had claimed");
            theirs.turn();
            let mut seen = vec![first];
            seen.extend(cursor.rest());
            assert!(EVENTS.ends_with(&seen), "{seen:?}");
            log.unregister(&claim);
        });
        turns.turn();
        let taken = writer.recycle();
        assert!([1, 2].starts_with(&taken), "{taken:?}");
        reading.join().unwrap();
        let rest = writer.recycle();
        assert_eq!([taken, rest].concat(), [1, 2], "nothing is forgotten");
    });
}

#[test]
fn slowest_reader_decides_and_never_moves_back() {
    model(|| {
        let mut writer = three_segments();
        writer.synced(7);
        let (log, turns) = (writer.log.clone(), Turns::new());
        let theirs = turns.clone();
        let slow = log.register(at(1), Arc::new(Signal::new()));
        let fast = log.register(at(7), Arc::new(Signal::new()));
        let releasing = thread::spawn(move || {
            let mut cursor = Cursor::open(log.clone(), at(1));
            assert_eq!(cursor.next(), Some((1, 1)));
            // Released while the cursor is still in the segment, because a commit may be durable before the next check.
            log.release(&slow, at(4));
            theirs.turn();
            log.release(&slow, at(1));
            assert_eq!(cursor.rest(), [4, 7]);
            (cursor, slow)
        });
        turns.turn();
        let early = writer.recycle();
        assert!([1].starts_with(&early), "{early:?}");
        let (cursor, slow) = releasing.join().unwrap();
        let late = writer.recycle();
        assert_eq!([early, late].concat(), [1]);
        drop(cursor);
        writer.log.release(&fast, at(1));
        assert!(writer.recycle().is_empty());
        writer.log.unregister(&slow);
        assert_eq!(writer.recycle(), [2], "the other reader has not gone back");
    });
}

#[test]
fn nothing_is_recycled_before_the_next_snapshot_is_durable() {
    model(|| {
        let mut writer = three_segments();
        let (log, turns) = (writer.log.clone(), Turns::new());
        let theirs = turns.clone();
        let claim = log.register(at(1), Arc::new(Signal::new()));
        let releasing = thread::spawn(move || {
            log.release(&claim, at(4));
            theirs.turn();
            log.release(&claim, at(7));
        });
        let mut taken = Vec::new();
        // The seal of a segment is durable one sequence before the snapshot after it.
        for (synced, most) in [(0, 0), (2, 0), (3, 1), (5, 1), (6, 2)] {
            turns.turn();
            writer.synced(synced);
            taken.extend(writer.recycle());
            assert!(taken.len() <= most && [1, 2].starts_with(&taken), "synced {synced}, taken {taken:?}");
        }
        releasing.join().unwrap();
        taken.extend(writer.recycle());
        assert_eq!(taken, [1, 2]);
    });
}

/// A log whose second segment has no events: 1, seal 2 | snapshot 3, seal 4 | snapshot 5, 6. The third segment needs those
/// from `previous` on, or the ones that a writer would set.
fn empty_between(previous: Option<u64>) -> Writer {
    let mut writer = Writer::open();
    writer.write(Kind::Events);
    writer.roll();
    match previous {
        Some(previous) => writer.roll_behind(|_| previous),
        None => writer.roll(),
    }
    writer.write(Kind::Events);
    writer.publish();
    writer
}

#[test]
fn segment_without_events_is_recycled_while_a_reader_passes_it() {
    model(|| {
        let mut writer = empty_between(None);
        let (log, turns) = (writer.log.clone(), Turns::new());
        let theirs = turns.clone();
        let claim = log.register(at(1), Arc::new(Signal::new()));
        let reading = thread::spawn(move || {
            let mut cursor = Cursor::open(log.clone(), at(1));
            assert_eq!(cursor.next(), Some((1, 1)));
            theirs.turn();
            assert_eq!(cursor.rest(), [6]);
            claim
        });
        writer.synced(4);
        assert!(writer.recycle().is_empty(), "the snapshot behind it is not durable");
        writer.synced(5);
        turns.turn();
        let early = writer.recycle();
        assert!([2].starts_with(&early), "{early:?}");
        drop(reading.join().unwrap());
        let late = writer.recycle();
        assert_eq!([early, late].concat(), [2], "the first one is claimed");
    });
}

#[test]
fn segment_without_events_stays_while_the_next_one_needs_it() {
    model(|| {
        let mut writer = empty_between(Some(2));
        let (log, turns) = (writer.log.clone(), Turns::new());
        let theirs = turns.clone();
        let claim = log.register(at(1), Arc::new(Signal::new()));
        writer.synced(6);
        let releasing = thread::spawn(move || {
            theirs.turn();
            log.release(&claim, at(6));
            claim
        });
        turns.turn();
        let early = writer.recycle();
        assert!(early.is_empty() || early == [1, 2], "{early:?}");
        drop(releasing.join().unwrap());
        let late = writer.recycle();
        assert_eq!([early, late].concat(), [1, 2], "in order, once nobody claims the first");
    });
}
