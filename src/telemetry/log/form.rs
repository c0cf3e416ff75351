//! Formats one line of the application log, as text or as a JSON object.
//!
//! Guarantees: exactly one line of limited length, whatever the values contain. Everything that could control a terminal is
//! escaped, in JSON too: log viewers print lines as they are.

use crate::codec::visible::{steers, visible_json};
use serde_json::Value;
use std::fmt::{self, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// The approximate maximum length of a line in bytes: a longer line is cut and marked.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// The format of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Easy to read.
    Text,
    /// One JSON object per line.
    Json,
}

/// A line before it is rendered.
pub struct Line {
    level: Level,
    target: &'static str,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    /// The line for a `tracing` event.
    pub fn read(event: &Event<'_>) -> Line {
        let metadata = event.metadata();
        let mut line = Line::own(*metadata.level(), metadata.target(), String::new());
        event.record(&mut line);
        line
    }

    /// A line of the log module itself.
    pub fn own(level: Level, target: &'static str, message: String) -> Line {
        Line { level, target, message, fields: Vec::new() }
    }

    /// The component that the line is about; empty if there is none.
    pub fn component(&self) -> &str {
        self.fields.iter().find(|(name, _)| *name == "component_id").and_then(|(_, value)| value.as_str()).unwrap_or("")
    }

    /// Adds a field.
    pub fn push(&mut self, name: &'static str, value: Value) {
        self.fields.push((name, value));
    }

    /// The formatted line with its newline.
    pub fn render(&self, form: Form) -> String {
        let now = jiff::Timestamp::now();
        let mut out = String::with_capacity(256);
        match form {
            Form::Text => self.text(now, &mut out),
            Form::Json => {
                self.json(now, &mut out);
                out = visible_json(&out);
            }
        }
        out.push('\n');
        out
    }

    fn text(&self, now: jiff::Timestamp, out: &mut String) {
        let _ = write!(out, "{now:.3} {:<5} ", self.level.as_str());
        escape(&self.message, out);
        for (name, value) in &self.fields {
            let _ = write!(out, " {name}=");
            match value {
                Value::String(text) if text.is_empty() || text.contains([' ', '"', '=']) => {
                    let _ = write!(out, "{text:?}");
                }
                Value::String(text) => escape(text, out),
                other => {
                    let _ = write!(out, "{other}");
                }
            }
        }
        if out.len() > LINE_BYTES_MAX {
            out.truncate(out.floor_char_boundary(LINE_BYTES_MAX));
            out.push_str("... (cut)");
        }
    }

    fn json(&self, now: jiff::Timestamp, out: &mut String) {
        let level = self.level.as_str().to_ascii_lowercase();
        let _ = write!(out, "{{\"timestamp\":\"{now:.6}\",\"level\":\"{level}\",\"message\":");
        let _ = write!(out, "{}", Value::String(cut(&self.message, LINE_BYTES_MAX / 2).to_owned()));
        let _ = write!(out, ",\"target\":{}", Value::String(self.target.to_owned()));
        for (name, value) in &self.fields {
            let room = (LINE_BYTES_MAX / 2).saturating_sub(out.len().saturating_sub(self.message.len()));
            let _ = match value {
                Value::String(text) => write!(out, ",\"{name}\":{}", Value::String(cut(text, room).to_owned())),
                other => write!(out, ",\"{name}\":{other}"),
            };
        }
        out.push('}');
    }
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match steers(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => self.push(name, text.into()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            name => self.push(name, value.into()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field.name(), value.into());
    }
}
