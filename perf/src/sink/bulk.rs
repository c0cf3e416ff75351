//! Elasticsearch, as far as senders of events need it: bulk requests, and the requests that clients send before the first one.
//!
//! Guarantees: one item for each action, in order, with the name of its operation. A body that does not end with a newline, or
//! whose action is neither `index` nor `create`, is rejected as a whole with 400, as the real server does. Each item is as long
//! as a real one, because reading it is part of a sender's work, unless `filter_path` asks for less.

use super::Received;
use super::http::{Answer, Head};
use std::io::Write;

/// The response to `GET /`.
const WELCOME: &str = r#"{"name":"perf","cluster_name":"perf","cluster_uuid":"3mLyYbHBTa2jXaGJ8XbUjA","version":{"number":"8.19.0","build_flavor":"default","build_type":"tar","build_hash":"0000000000000000000000000000000000000000","build_date":"2025-07-23T22:05:55Z","build_snapshot":false,"lucene_version":"9.12.2","minimum_wire_compatibility_version":"7.17.0","minimum_index_compatibility_version":"7.0.0"},"tagline":"You Know, for Search"}"#;

/// The requested parts of the response.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    All,
    Statuses,
    Verdict,
}

/// Responds to a request.
pub(super) fn answer(head: &Head, body: &[u8], received: &Received) -> Answer {
    let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
    let writes = head.method == "POST" || head.method == "PUT";
    if path == "/" {
        Answer::new("200 OK", WELCOME)
    } else if path.ends_with("/_bulk") && writes {
        take(body, wanted(query), received)
    } else if writes {
        Answer::new("200 OK", r#"{"acknowledged":true}"#)
    } else {
        // Nothing exists here yet, and the client may create it.
        Answer::new("200 OK", "{}")
    }
}

/// Parses `filter_path` as far as it concerns successful items.
fn wanted(query: &str) -> Wanted {
    let Some(filter) = query.split('&').find_map(|pair| pair.strip_prefix("filter_path=")) else { return Wanted::All };
    let filter = filter.replace("%2C", ",").replace("%2c", ",").replace("%2A", "*").replace("%2a", "*");
    let parts: Vec<&str> = filter.split(',').collect();
    let any = |wanted: &[&str]| parts.iter().any(|part| wanted.contains(part));
    if any(&["items", "items.*", "items.*.*", "items.index", "items.create", "*"]) {
        Wanted::All
    } else if any(&["items.*.status", "items.index.status", "items.create.status"]) {
        Wanted::Statuses
    } else {
        Wanted::Verdict
    }
}

fn take(body: &[u8], wanted: Wanted, received: &Received) -> Answer {
    let refuse = |reason: &str| {
        received.strange(1);
        Answer::new(
            "400 Bad Request",
            format!(r#"{{"error":{{"type":"illegal_argument_exception","reason":"{reason}"}},"status":400}}"#),
        )
    };
    let mut answer = Vec::with_capacity(body.len() / 2 + 64);
    answer.extend_from_slice(if wanted == Wanted::All {
        br#"{"took":1,"errors":false"#
    } else {
        br#"{"errors":false"#
    });
    if wanted != Wanted::Verdict {
        answer.extend_from_slice(br#","items":["#);
    }
    let opened = answer.len();
    let (mut rest, mut documents) = (body, 0);
    while !rest.is_empty() {
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return refuse("The bulk request must be terminated by a newline");
        };
        let (action, after) = (&rest[..end], &rest[end + 1..]);
        if action.is_empty() {
            rest = after;
            continue;
        }
        let Some(operation) = operation(action) else { return refuse("Malformed action/metadata line") };
        let Some(end) = memchr::memchr(b'\n', after) else {
            return refuse("The bulk request must be terminated by a newline");
        };
        rest = &after[end + 1..];
        if answer.len() > opened && wanted != Wanted::Verdict {
            answer.push(b',');
        }
        item(&mut answer, operation, wanted, documents);
        documents += 1;
    }
    if wanted != Wanted::Verdict {
        answer.push(b']');
    }
    answer.push(b'}');
    // Actions carry no numbers, so that the whole body can be searched at once.
    let events = received.take(body);
    received.strange(documents.max(events) - documents.min(events));
    Answer::new("200 OK", answer)
}

fn item(answer: &mut Vec<u8>, operation: &str, wanted: Wanted, number: u64) {
    // Writing to memory cannot fail.
    let _ = match wanted {
        Wanted::All => {
            answer.extend_from_slice(b"{\"");
            answer.extend_from_slice(operation.as_bytes());
            answer.extend_from_slice(
                br#"":{"_index":"perf","_id":"yZ7sOZQBd1W3uJkTgq0a","_version":1,"result":"created","_shards":{"total":2,"successful":1,"failed":0},"_seq_no":"#,
            );
            let written = write!(answer, "{number}");
            answer.extend_from_slice(br#","_primary_term":1,"status":201}}"#);
            written
        }
        Wanted::Statuses => {
            answer.extend_from_slice(b"{\"");
            answer.extend_from_slice(operation.as_bytes());
            answer.extend_from_slice(br#"":{"status":201}}"#);
            Ok(())
        }
        Wanted::Verdict => Ok(()),
    };
}

/// The operation of an action line, if a document follows it.
fn operation(action: &[u8]) -> Option<&'static str> {
    let action = action.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"")?;
    let known = ["index", "create"].into_iter();
    known.into_iter().find(|name| action.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn head(text: &str) -> Head {
        Head::parse(&format!("{text} HTTP/1.1\r\nHost: x")).expect("a head")
    }

    const BODY: &[u8] = b"{\"index\":{}}\n{\"event_number\":\"000000000000\"}\n{ \"create\": {\"_index\":\"a\"}}\n{\"event_number\":\"000000000001\"}\n";

    #[test]
    fn every_action_has_its_item() {
        let received = Received::new(2);
        let answer = answer(&head("POST /logs/_bulk"), BODY, &received);
        let value: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let items = value["items"].as_array().expect("items");
        assert_eq!((answer.status, items.len()), ("200 OK", 2));
        assert_eq!((&items[0]["index"]["status"], &items[1]["create"]["status"]), (&201.into(), &201.into()));
        assert_eq!((&value["errors"], &value["took"]), (&false.into(), &1.into()));
    }

    #[test]
    fn answer_has_the_parts_that_were_asked_for() {
        let said = |query: &str| {
            let answer = answer(&head(&format!("POST /_bulk?{query}")), BODY, &Received::new(2));
            String::from_utf8(answer.body).expect("text")
        };
        assert_eq!(said("filter_path=errors,items.*.error"), r#"{"errors":false}"#);
        let statuses = r#"{"errors":false,"items":[{"index":{"status":201}},{"create":{"status":201}}]}"#;
        assert_eq!(said("timeout=1m&filter_path=errors%2Citems.*.status%2Citems.*.error"), statuses);
        assert!(said("timeout=1m").contains("_seq_no\":1"));
    }

    #[test]
    fn what_the_real_one_refuses_is_refused() {
        for body in [
            b"{\"index\":{}}\n{\"event_number\":\"000000000000\"}".as_slice(),
            b"{\"index\":{}}\n",
            b"{\"event_number\":\"000000000000\"}\n{\"index\":{}}\n",
            b"{\"indexes\":{}}\n{}\n",
        ] {
            let received = Received::new(1);
            assert_eq!(answer(&head("POST /_bulk"), body, &received).status, "400 Bad Request");
        }
    }

    #[test]
    fn client_that_asks_first_is_told_a_version() {
        let answer = answer(&head("GET /"), b"", &Received::new(1));
        let value: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert!(value["version"]["number"].as_str().is_some_and(|number| number.starts_with("8.")));
    }
}
