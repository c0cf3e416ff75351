//! The reference parts of `docs/configuration.md`, `docs/transforms.md`, `docs/metrics.md` and `docs/answers.md` are generated from the
//! schema, the descriptions of components and transforms, and the tables of metrics and of answers. `TAILWATER_BLESS=1 cargo test --test
//! reference` generates them again.

#[path = "reference/metrics.rs"]
mod metrics;
#[path = "reference/verbs.rs"]
mod verbs;

use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::path::Path;
use std::slice;
use tailwater::config::component::{Row, Table};
use tailwater::config::{self, Circumstances};
use tailwater::inputs::InputConfig;
use tailwater::outputs::OutputConfig;
use tailwater::outputs::requests::meaning;
use tailwater_shards::glommio_env::GlommioEnv;

const BEGIN: &str = "<!-- reference: made by tests/reference.rs, do not edit by hand -->\n";
const END: &str = "<!-- end of reference -->\n";

struct Reference {
    definitions: Map<String, Value>,
    out: String,
}

impl Reference {
    fn new() -> Reference {
        let schema = schema();
        let definitions = schema.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
        Reference { definitions, out: String::new() }
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let schema = without_null(schema);
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
        name.and_then(|name| self.definitions.get(name)).unwrap_or(schema)
    }

    /// The accepted values, in a few words.
    fn values(&self, schema: &Value) -> String {
        let all = |list: &Value| -> Vec<String> {
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            let mut texts: Vec<String> = Vec::new();
            for text in list.iter().map(|one| self.values(one)) {
                // Several kinds of map are one word.
                if text != "null" && !texts.contains(&text) {
                    texts.push(text);
                }
            }
            texts
        };
        let schema = without_null(schema);
        let named = schema.get("$ref").and_then(Value::as_str).unwrap_or_default();
        match named {
            "#/$defs/ByteSize" => return "size".to_owned(),
            "#/$defs/Period" | "#/$defs/DrainTimeout" => return "duration".to_owned(),
            "#/$defs/Step" => return "[transform](transforms.md)".to_owned(),
            "#/$defs/Path" => return "field".to_owned(),
            "#/$defs/Pattern" => return "regular expression".to_owned(),
            "#/$defs/Condition" => return "[condition](expressions.md)".to_owned(),
            "#/$defs/Line" => return "line or map".to_owned(),
            "#/$defs/Expectation" => return "map".to_owned(),
            "#/$defs/Moment" => return "time".to_owned(),
            "#/$defs/Timezone" => return "[zone](times.md)".to_owned(),
            "#/$defs/Sync" => return "`every_batch`, `never` or duration".to_owned(),
            _ => {}
        }
        let schema = self.resolve(schema);
        if let Some(value) = schema.get("const") {
            return format!("`{}`", value.to_string().trim_matches('"'));
        }
        if let Some(list) = schema.get("enum") {
            let words = list.as_array().map(Vec::as_slice).unwrap_or_default();
            return words
                .iter()
                .filter_map(|word| word.as_str().map(|word| format!("`{word}`")))
                .collect::<Vec<_>>()
                .join(", ");
        }
        if let Some(list) = schema.get("oneOf").or_else(|| schema.get("anyOf")) {
            return all(list).join(", ");
        }
        match schema.get("type") {
            // A single string is accepted instead of a list: said once, above the tables.
            Some(Value::Array(kinds)) if kinds.iter().any(|kind| kind == "array") => self.word("array", schema),
            Some(Value::Array(kinds)) => {
                let kinds = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
                kinds.map(|kind| self.word(kind, schema)).collect::<Vec<_>>().join(", ")
            }
            Some(Value::String(kind)) => self.word(kind, schema),
            _ => "any".to_owned(),
        }
    }

    fn word(&self, kind: &str, schema: &Value) -> String {
        match kind {
            "array" => {
                format!("list of {}", schema.get("items").map_or("values".to_owned(), |items| self.values(items)))
            }
            kind => word(kind).to_owned(),
        }
    }

    fn rows(&mut self, schema: &Value, prefix: &str, leave_out: &[&str]) {
        let schema = self.resolve(schema).clone();
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if leave_out.contains(&key.as_str()) {
                continue;
            }
            let target = self.resolve(value).clone();
            let text = value.get("description").or_else(|| target.get("description")).and_then(Value::as_str);
            let text = text.unwrap_or_default().replace('\n', " ").replace('|', "\\|");
            let text = text + &choices(&target).replace('|', "\\|");
            let must = if required.contains(&key.as_str()) { " **Required.**" } else { "" };
            let values = self.values(value).replace('|', "\\|");
            let inner = self.only_map(&target);
            let default = value
                .get("default")
                .filter(|default| target.get("properties").is_none() && !default.is_null())
                .map_or(String::new(), shown);
            let _ = writeln!(self.out, "| `{prefix}{key}` | {values} | {default} | {text}{must} |");
            if let Some(inner) = inner {
                self.rows(&inner, &format!("{prefix}{key}."), &[]);
            }
        }
    }

    /// The schema of the keys that a value may have: it is a map, or one of its choices is.
    fn only_map(&self, schema: &Value) -> Option<Value> {
        let choices = schema.get("anyOf").and_then(Value::as_array).map_or(slice::from_ref(schema), Vec::as_slice);
        let mut maps = choices.iter().map(|choice| self.resolve(choice)).filter(|map| map.get("properties").is_some());
        maps.next().filter(|_| maps.next().is_none()).cloned()
    }

    fn head(&mut self, title: &str) {
        let _ = write!(self.out, "\n{title}\n\n| key | values | default | meaning |\n|---|---|---|---|\n");
    }

    fn components(&mut self, kind: &str, rows: &[Row]) {
        let types = self.definitions.get(kind).and_then(|kind| kind.get("oneOf")).and_then(Value::as_array).cloned();
        for (row, schema) in rows.iter().zip(types.unwrap_or_default()) {
            let mut summary = row.summary.trim_end_matches('.').to_owned();
            summary[..1].make_ascii_uppercase();
            let example = row.example.trim_end();
            self.head(&format!("### {kind} `{}`\n\n{summary}.\n\n```yaml\n{example}\n```", row.name));
            self.rows(&schema, "", &["type"]);
        }
    }
}

/// The schema of an optional key is a choice between its type and null.
fn without_null(schema: &Value) -> &Value {
    let choices = schema.get("anyOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match choices {
        [inner, null] if null.get("type").and_then(Value::as_str) == Some("null") => inner,
        _ => schema,
    }
}

/// The meaning of each word of a choice.
fn choices(schema: &Value) -> String {
    let list = schema.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let meaning = |choice: &Value| {
        let word = choice.get("const").and_then(Value::as_str)?.to_owned();
        let text = choice.get("description").and_then(Value::as_str)?.replace('\n', " ");
        // Abbreviations such as UTF-16 stay uppercase.
        let is_short = text.chars().nth(1).is_some_and(char::is_uppercase);
        let begin = if is_short { text[..1].to_owned() } else { text[..1].to_lowercase() };
        Some(format!(" `{word}`: {begin}{}", &text[1..]))
    };
    list.iter().filter_map(meaning).collect()
}

/// A default as written in a file.
fn shown(default: &Value) -> String {
    match default {
        Value::String(text) => format!("`{text}`"),
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}: {}", value.to_string().trim_matches('"'))).collect();
            format!("`{{{}}}`", entries.join(", "))
        }
        other => format!("`{other}`"),
    }
}

fn word(kind: &str) -> &str {
    match kind {
        "integer" => "number",
        "boolean" => "`true`, `false`",
        "object" => "map",
        other => other,
    }
}

/// The schema without the variables that may replace a value: the page explains them once, at the top.
fn schema() -> Value {
    config::schema_of_values().to_value()
}

fn reference() -> String {
    let schema = schema();
    let mut reference = Reference::new();
    reference.head("### Top level");
    reference.rows(&schema, "", &["inputs", "outputs", "pipelines", "tests"]);
    reference.head("### Under each name of `pipelines`");
    let pipeline = reference.definitions.get("Pipeline").cloned().expect("the schema has pipelines");
    reference.rows(&pipeline, "", &[]);
    for (title, name) in
        [("### Under each name of `tests`", "Trial"), ("### For each event, in `expect`", "Expectation")]
    {
        reference.head(title);
        let schema = reference.definitions.get(name).cloned().expect("the schema has tests");
        reference.rows(&schema, "", &[]);
    }
    reference.components("input", InputConfig::ROWS);
    reference.components("output", OutputConfig::ROWS);
    reference.out.trim_start().to_owned()
}

/// Compares the part of a page between the marks with the generated text, or writes it there.
fn compare(page: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&path).expect("the page exists");
    let begin = text.find(BEGIN).expect("the mark where the reference begins") + BEGIN.len();
    let end = text.find(END).expect("the mark where the reference ends");
    let made = format!("\n{made}\n");
    if std::env::var_os("TAILWATER_BLESS").is_some() {
        std::fs::write(&path, format!("{}{made}{}", &text[..begin], &text[end..])).expect("the docs can be written");
        return;
    }
    assert_eq!(&text[begin..end], made, "run TAILWATER_BLESS=1 cargo test --test reference and read the difference");
}

/// An example under a key of a file.
fn indented(example: &str, columns: usize) -> String {
    example.lines().map(|line| format!("{:columns$}{line}\n", "")).collect()
}

#[test]
fn the_reference_in_the_docs_is_current() {
    compare("docs/configuration.md", &reference());
}

#[test]
fn the_reference_keeps_the_capitals_of_names_and_says_no_word_twice() {
    let reference = reference();
    let torn = reference.split_whitespace().find(|word| {
        let mut letters = word.chars();
        letters.next().is_some_and(char::is_lowercase) && letters.next().is_some_and(char::is_uppercase)
    });
    assert_eq!(torn, None);
    assert!(!reference.contains("map, map"));
}

/// What the examples write to has to be where the unit, with the drop-in of the page about it, lets the service write.
#[test]
fn the_service_may_write_wherever_an_example_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("a file of the repository");
    let (unit, page) = (read("deploy/systemd/tailwater.service"), read("docs/service.md"));
    assert!(unit.contains("ProtectSystem=strict") && unit.contains("\nStateDirectory=tailwater\n"), "{unit}");
    assert!(unit.contains("\nLogsDirectory=tailwater\n"), "{unit}");
    let mut writable = vec!["/var/lib/tailwater", "/var/log/tailwater"];
    writable.extend(page.split("ReadWritePaths=").skip(1).filter_map(|rest| rest.split(['\\', ' ', '\n']).next()));
    for entry in std::fs::read_dir(root.join("deploy/examples")).expect("examples") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("an example");
        // Events of the tests have paths too.
        let outputs =
            text.rsplit("\noutputs:\n").next().and_then(|rest| rest.split("\ntests:").next()).unwrap_or_default();
        let targets = |text: &str, key: &str| -> Vec<String> {
            text.split(key).skip(1).filter_map(|rest| rest.split([' ', '\n', ',']).next()).map(str::to_owned).collect()
        };
        for target in targets(outputs, "path: ").into_iter().chain(targets(&text, "data_dir: ")) {
            let target = target.trim_start_matches('"');
            assert!(writable.iter().any(|directory| target.starts_with(directory)), "{}: {target}", path.display());
        }
    }
    for command in ["useradd ", "systemctl enable --now tailwater", "install -d -o tailwater"] {
        assert!(page.contains(command), "{command}");
    }
    // What is run as this user has the rights of the service.
    let unit = std::fs::read_to_string(root.join("deploy/systemd/tailwater.service")).expect("the unit");
    let groups = unit.lines().find_map(|line| line.strip_prefix("SupplementaryGroups=")).expect("it has groups");
    let own = format!("useradd --system --user-group --groups {} ", groups.replace(' ', ","));
    let checked = std::fs::read_to_string(root.join("tests/e2e/service/check.sh")).expect("the script");
    assert!(page.contains(&own) && checked.contains(&own), "{own}");
}

#[test]
fn the_table_of_answers_in_the_docs_is_current() {
    let mut table = "| status | the events are | check | source |\n|---|---|---|---|\n".to_owned();
    for row in &meaning::TABLE {
        let condition = row.condition().replace('|', "\\|");
        let _ = writeln!(table, "| {condition} | {} | {} | {} |", row.meaning.described(), row.check, row.source);
    }
    compare("docs/answers.md", &table);
}

/// The values of the variables in examples.
fn variable(name: &str) -> String {
    if name.ends_with("_KEY") { "a key that is only an example".to_owned() } else { "x".to_owned() }
}

fn accepted(text: &str) -> Result<(), String> {
    let here = Circumstances { data_dir: None, cpus: 2 };
    let lookup = |name: &str| Some(variable(name));
    let result = config::load::<GlommioEnv>("example.yaml", text.as_bytes().to_vec(), &lookup, &here);
    result.map(|_| ()).map_err(|refused| refused.to_string())
}

#[test]
fn every_example_of_the_docs_is_accepted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |page: &str| std::fs::read_to_string(root.join(page)).expect("the page exists");
    let text = [
        "README.md",
        "docs/answers.md",
        "docs/configuration.md",
        "docs/elasticsearch.md",
        "docs/transforms.md",
        "docs/trying.md",
        "docs/pipelines.md",
        "docs/times.md",
    ]
    .map(read)
    .concat();
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let whole: Vec<&str> = blocks.filter(|block| block.contains("pipelines:")).collect();
    assert!(!whole.is_empty(), "no whole configuration in the docs");
    for block in whole {
        assert_eq!(accepted(block), Ok(()), "{block}");
    }
}

#[test]
fn every_components_own_example_is_accepted() {
    let indent = |example: &str| indented(example, 4);
    let input = indent(InputConfig::ROWS[0].example);
    let output = indent(OutputConfig::ROWS[0].example);
    let check = |input: &str, output: &str| {
        let text = format!(
            "inputs:\n  a:\n{input}outputs:\n  b:\n{output}pipelines:\n  main: {{inputs: [a], outputs: [b]}}\n"
        );
        assert_eq!(accepted(&text), Ok(()), "{text}");
    };
    for row in InputConfig::ROWS {
        check(&indent(row.example), &output);
    }
    for row in OutputConfig::ROWS {
        check(&input, &indent(row.example));
    }
}
