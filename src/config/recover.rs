//! Continues to read after a mistake, so that one run reports all of them.
//!
//! Guarantees: a wrong word is replaced with the one that is probably meant, any other wrong value is removed, and a stand-in
//! is put in the place of a missing key; then the rest is read again, until nothing is wrong or what is wrong follows from
//! these changes. Each mistake is reported once. A value that was read with stand-ins is for further checks only. Bounded:
//! [`FAULTS_MAX`] mistakes of one component, [`ROUNDS_MAX`] times of reading.

use super::component::{Mistake, Table};
use super::de::{Fault, FaultKind};
use super::migrating::advice;
use super::nearest::{meant, nearest};
use super::node::{Key, Node, Scalar, Value};
use super::problem::Span;

/// The most mistakes that are reported per component: more would not help anyone.
const FAULTS_MAX: usize = 20;

/// How often a component is read: beside its mistakes, what is assumed may take several attempts.
const ROUNDS_MAX: usize = 200;

/// What could be read.
pub struct Recovered<T> {
    /// The value, without what was struck out and with what was assumed.
    pub value: Option<T>,
    /// All mistakes.
    pub faults: Vec<Fault>,
    /// The node that was read in the end.
    pub node: Node,
    /// Places at which the value is not what is written or meant.
    unsure: Vec<Vec<Place>>,
}

/// A step on the way to a value: items of lists keep their place in the file when others are struck out before them.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    Key(String),
    Item(Span),
}

impl<T> Recovered<T> {
    /// Whether what is wrong with the value at `path` may follow from what was struck out or assumed: there, or in the values that it
    /// `needs` beside. Without these, it needs all that is below its path.
    pub fn follows(&self, path: &[&str], needs: &[Vec<&str>]) -> bool {
        let own = places(&self.node, path);
        let needs: Vec<Vec<Place>> = needs.iter().map(|need| places(&self.node, need)).collect();
        self.unsure.iter().any(|unsure| {
            own.starts_with(unsure)
                || needs.is_empty() && unsure.starts_with(&own)
                || needs.iter().any(|need| need.starts_with(unsure) || unsure.starts_with(need))
        })
    }
}

impl<T> Recovered<T> {
    /// Whether a mistake may follow from what was struck out or assumed. Its keys are below those `above`.
    pub fn explains(&self, mistake: &Mistake, above: &[&str]) -> bool {
        self.follows(&mistake.path(above), &mistake.needs(above))
    }
}

/// The steps of a path, whether they exist or not.
fn places(node: &Node, path: &[&str]) -> Vec<Place> {
    let (mut node, mut path, mut places) = (node, path, Vec::new());
    while let Some(step) = node.step(path) {
        places.push(match step.key {
            Some(key) => Place::Key(key.text.clone()),
            None => Place::Item(step.node.span),
        });
        (node, path) = (step.node, &path[step.length..]);
    }
    // A single text is the only item of its list.
    if !matches!(node.value, Value::Scalar(_)) {
        places.extend(path.iter().map(|&key| Place::Key(key.to_owned())));
    }
    places
}

/// Reads `node` with `read`, and after each mistake again without the part that is wrong.
pub fn recover<T>(node: &Node, mut read: impl FnMut(&Node) -> Result<T, Fault>) -> Recovered<T> {
    let mut reading = Reading { node: node.clone(), ..Reading::default() };
    reading.note_unresolved(node, &mut Vec::new());
    let mut value = None;
    for _ in 0..ROUNDS_MAX {
        match read(&reading.node) {
            Ok(read) => {
                value = Some(read);
                break;
            }
            Err(fault) => {
                if !reading.goes_on(fault) || reading.faults.len() >= FAULTS_MAX {
                    break;
                }
            }
        }
    }
    Recovered { value, faults: reading.faults, node: reading.node, unsure: reading.unsure }
}

/// What is wrong with a component whichever type it is meant to have.
pub fn faults_of_any_type<T: Table>(node: &Node) -> Vec<Fault> {
    let Value::Map(entries) = &node.value else { return Vec::new() };
    let readings = T::NAMES.iter().map(|name| {
        let mut entries: Vec<_> = entries.iter().filter(|(key, _)| key.text != "type").cloned().collect();
        let value = Scalar { text: (*name).to_owned(), marked: None, plain: true, variables: false, unresolved: false };
        let kind = Key { text: "type".to_owned(), span: node.span };
        entries.push((kind, Node { span: node.span, value: Value::Scalar(value) }));
        recover(&Node { span: node.span, value: Value::Map(entries) }, T::read).faults
    });
    common(readings.collect())
}

/// The faults, but for missing keys, that all of several readings of the same node have.
fn common(readings: Vec<Vec<Fault>>) -> Vec<Fault> {
    let mut readings = readings.into_iter();
    let Some(mut common) = readings.next() else { return Vec::new() };
    common.retain(|fault| !matches!(fault.kind, FaultKind::Missing(_)));
    for others in readings {
        common.retain(|fault| {
            others.iter().any(|other| other.span == fault.span && other.to_string() == fault.to_string())
        });
    }
    for fault in &mut common {
        // Which keys there are depends on the reading.
        if let FaultKind::Key { name, .. } = &fault.kind {
            fault.kind = FaultKind::Custom(format!("unknown key `{name}`"));
        }
    }
    common
}

/// What stands in for a missing value, tried one after the other until one fits.
fn assumptions() -> [Value; 6] {
    let scalar = |text: &str, plain| {
        Value::Scalar(Scalar { text: text.to_owned(), marked: None, plain, variables: false, unresolved: false })
    };
    [
        Value::List(Vec::new()),
        Value::Map(Vec::new()),
        scalar("1", true),
        scalar("1s", true),
        scalar("true", true),
        scalar("x", false),
    ]
}

struct Reading {
    node: Node,
    faults: Vec<Fault>,
    unsure: Vec<Vec<Place>>,
    /// Lists and maps out of which something was struck.
    touched: Vec<Span>,
    /// Of each assumed value, how many of [`assumptions`] were tried.
    tried: Vec<usize>,
}

impl Default for Reading {
    fn default() -> Reading {
        let node = Node { span: Span::default(), value: Value::List(Vec::new()) };
        Reading { node, faults: Vec::new(), unsure: Vec::new(), touched: Vec::new(), tried: Vec::new() }
    }
}

impl Reading {
    /// What has an unset variable in it is reported where that is.
    fn note_unresolved(&mut self, node: &Node, path: &mut Vec<Place>) {
        match &node.value {
            Value::Scalar(scalar) if scalar.unresolved => self.unsure.push(path.clone()),
            Value::Scalar(_) => {}
            Value::List(items) => {
                for item in items {
                    path.push(Place::Item(item.span));
                    self.note_unresolved(item, path);
                    path.pop();
                }
            }
            Value::Map(entries) => {
                for (key, value) in entries {
                    path.push(Place::Key(key.text.clone()));
                    self.note_unresolved(value, path);
                    path.pop();
                }
            }
        }
    }

    /// Notes a fault, and changes the node so that it can be read again; whether that is of use.
    fn goes_on(&mut self, fault: Fault) -> bool {
        let Some(span) = fault.span else {
            self.faults.push(fault);
            return false;
        };
        if let FaultKind::Missing(keys) = &fault.kind {
            let keys = keys.clone();
            return keys.into_iter().all(|key| self.assume(span, key));
        }
        if span.is_assumed() {
            return self.assume_another(span, &fault.kind);
        }
        let follows = matches!(fault.kind, FaultKind::Value { .. }) && self.touched.contains(&span)
            || is_unresolved(&self.node, span);
        let kind = fault.kind.clone();
        if !follows && !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
        self.mend(span, &kind) || self.strike(span, &kind)
    }

    /// Puts something in the place of a key that is missing from the map at `span`.
    fn assume(&mut self, span: Span, key: &'static str) -> bool {
        let lacks = |node: &Node| node.span == span && node.entries().is_some() && node.entry(key).is_none();
        let mut path = Vec::new();
        find(&mut self.node, &mut path, &lacks);
        path.push(Place::Key(key.to_owned()));
        // A key that was struck out, or meant by one that was, is missing for that.
        if !span.is_assumed() && !self.unsure.contains(&path) {
            self.note_missing(span, key);
        }
        let number = self.tried.len();
        let Some(Value::Map(entries)) = find(&mut self.node, &mut Vec::new(), &lacks).map(|node| &mut node.value)
        else {
            return false;
        };
        let [first, ..] = assumptions();
        let place = Span::assumed(number);
        entries.push((Key { text: key.to_owned(), span: place }, Node { span: place, value: first }));
        self.tried.push(1);
        self.unsure.push(path);
        true
    }

    /// All keys that are missing from one map are one fault.
    fn note_missing(&mut self, span: Span, key: &'static str) {
        let same = self.faults.iter_mut().filter(|fault| fault.span == Some(span));
        let same = same.filter_map(|fault| match &mut fault.kind {
            FaultKind::Missing(keys) => Some(keys),
            _ => None,
        });
        match same.last() {
            Some(keys) if keys.contains(&key) => {}
            Some(keys) => keys.push(key),
            None => self.faults.push(Fault { kind: FaultKind::Missing(vec![key]), span: Some(span), inner: None }),
        }
    }

    fn assume_another(&mut self, span: Span, kind: &FaultKind) -> bool {
        let is_it = |node: &Node| node.span == span;
        let Some(node) = find(&mut self.node, &mut Vec::new(), &is_it) else { return false };
        let Some(tried) = span.assumption().and_then(|number| self.tried.get_mut(number)) else { return false };
        let choice = match kind {
            // No type is more likely than another.
            FaultKind::Word { known, noun: "value", .. } => known.first().copied(),
            _ => None,
        };
        if let (Some(word), Value::Scalar(scalar)) = (choice, &mut node.value)
            && scalar.text != word
        {
            scalar.text = word.to_owned();
            return true;
        }
        let Some(next) = assumptions().into_iter().nth(*tried) else { return false };
        (node.value, *tried) = (next, *tried + 1);
        true
    }

    /// Writes what is meant, where that is clear.
    fn mend(&mut self, span: Span, kind: &FaultKind) -> bool {
        match kind {
            FaultKind::Word { name: Some(name), known, .. } => {
                let Some(word) = meant(name, known).filter(|word| word != name) else { return false };
                self.rename(span, word) || self.reword(span, name, word)
            }
            // What another collector calls so is not a typing error, and may have another form.
            FaultKind::Key { name, known } if advice(name, known).is_some() => false,
            FaultKind::Key { name, known } => {
                nearest(name, known.iter().copied()).is_some_and(|word| word != name && self.rename(span, word))
            }
            _ => false,
        }
    }

    fn reword(&mut self, span: Span, name: &str, word: &str) -> bool {
        let is_it =
            |node: &Node| node.span == span && matches!(&node.value, Value::Scalar(scalar) if scalar.text == name);
        match find(&mut self.node, &mut Vec::new(), &is_it).map(|node| &mut node.value) {
            Some(Value::Scalar(scalar)) => {
                scalar.text = word.to_owned();
                true
            }
            _ => false,
        }
    }

    fn rename(&mut self, span: Span, word: &str) -> bool {
        let has_it = |node: &Node| has_key(node, span) && node.entry(word).is_none();
        let Some(Value::Map(entries)) = find(&mut self.node, &mut Vec::new(), &has_it).map(|node| &mut node.value)
        else {
            return false;
        };
        for (key, _) in entries.iter_mut().filter(|(key, _)| key.span == span) {
            key.text = word.to_owned();
        }
        true
    }

    /// Strikes the innermost item of a list or entry of a map out that a place is in.
    fn strike(&mut self, span: Span, kind: &FaultKind) -> bool {
        let mut path = Vec::new();
        let holds = |node: &Node| match &node.value {
            Value::Scalar(_) => false,
            Value::List(items) => items.iter().any(|item| item.span == span && !has_key(item, span)),
            Value::Map(entries) => {
                has_key(node, span) || entries.iter().any(|(_, value)| value.span == span && !has_key(value, span))
            }
        };
        let Some(node) = find(&mut self.node, &mut path, &holds) else { return false };
        // The first key of an item may say what the item is: without it nothing there can be read.
        let whole = match &node.value {
            Value::Map(entries) => {
                entries[0].0.span == span && (entries.len() == 1 || matches!(kind, FaultKind::Word { .. }))
                    || entries.len() == 1 && entries[0].1.span == span && entries[0].0.text != "if"
            }
            _ => false,
        };
        self.touched.push(node.span);
        match &mut node.value {
            Value::Scalar(_) => return false,
            Value::List(items) => {
                let Some(at) = items.iter().position(|item| item.span == span) else { return false };
                path.push(Place::Item(items.remove(at).span));
            }
            Value::Map(entries) => {
                let at = entries.iter().position(|(key, value)| key.span == span || value.span == span);
                let Some(at) = at else { return false };
                path.push(Place::Key(entries[at].0.text.clone()));
                if entries[at].0.text == "if" && entries[at].0.span != span {
                    // The verbs below the condition can still be read.
                    let text = "true".to_owned();
                    entries[at].1.value =
                        Value::Scalar(Scalar { text, marked: None, plain: true, variables: false, unresolved: false });
                } else {
                    entries.remove(at);
                }
            }
        }
        if let FaultKind::Key { name, known } = kind
            && let Some(meant) = meant(name, known)
        {
            let mut path = path.clone();
            path.pop();
            path.push(Place::Key(meant.to_owned()));
            self.unsure.push(path);
        }
        self.unsure.push(path);
        if whole { self.strike_item() } else { true }
    }

    /// Strikes the item of a list out that the last struck value was in, if it was the first key of an item.
    fn strike_item(&mut self) -> bool {
        let Some([list @ .., Place::Item(item), Place::Key(_)]) = self.unsure.last().map(Vec::as_slice) else {
            return true;
        };
        let (list, item) = (list.to_vec(), *item);
        let mut node = &mut self.node;
        for place in &list {
            let next = match (&mut node.value, place) {
                (Value::Map(entries), Place::Key(name)) => {
                    entries.iter_mut().find(|(key, _)| key.text == *name).map(|(_, node)| node)
                }
                (Value::List(items), Place::Item(span)) => items.iter_mut().find(|item| item.span == *span),
                _ => None,
            };
            let Some(next) = next else { return true };
            node = next;
        }
        if let Value::List(items) = &mut node.value {
            items.retain(|one| one.span != item);
            self.touched.push(node.span);
        }
        true
    }
}

fn has_key(node: &Node, span: Span) -> bool {
    node.entries().is_some_and(|entries| entries.iter().any(|(key, _)| key.span == span))
}

fn is_unresolved(node: &Node, span: Span) -> bool {
    match &node.value {
        Value::Scalar(scalar) => scalar.unresolved && node.span == span,
        Value::List(items) => items.iter().any(|item| is_unresolved(item, span)),
        Value::Map(entries) => entries.iter().any(|(_, value)| is_unresolved(value, span)),
    }
}

/// The first node, from the outside to the inside, that is the one; the way to it is added to `path`.
fn find<'a>(node: &'a mut Node, path: &mut Vec<Place>, is_it: &dyn Fn(&Node) -> bool) -> Option<&'a mut Node> {
    if is_it(node) {
        return Some(node);
    }
    match &mut node.value {
        Value::Scalar(_) => None,
        Value::List(items) => {
            for item in items {
                path.push(Place::Item(item.span));
                if let Some(found) = find(item, path, is_it) {
                    return Some(found);
                }
                path.pop();
            }
            None
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                path.push(Place::Key(key.text.clone()));
                if let Some(found) = find(value, path, is_it) {
                    return Some(found);
                }
                path.pop();
            }
            None
        }
    }
}
