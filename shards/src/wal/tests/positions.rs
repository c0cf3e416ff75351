//! More sources than a snapshot has space for: the log goes on, and drops the positions of those recorded least recently.

use super::*;

const SMALL: u64 = 8 * 1024;

fn named(key: u128, length: usize) -> Arc<Source> {
    let name = format!("/var/log/{key:0length$}").into_bytes();
    let descriptor = [&[3; 36][..], &name].concat();
    Arc::new(Source { key: SourceKey(key), name, descriptor, ..(*source()).clone() })
}

/// Records a position of each of `keys`, and lets time pass in between.
fn record(machine: &mut Machine, writer: &mut TestWriter, keys: impl Iterator<Item = u128>) {
    let disk = machine.disk();
    for key in keys {
        machine.simulation.run_for(Duration::from_secs(1));
        writer.append(&mut group(writer, &named(key, 200), 0, &[1], 8)).expect("what is not kept stops nothing");
        let (log, end) = (writer.log().clone(), writer.log().end());
        writer.commit(&commit_of(key as u64 + 1, end)).unwrap();
        log.allow_recycling();
        sync(writer, &disk).unwrap();
        while maintain(writer).unwrap() {}
    }
}

fn keys(writer: &TestWriter) -> Vec<u128> {
    writer.state().sources.iter().map(|state| state.key().0).collect()
}

#[test]
fn positions_without_space_are_dropped_and_counted_and_end_nothing() {
    let mut machine = Machine::new(1, SMALL, 16);
    let mut writer = machine.open();
    record(&mut machine, &mut writer, 0..100);
    let dropped = writer.log().counters.positions_dropped.get();
    assert!(dropped > 60, "{dropped} dropped");
    let kept = keys(&writer);
    assert_eq!(kept.len() as u64 + dropped, 100, "each is kept, or counted");
    assert!(kept.len() >= 4, "half a segment has space for more than {}", kept.len());
    assert!(kept.iter().all(|key| *key >= 100 - kept.len() as u128), "the latest are kept: {kept:?}");
    drop(writer);
    // What is left in the log brings back some of those that were dropped. They have no space at a start either.
    for crash in [Crash::Process, Crash::Power] {
        machine.simulation.crash(crash);
        let writer = machine.open();
        assert!(keys(&writer).contains(&99), "the latest survives a start");
    }
}

#[test]
fn a_position_that_is_recorded_again_outlives_others() {
    let mut machine = Machine::new(2, SMALL, 16);
    let mut writer = machine.open();
    for key in 1..100 {
        record(&mut machine, &mut writer, [key, 0].into_iter());
    }
    assert!(writer.log().counters.positions_dropped.get() > 60);
    assert!(keys(&writer).contains(&0));
}

#[test]
fn a_start_with_smaller_segments_drops_what_does_not_fit() {
    let mut machine = Machine::new(3, 16 * SMALL, 16);
    let mut writer = machine.open();
    record(&mut machine, &mut writer, 0..100);
    assert_eq!((writer.log().counters.positions_dropped.get(), keys(&writer).len()), (0, 100));
    drop(writer);
    machine.simulation.crash(Crash::Process);
    machine.options.segment_bytes = SMALL;
    let writer = machine.open();
    let (dropped, kept) = (writer.log().counters.positions_dropped.get(), keys(&writer));
    assert_eq!(kept.len() as u64 + dropped, 100);
    assert_eq!(kept, (100 - kept.len() as u128..100).collect::<Vec<_>>(), "the order survives a start");
}
