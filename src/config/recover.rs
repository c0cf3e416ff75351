//! Continues to read after a mistake, so that one run reports all of them.
//!
//! Guarantees: the part that a mistake is about is removed and the rest is read again, until nothing is wrong or the next mistake
//! follows from what was removed. Each mistake is reported once, at most [`FAULTS_MAX`] per component.

use super::de::{Fault, FaultKind};
use super::nearest::meant;
use super::node::{Node, Scalar, Value};
use super::problem::Span;

/// The most mistakes that are reported per component: more would not help anyone.
const FAULTS_MAX: usize = 20;

/// What could be read.
pub struct Recovered<T> {
    /// The value, without the parts that were removed.
    pub value: Option<T>,
    /// All mistakes.
    pub faults: Vec<Fault>,
    /// The node that was read in the end.
    pub node: Node,
    /// List items that something was removed from: other doubts about them may follow from that.
    touched: Vec<Span>,
    /// Keys that were removed, or that a removed key probably meant.
    struck: Vec<String>,
}

impl<T> Recovered<T> {
    /// Whether a mistake about the key at `path` may follow from a removed part: the key is gone, or `words` name a removed key.
    pub fn follows(&self, path: &[&str], words: [&str; 2]) -> bool {
        let names = |key: &String| words.iter().any(|text| text.contains(key.as_str()));
        !self.faults.is_empty() && (self.node.at(path).is_none() || self.struck.iter().any(names))
    }

    /// Whether something was removed from the innermost list item on the way to `path`.
    pub fn is_touched(&self, path: &[&str]) -> bool {
        self.node.innermost_item(path).is_some_and(|item| self.touched.contains(&item))
    }
}

/// Reads `node` with `read`, and after each mistake again without the part that is wrong.
pub fn recover<T>(node: &Node, mut read: impl FnMut(&Node) -> Result<T, Fault>) -> Recovered<T> {
    let mut recovered =
        Recovered { value: None, faults: Vec::new(), node: node.clone(), touched: Vec::new(), struck: Vec::new() };
    let mut struck = Strike::default();
    loop {
        let fault = match read(&recovered.node) {
            Ok(value) => {
                recovered.value = Some(value);
                break;
            }
            Err(fault) => fault,
        };
        // The key is missing because it was removed, or because an unknown key probably meant it.
        let follows = matches!(&fault.kind, FaultKind::Missing(key) if struck.keys.iter().any(|struck| struck == key));
        if let FaultKind::Key { name, known } = &fault.kind {
            struck.keys.extend(meant(name, known).map(str::to_owned));
        }
        let span = fault.span;
        if !follows {
            recovered.faults.push(fault);
        }
        let is_struck = span.is_some_and(|span| struck.out(&mut recovered.node, span) != Struck::Nothing);
        if !is_struck || recovered.faults.len() == FAULTS_MAX {
            break;
        }
    }
    (recovered.touched, recovered.struck) = (struck.touched, struck.keys);
    recovered
}

#[derive(Default)]
struct Strike {
    /// Keys that were removed.
    keys: Vec<String>,
    touched: Vec<Span>,
}

#[derive(PartialEq, Eq)]
enum Struck {
    Nothing,
    Something,
    /// A part of a list item, which is recorded.
    Below,
    /// Nothing: the first key of a map says what the map is.
    FirstKey,
}

impl Strike {
    /// Removes the innermost list item or map entry that contains `span`.
    fn out(&mut self, node: &mut Node, span: Span) -> Struck {
        match &mut node.value {
            Value::Scalar(_) => Struck::Nothing,
            Value::List(items) => {
                let Some(number) = items.iter().position(|item| holds(item, span)) else { return Struck::Nothing };
                let item = items[number].span;
                match self.out(&mut items[number], span) {
                    Struck::Below => return Struck::Below,
                    Struck::Something => {
                        self.touched.push(item);
                        return Struck::Below;
                    }
                    Struck::Nothing | Struck::FirstKey => drop(items.remove(number)),
                }
                Struck::Something
            }
            Value::Map(entries) => {
                let place = entries.iter().position(|(key, value)| key.span == span || holds(value, span));
                let Some(place) = place else { return Struck::Nothing };
                let (key, value) = &mut entries[place];
                if key.span != span {
                    match self.out(value, span) {
                        Struck::Nothing => {}
                        Struck::Below => return Struck::Below,
                        Struck::Something | Struck::FirstKey => return Struck::Something,
                    }
                    if key.text == "if" {
                        // The transforms below the condition can still be read.
                        value.value = Value::Scalar(Scalar {
                            text: "true".to_owned(),
                            marked: None,
                            plain: true,
                            variables: false,
                        });
                        return Struck::Something;
                    }
                }
                self.keys.push(entries.remove(place).0.text);
                if place == 0 { Struck::FirstKey } else { Struck::Something }
            }
        }
    }
}

/// Whether a node, or a key or value in it, is at this position.
fn holds(node: &Node, span: Span) -> bool {
    node.span == span
        || match &node.value {
            Value::Scalar(_) => false,
            Value::List(items) => items.iter().any(|item| holds(item, span)),
            Value::Map(entries) => entries.iter().any(|(key, value)| key.span == span || holds(value, span)),
        }
}
