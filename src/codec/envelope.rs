//! The envelope: writes an event's line as a JSON object with the message and the fields that the input adds.
//!
//! ```text
//! {"timestamp":"2026-11-23T00:12:34.567890Z","host":"h","file":"/var/log/a.log","offset":123,"message":"..."}\n
//! ```
//!
//! Guarantees: the order of the fields is the one above, whichever are enabled. A line is valid JSON in UTF-8 whatever the bytes
//! of the event are, and contains no newline except its last byte. Hot: the part that is equal for a batch is built once; an
//! event costs one copy of that part, its offset and its escaped message, and no allocation once the buffers have grown.

use super::calendar::{RFC3339_BYTES, rfc3339_micros};
use crate::config::facts::Facts;
use crate::config::types::{FieldName, FieldNames};
use std::ops::Range;
use std::sync::Arc;
use tailwater_shards::batch::{Batch, Source};
use tailwater_shards::counters::Tally;
use tailwater_shards::env::{ShardId, Timestamp};
use tailwater_shards::plugin::{Frames, Processor, ProcessorSpec};
use tailwater_shards::record::push_number;
use tailwater_shards::scan::escape_json_into;

/// What kind of source the events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// A file: it has a path, and each event has an offset in it.
    File,
    /// A source without path and offset.
    Stream,
}

/// The processor of an input with these fields whose events are neither parsed nor transformed.
pub fn spec(fields: &FieldNames, facts: &Facts, kind: EnvelopeKind) -> Arc<dyn ProcessorSpec> {
    Arc::new(EnvelopeSpec { fields: fields.clone(), host: facts.host.clone(), kind })
}

struct EnvelopeSpec {
    fields: FieldNames,
    host: Arc<str>,
    kind: EnvelopeKind,
}

impl ProcessorSpec for EnvelopeSpec {
    fn open(&self, _: ShardId) -> Box<dyn Processor> {
        Box::new(Envelope::new(self))
    }
}

/// The constant text between the variable parts of a line. Each piece begins with `{` or `,`.
struct Envelope {
    /// Up to the timestamp's value, which follows in quotes.
    before_timestamp: Option<Vec<u8>>,
    /// The complete host field, then the text up to the file's value.
    after_timestamp: Vec<u8>,
    before_file: Option<Vec<u8>>,
    before_offset: Option<Vec<u8>>,
    before_message: Option<Vec<u8>>,
    before_truncated: Option<Vec<u8>>,
    /// Everything before the offset (or the message), for the source and time below.
    prefix: Vec<u8>,
    /// The position of the timestamp's value in the prefix.
    timestamp_at: Range<usize>,
    source: Option<Arc<Source>>,
    received: Timestamp,
    replaced: u64,
}

impl Envelope {
    fn new(spec: &EnvelopeSpec) -> Envelope {
        let mut first = true;
        let mut key = |name: &FieldName, on: bool| match name {
            FieldName::Named(name) if on => {
                let mut text = vec![if std::mem::take(&mut first) { b'{' } else { b',' }, b'"'];
                escape_json_into(name.as_bytes(), &mut text);
                text.extend_from_slice(b"\":");
                Some(text)
            }
            _ => None,
        };
        let fields = &spec.fields;
        let of_file = spec.kind == EnvelopeKind::File;
        let before_timestamp = key(&fields.timestamp, true);
        let host = key(&fields.host, true);
        let before_file = key(&fields.file, of_file);
        let before_offset = key(&fields.offset, of_file);
        let before_message = key(&fields.message, true);
        let before_truncated = match &fields.truncated {
            FieldName::Named(name) => {
                // The first field follows the opening brace without a comma.
                let mut text = if first { Vec::new() } else { vec![b','] };
                push_string(name.as_bytes(), &mut text);
                text.push(b':');
                Some(text)
            }
            FieldName::Off => None,
        };
        let mut after_timestamp = Vec::new();
        if let Some(host) = host {
            after_timestamp.extend_from_slice(&host);
            push_string(spec.host.as_bytes(), &mut after_timestamp);
        }
        if first {
            after_timestamp.push(b'{');
        }
        Envelope {
            before_timestamp,
            after_timestamp,
            before_file,
            before_offset,
            before_message,
            before_truncated,
            prefix: Vec::new(),
            timestamp_at: 0..0,
            source: None,
            received: Timestamp::default(),
            replaced: 0,
        }
    }

    fn make_prefix(&mut self, batch: &Batch) {
        let prefix = &mut self.prefix;
        prefix.clear();
        if let Some(before) = &self.before_timestamp {
            prefix.extend_from_slice(before);
            prefix.push(b'"');
            self.timestamp_at = prefix.len()..prefix.len() + RFC3339_BYTES;
            prefix.extend_from_slice(&rfc3339_micros(batch.received));
            prefix.push(b'"');
        }
        prefix.extend_from_slice(&self.after_timestamp);
        if let Some(before) = &self.before_file {
            prefix.extend_from_slice(before);
            push_string(&batch.source.name, prefix);
        }
        match (&self.before_offset, &self.before_message) {
            (Some(offset), _) => prefix.extend_from_slice(offset),
            (None, Some(message)) => {
                prefix.extend_from_slice(message);
                prefix.push(b'"');
            }
            (None, None) => {}
        }
        self.source = Some(batch.source.clone());
        self.received = batch.received;
    }
}

/// Appends a JSON string.
pub fn push_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    escape_json_into(text, out);
    out.push(b'"');
}

impl Processor for Envelope {
    fn begin(&mut self, batch: &Batch) {
        if !self.source.as_ref().is_some_and(|source| Arc::ptr_eq(source, &batch.source)) {
            self.make_prefix(batch);
        } else if self.received != batch.received {
            self.received = batch.received;
            if !self.timestamp_at.is_empty() {
                self.prefix[self.timestamp_at.clone()].copy_from_slice(&rfc3339_micros(batch.received));
            }
        }
    }

    fn process(&mut self, batch: &Batch, _: usize, frames: &mut Frames<'_>) {
        for index in 0..batch.events.len() {
            self.line(batch, index, frames.line());
            frames.end_event(batch.received);
        }
    }

    fn take_tally(&mut self) -> Tally {
        Tally { replaced: std::mem::take(&mut self.replaced), ..Tally::default() }
    }
}

impl Envelope {
    #[inline]
    fn line(&mut self, batch: &Batch, index: usize, line: &mut Vec<u8>) {
        line.extend_from_slice(&self.prefix);
        if self.before_offset.is_some() {
            push_number(batch.offset_of(index), line);
            if let Some(before) = &self.before_message {
                line.extend_from_slice(before);
                line.push(b'"');
            }
        }
        if self.before_message.is_some() {
            self.replaced += u64::from(escape_json_into(batch.event(index), line) > 0);
            line.push(b'"');
        }
        if batch.is_truncated(index) {
            self.say_truncated(line);
        }
        line.extend_from_slice(b"}\n");
    }

    #[cold]
    fn say_truncated(&self, line: &mut Vec<u8>) {
        if let Some(before) = &self.before_truncated {
            line.extend_from_slice(before);
            line.extend_from_slice(b"true");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_shards::batch::{EventSpan, SourceKey};
    use tailwater_shards::dlq::Letters;
    use tailwater_shards::wal::builder::Group;

    fn source(name: &[u8]) -> Arc<Source> {
        let input = Arc::from("in");
        Arc::new(Source { key: SourceKey(1), input, name: name.to_vec(), descriptor: Vec::new(), repeatable: true })
    }

    fn batch(source: &Arc<Source>, text: &[u8], seconds: i64) -> Batch {
        let mut batch = Batch::new(4096, source.clone());
        batch.chunk.spare()[..text.len()].copy_from_slice(text);
        batch.chunk.set_length(text.len());
        let mut start = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let end = start + line.len() as u32;
            batch.events.push(EventSpan { start, end: end - u32::from(line.ends_with(b"\n")) });
            start = end;
        }
        batch.chunk_offset = 1000;
        batch.received = Timestamp(seconds * 1_000_000_000 + 567_890_123);
        batch
    }

    fn encoder(fields: &FieldNames, kind: EnvelopeKind) -> Box<dyn Processor> {
        spec(fields, &Facts::of("h\"1"), kind).open(ShardId(0))
    }

    fn lines(encoder: &mut dyn Processor, batch: &Batch) -> String {
        let mut group = Group::new();
        encoder.begin(batch);
        encoder.process(batch, 0, &mut Frames::new(&mut group, 0, 1, &[1], &mut Letters::new()));
        String::from_utf8(group.frames()[0].lines().to_vec()).expect("JSON is UTF-8")
    }

    fn off() -> FieldNames {
        let off = FieldName::Off;
        FieldNames {
            message: off.clone(),
            timestamp: off.clone(),
            host: off.clone(),
            file: off.clone(),
            offset: off.clone(),
            truncated: off,
        }
    }

    #[test]
    fn line_has_all_fields_in_their_order() {
        let mut encoder = encoder(&FieldNames::default(), EnvelopeKind::File);
        let batch = batch(&source(b"/var/log/\xff.log"), b"a \"b\"\n\nc\td\n", 1_795_392_754);
        let expected = [
            r#"{"timestamp":"2026-11-23T00:12:34.567890Z","host":"h\"1","file":"/var/log/�.log","offset":1000,"message":"a \"b\""}"#,
            r#"{"timestamp":"2026-11-23T00:12:34.567890Z","host":"h\"1","file":"/var/log/�.log","offset":1006,"message":""}"#,
            r#"{"timestamp":"2026-11-23T00:12:34.567890Z","host":"h\"1","file":"/var/log/�.log","offset":1007,"message":"c\td"}"#,
        ];
        assert_eq!(lines(&mut *encoder, &batch).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn stream_has_neither_file_nor_offset() {
        let mut encoder = encoder(&FieldNames::default(), EnvelopeKind::Stream);
        let line = lines(&mut *encoder, &batch(&source(b""), b"x\n", 0));
        assert_eq!(line, "{\"timestamp\":\"1970-01-01T00:00:00.567890Z\",\"host\":\"h\\\"1\",\"message\":\"x\"}\n");
    }

    /// Every combination of enabled fields: the line is an object of exactly these fields, with their configured names.
    #[test]
    fn any_choice_of_fields_is_valid_json() {
        for choice in 0..32u32 {
            let name = |bit: u32, name: &str| match choice >> bit & 1 {
                1 => FieldName::Named(format!("\"{name}\\")),
                _ => FieldName::Off,
            };
            let fields = FieldNames {
                timestamp: name(0, "t"),
                host: name(1, "h"),
                file: name(2, "f"),
                offset: name(3, "o"),
                message: name(4, "m"),
                truncated: FieldName::Named("cut".to_owned()),
            };
            for kind in [EnvelopeKind::File, EnvelopeKind::Stream] {
                let mut batch = batch(&source(b"/f"), b"one\ntwo\n", 7);
                batch.truncated.push(1);
                let text = lines(&mut *encoder(&fields, kind), &batch);
                let mut expected = choice;
                if kind == EnvelopeKind::Stream {
                    expected &= 0b10011;
                }
                for (index, line) in text.lines().enumerate() {
                    let expected = expected.count_ones() as usize + index;
                    let object: serde_json::Map<String, serde_json::Value> =
                        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
                    assert_eq!((object.len(), object.contains_key("cut")), (expected, index == 1), "{line}");
                }
                assert_eq!(text.lines().count(), 2);
            }
        }
    }

    #[test]
    fn new_batch_takes_its_own_time_and_source() {
        let mut encoder = encoder(&FieldNames::default(), EnvelopeKind::File);
        let (first, second) = (source(b"/a"), source(b"/b"));
        let before = lines(&mut *encoder, &batch(&first, b"x\n", 1));
        let later = lines(&mut *encoder, &batch(&first, b"x\n", 2));
        assert_eq!(later, before.replace("00:00:01", "00:00:02"));
        let renamed = lines(&mut *encoder, &batch(&second, b"x\n", 2));
        assert_eq!(renamed, later.replace("/a", "/b"));
    }

    #[test]
    fn events_with_bytes_that_are_not_utf8_are_counted() {
        let mut encoder = encoder(&FieldNames { message: FieldName::Named("m".into()), ..off() }, EnvelopeKind::File);
        let text = lines(&mut *encoder, &batch(&source(b"/f"), b"\xff\xfe\nok\n\x80\n", 1));
        assert_eq!(text, "{\"m\":\"\u{FFFD}\u{FFFD}\"}\n{\"m\":\"ok\"}\n{\"m\":\"\u{FFFD}\"}\n");
        assert_eq!(encoder.take_tally().replaced, 2);
        assert_eq!(encoder.take_tally().replaced, 0);
    }
}
