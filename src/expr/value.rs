//! Values of the language: of fields, literals and operations.
//!
//! Guarantees: strings, lists and maps of an event are not copied. Escapes are decoded while comparing, without allocation.
//! Numbers of different types are compared exactly. Values of different types are unequal, which is not an error. Strings that
//! are not UTF-8 are compared by their bytes, and each invalid sequence counts as one character.

use super::error::EvalError;
use super::json::{distinct, entries, value_of};
use crate::codec::json::{Elements, find_last_field, pieces};
use std::borrow::Cow;
use std::cmp::Ordering;

/// The largest depth of a comparison.
const DEPTH_MAX: usize = 128;

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    List(List<'a>),
    Map(Map<'a>),
    /// Nanoseconds since 1970-01-01 UTC; from year 1 to 9999.
    Timestamp(i128),
    /// Nanoseconds.
    Duration(i128),
}

/// A string.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Without escapes.
    Plain(&'a [u8]),
    /// The body of a JSON string with escapes.
    Escaped(&'a [u8]),
    /// Computed.
    Owned(Vec<u8>),
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// A JSON array as written in the event.
    Json(&'a [u8]),
    /// A literal of the expression.
    Shared(&'a [Value<'a>]),
    /// Computed.
    Built(Vec<Value<'a>>),
}

/// A map.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// A JSON object as written in the event.
    Json(&'a [u8]),
    /// A literal of the expression.
    Shared(&'a [(Value<'a>, Value<'a>)]),
    /// Computed, without duplicate keys.
    Built(Vec<(Value<'a>, Value<'a>)>),
}

impl<'a> Text<'a> {
    /// The unescaped string, stored in `buffer` if it has escapes.
    pub fn read<'b>(&'b self, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        match self {
            Text::Plain(bytes) => bytes,
            Text::Owned(bytes) => bytes,
            Text::Escaped(body) => {
                buffer.clear();
                pieces(body, |piece| {
                    buffer.extend_from_slice(piece);
                    true
                });
                buffer
            }
        }
    }

    /// The unescaped string, copied only if it has escapes or was computed.
    pub fn decoded(&self) -> Cow<'a, [u8]> {
        match self {
            Text::Plain(bytes) => Cow::Borrowed(bytes),
            _ => {
                let mut buffer = Vec::new();
                Cow::Owned(self.read(&mut buffer).to_vec())
            }
        }
    }

    fn plain(&self) -> Option<&[u8]> {
        match self {
            Text::Plain(bytes) => Some(bytes),
            Text::Owned(bytes) => Some(bytes),
            Text::Escaped(_) => None,
        }
    }

    /// Compares by bytes, which for UTF-8 is the order of the characters.
    pub fn compare(&self, other: &Text<'_>) -> Ordering {
        match (self.plain(), other.plain()) {
            (Some(left), Some(right)) => left.cmp(right),
            (Some(plain), None) => other.compare_to(plain).reverse(),
            (None, Some(plain)) => self.compare_to(plain),
            (None, None) => self.decoded().cmp(&other.decoded()),
        }
    }

    fn compare_to(&self, other: &[u8]) -> Ordering {
        let Text::Escaped(body) = self else { return self.plain().unwrap_or_default().cmp(other) };
        let (mut rest, mut order) = (other, Ordering::Equal);
        pieces(body, |piece| {
            let (head, tail) = rest.split_at(piece.len().min(rest.len()));
            rest = tail;
            order = piece.cmp(head);
            order == Ordering::Equal
        });
        order.then(if rest.is_empty() { Ordering::Equal } else { Ordering::Less })
    }

    /// Whether it equals `other`.
    pub fn equals(&self, other: &Text<'_>) -> bool {
        match (self.plain(), other.plain()) {
            (Some(left), Some(right)) => left == right,
            _ => self.compare(other) == Ordering::Equal,
        }
    }

    /// Whether it begins with `prefix`.
    pub fn starts_with(&self, prefix: &[u8]) -> bool {
        let Text::Escaped(body) = self else { return self.plain().unwrap_or_default().starts_with(prefix) };
        let (mut rest, mut same) = (prefix, true);
        pieces(body, |piece| {
            let length = piece.len().min(rest.len());
            same = piece[..length] == rest[..length];
            rest = &rest[length..];
            same && !rest.is_empty()
        });
        same && rest.is_empty()
    }

    /// The number of bytes, before escapes are decoded.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Text::Plain(bytes) | Text::Escaped(bytes) => bytes.len(),
            Text::Owned(bytes) => bytes.len(),
        }
    }

    /// The number of characters.
    pub fn characters(&self) -> usize {
        let count = |bytes: &[u8]| {
            let chunks = bytes.utf8_chunks();
            chunks.map(|chunk| chunk.valid().chars().count() + usize::from(!chunk.invalid().is_empty())).sum::<usize>()
        };
        let Text::Escaped(body) = self else { return count(self.plain().unwrap_or_default()) };
        let mut total = 0;
        pieces(body, |piece| {
            total += count(piece);
            true
        });
        total
    }
}

impl<'a> List<'a> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            List::Json(json) => Elements::of(json).into_iter().flatten().count(),
            List::Shared(values) => values.len(),
            List::Built(values) => values.len(),
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at an index.
    pub fn get(&self, index: usize) -> Result<Value<'a>, EvalError> {
        match self {
            List::Json(json) => {
                let element = Elements::of(json).and_then(|mut elements| elements.nth(index));
                value_of(element.ok_or(EvalError::IndexOutOfBounds)?)
            }
            List::Shared(values) => values.get(index).map(Value::view).ok_or(EvalError::IndexOutOfBounds),
            List::Built(values) => values.get(index).cloned().ok_or(EvalError::IndexOutOfBounds),
        }
    }

    /// Passes the elements to `take` until it stops.
    pub fn each(&self, mut take: impl FnMut(Value<'a>) -> Result<bool, EvalError>) -> Result<(), EvalError> {
        match self {
            List::Json(json) => {
                for element in Elements::of(json).into_iter().flatten() {
                    if !take(value_of(element)?)? {
                        break;
                    }
                }
            }
            List::Shared(values) => {
                for value in *values {
                    if !take(value.view())? {
                        break;
                    }
                }
            }
            List::Built(values) => {
                for value in values {
                    if !take(value.clone())? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl<'a> Map<'a> {
    /// The number of keys.
    pub fn len(&self) -> usize {
        match self {
            Map::Json(json) => distinct(json).len(),
            Map::Shared(entries) => entries.len(),
            Map::Built(entries) => entries.len(),
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key.
    pub fn get(&self, key: &Value<'_>) -> Result<Option<Value<'a>>, EvalError> {
        match self {
            Map::Json(json) => match key {
                Value::String(Text::Escaped(_)) => {
                    let Value::String(text) = key else { return Ok(None) };
                    find_last_field(json, &text.decoded()).map(value_of).transpose()
                }
                Value::String(text) => {
                    find_last_field(json, text.plain().unwrap_or_default()).map(value_of).transpose()
                }
                _ => Ok(None),
            },
            Map::Shared(entries) => find(entries, key).map(|found| found.map(Value::view)),
            Map::Built(entries) => find(entries, key).map(|found| found.cloned()),
        }
    }

    /// All keys and values.
    pub fn entries(&self) -> Result<Vec<(Value<'a>, Value<'a>)>, EvalError> {
        match self {
            Map::Json(json) => entries(json),
            Map::Shared(entries) => Ok(entries.iter().map(|(key, value)| (key.view(), value.view())).collect()),
            Map::Built(entries) => Ok(entries.clone()),
        }
    }
}

fn find<'m, 'a>(entries: &'m [(Value<'a>, Value<'a>)], key: &Value<'_>) -> Result<Option<&'m Value<'a>>, EvalError> {
    for (candidate, value) in entries {
        if candidate.equals(key)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

impl<'a> Value<'a> {
    /// The same value, borrowed.
    pub fn view<'b>(&'b self) -> Value<'b> {
        match self {
            Value::String(Text::Owned(bytes)) => Value::String(Text::Plain(bytes)),
            Value::List(List::Built(values)) => Value::List(List::Shared(values)),
            Value::Map(Map::Built(entries)) => Value::Map(Map::Shared(entries)),
            other => other.clone(),
        }
    }

    /// The same value, owned.
    pub fn into_owned(self) -> Result<Value<'static>, EvalError> {
        Ok(match self {
            Value::Null => Value::Null,
            Value::Bool(value) => Value::Bool(value),
            Value::Int(value) => Value::Int(value),
            Value::Uint(value) => Value::Uint(value),
            Value::Double(value) => Value::Double(value),
            Value::Timestamp(value) => Value::Timestamp(value),
            Value::Duration(value) => Value::Duration(value),
            Value::String(text) => Value::String(Text::Owned(text.decoded().into_owned())),
            Value::List(list) => {
                let mut values = Vec::new();
                list.each(|value| {
                    values.push(value.into_owned()?);
                    Ok(true)
                })?;
                Value::List(List::Built(values))
            }
            Value::Map(map) => {
                let owned = |(key, value): (Value<'a>, Value<'a>)| Ok((key.into_owned()?, value.into_owned()?));
                Value::Map(Map::Built(map.entries()?.into_iter().map(owned).collect::<Result<_, EvalError>>()?))
            }
        })
    }

    /// Whether both are equal, as `==` defines it.
    pub fn equals(&self, other: &Value<'_>) -> Result<bool, EvalError> {
        self.equals_below(other, 0)
    }

    fn equals_below(&self, other: &Value<'_>, depth: usize) -> Result<bool, EvalError> {
        if depth > DEPTH_MAX {
            return Err(EvalError::TooDeep);
        }
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(left), Value::Bool(right)) => left == right,
            (Value::String(left), Value::String(right)) => left.equals(right),
            (Value::Timestamp(left), Value::Timestamp(right)) => left == right,
            (Value::Duration(left), Value::Duration(right)) => left == right,
            (Value::List(left), Value::List(right)) => return lists_equal(left, right, depth),
            (Value::Map(left), Value::Map(right)) => return maps_equal(left, right, depth),
            _ => self.number_order(other) == Some(Ordering::Equal),
        })
    }

    /// Compares two numbers; none if one is not a number.
    fn number_order(&self, other: &Value<'_>) -> Option<Ordering> {
        Some(match (self, other) {
            (Value::Int(left), Value::Int(right)) => left.cmp(right),
            (Value::Uint(left), Value::Uint(right)) => left.cmp(right),
            (Value::Double(left), Value::Double(right)) => return left.partial_cmp(right),
            (Value::Double(left), right) => return double_order(*left, right.integer()?),
            (left, Value::Double(right)) => return double_order(*right, left.integer()?).map(Ordering::reverse),
            _ => self.integer()?.cmp(&other.integer()?),
        })
    }

    /// An int or a uint in a width that holds both.
    pub(super) fn integer(&self) -> Option<i128> {
        match self {
            Value::Int(value) => Some(i128::from(*value)),
            Value::Uint(value) => Some(i128::from(*value)),
            _ => None,
        }
    }

    /// Whether a map may be searched for it.
    pub(super) fn may_be_key(&self) -> bool {
        matches!(self, Value::Bool(_) | Value::String(_)) || self.is_number()
    }

    fn is_number(&self) -> bool {
        matches!(self, Value::Int(_) | Value::Uint(_) | Value::Double(_))
    }

    /// Compares as `<` defines it; none if one is NaN.
    pub(super) fn order(&self, other: &Value<'_>, symbol: &'static str) -> Result<Option<Ordering>, EvalError> {
        Ok(Some(match (self, other) {
            (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
            (Value::String(left), Value::String(right)) => left.compare(right),
            (Value::Timestamp(left), Value::Timestamp(right)) | (Value::Duration(left), Value::Duration(right)) => {
                left.cmp(right)
            }
            (left, right) if left.is_number() && right.is_number() => return Ok(left.number_order(right)),
            _ => return Err(EvalError::NoSuchOverload(symbol)),
        }))
    }
}

/// A double against a number of 65 bits, without rounding either.
fn double_order(double: f64, integer: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // No integer is beyond 2^64. Below, the whole part of a double is exact.
    if double >= 18_446_744_073_709_551_616.0 {
        return Some(Ordering::Greater);
    }
    if double < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Less);
    }
    let whole = double.floor();
    let order = (whole as i128).cmp(&integer);
    Some(order.then(if double > whole { Ordering::Greater } else { Ordering::Equal }))
}

fn lists_equal(left: &List<'_>, right: &List<'_>, depth: usize) -> Result<bool, EvalError> {
    if left.len() != right.len() {
        return Ok(false);
    }
    if let (List::Json(left), List::Json(right)) = (left, right) {
        // Both lists are walked in parallel; an index would start again for every element.
        let pairs = Elements::of(left).into_iter().flatten().zip(Elements::of(right).into_iter().flatten());
        for (left, right) in pairs {
            if !value_of(left)?.equals_below(&value_of(right)?, depth + 1)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let (walked, indexed) = if matches!(right, List::Json(_)) { (right, left) } else { (left, right) };
    let (mut equal, mut index) = (true, 0);
    walked.each(|value| {
        equal = value.equals_below(&indexed.get(index)?, depth + 1)?;
        index += 1;
        Ok(equal)
    })?;
    Ok(equal)
}

fn maps_equal(left: &Map<'_>, right: &Map<'_>, depth: usize) -> Result<bool, EvalError> {
    // The entries of an object of the event are sorted. Only map literals, which are small, are not.
    let both_sorted = matches!((left, right), (Map::Json(_), Map::Json(_)));
    let (left, right) = (left.entries()?, right.entries()?);
    if left.len() != right.len() {
        return Ok(false);
    }
    for (position, (key, value)) in left.iter().enumerate() {
        let other = match right.get(position) {
            Some((candidate, other)) if candidate.equals(key)? => Some(other),
            _ if both_sorted => None,
            _ => find(&right, key)?,
        };
        match other {
            Some(other) if value.equals_below(other, depth + 1)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}
