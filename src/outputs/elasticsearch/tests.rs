//! The output with a server that responds to bulk requests as each test needs.

mod indexes;

use super::*;
use crate::outputs::encoding::testing::delivery;
use crate::outputs::requests::tests::{Act, Seen, Server, answer, closed_port, deliver, retry, status};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tailwater_shards::plugin::Outcome;

fn settings(endpoints: &[String], more: serde_json::Value) -> Settings {
    let mut keys = json!({ "endpoints": endpoints, "index": "logs" });
    keys.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    serde_json::from_value(keys).expect("settings")
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{{\"number\":{number}}}\n")).collect()
}

fn send(server: &Server, more: serde_json::Value, count: usize, attempts: usize) -> Vec<Outcome> {
    deliver(settings(&[server.url()], more), move || delivery(&lines(count), 1), attempts)
}

/// The numbers of the events in a request.
fn numbers(seen: &Seen) -> Vec<u64> {
    let text = seen.text();
    let events =
        text.lines().skip(1).step_by(2).map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    events.map(|event| event["number"].as_u64().expect("a number")).collect()
}

/// A response with these statuses.
fn items(statuses: &[u16]) -> Act {
    let item = |status: &u16| match status {
        200..=299 => json!({ "index": { "status": status } }),
        _ => json!({ "index": { "status": status, "error": { "type": format!("t{status}"), "reason": "because" } } }),
    };
    let errors = statuses.iter().any(|status| *status >= 300);
    let items: Vec<_> = statuses.iter().map(item).collect();
    Act::Send(answer(200, "", json!({ "errors": errors, "items": items }).to_string().as_bytes()))
}

fn good(_: usize, seen: &Seen) -> Act {
    items(&vec![201; numbers(seen).len()])
}

#[test]
fn request_is_what_the_bulk_api_wants() {
    let server = Server::start(good);
    let url = format!("{}/cluster/", server.url());
    let more = json!({ "pipeline": "geo ip", "op": "create", "auth": { "api_key": "aWQ6a2V5" } });
    let outcomes = deliver(settings(&[url], more), || delivery(&lines(2), 1), 1);
    assert!(matches!(outcomes[..], [Outcome::Delivered]), "{outcomes:?}");
    let seen = &server.seen()[0];
    let line = "POST /cluster/_bulk?filter_path=errors,items.*.status,items.*.error&timeout=10000ms&pipeline=geo%20ip HTTP/1.1\n";
    assert!(seen.head.starts_with(line), "{}", seen.head);
    assert_eq!(seen.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(seen.header("authorization"), Some("ApiKey aWQ6a2V5"));
    let action = "{\"create\":{\"_index\":\"logs\"}}\n";
    assert_eq!(seen.text(), format!("{action}{{\"number\":0}}\n{action}{{\"number\":1}}\n"));
}

#[test]
fn only_busy_items_are_sent_again() {
    let statuses: [&[u16]; 3] = [&[201, 429, 201, 503, 201, 400], &[201, 429], &[201]];
    let server = Server::start(move |number, _| items(statuses[number]));
    let outcomes = send(&server, json!({}), 6, 5);
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    assert!(retry(&outcomes[0]).0.contains("status 429, t429, because"), "{outcomes:?}");
    let Outcome::Rejected(rejected) = &outcomes[2] else { panic!("{outcomes:?}") };
    assert_eq!(rejected[..], [(5, "status 400, t400, because".to_owned())]);
    let sent: Vec<Vec<u64>> = server.seen().iter().map(numbers).collect();
    assert_eq!(sent, [vec![0, 1, 2, 3, 4, 5], vec![1, 3], vec![3]]);
}

#[test]
fn new_delivery_forgets_the_rest_of_another() {
    let server = Server::start(|number, seen| if number == 0 { status(503) } else { good(number, seen) });
    let settings = settings(&[server.url()], json!({}));
    let outcomes = crate::outputs::requests::tests::on_shard(move |env| async move {
        let mut output = crate::outputs::requests::tests::open(&env, &settings).await.expect("it opens");
        let (first, second) = (delivery(&lines(3), 1), delivery(&lines(2), 1));
        [output.deliver(&first).await, output.deliver(&second).await]
    });
    assert!(matches!(outcomes, [Outcome::Retry { .. }, Outcome::Delivered]), "{outcomes:?}");
    assert_eq!(numbers(&server.seen()[1]), [0, 1]);
}

#[test]
fn every_event_is_stored_once_whatever_the_server_does() {
    // A server with ids: it keeps accepted events even if its response is lost.
    let kept = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let store = kept.clone();
    let server = Server::start(move |number, seen| {
        let text = seen.text();
        let ids = text.lines().step_by(2).map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let mut store = store.lock().expect("no panic");
        let statuses: Vec<u16> = ids
            .enumerate()
            .map(|(place, action)| {
                if (number + place) % 7 == 3 {
                    return 429;
                }
                let id = action["create"]["_id"].as_str().expect("an id").to_owned();
                let times = store.entry(id).or_default();
                *times += 1;
                if *times > 1 { 409 } else { 201 }
            })
            .collect();
        match number % 5 {
            1 => Act::Last(Vec::new()),
            2 => Act::Send(answer(503, "", b"unavailable")),
            _ => items(&statuses),
        }
    });
    let more = json!({ "op": "create", "id": "hash", "request_bytes": 2000 });
    let outcomes = send(&server, more, 200, 100);
    assert!(matches!(outcomes.last(), Some(Outcome::Delivered)), "{:?}", outcomes.last());
    assert_eq!(kept.lock().expect("no panic").len(), 200);
}

#[test]
fn failed_server_is_skipped_while_another_works() {
    let server = Server::start(good);
    let dead = format!("http://127.0.0.1:{}", closed_port());
    let settings = settings(&[dead.clone(), server.url()], json!({ "request_bytes": 200, "concurrency": 1 }));
    let outcomes = deliver(settings, || delivery(&lines(50), 1), 5);
    assert_eq!(outcomes.len(), 2, "one request fails, then all go to the other: {outcomes:?}");
    assert!(retry(&outcomes[0]).0.contains(&dead));
    let mut sent: Vec<u64> = server.seen().iter().flat_map(numbers).collect();
    sent.sort_unstable();
    assert_eq!(sent, (0..50).collect::<Vec<_>>());
}

#[test]
fn events_with_invalid_index_names_are_rejected_and_others_delivered() {
    let server = Server::start(good);
    let all =
        || delivery(&["{\"s\":\"a b\",\"number\":0}\n".to_owned(), "{\"s\":\"ok\",\"number\":1}\n".to_owned()], 1);
    let outcomes = deliver(settings(&[server.url()], json!({ "index": "x-{{ s }}" })), all, 1);
    let [Outcome::Rejected(rejected)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(rejected.len() == 1 && rejected[0].0 == 0 && rejected[0].1.contains("`x-a b`"), "{rejected:?}");
    assert_eq!(numbers(&server.seen()[0]), [1]);

    let none = || delivery(&["{\"s\":\"a b\"}\n".to_owned()], 1);
    let outcomes = deliver(settings(&[server.url()], json!({ "index": "x-{{ s }}" })), none, 1);
    assert!(matches!(&outcomes[..], [Outcome::Rejected(rejected)] if rejected.len() == 1), "{outcomes:?}");
    assert_eq!(server.seen().len(), 1, "nothing is sent for nothing");
}

#[test]
fn event_without_the_field_of_the_index_is_counted_once_whatever_is_sent_again() {
    for (index, unnamed) in [("l-{{ s }}", 3), ("l-{{ s }}-{{ t }}", 4), ("l-{{ s | default('none') }}", 0)] {
        let server = Server::start(|number, seen| match number {
            0 => status(503),
            1 => status(413),
            _ => items(&vec![201; seen.text().lines().count() / 2]),
        });
        let settings = settings(&[server.url()], json!({ "index": index }));
        let counters = Arc::new(tailwater_shards::counters::OutputCounters::default());
        let counted = counters.clone();
        crate::outputs::requests::tests::on_shard(move |env| async move {
            let context = crate::outputs::requests::tests::context(&env, counters);
            let spec = settings.spec(&Facts::of("h"), "out");
            let mut output = spec.open(context, Resume::whole(Vec::new())).await.expect("it opens");
            let some = ["{\"s\":\"a\"}\n", "{}\n", "{\"s\":null}\n", "{\"s\":{}}\n"].map(str::to_owned);
            let mut delivery = delivery(&some, 1);
            assert!(matches!(output.deliver(&delivery).await, Outcome::Retry { .. }));
            delivery.attempt = 1;
            let outcome = output.deliver(&delivery).await;
            assert!(matches!(outcome, Outcome::Delivered), "{outcome:?}");
            delivery.attempt = 0;
            assert!(matches!(output.deliver(&delivery).await, Outcome::Delivered), "another delivery");
        });
        assert_eq!(counted.unnamed_events.get(), 2 * unnamed, "{index}");
        let missing = if unnamed == 0 { "l-none" } else { "l-unknown" };
        assert_eq!(server.seen()[0].text().matches(missing).count(), 3, "{}", server.seen()[0].text());
    }
}

#[test]
fn too_large_requests_are_halved() {
    let server = Server::start(|number, seen| if seen.body.len() > 400 { status(413) } else { good(number, seen) });
    let outcomes = send(&server, json!({ "compression": "none" }), 40, 1);
    assert!(matches!(outcomes[..], [Outcome::Delivered]), "{outcomes:?}");
    let mut sent: Vec<u64> = server.seen().iter().filter(|seen| seen.body.len() <= 400).flat_map(numbers).collect();
    sent.sort_unstable();
    assert_eq!(sent, (0..40).collect::<Vec<_>>());
}

#[test]
fn response_that_cannot_be_decompressed_counts_as_none() {
    let server = Server::start(|number, seen| match number {
        0 => Act::Send(answer(200, "content-encoding: br\r\n", b"x")),
        _ => good(number, seen),
    });
    let outcomes = send(&server, json!({}), 1, 2);
    assert!(retry(&outcomes[0]).0.contains("compressed with an unknown method"), "{outcomes:?}");
    assert!(matches!(outcomes[1], Outcome::Delivered));
}

#[test]
fn request_with_a_too_large_response_is_halved() {
    let reason = "x".repeat(10_000);
    let server = Server::start(move |_, seen| {
        let item = json!({ "index": { "status": 400, "error": { "type": "long", "reason": reason } } }).to_string();
        let items = vec![item; numbers(seen).len()].join(",");
        Act::Send(answer(200, "", format!("{{\"errors\":true,\"items\":[{items}]}}").as_bytes()))
    });
    let outcomes = send(&server, json!({}), 4000, 20);
    let Some(Outcome::Rejected(rejected)) = outcomes.last() else { panic!("{:?}", outcomes.last()) };
    assert_eq!(rejected.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (0..4000).collect::<Vec<_>>());
}

#[test]
fn request_with_a_too_large_response_is_never_sent_again_as_it_was() {
    let reason = "x".repeat(40_000);
    let server = Server::start(move |_, seen| {
        let item = json!({ "index": { "status": 400, "error": { "type": "long", "reason": reason } } }).to_string();
        let items = vec![item; numbers(seen).len()].join(",");
        Act::Send(answer(200, "", format!("{{\"errors\":true,\"items\":[{items}]}}").as_bytes()))
    });
    let settings = settings(&[server.url()], json!({ "concurrency": 1 }));
    let sizes = crate::outputs::requests::tests::on_shard(move |env| async move {
        let mut output = crate::outputs::requests::tests::open(&env, &settings).await.expect("it opens");
        for _ in 0..2 {
            let outcome = output.deliver(&delivery(&lines(500), 1)).await;
            assert!(matches!(&outcome, Outcome::Rejected(all) if all.len() == 500), "{outcome:?}");
        }
        server.seen().iter().map(|seen| numbers(seen).len()).collect::<Vec<_>>()
    });
    assert_eq!(sizes[..3], [500, 250, 250], "{sizes:?}");
    assert!(sizes[3..].iter().all(|size| *size < 420), "the next delivery goes out in smaller requests: {sizes:?}");
    assert_eq!(sizes[3..].iter().sum::<usize>(), 500, "{sizes:?}");
}

/// A response with these items, whatever `errors` says.
fn body(text: &str) -> Act {
    Act::Send(answer(200, "", text.as_bytes()))
}

/// How often each event was sent.
fn times(server: &Server, count: u64) -> Vec<usize> {
    let sent: Vec<u64> = server.seen().iter().flat_map(numbers).collect();
    (0..count).map(|number| sent.iter().filter(|sent| **sent == number).count()).collect()
}

#[test]
fn blocked_items_wait_until_the_block_is_lifted() {
    for kind in ["cluster_block_exception", "security_exception"] {
        let blocked = move |number: usize, seen: &Seen| {
            let error = json!({ "type": kind, "reason": "index [logs] blocked by: [FORBIDDEN/8/index write (api)];" });
            let items: Vec<_> = numbers(seen)
                .iter()
                .map(|event| match number < 3 && event % 2 == 1 {
                    true => json!({ "index": { "status": 403, "error": error } }),
                    false => json!({ "index": { "status": 201 } }),
                })
                .collect();
            body(&json!({ "errors": number < 3, "items": items }).to_string())
        };
        let server = Server::start(blocked);
        let outcomes = send(&server, json!({}), 4, 9);
        assert!(matches!(outcomes[..], [.., Outcome::Delivered]) && outcomes.len() == 4, "{outcomes:?}");
        assert!(retry(&outcomes[0]).0.contains("check "), "{outcomes:?}");
        assert_eq!(times(&server, 4), [1, 4, 1, 4], "what was taken is not sent again");
    }
}

#[test]
fn response_without_items_decides_for_all_events() {
    for text in [r#"{"took":0,"errors":false}"#, r#"{"took":1,"errors":false,"items":[]}"#] {
        let server = Server::start(move |_, _| body(text));
        let outcomes = send(&server, json!({}), 500, 3);
        assert!(matches!(outcomes[..], [Outcome::Delivered]), "{outcomes:?}");
        assert!(times(&server, 500).iter().all(|times| *times == 1));
    }
}

#[test]
fn events_at_fault_are_found_if_only_failures_have_items() {
    let at_fault = |number: &u64| [3, 77, 78, 300].contains(number);
    let server = Server::start(move |_, seen| {
        let item = r#"{"index":{"status":422,"error":{"type":"timestamp_parsing_failed","reason":"too old"}}}"#;
        let items = vec![item; numbers(seen).iter().filter(|number| at_fault(number)).count()];
        body(&format!(r#"{{"took":1,"errors":{},"items":[{}]}}"#, !items.is_empty(), items.join(",")))
    });
    let outcomes = send(&server, json!({}), 512, 1);
    let [Outcome::Rejected(rejected)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(rejected.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 77, 78, 300]);
    assert!(times(&server, 512).iter().all(|times| *times <= 10), "halves, not the whole again");
}

#[test]
fn event_that_undoes_a_transaction_is_found() {
    let taken = Arc::new(Mutex::new(Vec::<u64>::new()));
    let store = taken.clone();
    let server = Server::start(move |_, seen| {
        let events = numbers(seen);
        let item = |status: u16| match status {
            201 => json!({ "index": { "_type": "doc", "status": 201 } }),
            _ => {
                json!({ "index": { "_type": "doc", "status": status, "error": { "type": "mapper_parsing_exception", "reason": "x" } } })
            }
        };
        let is_good = !events.contains(&41);
        if is_good {
            store.lock().expect("no panic").extend(&events);
        }
        let items = vec![item(if is_good { 201 } else { 400 }); events.len()];
        body(&json!({ "items": items, "errors": !is_good }).to_string())
    });
    let outcomes = send(&server, json!({}), 100, 1);
    let [Outcome::Rejected(rejected)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(rejected.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [41]);
    let mut taken = taken.lock().expect("no panic").clone();
    taken.sort_unstable();
    assert_eq!(taken, (0..100).filter(|number| *number != 41).collect::<Vec<_>>());
}

#[test]
fn request_that_was_cut_off_is_completed() {
    let server = Server::start(|_, seen| items(&vec![201; numbers(seen).len().min(30)]));
    let outcomes = send(&server, json!({}), 100, 1);
    assert!(matches!(outcomes[..], [Outcome::Delivered]), "{outcomes:?}");
    assert!(times(&server, 100).iter().all(|times| (1..=8).contains(times)), "{:?}", times(&server, 100));
}

/// Whatever a 2xx response contains, events that may have been accepted are not sent without limit, and none is lost.
#[test]
fn no_response_makes_accepted_events_be_sent_without_limit() {
    let cut = format!(r#"{{"errors":true,"items":[{}"#, r#"{"index":{"status":201}},"#.repeat(9));
    for text in [
        "",
        "{}",
        r#"{"status":"ok"}"#,
        r#"{"errors":true,"items":[]}"#,
        r#"{"errors":false,"error":"disk","items":[]}"#,
        &cut,
    ] {
        let text = text.to_owned();
        let shown = text.clone();
        let server = Server::start(move |_, _| body(&text));
        let outcomes = send(&server, json!({}), 64, 2000);
        let Some(Outcome::Rejected(rejected)) = outcomes.last() else { panic!("{shown}: {:?}", outcomes.last()) };
        assert_eq!(
            rejected.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
            (0..64).collect::<Vec<_>>(),
            "{shown}"
        );
        assert!(outcomes.len() > 5, "{shown}: it is tried again first");
        let times = times(&server, 64);
        assert!(times.iter().all(|times| *times <= 20), "{shown}: {times:?}");
    }
}

#[test]
fn server_error_for_one_event_does_not_delay_others() {
    let server = Server::start(|_, seen| {
        let item = |number: &u64| match number {
            5 => json!({ "index": { "status": 500, "error": { "type": "null_pointer_exception", "reason": "x" } } }),
            _ => json!({ "index": { "status": 201 } }),
        };
        let items: Vec<_> = numbers(seen).iter().map(item).collect();
        body(&json!({ "errors": true, "items": items }).to_string())
    });
    let outcomes = send(&server, json!({}), 9, 50);
    let Some(Outcome::Rejected(rejected)) = outcomes.last() else { panic!("{outcomes:?}") };
    assert!(rejected.len() == 1 && rejected[0].0 == 5, "{rejected:?}");
    assert_eq!(times(&server, 9), [1, 1, 1, 1, 1, 6, 1, 1, 1]);
}

#[test]
fn no_reason_quotes_a_secret_that_the_server_repeats() {
    let server = Server::start(|number, seen| {
        let authorization = seen.header("authorization").expect("credentials");
        let long = format!("{}{authorization}", "x".repeat(480));
        let statuses = if number == 0 { [429, 400] } else { [400, 400] };
        let item = |status| json!({ "index": { "status": status, "error": { "type": "t", "reason": long } } });
        match number {
            2 => Act::Send(answer(403, "", format!("{{\"error\":\"{authorization}\"}}").as_bytes())),
            _ => body(&json!({ "errors": true, "items": statuses.map(item)[..numbers(seen).len()] }).to_string()),
        }
    });
    let more = json!({ "auth": { "basic": { "user": "u", "password": "hush-hush" } } });
    let mut outcomes = send(&server, more.clone(), 2, 2);
    outcomes.extend(send(&server, more, 1, 1));
    let shown = format!("{outcomes:?}");
    // Base64 of `u:hush`, where a reason is cut.
    assert!(!shown.contains("dTpodXNo") && !shown.contains("Basic"), "{shown}");
    assert_eq!(
        (outcomes.len(), shown.matches("x***…").count(), shown.matches("\"***\\\"").count()),
        (3, 3, 1),
        "{shown}"
    );
}

/// Reasons are cut when they are read, so that few bytes of a secret may be left of it.
#[test]
fn no_reason_ends_with_the_first_bytes_of_a_secret() {
    let server = Server::start(|number, seen| {
        let token = seen.header("authorization").expect("credentials").replace("Bearer ", "");
        let reason = format!("{}{token}", "x".repeat(490 + number));
        let error = json!({ "type": "", "reason": reason });
        body(&json!({ "errors": true, "items": [{ "index": { "status": 400, "error": error } }] }).to_string())
    });
    let url = [server.url()];
    for _ in 0..12 {
        let settings = settings(&url, json!({ "auth": { "bearer": "QWERTY-QWERTY" } }));
        let shown = format!("{:?}", deliver(settings, || delivery(&lines(1), 1), 1));
        assert!(shown.contains("xxx") && shown.contains('…') && !shown.contains('Q'), "{shown}");
    }
    assert_eq!(server.seen().len(), 12);
}

#[test]
fn no_reason_for_a_doubtful_event_quotes_a_secret_that_the_server_repeats() {
    let server = Server::start(|number, seen| {
        let authorization = seen.header("authorization").expect("credentials");
        let error = json!({ "type": "null_pointer_exception", "reason": authorization });
        let answer = match number {
            0 => json!({ "seen": authorization }),
            _ => json!({ "errors": true, "items": [{ "index": { "status": 500, "error": error } }] }),
        };
        body(&answer.to_string())
    });
    let outcomes = send(&server, json!({ "auth": { "bearer": "hush-hush" } }), 1, 9);
    let shown = format!("{outcomes:?}");
    let Some(Outcome::Rejected(rejected)) = outcomes.last() else { panic!("{shown}") };
    assert!(rejected[0].1.contains("status 500, null_pointer_exception, ***"), "{shown}");
    assert!(retry(&outcomes[0]).0.contains("\"seen\":\"***\""), "{shown}");
    assert!(!shown.contains("hush"), "{shown}");
}

/// Without an id of the event, something else has the id that the server chose.
#[test]
fn conflict_is_an_earlier_delivery_only_for_a_created_event_with_an_id() {
    for (more, is_delivered) in [
        (json!({ "op": "create", "id": "hash" }), true),
        (json!({ "op": "create" }), false),
        (json!({ "op": "index", "id": "hash" }), false),
    ] {
        let server = Server::start(|_, _| items(&[409]));
        let outcomes = send(&server, more.clone(), 1, 1);
        match &outcomes[..] {
            [Outcome::Delivered] => assert!(is_delivered, "{more}"),
            [Outcome::Rejected(rejected)] => {
                assert!(!is_delivered && rejected[0].1.contains("409"), "{more}: {rejected:?}")
            }
            _ => panic!("{more}: {outcomes:?}"),
        }
    }
}

#[test]
fn invalid_settings_are_rejected() {
    let url = ["http://x".to_owned()];
    let key = |endpoints: &[String], more| settings(endpoints, more).check().remove(0).key;
    assert_eq!(key(&[], json!({})), "endpoints");
    assert_eq!(key(&["http://x/?a=b".to_owned()], json!({})), "endpoints.0");
    assert_eq!(key(&url, json!({ "index": " " })), "index");
    assert_eq!(key(&url, json!({ "index": "{{ x" })), "index");
    assert_eq!(key(&url, json!({ "id": "same" })), "id");
    assert_eq!(key(&url, json!({ "id": "{{ a }}-{{ b | default('x') }}" })), "id");
    assert_eq!(key(&url, json!({ "index": "l-{{ a | upper }}" })), "index");
    assert_eq!(key(&url, json!({ "index": "l-{{ a | default('x y') }}" })), "index");
    assert_eq!(key(&url, json!({ "pipeline": "" })), "pipeline");
    assert!(settings(&url, json!({ "id": "hash", "op": "create" })).check().is_empty());
}

/// 40 kB that stand for 16 MB and 800,000 items.
fn flood(items: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let body = [b"{\"errors\":true,\"items\":[".to_vec(), b"{\"a\":{\"status\":4}},".repeat(items)].concat();
    std::io::Write::write_all(&mut encoder, &body).expect("in memory");
    encoder.finish().expect("in memory")
}

#[test]
fn answers_are_bounded_by_what_their_request_needs() {
    let answer = |items: usize| {
        let flood = flood(items);
        Server::start(move |_, _| Act::Send(super::tests::answer(200, "content-encoding: gzip\r\n", &flood)))
    };
    // Far more than one event needs: the body is not even decompressed to its end.
    let outcomes = send(&answer(800_000), json!({}), 1, 1);
    let (error, _) = retry(&outcomes[0]);
    assert!(error.contains("more than its request can need"), "{error}");
    // Few enough bytes, and too many items.
    let outcomes = send(&answer(9), json!({}), 1, 1);
    let (error, _) = retry(&outcomes[0]);
    assert!(error.contains("more than 8 items, but the request had 1 events"), "{error}");
    // Every event is decided in the end: it may have been accepted, so it is not sent for ever.
    let outcomes = send(&answer(800_000), json!({}), 3, 40);
    let Some(Outcome::Rejected(rejected)) = outcomes.last() else { panic!("{:?}", outcomes.last()) };
    assert_eq!(rejected.len(), 3);
}
