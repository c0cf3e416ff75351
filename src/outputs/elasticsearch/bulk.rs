//! The body of a bulk request: for each event a line with the action, and its line from the WAL.
//!
//! Guarantees: every event is written as exactly two lines, so an event never breaks the request. If an event may not have its
//! index ([`super::names`]), or if its id is too long, it is left out, with the reason. Without fields and ids, an event costs one
//! comparison and two copies.

use super::names::{Action, Indexes, Names};
use crate::codec::template::Template;
use crate::outputs::letters::Owner;
use crate::outputs::requests::Verdict;
use crate::outputs::requests::part::{Part, Slice};
use memchr::memmem::find;
use ring::digest::{SHA256, digest};
use std::sync::Arc;
use tailwater_shards::counters::OutputCounters;
use tailwater_shards::env::{Monotonic, Timestamp};
use tailwater_shards::plugin::{Delivery, Event};
use tailwater_shards::scan::escape_json_into;

/// Longest id, in bytes: a longer one fails its whole request.
const ID_BYTES_MAX: usize = 512;

/// Replaces anything that could not be decoded: half a surrogate pair, a byte that is not UTF-8. Different strings may look
/// alike with it, and an event must not replace another one because of that.
const LOST_CHARACTER: &str = "\u{fffd}";

/// What the server does with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Index,
    Create,
}

/// Where the id of an event comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// The server generates one.
    None,
    /// The SHA-256 of its line without the newline, in lowercase hexadecimal.
    Hash,
    /// From fields. If a field is missing, or if the result is empty or may not be unique, the server generates an id.
    Template(Template),
}

/// Builds bodies.
pub struct Bulk {
    op: Op,
    names: Names,
    id: Id,
    scratch: Vec<u8>,
    /// Counts the events of a delivery whose index name has a field that they lack, and those that led to one index too many.
    counters: Arc<OutputCounters>,
    /// The first event of the delivery that was not rendered yet. Parts that were not rendered are rendered in order.
    fresh_from: u64,
}

impl Bulk {
    pub fn new(op: Op, index: Template, id: Id) -> Bulk {
        let beginning: &'static [u8] = match op {
            Op::Index => b"{\"index\":{\"_index\":\"",
            Op::Create => b"{\"create\":{\"_index\":\"",
        };
        let names = Names::new(index, beginning);
        Bulk { op, names, id, scratch: Vec::new(), counters: Arc::default(), fresh_from: 0 }
    }

    /// The same as a part of an output that has these counters and indexes.
    pub fn of_output(self, counters: Arc<OutputCounters>, indexes: Arc<Indexes>, owner: Option<Owner>) -> Bulk {
        Bulk { counters, names: self.names.within(indexes, owner), ..self }
    }

    /// Forgets which events were rendered.
    pub fn begin(&mut self, wall: Timestamp, now: Monotonic) {
        self.fresh_from = 0;
        self.names.begin(wall, now);
    }

    /// See [`Names::settle`].
    pub fn learn(&mut self, delivery: &Delivery<'_>, part: &Part, verdict: &mut Verdict, now: Monotonic) {
        self.names.settle(delivery, part, verdict, now);
    }

    /// Approximate number of bytes per event in addition to its line.
    pub fn overhead_bytes(&self) -> u64 {
        if self.id == Id::None { 50 } else { 122 }
    }

    /// Whether an event that already exists must come from an earlier attempt.
    pub fn knows_its_events(&self) -> bool {
        self.op == Op::Create && self.id != Id::None
    }

    /// Appends the events of a part, and adds those that are left out to `refused`.
    pub fn body(&mut self, delivery: &Delivery<'_>, part: &Part, out: &mut Vec<u8>, refused: &mut Vec<(u64, String)>) {
        out.reserve(usize::try_from(delivery.bytes.min(1 << 20)).unwrap_or(0));
        part.visit(delivery, |slice| match slice {
            Slice::Event(event, index) => self.push(&event, index, out, refused),
            Slice::Piece(piece, first) => {
                (first..).zip(piece.iter()).for_each(|(index, event)| self.push(&event, index, out, refused));
            }
        });
    }

    fn push(&mut self, event: &Event<'_>, index: u64, out: &mut Vec<u8>, refused: &mut Vec<(u64, String)>) {
        let (is_named, action) = self.names.of(event);
        if !is_named && index >= self.fresh_from {
            self.counters.unnamed_events.add(1);
        }
        self.fresh_from = self.fresh_from.max(index + 1);
        let start = out.len();
        match action {
            Action::Send(beginning) => out.extend_from_slice(beginning),
            Action::Refuse { reason, is_excess } => {
                self.counters.excess_index_events.add(u64::from(*is_excess));
                refused.push((index, reason.clone()));
                return;
            }
        }
        if let Err(reason) = self.push_id(event, out) {
            out.truncate(start);
            refused.push((index, reason));
            return;
        }
        out.extend_from_slice(b"}}\n");
        out.extend_from_slice(event.line);
        if !event.line.ends_with(b"\n") {
            out.push(b'\n');
        }
    }

    fn push_id(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        match &self.id {
            Id::None => {}
            Id::Hash => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b",\"_id\":\"");
                let hash = digest(&SHA256, event.line.strip_suffix(b"\n").unwrap_or(event.line));
                let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
                out.extend(hash.as_ref().iter().flat_map(digits));
                out.push(b'"');
            }
            Id::Template(template) => {
                self.scratch.clear();
                let is_known = template.render(event, &mut self.scratch) && !self.scratch.is_empty();
                if !is_known || find(&self.scratch, LOST_CHARACTER.as_bytes()).is_some() {
                    return Ok(());
                }
                if self.scratch.len() > ID_BYTES_MAX {
                    return Err(format!("its id has {} bytes, more than {ID_BYTES_MAX}", self.scratch.len()));
                }
                if self.scratch.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'\0')) {
                    return Err("its id contains a newline, a carriage return or a NUL".to_owned());
                }
                out.extend_from_slice(b",\"_id\":\"");
                escape_json_into(&self.scratch, out);
                out.push(b'"');
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::visible::steers;
    use crate::outputs::encoding::testing::{delivery, piece};
    use tailwater_shards::plugin::Column;

    /// 2026-11-23T00:12:34Z.
    const MOMENT: u64 = 1_795_392_754_000_000_000;

    fn template(text: &str) -> Template {
        Template::parse(text).expect("a template")
    }

    fn body(bulk: &mut Bulk, lines: &[&str]) -> (String, Vec<(u64, String)>) {
        let lines: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
        let delivery = delivery(&lines, MOMENT);
        let (mut out, mut refused) = (Vec::new(), Vec::new());
        bulk.begin(Timestamp(MOMENT as i64), Monotonic(0));
        bulk.body(&delivery, &Part::of(0..delivery.events), &mut out, &mut refused);
        (String::from_utf8(out).expect("text"), refused)
    }

    #[test]
    fn events_follow_their_action() {
        let mut bulk = Bulk::new(Op::Index, template("logs-%Y.%m.%d"), Id::None);
        let (text, refused) = body(&mut bulk, &[r#"{"a":1}"#, r#"{"b":"ü"}"#]);
        let action = r#"{"index":{"_index":"logs-2026.11.23"}}"#;
        assert_eq!(text, format!("{action}\n{{\"a\":1}}\n{action}\n{{\"b\":\"ü\"}}\n"));
        assert!(refused.is_empty());
    }

    #[test]
    fn each_event_goes_to_the_index_of_its_day() {
        let day = 86_400_000_000_000;
        let mut delivery = Delivery::default();
        let times = [MOMENT, MOMENT + day, MOMENT].iter().flat_map(|nanos| nanos.to_le_bytes()).collect::<Vec<u8>>();
        delivery.push(piece(&["{}\n".into(), "{}\n".into(), "{}\n".into()], Column::Each(times.into())));
        let mut out = Vec::new();
        Bulk::new(Op::Index, template("l-%d"), Id::None).body(&delivery, &Part::of(0..3), &mut out, &mut Vec::new());
        let days: Vec<String> = String::from_utf8_lossy(&out)
            .lines()
            .step_by(2)
            .map(|line| line[18..].trim_matches(['"', '}', ':']).to_owned())
            .collect();
        assert_eq!(days, ["l-23", "l-24", "l-23"]);
    }

    #[test]
    fn names_are_lowercase_and_events_with_invalid_ones_are_left_out() {
        let mut bulk = Bulk::new(Op::Create, template("{{ k8s.ns }}-x"), Id::None);
        let (text, refused) =
            body(&mut bulk, &[r#"{"k8s":{"ns":"Shop"}}"#, r#"{"k8s":{"ns":"a/b"}}"#, r#"{"k8s":{"ns":"_a"}}"#, "{}"]);
        let actions: Vec<&str> = text.lines().step_by(2).collect();
        assert_eq!(actions, [r#"{"create":{"_index":"shop-x"}}"#, r#"{"create":{"_index":"unknown-x"}}"#]);
        assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2]);
        assert!(refused[0].1.contains("`a/b-x`") && refused[1].1.contains("begins with"), "{refused:?}");
    }

    #[test]
    fn ids_come_from_the_hash_or_the_fields() {
        let mut hashed = Bulk::new(Op::Create, template("l"), Id::Hash);
        let (text, _) = body(&mut hashed, &["{}", "{}", r#"{"a":1}"#]);
        let ids: Vec<&str> = text.lines().step_by(2).collect();
        // What `printf '{}' | sha256sum` says.
        let known = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(ids[0], format!(r#"{{"create":{{"_index":"l","_id":"{known}"}}}}"#));
        assert!(ids[0] == ids[1] && ids[1] != ids[2]);
        assert!(hashed.knows_its_events());

        let mut fields = Bulk::new(Op::Index, template("l"), Id::Template(template("{{ id }}")));
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(513));
        let (text, refused) = body(&mut fields, &[r#"{"id":"a\"b"}"#, "{}", r#"{"id":""}"#, &long]);
        let ids: Vec<&str> = text.lines().step_by(2).collect();
        let none = r#"{"index":{"_index":"l"}}"#;
        assert_eq!(ids, [r#"{"index":{"_index":"l","_id":"a\"b"}}"#, none, none]);
        assert!(refused.len() == 1 && refused[0].0 == 3 && refused[0].1.contains("513"), "{refused:?}");
        for control in [r"a\nb", r"a\rb", r"\u0000"] {
            let (text, refused) = body(&mut fields, &[&format!(r#"{{"id":"{control}"}}"#)]);
            assert!(text.is_empty() && refused[0].1.contains("newline"), "{control}: {text} {refused:?}");
        }
    }

    /// What an event can try to leave its prefix with.
    const HOSTILE: [&str; 60] = [
        ".security-7",
        "..",
        ".",
        "../x",
        "..%2f",
        "/x",
        "\\\\x",
        "*",
        "?",
        "a*",
        "a,b",
        ",.security-7",
        "<a-{now/d}>",
        "<",
        ">",
        "|",
        "#x",
        "a:b",
        "remote:x",
        "\\\"",
        "a\\\"},{\\\"",
        " ",
        "a b",
        "\\t",
        "\\n",
        "a\\nb",
        "\\r\\n",
        "\\u0000",
        "a\\u0000b",
        "\\u001f",
        "\\u007f",
        "\\u0085",
        "\\u00a0",
        "\\u2028",
        "\\u202e",
        "\\u2066",
        "\\u200f",
        "\\u3000",
        "-x",
        "_x",
        "+x",
        "_all",
        "_bulk",
        "-.security-7",
        ".SECURITY-7",
        "\\u002esecurity-7",
        "\\u002e\\u002e",
        "İ",
        "\\u212a",
        "\\ud800",
        "\\ud800.security",
        "",
        "unknown",
        "ü",
        "Shop",
        "a.b",
        "a..b",
        "..security",
        "x\\u0000.security-7",
        "%2e%2e",
    ];

    /// Whatever the value, an event is left out, or its line is one name that begins with the prefix and holds nothing that the
    /// server reads as more than a name.
    #[test]
    fn no_value_leaves_the_prefix_of_the_index() {
        let read = |action: &str| serde_json::from_str::<serde_json::Value>(action).expect("JSON")["index"].clone();
        for (index, prefix) in
            [("logs-{{ svc }}", "logs-"), ("{{ svc }}", ""), ("{{ svc }}.x", ""), ("L{{ svc }}-%Y", "l")]
        {
            let mut bulk = Bulk::new(Op::Index, template(index), Id::None);
            let mut sent = 0;
            for value in HOSTILE {
                let (text, refused) = body(&mut bulk, &[&format!("{{\"svc\":\"{value}\"}}")]);
                assert_eq!(text.lines().count(), if refused.is_empty() { 2 } else { 0 }, "{index} {value}: {text}");
                let Some(action) = text.lines().next() else { continue };
                let action = read(action);
                let name = action["_index"].as_str().expect("a name");
                assert_eq!(action.as_object().map(serde_json::Map::len), Some(1), "{text}");
                assert!(name.starts_with(prefix), "{index} {value}: {name}");
                assert!(!name.starts_with(['.', '-', '_', '+']), "{index} {value}: {name}");
                assert!(!name.contains(|c: char| steers(c) || c.is_whitespace() || c.is_uppercase()), "{name:?}");
                assert!(!name.contains(['*', '?', ',', '<', '>', '|', '/', '\\', '"', '#', ':']), "{name:?}");
                sent += 1;
            }
            assert!((5..40).contains(&sent), "{index}: {sent}");
        }
    }

    #[test]
    fn ambiguous_id_is_left_to_the_server() {
        let mut fields = Bulk::new(Op::Create, template("l"), Id::Template(template("{{ a }}-{{ b }}")));
        let lines = [
            r#"{"a":"\ud800","b":1}"#,
            r#"{"a":"\ud801","b":1}"#,
            r#"{"a":"\udc00x","b":1}"#,
            "{\"a\":\"\u{fffd}\",\"b\":1}",
        ];
        let (text, refused) = body(&mut fields, &lines);
        assert!(refused.is_empty(), "{refused:?}");
        assert!(text.lines().step_by(2).all(|action| action == r#"{"create":{"_index":"l"}}"#), "{text}");
        assert_eq!(
            text.lines().skip(1).step_by(2).collect::<Vec<_>>(),
            lines,
            "the events themselves are as they were"
        );
        let (text, _) = body(&mut fields, &[r#"{"a":"\ud83d\ude00","b":1}"#]);
        assert!(text.starts_with("{\"create\":{\"_index\":\"l\",\"_id\":\"\u{1f600}-1\"}}\n"), "{text}");

        // The hash covers the line as it is written, so half pairs differ as their escapes do.
        let (text, _) = body(&mut Bulk::new(Op::Create, template("l"), Id::Hash), &lines);
        let ids: std::collections::BTreeSet<&str> = text.lines().step_by(2).collect();
        assert_eq!(ids.len(), lines.len());
    }
}
