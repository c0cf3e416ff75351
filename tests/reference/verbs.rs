//! The generated part of `docs/transforms.md`: the description of each transform, and the effect of its example on an event, by
//! running it.

use crate::{Reference, accepted, compare, indented, variable};
use serde_json::Value;
use std::fmt::Write as _;
use tailwater::codec::json::Fields;
use tailwater::config::de::read;
use tailwater::config::facts::Facts;
use tailwater::config::node::parse;
use tailwater::transforms::{Now, Opening, Row, Step, Verdict, emit_next, open_all, run_all};
use tailwater_shards::batch::{Chunk, EventSpan};
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::{Place, Workshop};
use tailwater_shards::scan::json::{Lines, NodeId, Parser};
use tailwater_shards::shape::{Edit, Shapes};

/// Lines of the page are no wider than this. A longer event is shown on several lines.
const WIDTH: usize = 120;

/// The time of the events on the page: 2026-11-23T10:20:30Z.
const TIME: Timestamp = Timestamp(1_795_429_230_000_000_000);

/// An example as an entry of `transforms`.
fn entry(row: &Row) -> String {
    format!("-{}", &indented(row.example, 2)[1..])
}

/// The result of an entry of `transforms` for events, one per line, without the dropped ones.
fn run(entry: &str, events: &str) -> String {
    let (root, problems) = parse(entry, &|name| Some(variable(name)));
    assert!(problems.is_empty(), "{entry}: {problems:?}");
    let steps: Vec<Step> = read(&root.expect("a list")).unwrap_or_else(|fault| panic!("{entry}: {fault:?}"));
    let mut shapes = Shapes::new(&[], Some("message"));
    let facts = Facts::of("web-03");
    let mut verbs = open_all(&steps, &mut Opening { shapes: &mut shapes, facts: &facts });
    let clear = shapes.register_edit(Edit::Clear);
    let mut workshop = Workshop::new(shapes);
    let mut out = Vec::new();
    for event in events.lines() {
        let mut chunk = Chunk::new(event.len());
        chunk.spare()[..event.len()].copy_from_slice(event.as_bytes());
        chunk.set_length(event.len());
        let span = EventSpan { start: 0, end: event.len() as u32 };
        let mut lines = Lines::default();
        Parser::new().parse(chunk.padded(), &[span], &mut workshop.shapes.trie, &mut lines);
        let (line, place) = (lines.lines[0], Place { timestamp: TIME, offset: 0 });
        assert_ne!(line.node, NodeId::BAD, "{event}");
        let mut record = workshop.line(chunk.bytes(), event.as_bytes(), &line, &lines.slots, place);
        if run_all(&mut verbs, &mut record) == Verdict::Keep {
            record.encode(&mut out);
        }
    }
    loop {
        let mut record = workshop.text(b"", Place { timestamp: TIME, offset: 0 });
        record.edit(clear);
        match emit_next(&mut verbs, Now { time: TIME, last: true }, &mut record) {
            Some(Verdict::Keep) => record.encode(&mut out),
            Some(_) => {}
            None => return String::from_utf8(out).expect("JSON is UTF-8"),
        }
    }
}

/// Events as shown on the page: byte for byte where they fit.
fn shown(events: &str) -> String {
    let text: String = events.lines().map(|event| one_shown(event) + "\n").collect();
    format!("```text\n{text}```\n")
}

fn one_shown(event: &str) -> String {
    if event.chars().count() <= WIDTH {
        return event.to_owned();
    }
    let fields = Fields::of(event.as_bytes()).expect("an object");
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let lines: Vec<String> = fields.map(|(name, value)| format!("  \"{}\": {}", text(name), text(value))).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
}

/// Text from the doc comments of the settings, wrapped to the width of the page.
fn paragraphs(text: &str) -> String {
    let mut blocks: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines().map(str::trim) {
        match blocks.last_mut().filter(|_| open && !line.is_empty() && !line.starts_with("- ")) {
            Some(block) => *block = format!("{block} {line}"),
            None if line.is_empty() => blocks.push(String::new()),
            None => blocks.push(line.to_owned()),
        }
        open = !line.is_empty();
    }
    blocks.iter().map(|block| wrapped(block)).collect()
}

fn wrapped(block: &str) -> String {
    let indent = if block.starts_with("- ") { "  " } else { "" };
    let mut out = String::new();
    let mut width = 0;
    for word in block.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            let _ = write!(out, "\n{indent}");
            width = indent.len();
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += length;
    }
    out + "\n"
}

impl Reference {
    fn verb(&mut self, row: &Row, schema: &Value) {
        let mut summary = row.summary.trim_end_matches('.').to_owned();
        summary[..1].make_ascii_uppercase();
        let own = schema.pointer(&format!("/properties/{}", row.name)).filter(|_| row.name != "if").unwrap_or(schema);
        let settings = self.resolve(own).clone();
        let text = settings.get("description").and_then(Value::as_str);
        let text = text.unwrap_or_else(|| panic!("the settings of `{}` have no doc comment", row.name));
        let _ = write!(self.out, "\n## `{}`\n\n{summary}.\n\n```yaml\n{}```\n", row.name, entry(row));
        if !row.sample.is_empty() {
            let after = run(&entry(row), row.sample);
            let after = match after.is_empty() {
                true => "The event is dropped.\n".to_owned(),
                false if after.trim_end() == row.sample.trim_end() => "The event stays unchanged.\n".to_owned(),
                false => format!("After:\n\n{}", shown(&after)),
            };
            let _ = write!(self.out, "\nBefore:\n\n{}\n{after}", shown(row.sample));
        }
        let _ = write!(self.out, "\n{}", paragraphs(text));
        self.keys_of(&settings);
    }

    fn keys_of(&mut self, settings: &Value) {
        if let Some((title, map)) = self.map_of(settings) {
            self.head(title);
            self.rows(&map, "", &[]);
        }
    }

    /// The keys of a transform's map, or of the map that its short form stands for.
    fn map_of(&self, settings: &Value) -> Option<(&'static str, Value)> {
        if settings.get("properties").is_some() {
            return Some(("Keys:", settings.clone()));
        }
        let (title, choices) = match settings.get("additionalProperties") {
            Some(each) => {
                ("For more settings, write a map as the value of a field, with these keys:", self.resolve(each))
            }
            None => ("For more settings, write a map with these keys instead:", settings),
        };
        let maps = choices.get("anyOf").and_then(Value::as_array).into_iter().flatten();
        let map = maps.map(|choice| self.resolve(choice)).find(|choice| choice.get("properties").is_some());
        map.map(|map| (title, map.clone()))
    }
}

#[test]
fn the_page_of_the_verbs_is_current() {
    let mut reference = Reference::new();
    let steps = reference.definitions.get("Step").and_then(|step| step.get("oneOf")).and_then(Value::as_array).cloned();
    let steps = steps.expect("the schema has verbs");
    assert_eq!(steps.len(), Step::ROWS.len());
    for (row, schema) in Step::ROWS.iter().zip(&steps) {
        reference.verb(row, schema);
    }
    compare("docs/transforms.md", reference.out.trim_start());
}

#[test]
fn every_transforms_own_example_is_accepted() {
    for row in Step::ROWS {
        let text = format!(
            "inputs:\n  a: {{type: stdin, parse: json}}\noutputs:\n  b: {{type: console}}\npipelines:\n  main:\n    inputs: [a]\n    \
             outputs: [b]\n    transforms:\n{}",
            indented(&entry(row), 6)
        );
        assert_eq!(accepted(&text), Ok(()), "{text}");
    }
}
