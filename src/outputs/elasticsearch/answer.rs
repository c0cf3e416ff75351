//! What the answer to a bulk request says of each event.
//!
//! Guarantees: an event counts as taken only where the server says so for it: an answer that cannot be read, or has another number
//! of items than there were events, is no answer. The good case is a look at the first bytes; only an answer with errors is read.

use crate::net::reply::Reply;
use crate::outputs::requests::{Items, Verdict, verdict_of_status};
use memchr::memmem::find;
use serde::Deserialize;
use serde_json::Value;

/// Where the word on errors stands, in every version.
const HEAD_BYTES: usize = 512;

/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 500;

#[derive(Deserialize)]
struct Answer {
    errors: bool,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "index", alias = "create")]
    result: ItemResult,
}

#[derive(Deserialize)]
struct ItemResult {
    status: u16,
    #[serde(default)]
    error: Value,
}

/// What the answer to a request with so many events means. `conflict_is_taken` when the server finds an event there already only
/// because it has come before.
pub fn verdict(reply: &Reply, events: u64, conflict_is_taken: bool) -> Verdict {
    match reply.status.as_u16() {
        200..=299 if is_all_good(&reply.body) => Verdict::Delivered,
        200..=299 => match serde_json::from_slice::<Answer>(&reply.body) {
            Ok(Answer { errors: false, .. }) => Verdict::Delivered,
            Ok(answer) if answer.items.len() as u64 == events => Verdict::Items(sort(answer.items, conflict_is_taken)),
            Ok(answer) => {
                Verdict::Retry(format!("the answer speaks of {} events, the request had {events}", answer.items.len()))
            }
            Err(_) => Verdict::Retry(format!("this is no answer to a bulk request: {}", reply.shown())),
        },
        // A request that cannot be read will not be better the next time.
        400 => Verdict::Refused(reply.shown()),
        413 => Verdict::TooLarge(reply.shown()),
        // Anything else is about the server, its rights or the way to it, not about the events.
        _ => match verdict_of_status(reply) {
            Verdict::Refused(error) => Verdict::Retry(error),
            verdict => verdict,
        },
    }
}

/// Whether the answer says, before it comes to items, that there are no errors.
fn is_all_good(body: &[u8]) -> bool {
    let head = &body[..body.len().min(HEAD_BYTES)];
    let head = &head[..find(head, b"\"items\"").unwrap_or(head.len())];
    let Some(at) = find(head, b"\"errors\"") else { return false };
    let value = head[at + b"\"errors\"".len()..].trim_ascii_start();
    value.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"false"))
}

fn sort(items: Vec<Item>, conflict_is_taken: bool) -> Items {
    let mut sorted = Items::default();
    for (place, Item { result: ItemResult { status, error } }) in items.into_iter().enumerate() {
        match status {
            200..=299 => {}
            409 if conflict_is_taken => {}
            429 | 500..=599 => {
                if sorted.retry.is_empty() {
                    sorted.error = reason(status, &error);
                }
                sorted.retry.push(place);
            }
            _ => sorted.rejected.push((place, reason(status, &error))),
        }
    }
    sorted
}

/// Status, type and reason of an item's error, with what caused it.
fn reason(status: u16, error: &Value) -> String {
    let mut text = format!("status {status}");
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error {
            Value::String(message) => text = format!("{text}, {message}"),
            Value::Object(parts) => {
                for part in ["type", "reason"].iter().filter_map(|key| parts.get(*key)?.as_str()) {
                    text = format!("{text}, {part}");
                }
            }
            _ => {}
        }
        cause = error.get("caused_by").filter(|_| text.len() < REASON_BYTES_MAX);
    }
    if text.len() > REASON_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;

    fn judge(status: u16, body: &str, events: u64, conflict_is_taken: bool) -> Verdict {
        let status = StatusCode::from_u16(status).expect("a status");
        verdict(&Reply { status, retry_after: None, body: body.into() }, events, conflict_is_taken)
    }

    const MIXED: &str = r#"{"took":3,"errors":true,"items":[
        {"index":{"_index":"l","status":201}},
        {"index":{"status":429,"error":{"type":"rejected_execution_exception","reason":"full"}}},
        {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"there"}}},
        {"index":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"field [a]","caused_by":{"type":"number_format","reason":"x"}}}},
        {"index":{"status":503}},
        {"index":{"status":404,"error":"no such index"}}]}"#;

    #[test]
    fn good_answers_of_every_version_are_good() {
        for body in [
            r#"{"took":3,"errors":false,"items":[{"index":{"status":201}}]}"#,
            r#"{"errors":false,"took":3,"ingest_took":1,"items":[]}"#,
            r#"{ "errors" : false , "items" : [ ] }"#,
            r#"{"items":[{"index":{"status":201}}],"errors":false}"#,
        ] {
            assert_eq!(judge(200, body, 1, false), Verdict::Delivered, "{body}");
        }
    }

    #[test]
    fn each_item_is_judged_for_itself() {
        let Verdict::Items(items) = judge(200, MIXED, 6, false) else { panic!("items") };
        assert_eq!(items.retry, [1, 4]);
        assert_eq!(items.error, "status 429, rejected_execution_exception, full");
        let rejected: Vec<usize> = items.rejected.iter().map(|(place, _)| *place).collect();
        assert_eq!(rejected, [2, 3, 5]);
        assert_eq!(items.rejected[1].1, "status 400, mapper_parsing_exception, field [a], number_format, x");
        assert_eq!(items.rejected[2].1, "status 404, no such index");
    }

    #[test]
    fn event_that_is_there_already_was_taken() {
        let Verdict::Items(items) = judge(200, MIXED, 6, true) else { panic!("items") };
        assert!(items.rejected.iter().all(|(place, _)| *place != 2));
    }

    #[test]
    fn word_on_errors_inside_an_item_does_not_count() {
        let body = r#"{"items":[{"index":{"status":400,"error":{"reason":"\"errors\":false"}}}],"errors":true}"#;
        assert!(matches!(judge(200, body, 1, false), Verdict::Items(items) if items.rejected.len() == 1));
    }

    #[test]
    fn what_cannot_be_read_is_no_answer() {
        for body in
            ["", "<html>", "{}", r#"{"errors":true}"#, r#"{"errors":true,"items":[{"index":{}}]}"#, &MIXED[..200]]
        {
            assert!(matches!(judge(200, body, 6, false), Verdict::Retry(_)), "{body}");
        }
        assert!(matches!(judge(200, MIXED, 5, false), Verdict::Retry(_)), "another number of items");
    }

    #[test]
    fn statuses_of_the_whole_request() {
        assert!(matches!(judge(400, "bad", 1, false), Verdict::Refused(_)));
        assert!(matches!(judge(413, "", 1, false), Verdict::TooLarge(_)));
        for status in [301, 401, 403, 404, 405, 406, 429, 500, 503] {
            assert!(matches!(judge(status, "", 1, false), Verdict::Retry(_)), "{status}");
        }
    }

    #[test]
    fn reasons_are_bounded() {
        let mut error = serde_json::json!({ "type": "t", "reason": "ü".repeat(400) });
        for _ in 0..50 {
            error = serde_json::json!({ "type": "t", "reason": "x", "caused_by": error });
        }
        assert!(reason(400, &error).len() <= REASON_BYTES_MAX);
    }
}
