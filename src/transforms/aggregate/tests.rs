//! Windows, groups and what leaves at their end.

use crate::transforms::tests::{Bench, TIME, mistake};
use tailwater_shards::env::Timestamp;

/// A multiple of ten seconds, and milliseconds after it.
fn at(milliseconds: i64) -> Timestamp {
    Timestamp(TIME.0 - TIME.0.rem_euclid(10_000_000_000) + milliseconds * 1_000_000)
}

#[test]
fn groups_leave_when_their_window_ends() {
    let list = "- aggregate: {every: 10s, by: [svc, http.status], fields: {n: count, bytes.sum: {sum: b}, least: {min: b}, \
        most: {max: b}, mean: {avg: b}}}";
    let mut bench = Bench::try_new(list).expect("valid");
    assert_eq!(bench.due(), None, "nothing is open");
    for event in [
        r#"{"svc":"a","http":{"status":200},"b":10}"#,
        r#"{"svc":"a","http":{"status":200},"b":30}"#,
        r#"{"svc":"\u0061","http":{"status":200}}"#,
        r#"{"svc":"a","b":1.5}"#,
    ] {
        assert_eq!(bench.event_at(event, at(2500)), None);
    }
    assert_eq!((bench.held(), bench.due()), (4, Some(at(10_000))));
    assert!(bench.emitted(at(9999), false).is_empty());
    assert_eq!(
        bench.emitted(at(10_000), false),
        [
            r#"{"svc":"a","http":{"status":200},"n":3,"bytes":{"sum":40},"least":10,"most":30,"mean":20.0}"#,
            r#"{"svc":"a","n":1,"bytes":{"sum":1.5},"least":1.5,"most":1.5,"mean":1.5}"#,
        ]
    );
    assert_eq!((bench.held(), bench.due()), (0, None));
    assert!(bench.emitted(at(30_000), true).is_empty());
}

#[test]
fn one_field_needs_no_list() {
    let mut bench = Bench::try_new("- aggregate: {every: 10s, by: svc, fields: {n: count}}").expect("valid");
    for event in [r#"{"svc":"a"}"#, r#"{"svc":"b"}"#, r#"{"svc":"a"}"#] {
        assert_eq!(bench.event_at(event, at(2500)), None);
    }
    assert_eq!(bench.emitted(at(10_000), false), [r#"{"svc":"a","n":2}"#, r#"{"svc":"b","n":1}"#]);
    let wrong = mistake("- aggregate: {every: 10s, by: '{{ svc }}', fields: {n: count}}");
    assert!(wrong.contains("a template needs a field"), "{wrong}");
}

#[test]
fn the_end_empties_an_open_window_and_the_next_one_is_new() {
    let mut bench =
        Bench::try_new("- aggregate: {every: 10s, by: [k], fields: {n: count, m: {p50: v}}, window_field: w}")
            .expect("valid");
    for round in 0..3 {
        for v in 1..=3 {
            assert!(bench.event_at(&format!("{{\"k\":{round},\"v\":{v}}}"), at(1000)).is_none());
        }
        let out = bench.emitted(at(4000), true);
        assert_eq!(out.len(), 1, "no group of an earlier window leaves again");
        let out: serde_json::Value = serde_json::from_str(&out[0]).expect("JSON");
        assert_eq!((&out["k"], &out["n"]), (&round.into(), &3.into()));
        assert!((out["m"].as_f64().expect("a number") - 2.0).abs() <= 0.02);
        assert_eq!(out["w"]["start"], "2026-11-23T10:20:30.000000Z");
        assert_eq!(out["w"]["end"], "2026-11-23T10:20:34.000000Z");
    }
}

#[test]
fn too_many_groups_are_counted_together() {
    let mut bench =
        Bench::try_new("- aggregate: {every: 10s, by: [k], fields: {n: count}, max_groups: 2}").expect("valid");
    for k in [1, 2, 3, 1, 4, 3] {
        bench.event(&format!("{{\"k\":{k}}}"));
    }
    assert_eq!(bench.failures(), 3);
    let out = bench.emitted(TIME, true);
    assert_eq!(out, [r#"{"k":1,"n":2}"#, r#"{"k":2,"n":1}"#, r#"{"other_groups":true,"n":3}"#]);
    bench.event(r#"{"k":4}"#);
    assert_eq!(bench.emitted(TIME, true), [r#"{"k":4,"n":1}"#]);
}

#[test]
fn values_side_by_side_do_not_make_groups_meet() {
    let mut bench = Bench::try_new("- aggregate: {every: 10s, by: [a, b], fields: {n: count}}").expect("valid");
    for event in [r#"{"a":1,"b":23}"#, r#"{"a":12,"b":3}"#, r#"{"a":123}"#, r#"{"b":123}"#, "{}"] {
        bench.event(event);
    }
    assert_eq!(bench.emitted(TIME, true).len(), 5);
}

#[test]
fn aggregates_go_through_the_verbs_behind() {
    let list = "- if: has(v)\n  then:\n    - aggregate: {every: 10s, by: {day: \"{{ %Y-%m-%d }}\", k: k}, fields: {v: {sum: v}}}\n\
        \x20   - drop: k == \"x\"\n  else: [{add: {single: true}}]\n- add: {env: prod}\n\
        - aggregate: {every: 1m, fields: {total: {sum: v}}, keep_events: true}";
    let mut bench = Bench::try_new(list).expect("valid");
    assert!(bench.event(r#"{"k":"a"}"#).expect("kept").ends_with(r#""k":"a","single":true,"env":"prod"}"#));
    for (k, v) in [("a", 1), ("b", 2), ("x", 100), ("b", 3)] {
        assert!(bench.event(&format!("{{\"k\":\"{k}\",\"v\":{v}}}")).is_none());
    }
    assert_eq!(bench.held(), 5);
    assert_eq!(
        bench.emitted(TIME, true),
        [
            r#"{"day":"2026-11-23","k":"a","v":1,"env":"prod"}"#,
            r#"{"day":"2026-11-23","k":"b","v":5,"env":"prod"}"#,
            r#"{"total":6}"#,
        ]
    );
    assert_eq!(bench.held(), 0);
}

#[test]
fn what_is_no_number_is_counted_as_a_failure() {
    let mut bench = Bench::try_new("- aggregate: {every: 10s, fields: {s: {sum: v}}}").expect("valid");
    for event in [r#"{"v":1}"#, r#"{"v":"2"}"#, r#"{"v":null}"#, r#"{"x":1}"#] {
        bench.event(event);
    }
    assert_eq!(bench.failures(), 1);
    assert_eq!(bench.emitted(TIME, true), [r#"{"s":1}"#]);
}

/// Two windows side by side, one of them for some events only: each lets go of what it has made, whatever the other holds.
#[test]
fn windows_hold_their_sources_from_the_first_batch_counted_in_them() {
    let list = "- {if: long == true, then: [{aggregate: {every: 10s, fields: {n: count}}}], \
        else: [{aggregate: {every: 1s, fields: {n: count}}}]}";
    let mut bench = Bench::try_new(list).expect("valid");
    let batch = |bench: &mut Bench, source, from, line, time| {
        bench.begin(source, from);
        assert_eq!(bench.event_at(line, at(time)), None);
    };
    batch(&mut bench, 1, 100, r#"{"long":false}"#, 100);
    batch(&mut bench, 1, 200, r#"{"long":true}"#, 200);
    batch(&mut bench, 2, 50, r#"{"long":false}"#, 300);
    assert_eq!([1, 2, 3].map(|source| bench.held_from(source)), [Some(100), Some(50), None]);
    assert_eq!(bench.emitted(at(1000), false).len(), 1);
    assert_eq!([1, 2].map(|source| bench.held_from(source)), [Some(200), None], "the long window is open");
    batch(&mut bench, 1, 300, r#"{"long":false}"#, 1100);
    bench.emitted(at(10_000), false);
    assert_eq!(bench.held_from(1), None);
    let mut loses = Bench::try_new("- aggregate: {every: 10s, fields: {n: count}, on_crash: lose}").expect("valid");
    batch(&mut loses, 1, 0, "{}", 100);
    assert_eq!((loses.held(), loses.held_from(1)), (1, None));
}

#[test]
fn clock_that_is_set_back_does_not_hold_a_window_open() {
    let mut bench = Bench::try_new("- aggregate: {every: 10s, fields: {n: count}}").expect("valid");
    bench.event_at("{}", at(3_600_000));
    bench.event_at("{}", at(0));
    assert_eq!(bench.due(), Some(at(10_000)));
    assert_eq!(bench.emitted(at(10_000), false), [r#"{"n":2}"#]);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (entry, said) in [
        ("{every: 0s, fields: {n: count}}", "a window of 0s"),
        ("{every: 10s, fields: {}}", "has no fields"),
        ("{every: 10s, fields: {n: sum}}", "{sum: FIELD}"),
        ("{every: 10s, fields: {n: {p101: a}}}", "`p101`"),
        ("{every: 10s, fields: {n: {sum: a, min: a}}}", "`min` is a second"),
        ("{every: 10s, by: [\"{{ a }}\"], fields: {n: count}}", "needs a field"),
        ("{every: 10s, max_groups: 0, fields: {n: count}}", "`max_groups` cannot be 0"),
        ("{every: 10s, by: [a, n], fields: {n: count}}", "fields.n: the aggregate would have two fields `n`"),
        ("{every: 10s, by: {x: a, n: b}, fields: {n: count}}", "two fields `n`"),
        ("{every: 10s, by: [a, a], fields: {n: count}}", "by.1: the aggregate would have two fields `a`"),
        ("{every: 10s, by: [http.status], fields: {http: count}}", "`http.status` and `http`, one inside the other"),
        ("{every: 10s, fields: {n: count}, window_field: n.w}", "window_field: the aggregate would have `n` and `n.w`"),
    ] {
        let found = mistake(&format!("- aggregate: {entry}"));
        assert!(found.contains(said), "{entry}: {found}");
    }
}
