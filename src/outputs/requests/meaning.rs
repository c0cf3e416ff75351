//! What an answer means for events: one table for whole requests and for single events. The first matching row decides.
//!
//! Guarantees: the same status with the same error type means the same for a whole request and for one event. Every status from 0
//! to 999 has a row, and each row names the source of its decision. The text of a reason counts only where the server wrote it, at
//! its beginning or its end, because the rest of it may quote an event. `docs/answers.md` is generated from this table.
//!
//! Does not know how a server says which event it means: the outputs do.

use super::Reply;
use memchr::memmem::find;
use std::ops::RangeInclusive;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// Nothing: the server has the events.
    Taken,
    /// The server already has an event with this identity.
    Exists,
    /// The events are not at fault: they are sent again after the backoff.
    Wait,
    /// The same, but other events may be accepted meanwhile: the reason is their index.
    Barred,
    /// The same, and the server waits for the index before it says so: all events of the request wait with it.
    Late,
    /// It is unclear whether events are at fault or were accepted: they are sent again a few times.
    Doubtful,
    /// The request is too large. A single event that is too large is at fault.
    TooLarge,
    /// At least one event is at fault.
    Refused,
}

impl Meaning {
    /// The description for the documentation.
    pub fn described(self) -> &'static str {
        match self {
            Meaning::Taken => "delivered",
            Meaning::Exists => "delivered if `op: create` and `id` are set, otherwise treated like other 4xx statuses",
            Meaning::Wait => "retried until the server accepts them, or until `retry.max_age`",
            Meaning::Barred => {
                "retried until the server accepts them, or until `retry.max_age`; single events whose index events choose become dead \
                 letters after 30 seconds if the server accepts others"
            }
            Meaning::Late => {
                "retried until the server accepts them, or until `retry.max_age`; single events whose index events choose become dead \
                 letters after 30 seconds if the server accepts others, and from then on at once, but for one delivery a minute"
            }
            Meaning::Doubtful => "retried up to five times, then dead letters",
            Meaning::TooLarge => "halved; a single event that is too large becomes a dead letter",
            Meaning::Refused => "halved until the events at fault are alone; these become dead letters",
        }
    }
}

/// What a server said about a failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// The status.
    pub status: u16,
    /// The error type, such as `cluster_block_exception`; empty if the server sends none.
    pub kind: &'a str,
    /// The reason, or the whole body.
    pub reason: &'a str,
}

/// The condition of a row in addition to the status.
#[derive(Debug)]
enum Says {
    /// None.
    Anything,
    /// One of these types.
    Kind(&'static [&'static str]),
    /// A reason that begins like this, with one of these types.
    Begins(&'static [&'static str], &'static [&'static str]),
    /// A reason that ends like this, with one of these types.
    Ends(&'static [&'static str], &'static [&'static str]),
    /// An HTML page that contains one of these.
    Page(&'static [&'static str]),
}

impl Says {
    fn matches(&self, said: &Said<'_>) -> bool {
        match self {
            Says::Anything => true,
            Says::Kind(kinds) => kinds.contains(&said.kind),
            Says::Begins(kinds, beginnings) => {
                kinds.contains(&said.kind) && beginnings.iter().any(|beginning| said.reason.starts_with(beginning))
            }
            Says::Ends(kinds, ends) => kinds.contains(&said.kind) && ends.iter().any(|end| said.reason.ends_with(end)),
            // Text from an event is never a page of its own.
            Says::Page(words) => {
                let is_page = said.reason.starts_with("<html>") || said.reason.starts_with("<!DOCTYPE HTML");
                is_page && words.iter().any(|words| find(said.reason.as_bytes(), words.as_bytes()).is_some())
            }
        }
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    statuses: &'static [RangeInclusive<u16>],
    says: Says,
    /// What is to be done.
    pub meaning: Meaning,
    /// What the operator should check; empty if there is nothing to fix.
    pub check: &'static str,
    /// The source of the decision.
    pub source: &'static str,
}

impl Row {
    /// The statuses and the other condition, for the documentation.
    pub fn condition(&self) -> String {
        let statuses: Vec<String> = self.statuses.iter().map(shown).collect();
        let quoted = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let more = match &self.says {
            Says::Anything => String::new(),
            Says::Kind(kinds) => format!(" with the type {}", quoted(kinds)),
            Says::Begins(_, beginnings) => format!(" with a reason that begins with {}", quoted(beginnings)),
            Says::Ends(_, ends) => format!(" with a reason that ends with {}", quoted(ends)),
            Says::Page(words) => format!(" with a page that contains {}", quoted(words)),
        };
        format!("{}{more}", statuses.join(", "))
    }

    fn matches(&self, said: &Said<'_>) -> bool {
        self.statuses.iter().any(|statuses| statuses.contains(&said.status)) && self.says.matches(said)
    }
}

fn shown(statuses: &RangeInclusive<u16>) -> String {
    match (*statuses.start(), *statuses.end()) {
        (0, 999) => "any other".to_owned(),
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start} to {end}"),
    }
}

const ANY_ERROR: RangeInclusive<u16> = 400..=599;

/// The table. More specific rows come first.
pub static TABLE: [Row; 27] = [
    Row {
        statuses: &[400..=400],
        says: Says::Page(&[
            "<title>400 No required SSL certificate was sent</title>",
            "<title>400 The SSL certificate error</title>",
            "<title>400 The plain HTTP request was sent to HTTPS port</title>",
            "You're speaking plain HTTP to an SSL-enabled server port",
        ]),
        meaning: Meaning::Wait,
        check: "`tls` and the URL",
        source: "error pages of nginx and Apache httpd",
    },
    Row {
        statuses: &[403..=403],
        says: Says::Begins(&["cluster_block_exception"], &["index ["]),
        meaning: Meaning::Barred,
        check: "the blocks of the index",
        source: "Elasticsearch and OpenSearch: blocks of one index, such as `index.blocks.write`",
    },
    Row {
        statuses: &[ANY_ERROR],
        says: Says::Kind(&["index_closed_exception"]),
        meaning: Meaning::Barred,
        check: "whether the index should be open",
        source: "Elasticsearch and OpenSearch: closed indexes (400)",
    },
    Row {
        statuses: &[ANY_ERROR],
        says: Says::Kind(&["cluster_block_exception"]),
        meaning: Meaning::Wait,
        check: "the blocks of the index and the cluster, and the disk of the server",
        source: "Elasticsearch and OpenSearch: blocks of the cluster (403, 503), and of all indexes on a full disk (429)",
    },
    Row {
        statuses: &[ANY_ERROR],
        says: Says::Kind(&["security_exception"]),
        meaning: Meaning::Barred,
        check: "`auth`, and the roles of the user",
        source: "Elasticsearch and OpenSearch: security plugins, for a request and for single items",
    },
    Row {
        statuses: &[404..=404],
        says: Says::Ends(&["index_not_found_exception"], &["[require_alias] request flag is [true]"]),
        meaning: Meaning::Refused,
        check: "`index`: it is an index, but an alias is required",
        source: "Elasticsearch and OpenSearch: bulk API, `require_alias`",
    },
    Row {
        statuses: &[ANY_ERROR],
        says: Says::Kind(&["index_not_found_exception", "source_not_found_exception"]),
        meaning: Meaning::Barred,
        check: "whether the index exists, or the server may create it",
        source: "Elasticsearch and OpenSearch: `action.auto_create_index` (item 404); Quickwit: request or item 404",
    },
    Row {
        statuses: &[400..=400],
        says: Says::Begins(
            &["illegal_argument_exception", "validation_exception"],
            &["Validation Failed: 1: this action would add ["],
        ),
        meaning: Meaning::Barred,
        check: "`cluster.max_shards_per_node` of the server, and old indexes",
        source: "Elasticsearch and OpenSearch: limit of shards when an index is created",
    },
    Row {
        statuses: &[503..=503],
        says: Says::Kind(&["unavailable_shards_exception", "no_shard_available_action_exception"]),
        meaning: Meaning::Late,
        check: "the health of the index: one of its shards is not available",
        source: "Elasticsearch and OpenSearch: no active primary shard within the `timeout` of the request",
    },
    Row {
        statuses: &[400..=400],
        says: Says::Begins(
            &[""],
            &["MemoryTableOverflowError", "Error# MemoryTableOverflowError", "Quota exceeded for this organization"],
        ),
        meaning: Meaning::Wait,
        check: "",
        source: "OpenObserve: an overloaded server answers 400 in some versions, 503 in others",
    },
    Row {
        statuses: &[500..=500],
        says: Says::Kind(&[
            "null_pointer_exception",
            "class_cast_exception",
            "index_out_of_bounds_exception",
            "array_index_out_of_bounds_exception",
            "string_index_out_of_bounds_exception",
            "arithmetic_exception",
        ]),
        meaning: Meaning::Doubtful,
        check: "the ingest pipeline of the server, and its log",
        source: "Elasticsearch and OpenSearch: errors of the server, some about one event (opensearch-project/OpenSearch 15032)",
    },
    Row {
        statuses: &[500..=500],
        says: Says::Begins(&["exception"], &["java.lang."]),
        meaning: Meaning::Doubtful,
        check: "the ingest pipeline of the server",
        source: "Elasticsearch before 7.5, when a processor fails on an event (elastic/elasticsearch 48803)",
    },
    Row {
        statuses: &[200..=299],
        says: Says::Begins(&[""], &["bufio.Scanner: token too long"]),
        meaning: Meaning::TooLarge,
        check: "",
        source: "ZincSearch: `error` in a 200, for a line of more than 1 MiB",
    },
    Row { statuses: &[200..=299], says: Says::Anything, meaning: Meaning::Taken, check: "", source: "RFC 9110, 15.3" },
    Row {
        statuses: &[300..=399],
        says: Says::Anything,
        meaning: Meaning::Wait,
        check: "the URL: redirects are not followed",
        source: "RFC 9110, 15.4",
    },
    Row {
        statuses: &[401..=401],
        says: Says::Anything,
        meaning: Meaning::Wait,
        check: "`auth` and `tls`",
        source: "RFC 9110, 15.5.2",
    },
    Row {
        statuses: &[403..=403],
        says: Says::Anything,
        meaning: Meaning::Wait,
        check: "`auth` and `tls`, and the permissions of the user",
        source: "RFC 9110, 15.5.4",
    },
    Row {
        statuses: &[407..=407],
        says: Says::Anything,
        meaning: Meaning::Wait,
        check: "`proxy` and its user, `auth` and `tls`",
        source: "RFC 9110, 15.5.8",
    },
    Row {
        statuses: &[404..=405, 410..=410, 414..=414, 421..=421],
        says: Says::Anything,
        meaning: Meaning::Wait,
        check: "the URL and the method",
        source: "RFC 9110, 15.5; also the answer of a proxy without a route",
    },
    Row {
        statuses: &[406..=406, 411..=411, 415..=415, 417..=417, 426..=426, 428..=428, 431..=431],
        says: Says::Anything,
        meaning: Meaning::Wait,
        check: "`headers`",
        source: "RFC 9110, 15.5; RFC 6585",
    },
    Row {
        statuses: &[402..=402, 423..=423, 451..=451],
        says: Says::Anything,
        meaning: Meaning::Wait,
        check: "the reason that the server gives: an account, a lock or a rule",
        source: "RFC 9110, 15.5.3; RFC 4918, 11.3; RFC 7725",
    },
    Row {
        statuses: &[408..=408, 425..=425, 429..=429],
        says: Says::Anything,
        meaning: Meaning::Wait,
        check: "",
        source: "RFC 9110, 15.5.9; RFC 8470; RFC 6585, 4; Quickwit uses 408 and 429 for items",
    },
    Row {
        statuses: &[413..=413],
        says: Says::Anything,
        meaning: Meaning::TooLarge,
        check: "",
        source: "RFC 9110, 15.5.14",
    },
    Row {
        statuses: &[409..=409],
        says: Says::Anything,
        meaning: Meaning::Exists,
        check: "",
        source: "Elasticsearch and OpenSearch: `version_conflict_engine_exception`",
    },
    Row {
        statuses: &[400..=499],
        says: Says::Anything,
        meaning: Meaning::Refused,
        check: "",
        source: "RFC 9110, 15.5; `mapper_parsing_exception` and the like (400), OpenObserve (item 422)",
    },
    Row { statuses: &[500..=599], says: Says::Anything, meaning: Meaning::Wait, check: "", source: "RFC 9110, 15.6" },
    Row {
        statuses: &[0..=999],
        says: Says::Anything,
        meaning: Meaning::Wait,
        check: "the URL: this is not a valid status",
        source: "RFC 9110, 15",
    },
];

/// The row for a failure.
pub fn decide(said: &Said<'_>) -> &'static Row {
    TABLE.iter().find(|row| row.matches(said)).unwrap_or(&TABLE[TABLE.len() - 1])
}

/// Appends to `shown` what `row` says the operator should check.
pub fn explained(row: &Row, shown: String) -> String {
    match row.check {
        "" => shown,
        place => format!("{shown}; check {place}"),
    }
}

/// The meaning of a response whose body does not describe single events.
pub fn of_reply(reply: &Reply) -> &'static Row {
    // The relevant text is at the beginning of a page.
    const PAGE_BYTES_MAX: usize = 4096;
    let body = &reply.body[..reply.body.len().min(PAGE_BYTES_MAX)];
    let reason = String::from_utf8_lossy(body);
    decide(&Said { status: reply.status.as_u16(), kind: "", reason: &reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(status: u16, kind: &str, reason: &str) -> Meaning {
        decide(&Said { status, kind, reason }).meaning
    }

    #[test]
    fn every_status_has_a_row_and_every_row_has_an_answer_that_leads_to_it() {
        for (place, row) in TABLE.iter().enumerate() {
            let (kind, reason) = match &row.says {
                Says::Anything => ("other", String::new()),
                Says::Kind(kinds) => (kinds[0], String::new()),
                Says::Begins(kinds, beginnings) => (kinds[0], beginnings[0].to_owned()),
                Says::Ends(kinds, ends) => (kinds[0], ends[0].to_owned()),
                Says::Page(words) => ("", format!("<html>{}", words[0])),
            };
            let status = if *row.statuses[0].end() == 999 { 999 } else { *row.statuses[0].start() };
            let found = decide(&Said { status, kind, reason: &reason });
            assert!(std::ptr::eq(found, row), "row {place} is hidden by {found:?}");
            assert!(!row.source.is_empty() && row.condition().len() > 2);
        }
        for status in 0..=999 {
            assert!(TABLE.iter().any(|row| row.matches(&Said { status, kind: "", reason: "" })), "{status}");
        }
    }

    #[test]
    fn what_passes_by_itself_or_by_an_operator_is_retried() {
        for (status, kind) in [
            (400, "index_closed_exception"),
            (403, "security_exception"),
            (401, "security_exception"),
            (404, "index_not_found_exception"),
        ] {
            assert_eq!(meaning(status, kind, "because"), Meaning::Barred, "{status} {kind}");
        }
        assert_eq!(meaning(503, "unavailable_shards_exception", "because"), Meaning::Late);
        let blocked = |status, reason| meaning(status, "cluster_block_exception", reason);
        assert_eq!(blocked(403, "index [x] blocked by: [FORBIDDEN/8/index write (api)];"), Meaning::Barred);
        for (status, reason) in [
            (403, "blocked by: [FORBIDDEN/6/cluster read-only (api)];"),
            (429, "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark];"),
            (503, "blocked by: [SERVICE_UNAVAILABLE/2/no master];"),
        ] {
            assert_eq!(blocked(status, reason), Meaning::Wait, "{reason}");
        }
        for (status, kind) in [
            (403, "cluster_block_exception"),
            (429, "cluster_block_exception"),
            (404, ""),
            (408, "timeout_exception"),
            (429, "rate_limited_exception"),
            (500, "internal_exception"),
            (500, "mapper_exception"),
            (503, "process_cluster_event_timeout_exception"),
        ] {
            assert_eq!(meaning(status, kind, "because"), Meaning::Wait, "{status} {kind}");
        }
        for (status, kind) in [(400, "mapper_parsing_exception"), (400, "document_parsing_exception"), (422, "")] {
            assert_eq!(meaning(status, kind, "because"), Meaning::Refused, "{status} {kind}");
        }
        assert_eq!(meaning(500, "null_pointer_exception", ""), Meaning::Doubtful);
    }

    #[test]
    fn text_counts_only_where_the_server_wrote_it() {
        let said = |reason: &str| meaning(400, "illegal_argument_exception", reason);
        assert_eq!(said("pipeline with id [geo] does not exist"), Meaning::Refused);
        let missing = |reason: &str| meaning(404, "index_not_found_exception", reason);
        assert_eq!(missing("no such index [x]"), Meaning::Barred);
        assert_eq!(missing("no such index [x] and [require_alias] request flag is [true]"), Meaning::Refused);
        let limit = "Validation Failed: 1: this action would add [2] shards, but this cluster has [1000]/[1000];";
        assert_eq!(meaning(400, "validation_exception", limit), Meaning::Barred);
        assert_eq!(meaning(400, "mapper_parsing_exception", limit), Meaning::Refused);
        let page = "<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>";
        assert_eq!(meaning(400, "", page), Meaning::Wait);
        assert_eq!(meaning(400, "", &format!("{{\"error\":\"{page}\"}}")), Meaning::Refused);
    }
}
