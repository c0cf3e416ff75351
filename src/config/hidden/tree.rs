//! What is hidden of a file that is valid YAML: by the path of each value.
//!
//! Guarantees: the value of a secret key is hidden with everything that could belong to it: quotes, an anchor or tag before it, a comment
//! behind it, and after a comma without quotes what YAML takes for further keys. An anchored value is hidden where it is written if any
//! use of it is secret. A value with no place in the schema is judged by the names above it. Linear in the size of the tree.

use super::super::node::{Key, Node, Scalar, Value};
use super::super::problem::Span;
use super::Hidden;
use super::lines::comments;
use super::marks::{Child, Forms, MARKS};
use crate::codec::secret::{has_credential, hidden_of_url, is_reference, users_in};

/// What is known of a value.
#[derive(Clone)]
enum Known<'a> {
    /// No part of it is shown.
    Secret,
    /// It has one of these forms.
    Forms(Forms<'a>),
    /// It is the user's own, and not secret.
    Open,
    /// The schema has no place for it.
    Nothing,
}

/// Where a value is.
#[derive(Clone, Copy)]
struct Place {
    /// Where its source begins.
    start: usize,
    /// Whether it is inside brackets or braces, so that other values follow on its line.
    flow: bool,
}

/// What is hidden of `text`, whose tree is `root`.
pub fn hidden(text: &str, root: &Node) -> Hidden {
    let mut walk = Walk { text, hidden: Hidden::default() };
    walk.node(root, &Known::Forms(MARKS.root()), Place { start: root.span.start, flow: false });
    comments(text, &mut walk.hidden);
    walk.hidden
}

struct Walk<'a> {
    text: &'a str,
    hidden: Hidden,
}

impl<'t> Walk<'t> {
    fn node(&mut self, node: &Node, known: &Known<'_>, place: Place) {
        let opens = self.text.get(node.span.start..).is_some_and(|rest| rest.starts_with(['{', '[']));
        let flow = place.flow || opens && !matches!(node.value, Value::Scalar(_));
        match &node.value {
            Value::Scalar(scalar) => self.scalar(node.span, scalar, known, place),
            Value::List(items) => {
                let known = match known {
                    Known::Forms(forms) if forms.is_secret() => Known::Secret,
                    // A list in the place of one URL is a list of URLs.
                    Known::Forms(forms) if forms.is_url() => known.clone(),
                    Known::Forms(forms) if MARKS.holds_secrets(forms) => Known::Secret,
                    Known::Forms(forms) => of_forms(MARKS.items(forms)),
                    other => other.clone(),
                };
                for item in items {
                    self.node(item, &known, Place { start: item.span.start, flow });
                }
            }
            Value::Map(entries) => self.map(entries, known, flow),
        }
    }

    fn map(&mut self, entries: &[(Key, Node)], known: &Known<'_>, flow: bool) {
        let holds_secrets = matches!(known, Known::Forms(forms) if MARKS.holds_secrets(forms));
        let is_secret = matches!(known, Known::Forms(forms) if forms.is_secret() || forms.is_url());
        let mut follows = false;
        for (key, node) in entries {
            let child = match known {
                Known::Secret => Known::Secret,
                _ if is_secret => Known::Secret,
                Known::Open => Known::Open,
                // A colon alone begins the value of nothing.
                Known::Nothing | Known::Forms(_) if matches!(key.text.as_str(), "" | "~") => Known::Secret,
                Known::Nothing => by_name(&key.text),
                Known::Forms(forms) => match MARKS.child(forms, &key.text) {
                    Child::Known(forms) => of_forms(forms),
                    Child::Open => Known::Open,
                    Child::Unknown if holds_secrets => Known::Secret,
                    Child::Unknown => by_name(&key.text),
                },
            };
            let is_nothing = is_nothing(node);
            let is_unknown = matches!(child, Known::Secret | Known::Nothing);
            // Behind a comma without quotes, the rest of a value looks like a key, usually one without a value.
            let is_close = self.text.get(..key.span.start).is_some_and(|before| before.ends_with(','));
            let is_rest = flow && follows && (is_nothing || is_unknown && is_close);
            // What has no value may be one that lacks its colon.
            let lacks = is_nothing && is_hidden(&child) && !MARKS.is_known(&key.text);
            // A name has no colon: somebody wrote the value into the key.
            let has_value = is_hidden(&child) && !MARKS.is_known(&key.text) && key.text.contains(':');
            if is_rest || lacks || has_value || is_secret || matches!(known, Known::Secret) {
                self.hidden.push(key.span.start, key.span.end);
                self.hidden.values.push(key.text.clone());
            }
            let child = if is_rest { Known::Secret } else { child };
            let start = self.value_start(key, node);
            self.node(node, &child, Place { start, flow });
            follows = flow
                && match &child {
                    Known::Secret => is_rest || MARKS.is_secret_name(&key.text),
                    Known::Forms(forms) => forms.is_secret() || forms.is_url(),
                    Known::Open | Known::Nothing => false,
                };
        }
    }

    /// Where the value of a key begins, with its anchor and tag; an alias stands for a value that is written elsewhere.
    fn value_start(&self, key: &Key, node: &Node) -> usize {
        let is_alias = node.span.start < key.span.end;
        let end = match is_nothing(node) {
            // What stands there is an anchor, a tag or a comment.
            true => line_end(self.text, key.span.end).max(node.span.end),
            false => node.span.start,
        };
        let Some(between) = self.text.get(key.span.end..end).filter(|_| !is_alias) else { return node.span.start };
        let Some(colon) = between.find(':') else { return node.span.start };
        let behind = &between[colon + 1..];
        key.span.end + colon + 1 + (behind.len() - behind.trim_start().len())
    }

    fn scalar(&mut self, span: Span, scalar: &Scalar, known: &Known<'_>, place: Place) {
        let is_secret = match known {
            Known::Secret => true,
            Known::Forms(forms) if forms.is_url() => return self.url(span, scalar, place),
            // In the place of a map with a secret key, somebody wrote the secret itself.
            Known::Forms(forms) => forms.is_secret() || MARKS.holds_secrets(forms),
            Known::Open | Known::Nothing => false,
        };
        match is_secret {
            true => self.secret(span, scalar, place),
            false => self.users(span),
        }
    }

    fn secret(&mut self, span: Span, scalar: &Scalar, place: Place) {
        self.hidden.values.push(scalar.text.clone());
        let source = self.source(span);
        if is_reference_only(source) {
            return;
        }
        // A default of a variable may stand for none.
        if !scalar.variables && !source.trim().is_empty() {
            self.hidden.literals.push(span);
        }
        // A block scalar ends where the next key begins, and nothing may be on a later line.
        let end = span.start + source.trim_end().len();
        let end = match place.flow {
            true => comment_end(self.text, end),
            false if source.trim().is_empty() => line_end(self.text, place.start),
            false => line_end(self.text, end),
        };
        let end = if place.flow { end } else { comments_end(self.text, end) };
        self.hidden.push(place.start.min(end), end);
    }

    fn url(&mut self, span: Span, scalar: &Scalar, place: Place) {
        let source = self.source(span);
        if !scalar.variables && (source.contains('@') || has_credential(&scalar.text)) {
            self.hidden.literals.push(span);
        }
        let quote = if source.starts_with(['"', '\'']) { 1 } else { 0 };
        let is_empty = source.trim().is_empty();
        let is_simple = !is_empty && scalar.plain && !source.contains('\n') || quote == 1 && source.len() >= 2;
        if !is_simple {
            return self.secret(span, scalar, place);
        }
        if is_reference_only(source) {
            return self.hidden.values.push(scalar.text.clone());
        }
        let parts = hidden_of_url(&source[quote..source.len() - quote]);
        let start = span.start + quote;
        parts.iter().for_each(|part| self.hidden.push(start + part.start, start + part.end));
        let values = hidden_of_url(&scalar.text).into_iter().map(|part| scalar.text[part].to_owned());
        self.hidden.values.extend(values);
        if !parts.is_empty() {
            self.hidden.push(span.end, comment_end(self.text, span.end));
        }
    }

    /// Hides users and passwords of URLs in any other value.
    fn users(&mut self, span: Span) {
        let source = self.source(span);
        users_in(source).into_iter().for_each(|part| self.hidden.push(span.start + part.start, span.start + part.end));
    }

    fn source(&self, span: Span) -> &'t str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }
}

fn is_hidden(known: &Known<'_>) -> bool {
    match known {
        Known::Secret => true,
        Known::Forms(forms) => forms.is_secret(),
        Known::Open | Known::Nothing => false,
    }
}

/// Whether no value is written.
fn is_nothing(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar(scalar) if scalar.plain && matches!(scalar.text.as_str(), "" | "~"))
}

fn of_forms(forms: Forms<'_>) -> Known<'_> {
    if forms.is_open() { Known::Open } else { Known::Forms(forms) }
}

fn by_name(name: &str) -> Known<'static> {
    if MARKS.is_secret_name(name) { Known::Secret } else { Known::Nothing }
}

/// The end of the comments on the lines behind a value, which may be the rest of it.
fn comments_end(text: &str, mut end: usize) -> usize {
    while text.get(end + 1..).is_some_and(|rest| rest.trim_start_matches([' ', '\t']).starts_with('#')) {
        end = line_end(text, end + 1);
    }
    end
}

/// The end of a comment that begins behind a value, which may be what follows a # without quotes.
fn comment_end(text: &str, at: usize) -> usize {
    let is_comment = text.get(at..).is_some_and(|rest| rest.trim_start_matches([' ', '\t']).starts_with('#'));
    if is_comment { line_end(text, at) } else { at }
}

fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |length| at + length)
}

/// Whether a source is a reference to a variable and nothing else; a default may be a secret, a message is none.
pub fn is_reference_only(source: &str) -> bool {
    let source = source.trim().trim_matches(['"', '\'']).trim();
    let bare = source.split_once(":?").filter(|(_, message)| message.find('}') == message.len().checked_sub(1));
    match (bare, source.strip_suffix(":-}")) {
        (Some((name, _)), _) | (None, Some(name)) => is_reference(&format!("{name}}}")),
        (None, None) => is_reference(source),
    }
}
