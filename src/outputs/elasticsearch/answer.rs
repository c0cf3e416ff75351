//! What the answer to a bulk request says of each event.
//!
//! Guarantees: an event counts as taken only where the server says so for it: an answer that cannot be read, or has another number
//! of items than there were events, is no answer, even if it says that there were no errors. Servers give an item for each event;
//! what is between may have cut the request, or the answer, short. The good case is a look at the first bytes and a count of good
//! statuses; only any other answer is read, and of that nothing is kept but statuses and short reasons, whatever else it holds.

use crate::net::reply::Reply;
use crate::outputs::requests::{Items, Verdict, verdict_of_status};
use memchr::memmem::{find, find_iter};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use std::fmt;

/// Where the word on errors stands, in every version.
const HEAD_BYTES: usize = 512;

/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 500;

#[derive(Deserialize)]
struct Answer {
    /// Has to be there, or it is some other answer. Statuses say more.
    #[serde(rename = "errors")]
    _errors: bool,
    items: Option<Vec<Item>>,
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
    error: Reason,
}

/// Type and reason of an error, with what caused it.
#[derive(Default)]
struct Reason(String);

/// What counts of an error that is an object.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum ErrorKey {
    Type,
    Reason,
    CausedBy,
    #[serde(other)]
    Other,
}

impl Reason {
    fn of(mut text: String) -> Reason {
        text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
        Reason(text)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
        deserializer.deserialize_any(ReasonVisitor)
    }
}

struct ReasonVisitor;

impl<'de> Visitor<'de> for ReasonVisitor {
    type Value = Reason;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Reason, E> {
        Ok(Reason(text[..text.floor_char_boundary(REASON_BYTES_MAX)].to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reason, A::Error> {
        let mut parts = <[Reason; 3]>::default();
        while let Some(key) = map.next_key()? {
            match key {
                ErrorKey::Type => parts[0] = map.next_value()?,
                ErrorKey::Reason => parts[1] = map.next_value()?,
                ErrorKey::CausedBy => parts[2] = map.next_value()?,
                ErrorKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let parts: Vec<String> = parts.into_iter().map(|part| part.0).filter(|part| !part.is_empty()).collect();
        Ok(Reason::of(parts.join(", ")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Reason, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Reason::default())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Reason, E> {
        Ok(Reason::default())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Reason, E> {
        Ok(Reason::default())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Reason, E> {
        Ok(Reason::default())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Reason, E> {
        Ok(Reason::default())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Reason, E> {
        Ok(Reason::default())
    }
}

/// What the answer to a request with so many events means. `conflict_is_taken` when the server finds an event there already only
/// because it has come before.
pub fn verdict(reply: &Reply, events: u64, conflict_is_taken: bool) -> Verdict {
    match reply.status.as_u16() {
        200..=299 if is_all_good(&reply.body, events) => Verdict::Delivered,
        200..=299 => match serde_json::from_slice::<Answer>(&reply.body) {
            Ok(Answer { items: Some(items), .. }) if items.len() as u64 == events => {
                Verdict::Items(sort(items, conflict_is_taken))
            }
            Ok(Answer { items, .. }) => Verdict::Retry(format!(
                "the answer speaks of {} events, the request had {events}; does something on the way change requests or answers?",
                items.map_or(0, |items| items.len())
            )),
            Err(_) => Verdict::Retry(format!("this is no answer to a bulk request: {}", reply.shown())),
        },
        // Anything but a request that cannot be read or is too large is about the server, its rights or the way to it.
        status => match verdict_of_status(reply) {
            Verdict::Refused(error) if status != 400 => Verdict::Retry(error),
            verdict => verdict,
        },
    }
}

/// Whether the answer says, before it comes to items, that there are no errors, and then has a good status for each event.
fn is_all_good(body: &[u8], events: u64) -> bool {
    let Some(items) = find(&body[..body.len().min(HEAD_BYTES)], b"\"items\"") else { return false };
    let (head, items) = body.split_at(items);
    let Some(at) = find(head, b"\"errors\"") else { return false };
    is_value(&head[at + b"\"errors\"".len()..], b"false") && good_statuses(items) == events
}

/// How often a member `status` has a value of success. Text that an event brought into the answer has its quotes escaped.
fn good_statuses(items: &[u8]) -> u64 {
    const NAME: &[u8] = b"\"status\"";
    find_iter(items, NAME).filter(|at| is_value(&items[at + NAME.len()..], b"2")).count() as u64
}

/// Whether a colon, and a value that begins like this, come next.
fn is_value(text: &[u8], beginning: &[u8]) -> bool {
    let value = text.trim_ascii_start().strip_prefix(b":");
    value.is_some_and(|value| value.trim_ascii_start().starts_with(beginning))
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
fn reason(status: u16, Reason(error): &Reason) -> String {
    match error.is_empty() {
        true => format!("status {status}"),
        false => format!("status {status}, {error}"),
    }
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
            r#"{"took":3,"errors":false,"items":[{"index":{"status":201}},{"create":{"status":200}}]}"#,
            r#"{"errors":false,"took":3,"ingest_took":1,"items":[{"index":{"_id":"status","status":201}},{"index":{"status":201}}]}"#,
            r#"{ "errors" : false , "items" : [ {"index" : {"status" : 201}}, {"index" : {"status" : 201}} ] }"#,
        ] {
            assert_eq!(judge(200, body, 2, false), Verdict::Delivered, "{body}");
        }
        let late = r#"{"items":[{"index":{"status":201}}],"errors":false}"#;
        assert_eq!(judge(200, late, 1, false), Verdict::Items(Items::default()));
    }

    #[test]
    fn answer_that_does_not_speak_of_each_event_is_none() {
        for body in [
            r#"{"errors":false}"#,
            r#"{"took":3,"errors":false,"items":[]}"#,
            r#"{"errors":false,"items":null}"#,
            r#"{"errors":false,"items":[{"index":{"status":201}}]}"#,
            r#"{"items":[{"index":{"status":201}}],"errors":false}"#,
            r#"{"errors":false,"items":[{"index":{"status":201}},{"index":{"status":201}},{"index":{"status":201}}]}"#,
            r#"{"errors":false,"items":[{"index":{"_id":"a\"status\":2","status":201}}]}"#,
        ] {
            let Verdict::Retry(why) = judge(200, body, 2, false) else { panic!("{body}") };
            assert!(why.contains("the request had 2"), "{body}: {why}");
        }
    }

    #[test]
    fn status_counts_more_than_the_word_on_errors() {
        let body =
            r#"{"errors":false,"items":[{"index":{"status":201}},{"index":{"status":400}},{"index":{"status":503}}]}"#;
        let Verdict::Items(items) = judge(200, body, 3, false) else { panic!("items") };
        assert_eq!((items.retry, items.rejected), (vec![2], vec![(1, "status 400".to_owned())]));
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
        let page = "<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>\r\n<body>";
        assert!(matches!(judge(400, page, 1, false), Verdict::Retry(error) if error.contains("look at `tls`")));
        let quoted = format!("{{\"error\":\"{page}\"}}");
        assert!(matches!(judge(400, &quoted, 1, false), Verdict::Refused(_)), "an event's own words");
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
