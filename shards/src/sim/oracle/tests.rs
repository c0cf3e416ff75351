//! The oracle passes right histories and catches each kind of broken one.

use super::*;

const LIMITS: Limits = Limits { repeats_per_restart: 2, repeats_without_restart: 0 };
const OUT: OutputIndex = OutputIndex(0);

fn event(source: u64, ordinal: u64) -> Event {
    Event { source, ordinal, payload: payload_hash(format!("{source} {ordinal}").as_bytes()) }
}

/// Ten acknowledged events of each of two sources.
fn promised() -> Oracle {
    let mut oracle = Oracle::new(&["file"]);
    for ordinal in 0..10 {
        for source in [1, 2] {
            oracle.issued(event(source, ordinal));
            oracle.acknowledged(source, ordinal);
        }
    }
    oracle
}

/// The same, with all of it delivered but what `leave_out` names.
fn history(leave_out: impl Fn(u64, u64) -> bool) -> Oracle {
    let mut oracle = promised();
    for source in [1, 2] {
        for ordinal in (0..10).filter(|&ordinal| !leave_out(source, ordinal)) {
            oracle.delivered(OUT, event(source, ordinal));
        }
    }
    oracle
}

fn violations(oracle: &Oracle) -> Vec<Violation> {
    oracle.check(&LIMITS).expect_err("the history is broken").violations
}

#[test]
fn a_complete_history_passes_and_is_summed_up() {
    let oracle = history(|_, _| false);
    assert_eq!(oracle.outstanding(), 0);
    let summary = oracle.check(&LIMITS).unwrap();
    assert_eq!(summary, [Summary { issued: 20, acknowledged: 20, delivered: 20, ..Summary::default() }]);
}

#[test]
fn a_lost_event_is_named() {
    let oracle = history(|source, ordinal| (source, ordinal) == (2, 4));
    assert_eq!(oracle.outstanding(), 1);
    assert_eq!(violations(&oracle), [Violation::Lost { output: OUT, source: 2, ordinal: 4 }]);
}

#[test]
fn an_event_never_acknowledged_may_be_lost() {
    let mut oracle = history(|_, _| false);
    oracle.issued(event(1, 10));
    assert!(oracle.check(&LIMITS).is_ok());
}

#[test]
fn acknowledging_through_covers_all_before() {
    let mut oracle = Oracle::new(&["file"]);
    (0..3).for_each(|ordinal| oracle.issued(event(1, ordinal)));
    oracle.acknowledged_through(1, 1);
    oracle.delivered(OUT, event(1, 1));
    assert_eq!(violations(&oracle), [Violation::Lost { output: OUT, source: 1, ordinal: 0 }]);
}

#[test]
fn a_discard_covers_the_event_it_names_and_no_other() {
    let mut oracle = history(|source, ordinal| source == 1 && ordinal < 2);
    oracle.discarded(OUT, "filter", 1, 0);
    assert_eq!(violations(&oracle), [Violation::Lost { output: OUT, source: 1, ordinal: 1 }]);
    oracle.discarded(OUT, "filter", 1, 1);
    let summary = oracle.check(&LIMITS).unwrap();
    assert_eq!(summary[0].discarded, BTreeMap::from([("filter".to_string(), 2)]));
}

#[test]
fn counted_discards_must_match_what_is_missing() {
    let count = |counted| {
        let mut oracle = history(|source, ordinal| source == 1 && ordinal < 3);
        oracle.discarded_count(OUT, "lane_full", counted);
        oracle
    };
    assert!(count(3).check(&LIMITS).is_ok());
    assert_eq!(violations(&count(2)), [Violation::Lost { output: OUT, source: 1, ordinal: 2 }]);
    assert_eq!(violations(&count(4)), [Violation::Overcounted { output: OUT, counted: 4, missing: 3 }]);
}

#[test]
fn an_event_nobody_issued_is_caught() {
    let mut oracle = history(|_, _| false);
    oracle.delivered(OUT, event(3, 0));
    assert_eq!(violations(&oracle), [Violation::Unknown { output: OUT, event: event(3, 0) }]);
}

#[test]
fn an_event_delivered_before_it_was_issued_is_caught() {
    let mut oracle = Oracle::new(&["file"]);
    oracle.delivered(OUT, event(1, 0));
    oracle.issued(event(1, 0));
    oracle.delivered(OUT, event(1, 0));
    assert_eq!(violations(&oracle), [Violation::Unknown { output: OUT, event: event(1, 0) }]);
}

#[test]
fn a_changed_payload_is_caught_and_does_not_count_as_delivered() {
    let mut oracle = history(|source, ordinal| (source, ordinal) == (1, 9));
    let forged = Event { payload: 7, ..event(1, 9) };
    oracle.delivered(OUT, forged);
    let expected = [
        Violation::Payload { output: OUT, event: forged, issued: event(1, 9).payload },
        Violation::Lost { output: OUT, source: 1, ordinal: 9 },
    ];
    assert_eq!(violations(&oracle), expected);
}

#[test]
fn two_events_swapped_break_the_order_of_their_source() {
    let mut oracle = Oracle::new(&["file"]);
    (0..2).for_each(|ordinal| oracle.issued(event(1, ordinal)));
    oracle.delivered(OUT, event(1, 1));
    oracle.delivered(OUT, event(1, 0));
    assert_eq!(violations(&oracle), [Violation::Order { output: OUT, source: 1, ordinal: 0, after: 1 }]);
}

#[test]
fn sources_have_no_order_among_each_other() {
    let mut oracle = promised();
    for ordinal in 0..10 {
        oracle.delivered(OUT, event(2, ordinal));
    }
    for ordinal in 0..10 {
        oracle.delivered(OUT, event(1, ordinal));
    }
    assert!(oracle.check(&LIMITS).is_ok());
}

#[test]
fn repeats_are_bounded_in_each_life() {
    let mut oracle = history(|_, _| false);
    oracle.restarted();
    oracle.delivered(OUT, event(1, 8));
    oracle.delivered(OUT, event(1, 9));
    assert_eq!(oracle.check(&LIMITS).unwrap()[0].repeats, 2);
    oracle.delivered(OUT, event(2, 9));
    assert_eq!(violations(&oracle), [Violation::Repeats { output: OUT, life: 1, count: 3, bound: 2 }]);
}

#[test]
fn a_repeat_without_a_restart_is_caught() {
    let mut oracle = history(|_, _| false);
    oracle.delivered(OUT, event(1, 9));
    assert_eq!(violations(&oracle), [Violation::Repeats { output: OUT, life: 0, count: 1, bound: 0 }]);
}

#[test]
fn each_output_is_owed_its_own_events() {
    let mut oracle = Oracle::new(&["left", "right"]);
    let (left, right) = (OutputIndex(0), OutputIndex(1));
    oracle.issued(event(1, 0));
    oracle.issued_to(event(1, 1), &[right]);
    oracle.acknowledged_through(1, 1);
    oracle.delivered(right, event(1, 0));
    oracle.delivered(right, event(1, 1));
    oracle.delivered(left, event(1, 1));
    let expected = [
        Violation::Unknown { output: left, event: event(1, 1) },
        Violation::Lost { output: left, source: 1, ordinal: 0 },
    ];
    assert_eq!(violations(&oracle), expected);
}

#[test]
fn acknowledging_what_was_never_issued_is_caught() {
    let mut oracle = history(|_, _| false);
    oracle.acknowledged(1, 77);
    assert_eq!(violations(&oracle), [Violation::NeverIssued { source: 1, ordinal: 77 }]);
}

#[test]
fn a_report_names_the_first_and_counts_the_rest() {
    let mut oracle = Oracle::new(&["file"]);
    for ordinal in 0..100 {
        oracle.issued(event(1, ordinal));
        oracle.acknowledged(1, ordinal);
    }
    let report = oracle.check(&LIMITS).unwrap_err();
    assert_eq!((report.total, report.violations.len()), (100, NAMED_MAX));
    let text = report.to_string();
    assert!(text.starts_with("100 violations\n  lost: 1/0 was acknowledged and never reached file"), "{text}");
    assert!(text.ends_with("and 88 more"), "{text}");
}
