//! Casts: an event gets other fields altogether, in one step however many they are.
//!
//! Guarantees: nothing is allocated for a list of fields that is known; the fields between the first and the last never become
//! shapes of their own; a list costs the same for each field, whatever their number. Of fields with the same key the last one
//! counts, in the place of the first.

use super::{Field, KeyId, Map, Shape, ShapeId, Shapes, Source};

/// Fields that are looked through one by one for a key.
const LOOKED_THROUGH_MAX: usize = 32;

/// Room that is kept from one event to the next.
const FIELDS_KEPT: usize = 4096;

/// The fields that an event is to have. Used again for each.
#[derive(Default)]
pub struct Cast {
    shape: Shape,
    /// Where each key is, once there are many.
    places: Map<KeyId, usize>,
}

impl Cast {
    /// Begins a list for an event for which so many values have been made.
    pub fn begin(&mut self, computed: u16) {
        if self.shape.fields.capacity() > FIELDS_KEPT || self.places.capacity() > FIELDS_KEPT {
            *self = Cast::default();
        }
        self.shape.fields.clear();
        self.places.clear();
        self.shape.computed = computed;
    }

    /// Adds a field, or gives it this source if it is there.
    pub fn put(&mut self, key: KeyId, source: Source) {
        let fields = &mut self.shape.fields;
        let known = match fields.len() > LOOKED_THROUGH_MAX {
            false => fields.iter().position(|field| field.key == key),
            true => {
                if self.places.is_empty() {
                    self.places.extend(fields.iter().enumerate().map(|(at, field)| (field.key, at)));
                }
                self.places.get(&key).copied()
            }
        };
        match known {
            Some(at) => fields[at].source = source,
            None => {
                if !self.places.is_empty() {
                    self.places.insert(key, fields.len());
                }
                fields.push(Field { key, source });
            }
        }
    }

    /// Adds a field with the next value that is made for the event.
    pub fn put_computed(&mut self, key: KeyId) {
        let number = self.shape.computed;
        self.shape.computed += 1;
        self.put(key, Source::Computed(number));
    }
}

impl Shapes {
    /// The shape with the fields of a cast.
    pub fn cast(&mut self, cast: &Cast) -> ShapeId {
        match self.known.get(&cast.shape) {
            Some(id) => *id,
            None => self.add(cast.shape.clone(), true),
        }
    }
}
