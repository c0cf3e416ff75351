//! The oracle accepts correct histories and detects each kind of violation.

use super::report::NAMED_MAX;
use super::*;

const OUT: OutputIndex = OutputIndex(0);
const ONLY: u64 = 1;

fn event(source: u64, ordinal: u64) -> Event {
    Event { source, ordinal, payload: payload_hash(format!("{source} {ordinal}").as_bytes()) }
}

fn offer(oracle: &mut Oracle, source: u64, ordinals: std::ops::Range<u64>) {
    for ordinal in ordinals {
        oracle.issued(event(source, ordinal));
        oracle.offered(source, ordinal, ONLY);
    }
}

/// Ten acknowledged events of each of two sources.
fn promised() -> Oracle {
    let mut oracle = Oracle::new(&["file"]);
    for source in [1, 2] {
        offer(&mut oracle, source, 0..10);
        (0..10).for_each(|ordinal| oracle.acknowledged(source, ordinal, ONLY));
    }
    oracle
}

/// The same, with everything delivered except for what `leave_out` selects.
fn history(leave_out: impl Fn(u64, u64) -> bool) -> Oracle {
    let mut oracle = promised();
    for source in [1, 2] {
        for ordinal in (0..10).filter(|&ordinal| !leave_out(source, ordinal)) {
            oracle.delivered(OUT, 0, event(source, ordinal));
        }
    }
    oracle
}

fn violations(oracle: &Oracle) -> Vec<Violation> {
    oracle.check().expect_err("the history is broken").violations
}

#[test]
fn a_complete_history_passes_and_is_summed_up() {
    let summary = history(|_, _| false).check().unwrap();
    assert_eq!(summary, [Summary { offered: 20, acknowledged: 20, delivered: 20, ..Summary::default() }]);
}

#[test]
fn a_lost_event_is_named() {
    let oracle = history(|source, ordinal| (source, ordinal) == (2, 4));
    assert_eq!(violations(&oracle), [Violation::Lost { output: OUT, source: 2, ordinal: 4 }]);
}

#[test]
fn an_event_never_acknowledged_may_be_lost_unless_the_logs_vouch_for_it() {
    let mut oracle = history(|_, _| false);
    offer(&mut oracle, 1, 10..11);
    assert!(oracle.check().is_ok());
    oracle.vouched(1);
    assert_eq!(violations(&oracle), [Violation::Lost { output: OUT, source: 1, ordinal: 10 }]);
}

#[test]
fn what_is_vouched_for_went_the_way_it_was_offered_last() {
    let mut oracle = Oracle::new(&["left", "right"]);
    let right = OutputIndex(1);
    oracle.issued(event(1, 0));
    oracle.offered(1, 0, 1);
    oracle.offered(1, 0, 2);
    oracle.vouched(1);
    assert_eq!(violations(&oracle), [Violation::Lost { output: right, source: 1, ordinal: 0 }]);
    oracle.delivered(right, 0, event(1, 0));
    assert!(oracle.check().is_ok());
}

#[test]
fn a_discard_covers_the_event_it_names_and_no_other() {
    let mut oracle = history(|source, ordinal| source == 1 && ordinal < 2);
    oracle.discarded(OUT, "filter", 1, 0);
    assert_eq!(violations(&oracle), [Violation::Lost { output: OUT, source: 1, ordinal: 1 }]);
    oracle.discarded(OUT, "filter", 1, 1);
    let summary = oracle.check().unwrap();
    assert_eq!(summary[0].discarded, BTreeMap::from([("filter".to_string(), 2)]));
}

#[test]
fn counted_discards_must_match_what_is_missing() {
    let count = |counted| {
        let mut oracle = history(|source, ordinal| source == 1 && ordinal < 3);
        oracle.discarded_count(OUT, "lane_full", counted);
        oracle
    };
    assert!(count(3).check().is_ok());
    assert_eq!(violations(&count(2)), [Violation::Lost { output: OUT, source: 1, ordinal: 2 }]);
    assert_eq!(violations(&count(4)), [Violation::Overcounted { output: OUT, counted: 4, missing: 3 }]);
}

#[test]
fn discards_that_no_later_life_decides_again_must_match_what_never_came() {
    let count = |counted: u64| {
        let mut oracle = history(|source, ordinal| source == 1 && ordinal < 3);
        oracle.discarded_count(OUT, "retries_exhausted", counted);
        // Events in flight at the end of the previous life may be discarded although they were delivered.
        oracle.restarted();
        oracle.goes_back(OUT, 0, 15);
        oracle.delivered(OUT, 0, event(2, 9));
        let undoubted = oracle.undoubted(OUT, counted);
        oracle.discarded_finally(OUT, undoubted);
        oracle
    };
    assert!(count(4).check().is_ok(), "2/8 came before and is doubtful");
    assert_eq!(violations(&count(5)), [Violation::Overcounted { output: OUT, counted: 4, missing: 3 }]);
    let mut oracle = count(4);
    oracle.nothing_in_flight(OUT);
    let undoubted = oracle.undoubted(OUT, 1);
    oracle.discarded_finally(OUT, undoubted);
    assert_eq!(violations(&oracle), [Violation::Overcounted { output: OUT, counted: 4, missing: 3 }]);
}

#[test]
fn an_event_that_came_may_be_discarded_once_for_each_time_it_is_read_again() {
    let count = |given_again: usize, counted| {
        let mut oracle = history(|_, _| false);
        (0..given_again).for_each(|_| oracle.offered(1, 2, ONLY));
        // Given again, but only for another output: this does not concern the first one.
        oracle.offered(1, 3, ONLY << 1);
        oracle.discarded_count(OUT, "ring_full", counted);
        oracle.restarted();
        oracle.discarded_finally(OUT, counted);
        oracle
    };
    assert!(count(0, 0).check().is_ok() && count(2, 2).check().is_ok());
    assert_eq!(violations(&count(1, 2)), [Violation::Overcounted { output: OUT, counted: 2, missing: 1 }]);
}

#[test]
fn an_event_nobody_gave_to_the_engine_is_caught() {
    let mut oracle = history(|_, _| false);
    oracle.delivered(OUT, 0, event(3, 0));
    oracle.issued(event(3, 0));
    oracle.delivered(OUT, 0, event(3, 0));
    let unknown = Violation::Unknown { output: OUT, event: event(3, 0) };
    assert_eq!(violations(&oracle), [unknown.clone(), unknown]);
}

#[test]
fn a_changed_payload_is_caught_and_does_not_count_as_delivered() {
    let mut oracle = history(|source, ordinal| (source, ordinal) == (1, 9));
    let forged = Event { payload: 7, ..event(1, 9) };
    oracle.delivered(OUT, 0, forged);
    let expected = [
        Violation::Payload { output: OUT, event: forged, issued: event(1, 9).payload },
        Violation::Lost { output: OUT, source: 1, ordinal: 9 },
    ];
    assert_eq!(violations(&oracle), expected);
}

#[test]
fn two_events_swapped_break_the_order_of_their_source_in_one_run_and_across_instances() {
    let swapped = |instances: [u16; 2]| {
        let mut oracle = Oracle::new(&["file"]);
        offer(&mut oracle, 1, 0..2);
        oracle.delivered(OUT, instances[0], event(1, 1));
        oracle.delivered(OUT, instances[1], event(1, 0));
        oracle
    };
    let run = Violation::Run { output: OUT, instance: 0, source: 1, ordinal: 0, after: 1 };
    assert_eq!(violations(&swapped([0, 0])), [run]);
    assert_eq!(violations(&swapped([0, 1])), [Violation::Order { output: OUT, source: 1, ordinal: 0, after: 1 }]);
    let mut spread = Oracle::new(&["file"]);
    offer(&mut spread, 1, 0..2);
    spread.unordered(1);
    spread.delivered(OUT, 0, event(1, 1));
    spread.delivered(OUT, 0, event(1, 0));
    assert!(spread.check().is_ok());
}

#[test]
fn an_event_that_was_given_up_may_come_late_and_is_counted_once() {
    let mut oracle = Oracle::new(&["file"]);
    offer(&mut oracle, 1, 0..2);
    oracle.delivered(OUT, 0, event(1, 1));
    oracle.restarted();
    oracle.delivered(OUT, 0, event(1, 0));
    assert_eq!(violations(&oracle), [Violation::Order { output: OUT, source: 1, ordinal: 0, after: 1 }]);
    oracle.discarded_count(OUT, "retries_exhausted", 1);
    assert_eq!(oracle.check().unwrap()[0].late, 1);
}

#[test]
fn sources_have_no_order_among_each_other() {
    let mut oracle = promised();
    for source in [2, 1] {
        (0..10).for_each(|ordinal| oracle.delivered(OUT, 0, event(source, ordinal)));
    }
    assert!(oracle.check().is_ok());
}

#[test]
fn only_what_was_in_flight_is_repeated_and_only_once() {
    let mut oracle = history(|_, _| false);
    assert_eq!(oracle.deliveries(OUT), 20);
    oracle.restarted();
    oracle.goes_back(OUT, 0, 18);
    oracle.delivered(OUT, 0, event(2, 8));
    oracle.delivered(OUT, 0, event(2, 9));
    assert_eq!(oracle.check().unwrap()[0].repeats, 2);
    oracle.restarted();
    oracle.delivered(OUT, 0, event(2, 8));
    oracle.delivered(OUT, 0, event(1, 0));
    let repeat = |source, ordinal| Violation::Repeat { output: OUT, source, ordinal };
    assert_eq!(violations(&oracle), [repeat(2, 8), repeat(1, 0)]);
}

#[test]
fn a_loss_of_power_repeats_what_was_not_acknowledged() {
    let mut oracle = history(|_, _| false);
    offer(&mut oracle, 1, 10..11);
    oracle.delivered(OUT, 0, event(1, 10));
    oracle.power_lost();
    oracle.restarted();
    oracle.delivered(OUT, 0, event(1, 10));
    assert!(oracle.check().is_ok());
    oracle.delivered(OUT, 1, event(1, 9));
    assert_eq!(violations(&oracle), [Violation::Repeat { output: OUT, source: 1, ordinal: 9 }]);
}

#[test]
fn what_waits_for_an_output_that_leaves_is_counted_and_gone_for_good() {
    let removed = |counted| {
        let mut oracle = history(|source, _| source == 2);
        oracle.removed(OUT, counted);
        oracle
    };
    assert_eq!(violations(&removed(9)), [Violation::Undercounted { output: OUT, counted: 9, waiting: 10 }]);
    let mut oracle = removed(10);
    assert!(oracle.check().is_ok());
    oracle.gone(OUT);
    oracle.restarted();
    oracle.delivered(OUT, 0, event(2, 0));
    assert_eq!(violations(&oracle), [Violation::Unknown { output: OUT, event: event(2, 0) }]);
}

#[test]
fn what_the_world_destroyed_is_owed_nothing() {
    let mut oracle = history(|source, ordinal| source == 1 && ordinal < 2);
    oracle.destroyed(1, 0);
    oracle.destroyed(1, 1);
    oracle.delivered(OUT, 0, event(1, 1));
    assert!(oracle.check().is_ok());
    oracle.damage("rot at 7");
    assert_eq!(violations(&oracle), [Violation::Damage { what: "rot at 7".to_owned() }]);
}

#[test]
fn a_queue_beyond_its_limit_is_caught() {
    let mut oracle = history(|_, _| false);
    oracle.measured("batches", 7, 7);
    assert!(oracle.is_content());
    oracle.measured("batches", 8, 7);
    assert_eq!(violations(&oracle), [Violation::Bound { what: "batches", value: 8, limit: 7 }]);
}

#[test]
fn a_fresh_event_has_to_come() {
    let fresh = |all| {
        let mut oracle = history(|source, ordinal| (source, ordinal) == (2, 9));
        oracle.discarded_count(OUT, "lane_full", 1);
        oracle.fresh(OUT, &[(1, 9), (2, 9)], all, |_, _| false);
        oracle
    };
    assert!(fresh(false).check().is_ok());
    assert_eq!(violations(&fresh(true)), [Violation::Stuck { output: OUT, source: 2, ordinal: 9 }]);
}

#[test]
fn acknowledging_what_was_never_given_to_the_engine_is_caught() {
    let mut oracle = history(|_, _| false);
    oracle.acknowledged(1, 77, ONLY);
    assert_eq!(violations(&oracle), [Violation::NeverIssued { source: 1, ordinal: 77 }]);
}

#[test]
fn a_report_names_the_first_and_counts_the_rest() {
    let mut oracle = Oracle::new(&["file"]);
    offer(&mut oracle, 1, 0..100);
    (0..100).for_each(|ordinal| oracle.acknowledged(1, ordinal, ONLY));
    let report = oracle.check().unwrap_err();
    assert_eq!((report.total, report.violations.len()), (100, NAMED_MAX));
    let text = report.to_string();
    assert!(text.starts_with("100 violations\n  lost: 1/0 was promised and never reached file"), "{text}");
    assert!(text.ends_with("and 88 more"), "{text}");
}
