//! Tests the log from end to end: through the real layer and thread, into a buffer or into a sink that blocks.

use super::*;
use std::sync::Condvar;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the sink is whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text that is written when `say` logs and the process ends.
fn said(form: Form, say: impl FnOnce()) -> String {
    let sink = Sink::default();
    let (layer, log) = layer(form, Box::new(sink.clone())).expect("the writer starts");
    let filter = filter(tracing::Level::INFO, "").expect("an empty filter is good");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.with_filter(filter)), say);
    drop(log);
    let bytes = sink.0.lock().expect("the sink is whole").clone();
    String::from_utf8(bytes).expect("lines are UTF-8")
}

#[test]
fn json_lines_carry_level_message_and_fields() {
    let text = said(Form::Json, || tracing::warn!(component_id = %"app", lines = 7u64, "a \"quoted\"\nmessage"));
    let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(line["level"], "warn");
    assert_eq!(line["message"], "a \"quoted\"\nmessage");
    assert_eq!(line["component_id"], "app");
    assert_eq!(line["lines"], 7);
    assert!(line["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')), "{line}");
}

#[test]
fn text_is_one_line_whatever_the_values_hold() {
    let text = said(Form::Text, || tracing::info!(path = %"/a b\u{1b}[31m\n", "started\nfake line"));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(r"started\nfake line"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

/// File names, events and answers of servers that try to control the terminal that shows the log.
#[test]
fn no_form_lets_a_value_control_a_terminal() {
    let hostile = "a\u{1b}]0;owned\u{7}\u{9b}2J\u{7f}\u{202e}\u{200f}\u{2028}b";
    for form in [Form::Text, Form::Json] {
        let text = said(form, || {
            tracing::info!(path = %hostile, spaced = %format!("x {hostile}"), quoted = ?hostile, "cannot read {hostile}");
        });
        let steering = text.trim_end().chars().find(|c| crate::codec::visible::steers(*c));
        assert_eq!(steering, None, "{form:?}: {text:?}");
        assert_eq!(text.matches("owned").count(), 4, "{text}");
    }
    let text = said(Form::Json, || tracing::info!(path = %hostile, "m"));
    let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(line["path"], hostile, "it is the same value");
}

#[test]
fn repeated_lines_are_suppressed_with_a_count_per_component() {
    let text = said(Form::Text, || {
        for _ in 0..100 {
            for name in ["app", "web"] {
                tracing::error!(component_id = name, "cannot read");
            }
        }
        tracing::error!(component_id = "app", "another place in the code");
    });
    let of = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(of("cannot read component_id=app"), 5, "{text}");
    assert_eq!(of("cannot read component_id=web"), 5, "{text}");
    assert_eq!(of("suppressed 95 similar lines component_id=app"), 1, "{text}");
    assert_eq!(of("suppressed 95 similar lines component_id=web"), 1, "{text}");
    assert_eq!(of("another place"), 1, "{text}");
}

#[test]
fn a_level_that_is_off_is_not_written() {
    assert_eq!(said(Form::Text, || tracing::debug!("detail")), "");
    assert!(filter(tracing::Level::INFO, "=,nonsense=7=").is_err());
}

#[test]
fn a_long_line_is_cut() {
    for form in [Form::Text, Form::Json] {
        let text = said(form, || tracing::info!(value = %"y".repeat(100_000), "{}", "x".repeat(100_000)));
        assert!(text.len() < 3 * form::LINE_BYTES_MAX, "{}", text.len());
        assert_eq!(text.lines().count(), 1);
    }
}

/// A sink that blocks until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>, Sink);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().expect("the gate is whole") = true;
        self.0.1.notify_all();
    }
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut open = self.0.0.lock().expect("the gate is whole");
        while !*open {
            open = self.0.1.wait(open).expect("the gate is whole");
        }
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stalled_reader_drops_lines_and_never_waits() {
    let gate = Gate::default();
    let (layer, log) = layer(Form::Text, Box::new(gate.clone())).expect("the writer starts");
    let counter = log.counter();
    const LINES: u64 = 3 * QUEUE_LINES as u64;
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for number in 0..LINES {
            // A different component for each line, so that none is suppressed.
            tracing::info!(component_id = %number, "line");
        }
    });
    let dropped = counter.get().lines_dropped;
    assert!(dropped >= LINES - QUEUE_LINES as u64 - 2, "{dropped}");
    gate.open();
    drop(log);
    let text = String::from_utf8(gate.1.0.lock().expect("the sink is whole").clone()).expect("lines are UTF-8");
    let written = text.lines().filter(|line| line.contains(" line ")).count() as u64;
    assert_eq!(written + dropped, LINES);
    assert!(text.contains(&format!("dropped {dropped} lines of this log")), "{text}");
}

#[test]
fn windows_end_and_summaries_add_up() {
    let mut repeats = Repeats::default();
    let key = Key::of(METADATA, "app");
    let mut suppressed = 0;
    let mut summarised = 0;
    for second in 0..100u64 {
        match repeats.admit(key, METADATA, "app", Duration::from_secs(second)) {
            Admission::Suppressed => suppressed += 1,
            Admission::Written(summary) => summarised += summary.map_or(0, |summary| summary.lines),
        }
        if second % 30 == 29 {
            summarised += repeats.sweep(Some(Duration::from_secs(second))).iter().map(|s| s.lines).sum::<u64>();
        }
    }
    summarised += repeats.sweep(None).iter().map(|s| s.lines).sum::<u64>();
    assert_eq!(suppressed, summarised);
    assert_eq!(suppressed, 50);
}

struct Place;

impl tracing::callsite::Callsite for Place {
    fn set_interest(&self, _: tracing::subscriber::Interest) {}

    fn metadata(&self) -> &tracing::Metadata<'_> {
        METADATA
    }
}

static PLACE: Place = Place;

static METADATA: &tracing::Metadata<'static> = &tracing::Metadata::new(
    "place",
    "tests",
    tracing::Level::WARN,
    Some("tests.rs"),
    Some(1),
    Some("tests"),
    tracing::field::FieldSet::new(&[], tracing::callsite::Identifier(&PLACE)),
    tracing::metadata::Kind::EVENT,
);
