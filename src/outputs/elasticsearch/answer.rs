//! Reads what the response to a bulk request says about each event.
//!
//! Guarantees: an event counts as accepted only if the server says so for this event, or says that there were no errors at
//! all, because some stores list no items for accepted events. Items are matched to events by their order. If that is not
//! possible (items only for failures, items without an action, a different number of items, or one failure that undoes the
//! whole request), the request is halved until it is. Once a 2xx status may have meant that an event was accepted, the event
//! is not sent again without limit: a 2xx response that is not a bulk response makes its events dead letters after a few
//! attempts. An exception is a page of something else, which is retried. If all went well, the response costs a check of its
//! first bytes and a count of successful statuses. Any other response is parsed ([`body`]), in steps, and only statuses and
//! short reasons are kept. A response with more than [`ITEMS_PER_EVENT_MAX`] items per event is not read to its end.
//!
//! Does not decide what a status means: that is [`crate::outputs::requests::meaning`].
//!
//! How stores respond to a bulk request, according to their source code and documentation:
//!
//! | store | all accepted | some rejected |
//! |---|---|---|
//! | Elasticsearch, OpenSearch | `errors: false`, one item per event | `errors: true`, one item per event |
//! | Quickwit, older | `errors: false`, no items | status 404 for the request, or items for failures only |
//! | Quickwit, newer | one item per event | one item per event: 400, 404, 408, 429, 500 |
//! | ZincSearch | one item per event | 200, `errors: false`, and `error` with a string: the items do not count |
//! | OpenObserve | one item per event, sometimes without an action; or no items | 422 for an item; or items for failures only |
//! | Manticore | items before `errors`, their action may be `table` | 400 for all items of a table: none is accepted |
//! | gigapipe | `errors: false`, no items | a status for the request |

mod body;

use crate::net::reply::Reply;
use crate::outputs::requests::meaning::{self, Meaning, Row, decide, explained};
use crate::outputs::requests::{BarredItem, Items, Verdict, verdict_of};
use body::{Answer, Item, ItemResult, Limits, Listed, Refusal, Unread};
use memchr::memmem::{find, find_iter};
use std::cmp::Ordering;

/// The first bytes, which contain `errors` in every version.
const HEAD_BYTES: usize = 512;

/// Items that a store may send for each event. Stores that write an event to several places send one for each of them.
const ITEMS_PER_EVENT_MAX: u64 = 8;

/// The longest body about the whole request that is parsed. Of a longer one, only the status counts.
const REFUSAL_BYTES_MAX: usize = 1 << 20;

/// The meaning of the response to a request with this many events, at least one. `conflict_is_taken`: if the server already
/// has an event, an earlier attempt delivered it. `breathe` is called between steps of a long response.
pub async fn verdict(reply: &Reply, events: u64, conflict_is_taken: bool, breathe: &impl AsyncFn()) -> Verdict {
    match reply.status.as_u16() {
        200..=299 if is_all_good(&reply.body, events) => Verdict::Delivered,
        200..=299 => of_body(reply, events, conflict_is_taken, breathe).await,
        status => match refusal(&reply.body) {
            Some(Refusal { error, message }) => {
                let fault = if error.text.is_empty() { message } else { error };
                verdict_of(decide(&fault.said(status)), reply.shown())
            }
            None => verdict_of(meaning::of_reply(reply), reply.shown()),
        },
    }
}

/// What a body says about the whole request.
fn refusal(body: &[u8]) -> Option<Refusal> {
    if body.len() > REFUSAL_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// The meaning of a body with a success status.
async fn of_body(reply: &Reply, events: u64, conflict_is_taken: bool, breathe: &impl AsyncFn()) -> Verdict {
    let body = reply.body.trim_ascii();
    let shown = || format!("not a response to a bulk request: {}", reply.shown());
    let items_max = events.saturating_mul(ITEMS_PER_EVENT_MAX);
    // All items about a single event are needed.
    let limits = Limits { items_max, kept_max: events.max(ITEMS_PER_EVENT_MAX) };
    let judge = |result: &ItemResult| meaning_of(result, conflict_is_taken);
    match body::read(body, limits, judge, breathe).await {
        Ok(Answer { error, .. }) if !error.text.is_empty() => {
            let said = format!("{}: {}", reply.status, error.text);
            match decide(&error.said(reply.status.as_u16())).meaning {
                Meaning::TooLarge => Verdict::TooLarge(said),
                _ => unclear(events, said),
            }
        }
        Ok(Answer { record_count: Some(taken), .. }) if taken == events => Verdict::Delivered,
        Ok(Answer { errors: Some(errors), items, .. }) => of_items(items.unwrap_or_default(), errors, events),
        Ok(_) => Verdict::Doubtful(shown()),
        Err(Unread::TooManyItems) => unclear(
            events,
            format!("the response has more than {items_max} items, but the request had {events} events"),
        ),
        // It begins like a bulk response, so it was cut off. The response to fewer events is shorter.
        Err(Unread::Damaged) if body.starts_with(b"{") => unclear(events, shown()),
        Err(Unread::Damaged) if body.is_empty() => Verdict::Doubtful(shown()),
        Err(Unread::Damaged) => Verdict::Retry(format!("{}; check the URL", shown())),
    }
}

/// Halves give more information. A single event cannot be halved.
fn unclear(events: u64, error: String) -> Verdict {
    if events > 1 { Verdict::Unclear(error) } else { Verdict::Doubtful(error) }
}

/// The meaning of items. Only in the best case do their number and order match the events.
fn of_items(listed: Listed, errors: bool, events: u64) -> Verdict {
    let Listed { kept: mut items, count, bad, are_named } = listed;
    let is_in_order = are_named || bad == 0;
    let mismatch = || format!("the response covers {count} events, but the request had {events}");
    if events == 1 && count > 1 {
        // All of them are about the same event.
        items.sort_by_key(|item| std::cmp::Reverse(item.meaning));
        items.truncate(1);
        return Verdict::Items(sort(items));
    }
    match count.cmp(&events) {
        _ if count == 0 && !errors => Verdict::Delivered,
        Ordering::Equal if events == 1 => Verdict::Items(sort(items)),
        Ordering::Equal if bad == count && items.iter().all(|item| item.is_of_a_transaction) => {
            unclear(events, format!("all events were rejected together: {}", items[0].error))
        }
        Ordering::Equal if is_in_order => Verdict::Items(sort(items)),
        // There are no items for the events after them: the request was cut off on its way, or the server left them out.
        Ordering::Less if is_in_order && bad < count => {
            Verdict::Items(Items { unsaid_from: Some(items.len()), ..sort(items) })
        }
        Ordering::Greater if bad == 0 => Verdict::Delivered,
        _ => unclear(events, mismatch()),
    }
}

fn meaning_of(ItemResult { status, error, .. }: &ItemResult, conflict_is_taken: bool) -> (&'static Row, Meaning) {
    let row = decide(&error.said(*status));
    let meaning = match row.meaning {
        Meaning::Exists if conflict_is_taken => Meaning::Taken,
        Meaning::Exists => Meaning::Refused,
        meaning => meaning,
    };
    (row, meaning)
}

/// Whether the response says before the items that there are no errors, and has a success status for each event.
fn is_all_good(body: &[u8], events: u64) -> bool {
    let Some(items) = find(&body[..body.len().min(HEAD_BYTES)], b"\"items\"") else { return false };
    let (head, items) = body.split_at(items);
    let Some(at) = find(head, b"\"errors\"") else { return false };
    let has_error = find(head, b"\"error\"").is_some();
    !has_error && is_value(&head[at + b"\"errors\"".len()..], b"false") && good_statuses(items) == events
}

/// Number of `status` members with a success value. Quotes in text from events are escaped.
fn good_statuses(items: &[u8]) -> u64 {
    const NAME: &[u8] = b"\"status\"";
    find_iter(items, NAME).filter(|at| is_value(&items[at + NAME.len()..], b"2")).count() as u64
}

/// Whether a colon follows, and then a value that begins like this.
fn is_value(text: &[u8], beginning: &[u8]) -> bool {
    let value = text.trim_ascii_start().strip_prefix(b":");
    value.is_some_and(|value| value.trim_ascii_start().starts_with(beginning))
}

fn sort(items: Vec<Item>) -> Items {
    let mut sorted = Items::default();
    for (place, item) in items.into_iter().enumerate() {
        match item.meaning {
            Meaning::Taken => {}
            Meaning::Wait | Meaning::Barred | Meaning::Late => {
                if item.meaning != Meaning::Wait {
                    let (why, is_late) = (explained(item.row, reason(&item)), item.meaning == Meaning::Late);
                    sorted.barred.push(BarredItem { place, why, is_late });
                }
                if sorted.retry.is_empty() {
                    sorted.error = explained(item.row, reason(&item));
                }
                sorted.retry.push(place);
            }
            Meaning::Doubtful => sorted.doubtful.push((place, reason(&item))),
            Meaning::Exists | Meaning::TooLarge | Meaning::Refused => sorted.rejected.push((place, reason(&item))),
        }
    }
    sorted
}

/// Status, type and reason of an item's error, with the cause.
fn reason(Item { status, error, .. }: &Item) -> String {
    match error.is_empty() {
        true => format!("status {status}"),
        false => format!("status {status}, {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::body::REASON_BYTES_MAX;
    use super::*;
    use futures_lite::future::block_on;
    use hyper::StatusCode;
    use std::cell::Cell;

    fn judge(status: u16, body: &str, events: u64, conflict_is_taken: bool) -> Verdict {
        let status = StatusCode::from_u16(status).expect("a status");
        let reply = Reply { status, retry_after: None, body: body.into(), secrets: Default::default() };
        block_on(verdict(&reply, events, conflict_is_taken, &async || {}))
    }

    const MIXED: &str = r#"{"took":3,"errors":true,"items":[
        {"index":{"_index":"l","status":201}},
        {"index":{"status":429,"error":{"type":"rejected_execution_exception","reason":"full"}}},
        {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"there"}}},
        {"index":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"field [a]","caused_by":{"type":"number_format","reason":"x"}}}},
        {"index":{"status":503}},
        {"index":{"status":404,"error":"no such index"}}]}"#;

    #[test]
    fn successful_responses_of_every_version_are_recognised() {
        for body in [
            r#"{"took":3,"errors":false,"items":[{"index":{"status":201}},{"create":{"status":200}}]}"#,
            r#"{"errors":false,"took":3,"ingest_took":1,"items":[{"index":{"_id":"status","status":201}},{"index":{"status":201}}]}"#,
            r#"{ "errors" : false , "items" : [ {"index" : {"status" : 201}}, {"index" : {"status" : 201}} ] }"#,
        ] {
            assert_eq!(judge(200, body, 2, false), Verdict::Delivered, "{body}");
        }
        let late = r#"{"items":[{"index":{"status":201}}],"errors":false}"#;
        assert_eq!(judge(200, late, 1, false), Verdict::Items(Items::default()));
    }

    /// Responses of stores to requests with three events.
    #[test]
    fn responses_of_all_stores_are_understood() {
        let doc = |status: u16| {
            format!(
                r#"{{"index":{{"_type":"doc","status":{status},"error":{{"type":"mapper_parsing_exception","reason":"x"}}}}}}"#
            )
        };
        let all = |status: u16| vec![doc(status); 3].join(",");
        let of = |body: &str| judge(200, body, 3, false);
        let unclear = |body: &str| assert!(matches!(of(body), Verdict::Unclear(_)), "{body}: {:?}", of(body));
        for body in [
            // Quickwit with its older ingest, gigapipe, and OpenObserve with items for errors only.
            r#"{"took":1,"errors":false,"items":[]}"#,
            r#"{"took":0,"errors":false}"#,
            r#"{"errors":false,"items":null}"#,
            // The native endpoint of ZincSearch.
            r#"{"message":"bulk data inserted","record_count":3}"#,
            // More than one item per event.
            r#"{"items":[{"a":{"status":200}},{"a":{"status":200}},{"a":{"status":200}},{"a":{"status":200}}],"errors":false}"#,
        ] {
            assert_eq!(of(body), Verdict::Delivered, "{body}");
        }
        // Manticore, and OpenObserve when it groups by schema: the action has another name.
        let body = r#"{"items":[{"table":{"status":201}},{"":{"status":201}},{"create":{"status":201}}],"errors":false,"error":""}"#;
        assert_eq!(of(body), Verdict::Items(Items::default()));
        // Items in another order than the events, and items for failures only.
        unclear(r#"{"errors":true,"items":[{"index":{"status":422}},{"":{"status":200}},{"":{"status":200}}]}"#);
        unclear(r#"{"errors":true,"items":[{"index":{"status":422,"error":{"type":"t"}}}]}"#);
        unclear(r#"{"errors":true,"items":[]}"#);
        unclear(r#"{"errors":true}"#);
        // A transaction in Manticore: one event is at fault.
        unclear(&format!(r#"{{"items":[{}],"errors":true}}"#, all(400)));
        // ZincSearch: successful items of which none was kept.
        unclear(&format!(r#"{{"took":1,"errors":false,"error":"disk","count":3,"items":[{}]}}"#, all(200)));
        let long = r#"{"took":1,"errors":false,"error":"bufio.Scanner: token too long","count":0,"items":[]}"#;
        assert!(matches!(of(long), Verdict::TooLarge(_)));
        // Quickwit: each item with its own meaning.
        let item = |status: u16, kind: &str| {
            format!(r#"{{"index":{{"status":{status},"error":{{"type":"{kind}","reason":"x"}}}}}}"#)
        };
        let items = [
            item(404, "index_not_found_exception"),
            item(408, "timeout_exception"),
            item(400, "document_parsing_exception"),
        ];
        let Verdict::Items(items) = of(&format!(r#"{{"errors":true,"items":[{}]}}"#, items.join(","))) else {
            panic!()
        };
        assert_eq!((items.retry, items.rejected.len()), (vec![0, 1], 1));
    }

    #[test]
    fn events_after_the_items_are_not_accepted() {
        for body in [
            r#"{"errors":false,"items":[{"index":{"status":201}}]}"#,
            r#"{"items":[{"index":{"status":201}}],"errors":false}"#,
            r#"{"errors":false,"items":[{"index":{"_id":"a\"status\":2","status":201}}]}"#,
        ] {
            let taken = Items { unsaid_from: Some(1), ..Items::default() };
            assert_eq!(judge(200, body, 2, false), Verdict::Items(taken), "{body}");
        }
    }

    #[test]
    fn item_that_fails_because_of_a_block_or_a_role_is_retried() {
        for (status, kind) in [
            (403, "cluster_block_exception"),
            (429, "cluster_block_exception"),
            (403, "security_exception"),
            (404, "index_not_found_exception"),
            (400, "index_closed_exception"),
        ] {
            let item = format!(r#"{{"index":{{"status":{status},"error":{{"type":"{kind}","reason":"made up"}}}}}}"#);
            let body = format!(r#"{{"errors":true,"items":[{item}]}}"#);
            let Verdict::Items(items) = judge(200, &body, 1, false) else { panic!("{body}") };
            assert_eq!((items.retry, items.rejected.len()), (vec![0], 0), "{kind}");
            assert!(items.error.contains("; check "), "{}", items.error);
            let whole =
                format!(r#"{{"error":{{"root_cause":[],"type":"{kind}","reason":"made up"}},"status":{status}}}"#);
            assert!(matches!(judge(status, &whole, 1, false), Verdict::Retry(_)), "the whole request: {kind}");
        }
    }

    #[test]
    fn reason_that_quotes_an_event_is_not_read_as_the_servers_own() {
        let reason = "pipeline with id [x] does not exist; cluster_block_exception";
        let item = format!(
            r#"{{"index":{{"status":400,"error":{{"type":"mapper_parsing_exception","reason":"{reason}"}}}}}}"#
        );
        let Verdict::Items(items) = judge(200, &format!(r#"{{"errors":true,"items":[{item}]}}"#), 1, false) else {
            panic!()
        };
        assert_eq!(items.rejected.len(), 1);
    }

    #[test]
    fn status_counts_more_than_errors() {
        let body =
            r#"{"errors":false,"items":[{"index":{"status":201}},{"index":{"status":400}},{"index":{"status":503}}]}"#;
        let Verdict::Items(items) = judge(200, body, 3, false) else { panic!("items") };
        assert_eq!((items.retry, items.rejected), (vec![2], vec![(1, "status 400".to_owned())]));
    }

    #[test]
    fn each_item_is_judged_on_its_own() {
        let Verdict::Items(items) = judge(200, MIXED, 6, false) else { panic!("items") };
        assert_eq!(items.retry, [1, 4, 5], "a missing index is as good as a missing path");
        assert_eq!(items.error, "status 429, rejected_execution_exception, full");
        let rejected: Vec<usize> = items.rejected.iter().map(|(place, _)| *place).collect();
        assert_eq!(rejected, [2, 3]);
        assert_eq!(items.rejected[1].1, "status 400, mapper_parsing_exception, field [a], number_format, x");
    }

    #[test]
    fn event_that_already_exists_was_delivered() {
        let Verdict::Items(items) = judge(200, MIXED, 6, true) else { panic!("items") };
        assert!(items.rejected.iter().all(|(place, _)| *place != 2));
    }

    #[test]
    fn errors_inside_an_item_does_not_count() {
        let body = r#"{"items":[{"index":{"status":400,"error":{"reason":"\"errors\":false"}}}],"errors":true}"#;
        assert!(matches!(judge(200, body, 1, false), Verdict::Items(items) if items.rejected.len() == 1));
    }

    #[test]
    fn unreadable_bodies_are_not_bulk_responses() {
        for page in ["<html>", "OK"] {
            assert!(
                matches!(judge(200, page, 6, false), Verdict::Retry(why) if why.contains("check the URL")),
                "{page}"
            );
        }
        for other in ["", "{}", r#"{"code":200}"#] {
            assert!(matches!(judge(200, other, 6, false), Verdict::Doubtful(_)), "{other}");
        }
        for cut in [r#"{"errors":true,"items":[{"index":{}}]}"#, r#"{"errors":true,"items":[{}]}"#, &MIXED[..200]] {
            assert!(matches!(judge(200, cut, 6, false), Verdict::Unclear(_)), "{cut}");
            assert!(matches!(judge(200, cut, 1, false), Verdict::Doubtful(_)), "{cut}");
        }
        assert!(matches!(judge(200, MIXED, 5, false), Verdict::Unclear(_)), "another number of items");
    }

    #[test]
    fn worst_of_many_items_for_one_event_counts() {
        assert!(matches!(judge(200, MIXED, 1, false), Verdict::Items(items) if items.rejected.len() == 1));
    }

    #[test]
    fn more_items_than_any_store_sends_are_not_read() {
        let body = |items: usize| {
            format!(r#"{{"items":[{}],"errors":true}}"#, vec![r#"{"a":{"status":400}}"#; items].join(","))
        };
        assert!(matches!(judge(200, &body(8), 1, false), Verdict::Items(_)));
        // What follows the first item too many is not even JSON.
        for (events, items) in [(1, 9), (2, 17), (1, 400_000)] {
            let body = body(items).replace("],", "nonsense");
            let verdict = judge(200, &body, events, false);
            let (Verdict::Unclear(why) | Verdict::Doubtful(why)) = &verdict else { panic!("{verdict:?}") };
            assert!(why.contains(&format!("more than {} items", 8 * events)), "{why}");
            assert_eq!(matches!(verdict, Verdict::Doubtful(_)), events == 1);
        }
    }

    #[test]
    fn long_response_is_read_in_steps() {
        let items = vec![r#"{"index":{"status":400}}"#; 1000].join(",");
        let body = format!(r#"{{"items":[{items}],"errors":true}}"#);
        let reply = Reply { status: StatusCode::OK, retry_after: None, body: body.into(), secrets: Default::default() };
        let breaths = Cell::new(0);
        let verdict = block_on(verdict(&reply, 1000, false, &async || breaths.set(breaths.get() + 1)));
        assert!(matches!(verdict, Verdict::Items(items) if items.rejected.len() == 1000));
        assert!(breaths.get() >= 50, "{} pauses", breaths.get());
    }

    #[test]
    fn items_beyond_those_of_the_events_are_counted_and_not_kept() {
        let body = format!(r#"{{"items":[{}]}}"#, vec![r#"{"index":{"status":201,"error":"x"}}"#; 100].join(","));
        let limits = Limits { items_max: 100, kept_max: 7 };
        let judge = |result: &ItemResult| meaning_of(result, false);
        let read = block_on(body::read(body.as_bytes(), limits, judge, &async || {}));
        let listed = read.ok().and_then(|answer| answer.items).expect("items");
        assert_eq!((listed.kept.len(), listed.count, listed.bad), (7, 100, 0));
    }

    /// Nothing here is deep recursion: the stack of this thread is small.
    #[test]
    fn deeply_nested_responses_are_skipped() {
        let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
        let error = deep(r#"{"caused_by":"#, "}").replace(":}", ":1}");
        let run = move || {
            for value in [&error, &deep("[", "]")] {
                let cause = judge(200, &format!(r#"{{"errors":true,"error":{value}}}"#), 2, false);
                assert!(matches!(cause, Verdict::Unclear(_)), "{cause:?}");
                let item = format!(r#"{{"errors":true,"items":[{{"index":{{"status":400,"error":{value}}}}}]}}"#);
                assert!(matches!(judge(200, &item, 1, false), Verdict::Items(items) if items.rejected.len() == 1));
                assert!(matches!(judge(200, &item[..item.len() / 2], 1, false), Verdict::Doubtful(_)));
                assert!(matches!(judge(400, &format!(r#"{{"error":{value}}}"#), 1, false), Verdict::Refused(_)));
            }
        };
        std::thread::Builder::new().stack_size(256 * 1024).spawn(run).expect("a thread").join().expect("no panic");
    }

    #[test]
    fn keys_between_the_items_are_read_once_and_whole() {
        let good = r#"{"items":[{"index":{"status":201}}],"errors":false}"#;
        assert_eq!(judge(200, &format!(" {good} "), 1, false), Verdict::Items(Items::default()));
        for bad in [
            format!("{good}x"),
            good.replace("}]", "},]"),
            good.replace(",\"errors\"", "\"errors\""),
            good.replace("false}", "false,}"),
            good.replace("false}", "false,\"errors\":false}"),
            good.replace(":false", ":7"),
            good.replace(":[", ":{[").to_owned(),
            good[..good.len() - 1].to_owned(),
        ] {
            assert!(matches!(judge(200, &bad, 2, false), Verdict::Unclear(_)), "{bad}");
        }
    }

    #[test]
    fn statuses_of_the_whole_request() {
        assert!(matches!(judge(400, "bad", 1, false), Verdict::Refused(_)));
        assert!(matches!(judge(413, "", 1, false), Verdict::TooLarge(_)));
        let page = "<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>\r\n<body>";
        assert!(matches!(judge(400, page, 1, false), Verdict::Retry(error) if error.contains("check `tls`")));
        let quoted = format!("{{\"error\":\"{page}\"}}");
        assert!(matches!(judge(400, &quoted, 1, false), Verdict::Refused(_)), "an event's own words");
        for status in [301, 401, 403, 404, 405, 406, 429, 500, 503] {
            assert!(matches!(judge(status, "", 1, false), Verdict::Retry(_)), "{status}");
        }
        let busy = r#"{"code":400,"message":"Error# MemoryTableOverflowError"}"#;
        assert!(matches!(judge(400, busy, 1, false), Verdict::Retry(_)), "OpenObserve");
    }

    #[test]
    fn reasons_are_bounded() {
        let mut error = serde_json::json!({ "type": "t", "reason": "ü".repeat(400) });
        for _ in 0..50 {
            error = serde_json::json!({ "type": "t", "reason": "x", "caused_by": error });
        }
        let item = serde_json::json!({ "index": { "status": 400, "error": error } });
        let body = serde_json::json!({ "errors": true, "items": [item] }).to_string();
        let Verdict::Items(items) = judge(200, &body, 1, false) else { panic!("items") };
        let reason = &items.rejected[0].1;
        assert!(reason.starts_with("status 400, t, x, t, x, ") && reason.len() < REASON_BYTES_MAX + 20, "{reason}");
    }

    #[test]
    fn errors_of_any_form_are_errors() {
        for error in ["null", "7", "-7", "0.5", "true", "[{\"reason\":\"x\"}]", "{}", "{\"reason\":7}"] {
            let body = format!("{{\"errors\":true,\"items\":[{{\"index\":{{\"status\":400,\"error\":{error}}}}}]}}");
            let Verdict::Items(items) = judge(200, &body, 1, false) else { panic!("{error}") };
            assert_eq!(items.rejected, [(0, "status 400".to_owned())], "{error}");
        }
    }
}
