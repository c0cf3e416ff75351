//! `parse`: parses the string in a field.

use super::place::Place;
use super::reasons::Before;
use super::text::string;
use super::theirs::Theirs;
use super::{Opening, Transform, Verb, Verdict};
use crate::codec::path::Path;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use tailwater_shards::batch::EventSpan;
use tailwater_shards::limits::CHUNK_PADDING_BYTES;
use tailwater_shards::record::Record;
use tailwater_shards::scan::json::{
    Fault, Lines, NodeId, Parser, Trie, explain, explain_value, slot_key, unescape_key,
};
use tailwater_shards::shape::{Edit, EditId, Field, KeyId};

/// By default, the parsed fields become fields of the event; if a field already exists, the parsed value replaces it, except for
/// the fields of the input: such values are kept in the object `event` (see `on_conflict` of the input). If the
/// string cannot be parsed, or the field is not a string, the failure is counted and `on_error` decides what happens. An event
/// without the field stays unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ParseField")]
pub struct Settings {
    /// The field to parse.
    pub field: Path,
    /// The format of the string.
    #[serde(rename = "as", default)]
    pub format: Format,
    /// The field for the result, as one value. It may be the parsed field itself. By default, the parsed fields become fields
    /// of the event.
    #[serde(default)]
    pub into: Option<Path>,
    /// What happens to an event whose field cannot be parsed.
    #[serde(default)]
    pub on_error: OnError,
    /// Whether to keep the field after it was parsed.
    #[serde(default)]
    pub keep_original: bool,
}

/// The format of a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ParseFormat")]
pub enum Format {
    /// A JSON object; with `into`, any JSON value.
    #[default]
    Json,
}

/// What happens to an event whose field cannot be parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ParseFieldOnError")]
pub enum OnError {
    /// The event stays unchanged, with the reason in `parse_error`.
    #[default]
    Keep,
    /// The event is dropped.
    Drop,
    /// The event goes to the dead letter queue.
    DeadLetter,
}

impl Verb for Settings {
    const NAME: &'static str = "parse";
    const SUMMARY: &'static str = "parses the string in a field";
    const EXAMPLE: &'static str = "parse: {field: log, as: json}\n";
    const SAMPLE: &'static str =
        r#"{"stream":"stdout","log":"{\"level\":\"info\",\"http\":{\"status\":200}}","pod":"web-7"}"#;
    const FAILURE: &'static str = "the field cannot be parsed";

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let error = opening.shapes.key(b"parse_error");
        Box::new(Parse {
            path: self.field.clone(),
            place: Place::new(&self.field, opening),
            into: self.into.as_ref().map(|path| Place::new(path, opening)),
            own: self.field.rest().is_empty().then(|| opening.shapes.key(self.field.first().as_bytes())),
            keep_original: self.keep_original || self.into.as_ref() == Some(&self.field),
            on_error: self.on_error,
            error: opening.shapes.register_edit(Edit::Computed(error)),
            reader: match self.format {
                Format::Json => Json::new(),
            },
            theirs: Theirs::open(opening),
            unescaped: Vec::new(),
            fields: Vec::new(),
            failures: 0,
        })
    }

    fn explain(&self, before: &Before<'_>) -> Option<String> {
        let (mut unescaped, mut reader) = (Vec::new(), Json::new());
        let why = match string(before.get(&self.field)?, &mut unescaped) {
            None => Why::NoText,
            Some(text) if reader.read(text, self.into.is_some()) => Why::NoRoom,
            Some(_) => reader.why(self.into.is_some()),
        };
        Some(format!("{}: {why}: {}", self.field, before.shown(&self.field)))
    }
}

struct Parse {
    path: Path,
    place: Place,
    /// None: the parsed fields become fields of the event.
    into: Option<Place>,
    /// The field, if it is a top-level field.
    own: Option<KeyId>,
    keep_original: bool,
    on_error: OnError,
    error: EditId,
    reader: Json,
    theirs: Theirs,
    unescaped: Vec<u8>,
    fields: Vec<Field>,
    failures: u64,
}

impl Transform for Parse {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let Some(value) = self.place.get(record) else { return Verdict::Keep };
        let read = match string(value, &mut self.unescaped) {
            Some(text) => self.reader.read(text, self.into.is_some()),
            None => false,
        };
        let before = record.shape();
        if read && self.spread(record) {
            return Verdict::Keep;
        }
        record.set_shape(before);
        self.fail(record)
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}

impl Parse {
    /// Handles an event that could not be parsed.
    fn fail(&mut self, record: &mut Record<'_>) -> Verdict {
        self.failures += 1;
        if self.on_error == OnError::Drop {
            return Verdict::Drop;
        }
        let is_text = self.place.get(record).is_some_and(|value| string(value, &mut self.unescaped).is_some());
        let why = if is_text { self.reader.why(self.into.is_some()) } else { Why::NoText };
        if self.on_error == OnError::DeadLetter {
            record.give_up(Settings::NAME, format_args!("{}: {why}", self.path));
            return Verdict::DeadLetter;
        }
        // The reasons are constants that need no escaping.
        record.set(self.error, |out| {
            let written = write!(out, "\"{why}\"");
            debug_assert!(written.is_ok(), "a vector takes all");
        });
        Verdict::Keep
    }

    /// Adds the result to the event. False if the event is too large for it.
    fn spread(&mut self, record: &mut Record<'_>) -> bool {
        let Parse { place, into, own, keep_original, reader, theirs, fields, .. } = self;
        if !*keep_original && (into.is_some() || own.is_none()) {
            place.remove(record);
        }
        if let Some(into) = into {
            return into.put(record, reader.value());
        }
        fields.clear();
        fields.extend(record.fields().iter().filter(|field| *keep_original || Some(field.key) != *own));
        let mut recast = record.recast();
        fields.iter().for_each(|field| recast.keep(*field));
        theirs.begin();
        reader.fields(|name, value| {
            let key = recast.key(name);
            if !recast.guarded(key).is_some_and(|why| theirs.take(why, name, value)) {
                recast.put(key, |out| out.extend_from_slice(value));
            }
        });
        recast.finish() && theirs.finish(record)
    }
}

/// Why a field could not be parsed.
#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("it is not a string")]
    NoText,
    #[error("{0}")]
    Fault(Fault),
    #[error("a string contains a newline that is not escaped")]
    Newline,
    #[error("the event is too large for its fields")]
    NoRoom,
}

/// Parses JSON strings. The string is stored with the padding that the parser needs behind it.
struct Json {
    text: Vec<u8>,
    length: usize,
    parser: Parser,
    trie: Trie,
    lines: Lines,
    name: Vec<u8>,
}

impl Json {
    fn new() -> Json {
        // Names are looked up one by one, so a trie of their order is of no use.
        let (parser, trie, lines) = (Parser::new(), Trie::new(1), Lines::default());
        Json { text: Vec::new(), length: 0, parser, trie, lines, name: Vec::new() }
    }

    /// Parses a string as an object, or as any value. False if it is not valid.
    fn read(&mut self, text: &[u8], any: bool) -> bool {
        let text = text.trim_ascii();
        self.text.clear();
        self.text.extend_from_slice(text);
        self.length = text.len();
        self.text.resize(text.len() + CHUNK_PADDING_BYTES, 0);
        if memchr::memchr(b'\n', text).is_some() && !self.without_newlines() {
            return false;
        }
        let span = EventSpan { start: 0, end: self.length as u32 };
        self.parser.parse(&self.text, &[span], &mut self.trie, &mut self.lines);
        self.lines.lines[0].node != NodeId::BAD || any && !text.starts_with(b"{") && self.is_value()
    }

    /// The parser accepts one line. In valid JSON, a newline is white space between values, equivalent to a space.
    fn without_newlines(&mut self) -> bool {
        let text = &mut self.text[..self.length];
        if serde_json::from_slice::<IgnoredAny>(text).is_err() {
            return false;
        }
        text.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        true
    }

    /// Whether the string is a value. It is put into an object, so that the same rules apply as for other events.
    fn is_value(&mut self) -> bool {
        let length = self.length;
        self.text.truncate(length);
        self.text.splice(0..0, *b"{\"\":");
        self.text.push(b'}');
        let end = self.text.len() as u32;
        self.text.resize(end as usize + CHUNK_PADDING_BYTES, 0);
        self.parser.parse(&self.text, &[EventSpan { start: 0, end }], &mut self.trie, &mut self.lines);
        let good = self.lines.lines[0].node != NodeId::BAD && self.lines.lines[0].slots == 1;
        self.text.drain(..4);
        good
    }

    /// Why the last string could not become fields, or a value.
    fn why(&mut self, any: bool) -> Why {
        let text = &mut self.text[..self.length];
        // Newlines are invalid only inside strings.
        let newlines = memchr::memchr(b'\n', text).is_some();
        text.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        match if any { explain_value(text) } else { explain(text) } {
            Some(fault) => Why::Fault(fault),
            None if newlines => Why::Newline,
            None => Why::NoRoom,
        }
    }

    /// The result, as one value.
    fn value(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// The fields of the parsed object, in their order.
    fn fields(&mut self, mut take: impl FnMut(&[u8], &[u8])) {
        for slot in &self.lines.slots {
            self.name.clear();
            let read = unescape_key(slot_key(&self.text, *slot), &mut self.name);
            debug_assert!(read, "the parser has read this key before");
            take(&self.name, &self.text[slot.start as usize..slot.end as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::transforms::tests::{Bench, mistake, one};
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    #[test]
    fn parsed_fields_become_fields_of_the_event() {
        let event = r#"{"log":"{\"a\":1e300,\"b\":{\"c\":\"\\u00e9\"}}","a":0,"z":true}"#;
        assert_eq!(one("- parse: {field: log}", event), r#"{"a":1e300,"z":true,"b":{"c":"\u00e9"}}"#);
    }

    #[test]
    fn the_parsed_value_wins_and_the_field_goes() {
        let parse = |settings: &str, event: &str| one(&format!("- parse: {{{settings}}}"), event);
        assert_eq!(
            parse("field: log, as: json", r#"{"log":" {\"log\":\"x\",\"a\":2} ","a":1}"#),
            r#"{"a":2,"log":"x"}"#
        );
        assert_eq!(parse("field: log, keep_original: true", r#"{"log":"{\"b\":2}"}"#), r#"{"log":"{\"b\":2}","b":2}"#);
        assert_eq!(parse("field: d.log", r#"{"d":{"log":"{\"b\":2}","e":1}}"#), r#"{"d":{"e":1},"b":2}"#);
        assert_eq!(parse("field: d.log", r#"{"d":{"log":"{\"d\":2}","e":1}}"#), r#"{"d":2}"#);
        assert_eq!(parse("field: log", r#"{"log":"{}","a":1}"#), r#"{"a":1}"#);
        assert_eq!(parse("field: log", r#"{"log":"{\"a\":1,\"a\":2,\"\\u0061\":3}"}"#), r#"{"a":3}"#);
        assert_eq!(parse("field: log", r#"{"a":1}"#), r#"{"a":1}"#);
        assert_eq!(parse("field: message", "{\"a\":1} "), r#"{"a":1}"#, "an event is parsed before");
    }

    #[test]
    fn a_value_can_stay_whole() {
        let into =
            |settings: &str, text: Value| one(&format!("- parse: {{{settings}}}"), &json!({"log": text}).to_string());
        assert_eq!(into("field: log, into: log", json!("{\"a\": [1]}")), r#"{"log":{"a": [1]}}"#);
        assert_eq!(into("field: log, into: x.y", json!(" [1,\n2] ")), r#"{"x":{"y":[1, 2]}}"#);
        assert_eq!(into("field: log, into: x, keep_original: true", json!("7")), r#"{"log":"7","x":7}"#);
        assert_eq!(into("field: log, into: log", json!("\"x\"")), r#"{"log":"x"}"#);
        assert_eq!(into("field: log, into: log.inner", json!("null")), r#"{"log":{"inner":null}}"#);
    }

    #[test]
    fn what_cannot_be_parsed_is_counted_and_says_why() {
        for (text, reason) in [
            ("", "it is empty"),
            ("{", ""),
            ("[1]", ""),
            ("7", ""),
            ("{\"a\":\"x\ny\"}", "newline"),
            ("{\"a\":1}{", ""),
            ("{\"a\":1}\n{\"a\":1}", "something follows"),
            ("{\"a\":01}", ""),
            ("plain text", ""),
        ] {
            let event = json!({"log": text, "b": 1}).to_string();
            let mut bench = Bench::try_new("- remove: [file]\n- parse: {field: log}").expect("valid");
            let out: Value = serde_json::from_str(&bench.event(&event).expect("kept")).expect("JSON");
            assert_eq!((&out["log"], &out["b"]), (&json!(text), &json!(1)));
            assert!(
                out["parse_error"].as_str().is_some_and(|error| error.contains(reason) && !error.contains("room")),
                "{out}"
            );
            assert_eq!(bench.failures(), 1, "{text}");
            assert_eq!(one("- parse: {field: log, on_error: drop}", &event), "dropped");
        }
        assert_eq!(
            one("- parse: {field: a}", r#"{"a":{"b":1}}"#),
            r#"{"a":{"b":1},"parse_error":"it is not a string"}"#
        );
        let list = "- parse: {field: log, into: x}";
        for bad in ["{", "1 2", "1,2", "01", "nul", "\"x", "1}", "[1", "1,\"b\":2"] {
            let event = json!({"log": bad}).to_string();
            assert!(one(list, &event).contains("parse_error"), "{bad}");
        }
    }

    #[test]
    fn reasons_speak_of_what_is_wanted() {
        for (settings, text, reason) in [
            ("", "plain", "it is not an object (at byte 0)"),
            (", into: x", "plain", "it is not a JSON value (at byte 0)"),
            (", into: x", " 1 2", "something follows the value (at byte 2)"),
            (", into: x", "[1,2", "it ends before its last bracket is closed (at byte 4)"),
            (", into: x", "{\"a\":1} 2", "something follows the object (at byte 8)"),
            (", into: x", "", "it is empty (at byte 0)"),
        ] {
            let event = json!({"log": text}).to_string();
            let out: Value =
                serde_json::from_str(&one(&format!("- parse: {{field: log{settings}}}"), &event)).expect("JSON");
            assert_eq!(out["parse_error"], reason, "{settings} {text}");
        }
    }

    #[test]
    fn objects_on_several_lines_are_read() {
        let event = json!({"log": "{\n  \"a\": {\n\t\"b\": \"x\\ny\"\n  }\n}\n"}).to_string();
        assert_eq!(one("- parse: {field: log}", &event), "{\"a\":{ \t\"b\": \"x\\ny\"   }}");
    }

    #[test]
    fn very_many_parsed_fields_are_fields_of_one_event() {
        let inner: Map<String, Value> = (0..9000).map(|number| (format!("k{number}"), json!(number))).collect();
        let event = json!({"log": Value::Object(inner.clone()).to_string()}).to_string();
        let mut bench = Bench::try_new("- remove: [file]\n- parse: {field: log}").expect("valid");
        for _ in 0..3 {
            let out: Value = serde_json::from_str(&bench.event(&event).expect("kept")).expect("JSON");
            assert_eq!(out, Value::Object(inner.clone()));
        }
    }

    #[test]
    fn mistakes_are_told() {
        assert!(mistake("- parse: {as: json}").contains("field"));
        assert!(mistake("- parse: {field: a, as: xml}").contains("xml"));
        assert!(mistake("- parse: {field: a, on_error: explode}").contains("explode"));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<i64>().prop_map(Value::from),
            "[ab\"\\\\é{}:,\n]{0,5}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from), object(inner),]
        })
    }

    fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
        let names = "[a-c\"\\\\é]{0,2}|log";
        proptest::collection::btree_map(names, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn what_is_no_value_has_a_reason(text in "[-0-9.e\\[\\]{}:, \"a]{0,6}|(true|nul|null|\"a\"|1|\\{\\}|\\[1\\])[ ,:1x]{0,2}", depth in 0usize..70) {
            for text in [text.clone(), format!("{}{}", "[".repeat(depth), "]".repeat(depth)), text + "\u{1}"] {
                let read = super::Json::new().read(text.as_bytes(), true);
                prop_assert_eq!(super::explain_value(text.trim().as_bytes()).is_none(), read, "{}", text);
            }
        }

        #[test]
        fn merging_agrees_with_the_model(outer in object(value()), inner in prop_oneof![4 => object(value()), 1 => value()], pretty in any::<bool>(), keep in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&inner) } else { serde_json::to_string(&inner) }.expect("JSON");
            let mut event = outer;
            event["log"] = Value::String(text);
            let mut bench = Bench::try_new(&format!("- remove: [file]\n- parse: {{field: log, keep_original: {keep}}}")).expect("valid");
            let mut out: Value = serde_json::from_str(&bench.event(&event.to_string()).expect("kept")).expect("JSON");
            match inner {
                Value::Object(inner) => {
                    let fields = event.as_object_mut().expect("an object");
                    if !keep {
                        fields.remove("log");
                    }
                    fields.extend(inner);
                }
                _ => prop_assert!(out.as_object_mut().expect("an object").remove("parse_error").is_some()),
            }
            prop_assert_eq!(out, event);
        }
    }
}
