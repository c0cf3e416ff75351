//! Models of a log whose writer publishes while readers on other cores read it, follow it to the next segment, and sleep.

use super::model;
use crate::env::{Kind, Memory};
use crate::signal::Signal;
use crate::wal::log::Log;
use crate::wal::{Cursor, Writer, at};
use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

#[test]
fn reader_that_sees_an_end_finds_every_frame_before_it() {
    model(|| {
        let mut writer = Writer::open();
        let log = writer.log.clone();
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                writer.write(Kind::Events);
                writer.publish();
            }
        });
        let mut cursor = Cursor::open(log.clone(), at(1));
        // Like a delivery: reads the end first, then the tail and the frames before it.
        let end = log.end().sequence.0;
        let seen = cursor.rest();
        assert!(seen.iter().copied().eq(1..=seen.len() as u64), "{seen:?}");
        assert!(seen.len() as u64 + 1 >= end, "an end at {end}, and {seen:?}");
        writing.join().unwrap();
        assert_eq!(seen.len() + cursor.rest().len(), 2);
    });
}

#[test]
fn reader_follows_a_roll_and_skips_nothing() {
    // Sequences of frames with events: 1 in the first segment; 4 and 5 in the second.
    const EVENTS: [u64; 3] = [1, 4, 5];
    model(|| {
        let mut writer = Writer::open();
        let log = writer.log.clone();
        let writing = thread::spawn(move || {
            writer.write(Kind::Events);
            writer.publish();
            writer.roll();
            writer.write(Kind::Events);
            writer.publish();
            writer.write(Kind::Events);
            writer.publish();
        });
        let mut cursor = Cursor::open(log.clone(), at(1));
        let mut seen = Vec::new();
        for _ in 0..2 {
            let end = log.end().sequence.0;
            seen.extend(cursor.rest());
            let due = EVENTS.iter().filter(|sequence| **sequence < end).count();
            assert!(seen.len() >= due && EVENTS.starts_with(&seen), "an end at {end}, and {seen:?}");
        }
        writing.join().unwrap();
        seen.extend(cursor.rest());
        assert_eq!(seen, EVENTS);
    });
}

/// Reads `count` frames with events, and sleeps whenever there is none.
fn read_sleeping(log: Arc<Log<Memory>>, published: Arc<Signal>, count: usize) {
    let mut cursor = Cursor::open(log, at(1));
    block_on(async {
        let mut seen = cursor.rest().len();
        while seen < count {
            published.wait().await;
            seen += cursor.rest().len();
        }
    });
}

#[test]
fn reader_that_has_registered_is_woken_for_every_publication() {
    model(|| {
        let mut writer = Writer::open();
        let (log, published) = (writer.log.clone(), Arc::new(Signal::new()));
        let claim = log.register(at(1), published.clone());
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                writer.write(Kind::Events);
                writer.publish();
            }
        });
        read_sleeping(log.clone(), published, 2);
        log.unregister(&claim);
        writing.join().unwrap();
    });
}

/// A writer that has looked for the signals of its readers before, when there were none.
fn writer_without_readers() -> Writer {
    let mut writer = Writer::open();
    writer.write(Kind::Snapshot);
    writer.publish();
    writer
}

#[test]
fn reader_that_registers_beside_a_publication_sees_it_or_is_woken() {
    model(|| {
        let mut writer = writer_without_readers();
        let log = writer.log.clone();
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                writer.write(Kind::Events);
                writer.publish();
            }
        });
        let published = Arc::new(Signal::new());
        let claim = log.register(at(1), published.clone());
        read_sleeping(log.clone(), published, 2);
        log.unregister(&claim);
        writing.join().unwrap();
    });
}

#[test]
fn reader_that_registers_while_the_log_fills_up_sees_it_or_is_woken() {
    model(|| {
        let mut writer = writer_without_readers();
        let log = writer.log.clone();
        let writing = thread::spawn(move || writer.refuse());
        let published = Arc::new(Signal::new());
        let claim = log.register(at(1), published.clone());
        block_on(async {
            while !log.is_full() {
                published.wait().await;
            }
        });
        log.unregister(&claim);
        writing.join().unwrap();
    });
}
