//! Deserializes serde types from the tree, with the position of every error.
//!
//! Guarantees: an error names the value or key that it is about; the value of a variable never appears in a message. Plain
//! scalars follow the YAML 1.2 core schema (`yes` and `no` are strings, `0x1F` and `0o17` integers). A string field accepts a
//! plain number as it is written, and a list accepts a single string.

use super::migrating::{advice, format_advice};
use super::nearest::{foreign, form, nearest};
use super::node::{Key, Node, Scalar, Value, kind_of};
use super::problem::{Problem, Span};
use crate::codec::marked;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use std::fmt;
use std::ops::Range;

/// Deserializes `T` from a node.
pub fn read<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Fault> {
    T::deserialize(Reader { node, skip: &[], marked: false })
}

/// Deserializes `T` from a map and ignores the keys in `skip`.
pub fn read_without<'de, T: Deserialize<'de>>(node: &'de Node, skip: &'static [&'static str]) -> Result<T, Fault> {
    T::deserialize(Reader { node, skip, marked: false })
}

/// Why a value was rejected.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// Where, once a node on the way knows its position.
    pub span: Option<Span>,
    /// The part of the value that is wrong.
    pub inner: Option<Span>,
}

/// The ways a value is wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// A message of the type itself.
    Custom(String),
    /// A message of the type itself, with the position inside the value and a correction.
    Placed {
        /// The byte range in the value.
        place: Range<usize>,
        /// What is wrong.
        message: String,
        /// What to write instead; may be empty.
        help: String,
    },
    /// A message of the type itself that shows no value of a variable, whatever the setting contains.
    Discreet {
        /// What is wrong.
        message: String,
        /// What to write instead; may be empty.
        help: String,
    },
    /// Not what is expected. What was found is withheld when a variable holds it.
    Value {
        /// What was found.
        found: Option<String>,
        /// What is expected.
        expected: String,
    },
    /// An unknown key.
    Key {
        /// As it is written.
        name: String,
        /// The keys that exist.
        known: &'static [&'static str],
    },
    /// Not one of the words that are allowed.
    Word {
        /// As it is written; withheld when a variable holds it.
        name: Option<String>,
        /// The words that are allowed.
        known: &'static [&'static str],
        /// What the word is: a value or a type.
        noun: &'static str,
    },
    /// Required keys are missing.
    Missing(Vec<&'static str>),
}

impl Fault {
    /// The problem as it is shown to the user.
    pub fn problem(self) -> Problem {
        let span = self.inner.or(self.span).unwrap_or_default();
        match self.kind {
            FaultKind::Custom(text) => Problem::error(span, text).label("here"),
            FaultKind::Placed { message, help, .. } | FaultKind::Discreet { message, help } => {
                let problem = Problem::error(span, message).label("here");
                if help.is_empty() { problem } else { problem.help(help) }
            }
            FaultKind::Value { found: Some(found), expected } => {
                Problem::error(span, format!("expected {expected}")).label(format!("this is {found}"))
            }
            FaultKind::Value { found: None, expected } => Problem::error(span, format!("expected {expected}"))
                .label("the value of the variable does not fit")
                .help("check the variable in the environment of the process; its value is not shown here"),
            FaultKind::Key { name, known } => {
                let problem = Problem::error(span, format!("unknown key `{name}`")).label("unknown here");
                problem.help(suggestion(&name, known, "the keys here are"))
            }
            FaultKind::Word { name: Some(name), known, noun } => {
                let problem =
                    Problem::error(span, format!("unknown {noun} `{name}`")).label("is not one of the choices");
                problem.help(suggestion(&name, known, "the choices are"))
            }
            FaultKind::Word { name: None, known, .. } => {
                Problem::error(span, "the variable's value is not one of the choices")
                    .label("is not one of the choices")
                    .help(format!("the choices are {}", list(known)))
            }
            FaultKind::Missing(keys) => match keys.as_slice() {
                [key] => Problem::error(span, format!("the key `{key}` is missing")).label("requires it"),
                keys => Problem::error(span, format!("the keys {} are missing", list(keys))).label("requires them"),
            }
            .help(format!("add {}", keys.iter().map(|key| format!("`{key}: ...`")).collect::<Vec<_>>().join(" and "))),
        }
    }

    /// Gives the fault a position if it has none, and withholds what was found if a variable held it.
    fn at(mut self, node: &Node) -> Fault {
        if self.span.is_some() {
            return self;
        }
        self.span = Some(node.span);
        if let FaultKind::Placed { place, .. } = &self.kind {
            self.inner = node.inside(place);
        }
        if matches!(&node.value, Value::Scalar(Scalar { variables: true, .. })) {
            self.inner = None;
            match &mut self.kind {
                FaultKind::Value { found, .. } => *found = None,
                FaultKind::Word { name, .. } => *name = None,
                FaultKind::Custom(_) | FaultKind::Placed { .. } | FaultKind::Key { .. } => {
                    self.kind = FaultKind::Value { found: None, expected: "another value".to_owned() };
                }
                FaultKind::Discreet { .. } | FaultKind::Missing(_) => {}
            }
        }
        self
    }
}

/// Separates the parts of [`placed`]; it occurs in no message.
const SEPARATOR: char = '\u{1f}';

/// Encodes an error and its position inside a value in one string, since serde errors carry nothing else.
pub fn placed(place: &Range<usize>, message: &str, help: &str) -> String {
    format!("{SEPARATOR}{}{SEPARATOR}{}{SEPARATOR}{help}{SEPARATOR}{message}", place.start, place.end)
}

/// Encodes an error that shows no value of a variable, so it is shown even if the setting contains variables.
pub fn discreet(message: &str, help: &str) -> String {
    format!("{SEPARATOR}{SEPARATOR}{SEPARATOR}{help}{SEPARATOR}{message}")
}

fn unplaced(text: &str) -> Option<FaultKind> {
    let discreet = text.strip_prefix(SEPARATOR).and_then(|rest| rest.strip_prefix(SEPARATOR)?.strip_prefix(SEPARATOR));
    if let Some((help, message)) = discreet.and_then(|rest| rest.split_once(SEPARATOR)) {
        return Some(FaultKind::Discreet { message: message.to_owned(), help: help.to_owned() });
    }
    let mut parts = text.strip_prefix(SEPARATOR)?.splitn(4, SEPARATOR);
    let (start, end) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (help, message) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    Some(FaultKind::Placed { place: start..end, message, help })
}

/// The nearest name, or the list of all names.
pub fn suggestion(name: &str, known: &[&str], all: &str) -> String {
    if let Some(form) = form(name, known) {
        return format!("write `{form}`");
    }
    if let Some(help) = advice(name, known).or_else(|| format_advice(name, known)) {
        return help.to_owned();
    }
    if let Some(here) = foreign(name, known) {
        return format!("it is called `{here}` here");
    }
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => "nothing can be configured here".to_owned(),
        None => format!("{all} {}", list(known)),
    }
}

fn list(known: &[&str]) -> String {
    known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.clone().problem().what)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Fault {
        let text = format!("{text:#}");
        let kind = unplaced(&text).unwrap_or(FaultKind::Custom(text));
        Fault { kind, span: None, inner: None }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        let (found, expected) = (Some(describe(found)), expected.to_string());
        Fault { kind: FaultKind::Value { found, expected: plain_words(&expected).to_owned() }, span: None, inner: None }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Fault {
        let found = Some(format!("a list of {length}"));
        let expected = plain_words(&expected.to_string()).to_owned();
        Fault { kind: FaultKind::Value { found, expected }, span: None, inner: None }
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Fault {
        Fault { kind: FaultKind::Word { name: Some(name.to_owned()), known, noun: "value" }, span: None, inner: None }
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Fault {
        Fault { kind: FaultKind::Key { name: name.to_owned(), known }, span: None, inner: None }
    }

    fn missing_field(key: &'static str) -> Fault {
        Fault { kind: FaultKind::Missing(vec![key]), span: None, inner: None }
    }
}

/// Describes a value in plain words, since serde's own descriptions use Rust's terms.
fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str("") => "an empty string".to_owned(),
        Unexpected::Str(text) => format!("the string `{}`", text.chars().take(60).collect::<String>()),
        Unexpected::Unit | Unexpected::Option => "empty (null)".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}

/// Translates what serde's own visitors expect from Rust's terms into plain words.
fn plain_words(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list, such as [a, b]",
        "a tuple of size 2" | "an array of length 2" => "two numbers: [smallest, largest]",
        "a string" | "a borrowed string" | "path string" => "a string",
        "a boolean" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0 without quotes",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number without quotes",
        "f32" | "f64" => "a number without quotes",
        "a map" => "a map, such as {key: value}",
        other => other,
    }
}

struct Reader<'de> {
    node: &'de Node,
    skip: &'static [&'static str],
    /// Whether the values of variables are marked in strings: see [`marked`].
    marked: bool,
}

/// A plain scalar, resolved by the core schema.
enum Resolved {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    /// Integers beyond 64 bits.
    Large(u128),
    Negative(i128),
    Float(f64),
    Text,
}

fn resolve(scalar: &Scalar) -> Resolved {
    if !scalar.plain {
        return Resolved::Text;
    }
    let text = scalar.text.as_str();
    match text {
        // A variable with an empty value is an empty string, not null.
        "" | "~" | "null" | "Null" | "NULL" if !scalar.variables => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Bool(true),
        "false" | "False" | "FALSE" => return Resolved::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Resolved::Text;
    }
    let radix = match text.as_bytes() {
        [b'0', b'x', ..] => Some(16),
        [b'0', b'o', ..] => Some(8),
        _ => None,
    };
    let (digits_of, radix) = radix.map_or((text, 10), |radix| (&text[2..], radix));
    // A sign behind `0x` is not part of a number.
    if radix == 10 || digits_of.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        if let Ok(value) = u64::from_str_radix(digits_of, radix) {
            return Resolved::Unsigned(value);
        }
        if let Ok(value) = i64::from_str_radix(digits_of, radix) {
            return Resolved::Signed(value);
        }
        if let Ok(value) = u128::from_str_radix(digits_of, radix) {
            return Resolved::Large(value);
        }
        if let Ok(value) = i128::from_str_radix(digits_of, radix) {
            return Resolved::Negative(value);
        }
    }
    let float = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse::<f64>() {
        Ok(value) if float && value.is_finite() => Resolved::Float(value),
        _ => Resolved::Text,
    }
}

/// The fault where a 64-bit integer or a double is expected.
fn too_large(fault: Fault, scalar: &Scalar) -> Fault {
    match fault.kind {
        FaultKind::Value { expected, .. } => {
            let found = Some(format!("`{}`, beyond 64 bits", scalar.text));
            Fault { kind: FaultKind::Value { found, expected }, ..fault }
        }
        _ => fault,
    }
}

impl<'de> Reader<'de> {
    fn any<V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None, skip: self.skip }),
            Value::Scalar(scalar) => match resolve(scalar) {
                Resolved::Null => visitor.visit_unit(),
                Resolved::Bool(value) => visitor.visit_bool(value),
                Resolved::Unsigned(value) => visitor.visit_u64(value),
                Resolved::Signed(value) => visitor.visit_i64(value),
                Resolved::Large(value) => visitor.visit_u128(value).map_err(|fault| too_large(fault, scalar)),
                Resolved::Negative(value) => visitor.visit_i128(value).map_err(|fault| too_large(fault, scalar)),
                Resolved::Float(value) => visitor.visit_f64(value),
                Resolved::Text => visitor.visit_borrowed_str(self.text_of(scalar)),
            },
        }
    }

    fn text_of(&self, scalar: &'de Scalar) -> &'de str {
        scalar.marked.as_deref().filter(|_| self.marked).unwrap_or(&scalar.text)
    }

    /// Where a number or boolean is expected, a quoted variable is accepted too: without quotes `{key: ${N}}` is not valid YAML.
    fn bare<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let node = self.node;
        let Value::Scalar(scalar) = &node.value else { return self.deserialize_any(visitor) };
        if scalar.plain || !scalar.variables {
            return self.deserialize_any(visitor);
        }
        match resolve(&Scalar { plain: true, ..scalar.clone() }) {
            Resolved::Bool(value) => visitor.visit_bool(value),
            Resolved::Unsigned(value) => visitor.visit_u64(value),
            Resolved::Signed(value) => visitor.visit_i64(value),
            Resolved::Float(value) => visitor.visit_f64(value),
            _ => return self.deserialize_any(visitor),
        }
        .map_err(|fault: Fault| fault.at(node))
    }

    fn text<V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Scalar(scalar) if !matches!(resolve(scalar), Resolved::Null | Resolved::Bool(_)) => {
                visitor.visit_borrowed_str(self.text_of(scalar))
            }
            _ => self.any(visitor),
        }
    }
}

macro_rules! bare_values {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.bare(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.any(visitor).map_err(|fault| fault.at(self.node))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.text(visitor).map_err(|fault| fault.at(self.node))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let node = self.node;
        match &node.value {
            Value::Scalar(scalar) if matches!(resolve(scalar), Resolved::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|fault: Fault| fault.at(node))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        let node = self.node;
        let marked = self.marked || name == marked::NEWTYPE;
        visitor.visit_newtype_struct(Reader { marked, ..self }).map_err(|fault: Fault| fault.at(node))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let node = self.node;
        match &node.value {
            Value::Scalar(scalar) if !matches!(resolve(scalar), Resolved::Null) => {
                visitor.visit_enum(scalar.text.as_str().into_deserializer())
            }
            Value::Map(entries) if !entries.is_empty() => {
                let is_known = |(key, _): &&(Key, Node)| variants.contains(&key.text.as_str());
                if let Some((key, _)) = entries.iter().find(|entry| !is_known(entry)) {
                    let kind = FaultKind::Key { name: key.text.clone(), known: variants };
                    return Err(Fault { kind, span: Some(key.span), inner: None });
                }
                match entries.as_slice() {
                    [(key, value)] => visitor.visit_enum(Variant(key, value)),
                    [(first, _), (second, _), ..] => {
                        let what = format!("`{}` and `{}` exclude each other: give only one", first.text, second.text);
                        Err(Fault { kind: FaultKind::Custom(what), span: Some(second.span), inner: None })
                    }
                    [] => self.any(visitor),
                }
            }
            Value::Map(_) => {
                let (found, expected) =
                    (Some("an empty map".to_owned()), format!("one of the keys {}", list(variants)));
                Err(Fault { kind: FaultKind::Value { found, expected }, span: None, inner: None })
            }
            _ => self.any(visitor).map_err(|fault| Fault {
                kind: match fault.kind {
                    FaultKind::Value { found, .. } => {
                        FaultKind::Value { found, expected: format!("one of {}", list(variants)) }
                    }
                    other => other,
                },
                ..fault
            }),
        }
        .map_err(|fault: Fault| fault.at(node))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // Derived visitors would accept a list and assign its items to the fields in order.
        match &self.node.value {
            Value::Map(_) => self.deserialize_any(visitor),
            _ => {
                let expected = format!("a map with some of the keys {}", list(fields));
                let kind = FaultKind::Value { found: Some(kind_of(self.node)), expected };
                Err(Fault { kind, span: Some(self.node.span), inner: None })
            }
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let node = self.node;
        match &node.value {
            Value::Scalar(scalar) if matches!(resolve(scalar), Resolved::Text) && !scalar.text.is_empty() => {
                visitor.visit_seq(Items(std::slice::from_ref(node).iter())).map_err(|fault| fault.at(node))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    bare_values! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct map ignored_any
    }
}

struct Items<'de>(std::slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.0.next() else { return Ok(None) };
        let read = seed.deserialize(Reader { node, skip: &[], marked: false });
        read.map(Some).map_err(|fault| fault.at(node))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, (Key, Node)>,
    value: Option<&'de Node>,
    skip: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, node)) = self.entries.by_ref().find(|(key, _)| !self.skip.contains(&key.text.as_str())) else {
            return Ok(None);
        };
        self.value = Some(node);
        let reader: StrDeserializer<'_, Fault> = key.text.as_str().into_deserializer();
        seed.deserialize(reader).map(Some).map_err(|fault| Fault { span: fault.span.or(Some(key.span)), ..fault })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let node = self.value.take().ok_or_else(|| Fault::custom("a value was read before its key"))?;
        seed.deserialize(Reader { node, skip: &[], marked: false }).map_err(|fault| fault.at(node))
    }
}

struct Variant<'de>(&'de Key, &'de Node);

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Fault;
    type Variant = Payload<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Payload<'de>), Fault> {
        let reader: StrDeserializer<'_, Fault> = self.0.text.as_str().into_deserializer();
        let variant =
            seed.deserialize(reader).map_err(|fault| Fault { span: fault.span.or(Some(self.0.span)), ..fault })?;
        Ok((variant, Payload(self.1)))
    }
}

struct Payload<'de>(&'de Node);

impl<'de> VariantAccess<'de> for Payload<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        let found = Some("a map".to_owned());
        Err(Fault { kind: FaultKind::Value { found, expected: "the word alone".to_owned() }, span: None, inner: None }
            .at(self.0))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(Reader { node: self.0, skip: &[], marked: false })
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        Reader { node: self.0, skip: &[], marked: false }.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        Reader { node: self.0, skip: &[], marked: false }.deserialize_any(visitor)
    }
}
