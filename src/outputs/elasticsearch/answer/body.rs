//! Parses the body of a response to a bulk request.
//!
//! Guarantees: the work between two pauses is bounded, whatever the body contains: items are parsed one by one, and the caller
//! is asked to breathe every [`STEP_ITEMS`] of them. No more items are parsed than the caller allows. Causes that are nested
//! deeper than [`CAUSES_MAX`] are skipped, without recursion. Only statuses and short reasons are kept, of no more items than there
//! are events; the others are counted.
//!
//! Does not decide what an item means: the caller passes a judgement, which is made once for each.

use crate::net::secrets::CUT;
use crate::outputs::requests::meaning::{Meaning, Row, Said};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use std::fmt;

/// Items between two pauses.
const STEP_ITEMS: u64 = 16;

/// Number of bytes that are kept of a reason.
pub const REASON_BYTES_MAX: usize = 500;

/// How many causes of an error are read: its own, the cause of that, and so on.
const CAUSES_MAX: usize = 8;

/// The parsed parts of a response. Statuses count more than `errors`.
#[derive(Default)]
pub struct Answer {
    pub errors: Option<bool>,
    pub items: Option<Listed>,
    /// An error of the whole request.
    pub error: Fault,
    /// The number of accepted events, if there are no items.
    pub record_count: Option<u64>,
}

/// The parsed parts of a response about the whole request.
#[derive(Deserialize)]
pub struct Refusal {
    #[serde(default)]
    pub error: Fault,
    #[serde(default)]
    pub message: Fault,
}

/// Why a body is no response to a bulk request.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is not JSON, was cut off, or has other types.
    Damaged,
    /// It has more items than any store sends for such a request.
    TooManyItems,
}

/// How many items are parsed, and how many are kept.
#[derive(Clone, Copy)]
pub struct Limits {
    pub items_max: u64,
    pub kept_max: u64,
}

/// The items of a response.
pub struct Listed {
    /// The first of them.
    pub kept: Vec<Item>,
    /// How many there are.
    pub count: u64,
    /// How many of them were not accepted.
    pub bad: u64,
    /// Whether all of them name their action, as items do that are in the order of the request.
    pub are_named: bool,
}

impl Default for Listed {
    fn default() -> Listed {
        Listed { kept: Vec::new(), count: 0, bad: 0, are_named: true }
    }
}

/// The result of one event.
pub struct Item {
    pub status: u16,
    /// The type and reason of its error, with the cause; empty if there is none.
    pub error: String,
    /// It comes from a store that accepts either all events of a request or none: it reports the fault of one event for all.
    pub is_of_a_transaction: bool,
    /// The row of the table that says what it means, and what it means here.
    pub row: &'static Row,
    pub meaning: Meaning,
}

/// The result of one event, before it is judged.
#[derive(Deserialize)]
pub struct ItemResult {
    pub status: u16,
    #[serde(default)]
    pub error: Fault,
    #[serde(rename = "_type", default)]
    pub document_type: Option<String>,
}

/// The keys of a response that are used.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Errors,
    Items,
    Error,
    RecordCount,
    #[serde(other)]
    Other,
}

/// Parses a response. `judge` says what an item means.
pub async fn read(
    body: &[u8],
    limits: Limits,
    judge: impl Fn(&ItemResult) -> (&'static Row, Meaning),
    breathe: &impl AsyncFn(),
) -> Result<Answer, Unread> {
    let mut reader = Reader { rest: body };
    let (mut errors, mut items, mut error, mut record_count) = (None, None, None, None);
    reader.skip(b'{')?;
    let mut is_first = true;
    while reader.has_more(is_first, b'}')? {
        is_first = false;
        let key = reader.value()?;
        reader.skip(b':')?;
        match key {
            Key::Errors => once(&mut errors, reader.value::<Option<bool>>()?)?,
            Key::Items => once(&mut items, read_items(&mut reader, limits, &judge, breathe).await?)?,
            Key::Error => once(&mut error, reader.value::<Fault>()?)?,
            Key::RecordCount => once(&mut record_count, reader.value::<Option<u64>>()?)?,
            Key::Other => drop(reader.value::<IgnoredAny>()?),
        }
    }
    if reader.peek().is_some() {
        return Err(Unread::Damaged);
    }
    Ok(Answer {
        errors: errors.flatten(),
        items: items.flatten(),
        error: error.unwrap_or_default(),
        record_count: record_count.flatten(),
    })
}

/// The items, or none for `null`.
async fn read_items(
    reader: &mut Reader<'_>,
    limits: Limits,
    judge: &impl Fn(&ItemResult) -> (&'static Row, Meaning),
    breathe: &impl AsyncFn(),
) -> Result<Option<Listed>, Unread> {
    if reader.peek() != Some(b'[') {
        reader.value::<()>()?;
        return Ok(None);
    }
    reader.skip(b'[')?;
    let mut items = Listed::default();
    while reader.has_more(items.count == 0, b']')? {
        if items.count >= limits.items_max {
            return Err(Unread::TooManyItems);
        }
        let Entry { is_named, result } = reader.value()?;
        let (row, meaning) = judge(&result);
        items.count += 1;
        items.bad += u64::from(meaning != Meaning::Taken);
        items.are_named &= is_named;
        if items.count <= limits.kept_max {
            let is_of_a_transaction = result.document_type.as_deref() == Some("doc");
            let (status, error) = (result.status, result.error.text);
            items.kept.push(Item { status, error, is_of_a_transaction, row, meaning });
        }
        if items.count.is_multiple_of(STEP_ITEMS) {
            breathe().await;
        }
    }
    Ok(Some(items))
}

/// Stores the value of a key, which occurs once.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Unread> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Unread::Damaged),
    }
}

/// Reads values and what is between them.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn skip(&mut self, byte: u8) -> Result<(), Unread> {
        if self.peek() != Some(byte) {
            return Err(Unread::Damaged);
        }
        self.rest = &self.rest[1..];
        Ok(())
    }

    /// Whether another element follows, up to `end`, which is skipped like a comma.
    fn has_more(&mut self, is_first: bool, end: u8) -> Result<bool, Unread> {
        if self.peek() == Some(end) {
            self.skip(end)?;
            return Ok(false);
        }
        if !is_first {
            self.skip(b',')?;
        }
        Ok(true)
    }

    fn value<T: Deserialize<'a>>(&mut self) -> Result<T, Unread> {
        let mut values = serde_json::Deserializer::from_slice(self.rest).into_iter();
        let value = values.next().and_then(Result::ok).ok_or(Unread::Damaged)?;
        self.rest = self.rest.get(values.byte_offset()..).ok_or(Unread::Damaged)?;
        Ok(value)
    }
}

/// An item before it is judged.
struct Entry {
    is_named: bool,
    result: ItemResult,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Action {
    Index,
    Create,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an action and its result")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let Some(action) = map.next_key::<Action>()? else { return Err(de::Error::custom("an item without a result")) };
        let entry = Entry { is_named: !matches!(action, Action::Other), result: map.next_value()? };
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(entry)
    }
}

/// An error: its type, its reason, and a text with both and the cause.
#[derive(Default)]
pub struct Fault {
    pub kind: String,
    pub reason: String,
    pub text: String,
}

/// The keys of an error object that are used.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum ErrorKey {
    Type,
    Reason,
    CausedBy,
    #[serde(other)]
    Other,
}

impl Fault {
    /// An error that is only a string.
    fn of(text: &str) -> Fault {
        let mut shown = text[..text.floor_char_boundary(REASON_BYTES_MAX)].to_owned();
        if shown.len() < text.len() {
            shown.push(CUT);
        }
        Fault { kind: String::new(), reason: shown.clone(), text: shown }
    }

    /// What it says, with this status.
    pub fn said(&self, status: u16) -> Said<'_> {
        Said { status, kind: &self.kind, reason: &self.reason }
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fault, D::Error> {
        FaultVisitor { causes_max: CAUSES_MAX }.deserialize(deserializer)
    }
}

/// Reads an error with at most this many causes.
struct FaultVisitor {
    causes_max: usize,
}

impl<'de> DeserializeSeed<'de> for FaultVisitor {
    type Value = Fault;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fault, D::Error> {
        match self.causes_max {
            0 => IgnoredAny::deserialize(deserializer).map(|_| Fault::default()),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for FaultVisitor {
    type Value = Fault;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Fault, E> {
        Ok(Fault::of(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fault, A::Error> {
        let mut parts = <[Fault; 3]>::default();
        let inner = || FaultVisitor { causes_max: self.causes_max - 1 };
        while let Some(key) = map.next_key()? {
            match key {
                ErrorKey::Type => parts[0] = map.next_value_seed(inner())?,
                ErrorKey::Reason => parts[1] = map.next_value_seed(inner())?,
                ErrorKey::CausedBy => parts[2] = map.next_value_seed(inner())?,
                ErrorKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let texts: Vec<&str> = parts.iter().map(|part| part.text.as_str()).filter(|text| !text.is_empty()).collect();
        let text = Fault::of(&texts.join(", ")).text;
        let [kind, reason, _] = parts;
        Ok(Fault { kind: kind.text, reason: reason.text, text })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Fault, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Fault::default())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Fault, E> {
        Ok(Fault::default())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Fault, E> {
        Ok(Fault::default())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Fault, E> {
        Ok(Fault::default())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Fault, E> {
        Ok(Fault::default())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Fault, E> {
        Ok(Fault::default())
    }
}
