//! Guarded names: fields that only the input sets, whatever the keys of an event are.
//!
//! Guarantees: in a shape of a line, no field of the event has a guarded name. Such a field is contested: it is listed beside the
//! others, and the caller decides what to do with it. A field whose name is the beginning of a guarded name with dots is listed too,
//! because an object in it may contain the rest of the name; it stays among the fields. Whether a shape has contested fields is
//! decided once for each shape. Until an event has one, checking costs one comparison.

use super::{Field, KeyId, ShapeId, Shapes};

/// Why a name is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// Only the input sets this field.
    Name,
    /// The beginning of such a name, before a dot.
    Head,
}

/// The guarded names. Their keys are the first ones, so that the number of a key says whether it is guarded.
#[derive(Clone, Copy, Default)]
pub(super) struct Guard {
    names: u32,
    heads: u32,
    /// Whether a line had a contested field.
    pub(super) is_contested: bool,
}

impl Guard {
    /// Why a key is guarded, if it is.
    #[inline]
    pub(super) fn of(self, key: KeyId) -> Option<Guarded> {
        match key.0 {
            number if number < self.names => Some(Guarded::Name),
            number if number < self.names + self.heads => Some(Guarded::Head),
            _ => None,
        }
    }
}

impl Shapes {
    /// Guards these names. Must be called before any other name is known.
    pub(super) fn guard(&mut self, names: &[&str]) {
        assert!(self.names.is_empty(), "guarded names have the first keys");
        for name in names {
            self.key(name.as_bytes());
        }
        self.guard.names = self.names.len() as u32;
        let heads = names.iter().flat_map(|name| name.match_indices('.').map(|(dot, _)| &name[..dot]));
        for head in heads.filter(|head| !head.is_empty()) {
            self.key(head.as_bytes());
        }
        self.guard.heads = self.names.len() as u32 - self.guard.names;
    }

    /// Why a key is guarded, if it is.
    #[inline]
    pub fn guarded(&self, key: KeyId) -> Option<Guarded> {
        self.guard.of(key)
    }

    /// Whether any name is guarded.
    pub fn has_guard(&self) -> bool {
        self.guard.names > 0
    }

    /// The guarded names, without the beginnings of names.
    pub fn guarded_names(&self) -> impl Iterator<Item = &[u8]> {
        self.names[..self.guard.names as usize].iter().map(|name| &name[..])
    }

    /// Whether a line of this shape has contested fields.
    #[inline]
    pub fn is_contested(&self, id: ShapeId) -> bool {
        self.guard.is_contested && !self.contested(id).is_empty()
    }

    /// The contested fields of a line of this shape. An edited shape has none.
    pub fn contested(&self, id: ShapeId) -> &[Field] {
        &self.shape(id).contested
    }
}
