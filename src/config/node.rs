//! The file as a tree of scalars, lists and maps, each with its position. Variables, aliases and merge keys are resolved.
//!
//! Guarantees: size and depth are bounded whatever the file contains; a key that appears twice is an error; a scalar remembers
//! whether its text came from a variable, so that no message repeats it. Does not know what keys mean.

use super::env::{Substituted, TEXT_BYTES_MAX, Variable, VariableError, WrongReference, substitute};
use super::problem::{Problem, Span};
use granit_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// The most levels of nested lists and maps.
pub const DEPTH_MAX: usize = 32;

/// The most scalars, lists and maps of one file, including those that aliases repeat.
pub const NODES_MAX: usize = 200_000;

/// A value and its position.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it is; for a list or map, where it begins.
    pub span: Span,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string, number, boolean or null.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// The text after escapes and variables are replaced.
    pub text: String,
    /// The text with the values of variables marked; `None` if there are none.
    pub marked: Option<String>,
    /// Written without quotes: may be a number, a boolean or null.
    pub plain: bool,
    /// Contains the value of a variable, which must not be shown.
    pub variables: bool,
    /// Holds a reference that could not be replaced, which is reported where it is.
    pub unresolved: bool,
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Where it is.
    pub span: Span,
}

impl Node {
    /// The entries, if this is a map.
    pub fn entries(&self) -> Option<&[(Key, Node)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entry of a key, if this is a map that has it.
    pub fn entry(&self, key: &str) -> Option<(&Key, &Node)> {
        self.entries()?.iter().find(|(k, _)| k.text == key).map(|(key, node)| (key, node))
    }

    /// What is at `path`, if all of it exists. Numbers index lists.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        let mut node = self;
        let mut path = path;
        while !path.is_empty() {
            let step = node.step(path)?;
            (node, path) = (step.node, &path[step.length..]);
        }
        Some(node)
    }

    /// The place of the value at `path`, or of the nearest key above it that is written. Numbers index lists.
    pub fn span_at(&self, path: &[&str]) -> Span {
        let (mut node, mut span, mut path) = (self, self.span, path);
        while let Some(step) = node.step(path).filter(|step| !step.node.span.is_assumed()) {
            span = match (step.key, &step.node.value) {
                (Some(key), Value::List(_) | Value::Map(_)) => key.span,
                _ => step.node.span,
            };
            (node, path) = (step.node, &path[step.length..]);
        }
        span
    }

    /// The position of a part of the text at `path`, or of all of it where it cannot be found.
    pub fn span_inside(&self, path: &[&str], place: &Range<usize>) -> Span {
        self.at(path).and_then(|node| node.inside(place)).unwrap_or_else(|| self.span_at(path))
    }

    /// The position of a part of a scalar's text: inside the quotes, if there are any. `None` if escapes, folded lines or variables
    /// make the source differ from the text.
    pub fn inside(&self, place: &Range<usize>) -> Option<Span> {
        let Value::Scalar(scalar) = &self.value else { return None };
        let quotes = usize::from(!scalar.plain);
        let is_same = !scalar.variables && self.span.end - self.span.start == scalar.text.len() + 2 * quotes;
        let start = self.span.start + quotes;
        is_same.then(|| Span { start: start + place.start, end: start + place.end.max(place.start) })
    }

    /// Puts another node in the place of an entry of a map in a map.
    pub fn replace(&mut self, [section, name]: &[&str; 2], with: Node) {
        let Value::Map(sections) = &mut self.value else { return };
        let Some((_, section)) = sections.iter_mut().find(|(key, _)| key.text == *section) else { return };
        let Value::Map(entries) = &mut section.value else { return };
        if let Some((_, node)) = entries.iter_mut().find(|(key, _)| key.text == *name) {
            *node = with;
        }
    }

    /// Whether what is at `path` is not written, but stands in for a key that is missing.
    pub fn is_assumed(&self, path: &[&str]) -> bool {
        let (mut node, mut path) = (self, path);
        while let Some(step) = node.step(path) {
            if step.node.span.is_assumed() {
                return true;
            }
            (node, path) = (step.node, &path[step.length..]);
        }
        false
    }

    /// The first step on a path, if there is such an entry or item. Names may contain dots, at which paths are divided: the longest
    /// name that exists is taken.
    pub fn step<'a>(&'a self, path: &[&str]) -> Option<Step<'a>> {
        match &self.value {
            Value::Map(_) => (1..=path.len()).rev().find_map(|length| {
                let (key, node) = self.entry(&path[..length].join("."))?;
                Some(Step { length, key: Some(key), node })
            }),
            Value::List(items) => {
                let node = items.get(path.first()?.parse::<usize>().ok()?)?;
                Some(Step { length: 1, key: None, node })
            }
            Value::Scalar(_) => None,
        }
    }

    /// The places of the scalars with a reference that could not be replaced.
    pub fn unresolved(&self, spans: &mut std::collections::HashSet<Span>) {
        match &self.value {
            Value::Scalar(scalar) if scalar.unresolved => drop(spans.insert(self.span)),
            Value::Scalar(_) => {}
            Value::List(items) => items.iter().for_each(|item| item.unresolved(spans)),
            Value::Map(entries) => entries.iter().for_each(|(_, node)| node.unresolved(spans)),
        }
    }
}

/// A step on a path.
pub struct Step<'a> {
    /// How many parts of the path it takes.
    pub length: usize,
    /// The key, if it leads into a map.
    pub key: Option<&'a Key>,
    /// Where it leads.
    pub node: &'a Node,
}

/// What kind of value a node is, in words.
pub fn kind_of(node: &Node) -> String {
    match &node.value {
        Value::Scalar(_) => "a single value",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
    .to_owned()
}

/// The contents of a file, as far as they can be read.
pub struct Parsed {
    /// The tree.
    pub root: Option<Node>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// The variables that were substituted.
    pub values: Vec<Variable>,
}

/// Parses the single document in `text`. Returns a tree in spite of problems if one can be built; `None` for an empty file.
pub fn parse(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> (Option<Node>, Vec<Problem>) {
    let Parsed { root, problems, .. } = parse_file(text, lookup);
    (root, problems)
}

/// The same, and the variables that were substituted.
pub fn parse_file(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Parsed {
    let mut builder = Builder {
        text,
        lookup,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        held: Size::default(),
        problems: Vec::new(),
        values: Vec::new(),
    };
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.event(event, place(&span)),
            Err(error) => Err(syntax(text, &error)),
        };
        if let Err(problem) = step {
            // Anything after a broken structure would be guesswork.
            builder.problems.push(problem);
            return Parsed { root: None, problems: builder.problems, values: builder.values };
        }
    }
    Parsed { root: builder.root, problems: builder.problems, values: builder.values }
}

fn place(span: &granit_parser::Span) -> Span {
    let range = span.byte_range().unwrap_or_default();
    Span { start: range.start, end: range.end }
}

fn syntax(text: &str, error: &ScanError) -> Problem {
    let at = error.marker().byte_offset().unwrap_or(0).min(text.len());
    let problem = Problem::error(Span { start: at, end: at }, "this is not valid YAML").label(error.info());
    let line_start = text[..text.floor_char_boundary(at)].rfind('\n').map_or(0, |newline| newline + 1);
    let indent = text[line_start..].find(|c: char| !c.is_whitespace() || c == '\n').unwrap_or(0);
    match text[line_start..line_start + indent].find('\t') {
        Some(tab) => {
            let start = line_start + tab;
            Problem { span: Some(Span { start, end: start + 1 }), ..problem }
                .label("this is a tab")
                .help("YAML is indented with spaces; replace the tab with spaces")
        }
        None if quoting(line(text, line_start)).is_some() => {
            problem.help(quoting(line(text, line_start)).unwrap_or_default())
        }
        None => problem.help("the usual cause is the indentation or a missing quote on this line or the line before"),
    }
}

/// What to quote in a line that is not valid YAML.
fn quoting(line: &str) -> Option<&'static str> {
    let value = line.rsplit([' ', '[', ',']).find(|word| !word.is_empty()).unwrap_or_default();
    let escape = |(_, behind): (&str, &str)| {
        behind.starts_with(['d', 's', 'w', 'S', 'D', 'W', '.', '[', '(', '{', '$', '+', '*'])
    };
    match () {
        () if line.contains("${") => Some("quote the string that contains ${...}: without quotes a brace starts a map"),
        () if line.contains("{{") => Some("quote the string that contains {{ }}: without quotes a brace starts a map"),
        () if line.contains('"') && line.match_indices('\\').any(|(at, _)| escape(line.split_at(at + 1))) => {
            Some("in double quotes a backslash starts an escape: use single quotes, such as '\\d+'")
        }
        () if value.starts_with(['*', '&', '!', '%', '@', '`']) || line.contains(": *") || line.contains("[*") => {
            Some("quote a string that begins with one of * & ! % @ `, such as \"*.log\"")
        }
        () => None,
    }
}

fn line(text: &str, start: usize) -> &str {
    text[start..].lines().next().unwrap_or_default()
}

/// A list or map that is still being read.
struct Open {
    node: Node,
    /// The key that waits for its value.
    key: Option<Key>,
    anchor: usize,
}

struct Builder<'a> {
    text: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Size)>,
    root: Option<Node>,
    /// What the tree and the copies for aliases hold.
    held: Size,
    problems: Vec<Problem>,
    values: Vec<Variable>,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag, span),
            Event::SequenceStart(_, anchor, tag) => self.start(Value::List(Vec::new()), anchor, tag, span),
            Event::MappingStart(_, anchor, tag) => self.start(Value::Map(Vec::new()), anchor, tag, span),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Problem::error(span, "a second document starts here")
                    .label("a configuration file contains one document")
                    .help("remove the line `---` or everything after it"))
            }
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        span: Span,
    ) -> Result<(), Problem> {
        if self.key_expected() && anchor == 0 && tag.is_none() {
            let key = Key { text: text.to_owned(), span };
            return self.key(key);
        }
        let forced_text = refuse_tag(tag, span)?;
        let plain = style == ScalarStyle::Plain && !forced_text;
        let scalar = match substitute(text, self.lookup) {
            Ok(None) => Scalar { text: text.to_owned(), marked: None, plain, variables: false, unresolved: false },
            Ok(Some(Substituted { text, marked, variables, values })) => {
                self.values.extend(values);
                Scalar { text, marked: Some(marked), plain, variables, unresolved: false }
            }
            Err(errors) => {
                for WrongReference { error, place } in errors {
                    let place = self.reference(text, plain, &place, span);
                    let unset = !matches!(error, VariableError::Malformed(_));
                    self.problems.push(Problem { unset, ..variable(error, place).independent() });
                }
                Scalar { text: text.to_owned(), marked: None, plain, variables: true, unresolved: true }
            }
        };
        let node = Node { span, value: Value::Scalar(scalar) };
        self.count(size(&node), span)?;
        self.keep(anchor, &node)?;
        self.place(node)
    }

    /// The place in the file of a part of a scalar's text; that of the scalar where escapes or folded lines hide it.
    fn reference(&self, text: &str, plain: bool, place: &Range<usize>, span: Span) -> Span {
        let quotes = usize::from(!plain);
        if span.end - span.start == text.len() + 2 * quotes {
            let start = span.start + quotes;
            return Span { start: start + place.start, end: start + place.end };
        }
        let reference = &text[place.clone()];
        let number = text[..place.start].matches(reference).count();
        let written =
            self.text.get(span.start..span.end).and_then(|source| source.match_indices(reference).nth(number));
        written.map_or(span, |(at, _)| Span { start: span.start + at, end: span.start + at + reference.len() })
    }

    fn start(&mut self, value: Value, anchor: usize, tag: Option<Cow<'_, Tag>>, span: Span) -> Result<(), Problem> {
        refuse_tag(tag, span)?;
        self.count(Size { nodes: 1, bytes: 0 }, span)?;
        if self.key_expected() {
            return Err(Problem::error(span, "a list or map cannot be a key").help("quote it if it is a string"));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(Problem::error(span, format!("nested deeper than {DEPTH_MAX} levels"))
                .label("no configuration needs this")
                .help("look for a bracket that is not closed"));
        }
        self.open.push(Open { node: Node { span, value }, key: None, anchor });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(Open { mut node, anchor, .. }) = self.open.pop() else { return Ok(()) };
        if let Value::Map(entries) = &mut node.value {
            merge(entries)?;
            if let Some((key, _)) = entries.first().filter(|(key, _)| key.span.start == node.span.start) {
                node.span = key.span;
            }
        }
        self.keep(anchor, &node)?;
        self.place(node)
    }

    /// Keeps a copy for aliases. Copies of lists in lists add up, so their text counts.
    fn keep(&mut self, anchor: usize, node: &Node) -> Result<(), Problem> {
        if anchor != 0 {
            let size = size(node);
            self.count(Size { nodes: 0, ..size }, node.span)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Problem> {
        let Some(size) = self.anchors.get(&anchor).map(|(_, size)| *size) else {
            return Err(Problem::error(span, "this alias repeats a value that contains it"));
        };
        if self.key_expected() {
            return Err(Problem::error(span, "an alias cannot be a key").help("write the key out"));
        }
        self.count(size, span)?;
        match self.anchors.get(&anchor).map(|(node, _)| node.clone()) {
            Some(node) => self.place(node),
            None => Ok(()),
        }
    }

    fn count(&mut self, more: Size, span: Span) -> Result<(), Problem> {
        self.held.add(more);
        if self.held.nodes > NODES_MAX {
            return Err(Problem::error(span, format!("more than {NODES_MAX} values"))
                .label("including those that aliases repeat"));
        }
        if self.held.bytes > TEXT_BYTES_MAX {
            return Err(Problem::error(span, format!("more than {TEXT_BYTES_MAX} bytes of text"))
                .label("including what aliases repeat and variables insert")
                .help("repeat less with aliases, or move long texts to a file such as a table of `enrich`"));
        }
        Ok(())
    }

    fn key_expected(&self) -> bool {
        matches!(self.open.last(), Some(Open { node: Node { value: Value::Map(_), .. }, key: None, .. }))
    }

    fn key(&mut self, key: Key) -> Result<(), Problem> {
        self.count(Size { nodes: 1, bytes: key.text.len() }, key.span)?;
        // A field may be copied to several others.
        let outer = self.open.len().checked_sub(2).and_then(|outer| self.open[outer].key.as_ref());
        let within = outer.map(|key| key.text.clone()).filter(|key| key == "copy");
        let open = self.open.last_mut().expect("a key is read only inside a map");
        if let Some((first, _)) = open.node.entry(&key.text).filter(|_| key.text != "<<") {
            let line = self.text[..first.span.start].matches('\n').count() + 1;
            self.problems.push(
                Problem::error(key.span, format!("the key `{}` appears twice", key.text)).label("the second one").help(
                    match within {
                        Some(verb) => format!("write a second `- {verb}:` for it; the first is on line {line}"),
                        None => format!("remove one of them; the first is on line {line}"),
                    },
                ),
            );
        }
        open.key = Some(key);
        Ok(())
    }

    fn place(&mut self, node: Node) -> Result<(), Problem> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { node: Node { value: Value::List(items), .. }, .. }) => items.push(node),
            Some(Open { node: Node { value: Value::Map(entries), .. }, key, .. }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => return Err(Problem::error(node.span, "a tag or anchor on a key").help("remove it")),
            },
            Some(Open { node: Node { value: Value::Scalar(_), .. }, .. }) => {}
        }
        Ok(())
    }
}

/// Returns whether the tag makes a scalar a string, and rejects tags without a meaning here.
fn refuse_tag(tag: Option<Cow<'_, Tag>>, span: Span) -> Result<bool, Problem> {
    match tag.as_deref() {
        None => Ok(false),
        Some(tag) => match tag.core_suffix() {
            Some("str") => Ok(true),
            Some("map" | "seq") => Ok(false),
            _ => Err(Problem::error(span, "unknown tag")
                .label(format!("tagged `{}{}`", tag.original_handle(), tag.suffix()))
                .help("remove the tag (the word that begins with `!`)")),
        },
    }
}

/// How a command that is typed gets what a service has from a file.
const OF_A_SERVICE: &str = "for the values of a service, see \"Secrets\" in docs/service.md";

fn variable(error: VariableError, span: Span) -> Problem {
    match error {
        VariableError::Unset(name) => Problem::error(span, format!("the variable `{name}` is not set"))
            .label("required here")
            .help(format!("set it in the environment, or add a default: ${{{name}:-default}}; {OF_A_SERVICE}")),
        VariableError::Required { name, message } => {
            let what = match message.is_empty() {
                true => format!("the variable `{name}` is not set or empty"),
                false => format!("the variable `{name}` is not set or empty: {message}"),
            };
            let help = format!("set it in the environment of the process; {OF_A_SERVICE}");
            Problem::error(span, what).label("required here").help(help)
        }
        VariableError::Malformed(text) => {
            Problem::error(span, format!("`{text}` is not a valid reference to a variable"))
                .label("invalid reference")
                .help("the forms are ${NAME}, ${NAME:-default} and ${NAME:?message}; write $${ for a literal ${")
        }
    }
}

/// Merges the maps that `<<` names: keys of the map itself win, then those of the earlier map.
fn merge(entries: &mut Vec<(Key, Node)>) -> Result<(), Problem> {
    while let Some(at) = entries.iter().position(|(key, _)| key.text == "<<") {
        let (_, node) = entries.remove(at);
        let sources = match node.value {
            Value::List(items) => items,
            value => vec![Node { span: node.span, value }],
        };
        for source in sources {
            let Value::Map(merged) = source.value else {
                return Err(Problem::error(source.span, "`<<` needs a map or a list of maps")
                    .help("name an anchored map: `<<: *name`"));
            };
            for (key, node) in merged {
                if !entries.iter().any(|(existing, _)| existing.text == key.text) {
                    entries.push((key, node));
                }
            }
        }
    }
    Ok(())
}

/// How much a node holds.
#[derive(Clone, Copy, Default)]
struct Size {
    /// Scalars, lists, maps and keys.
    nodes: usize,
    /// Their text.
    bytes: usize,
}

impl Size {
    fn add(&mut self, more: Size) {
        self.nodes += more.nodes;
        self.bytes += more.bytes;
    }
}

fn size(node: &Node) -> Size {
    let mut all = Size { nodes: 1, bytes: 0 };
    match &node.value {
        Value::Scalar(scalar) => all.bytes = scalar.text.len() + scalar.marked.as_ref().map_or(0, String::len),
        Value::List(items) => items.iter().for_each(|item| all.add(size(item))),
        Value::Map(entries) => {
            for (key, node) in entries {
                all.add(Size { nodes: 1, bytes: key.text.len() });
                all.add(size(node));
            }
        }
    }
    all
}
