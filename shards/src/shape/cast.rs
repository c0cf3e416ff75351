//! Casts: replace all fields of an event in one step, however many they are.
//!
//! Guarantees: nothing is allocated for a known list of fields. Intermediate lists never become shapes. The cost per field is
//! the same, whatever the number of fields. If a key occurs more than once, the last field counts, in the position of the
//! first.

use super::{Field, KeyId, Map, Shape, ShapeId, Shapes, Source};

/// Number of fields up to which a key is searched linearly.
const LOOKED_THROUGH_MAX: usize = 32;

/// Capacity that is kept from one event to the next.
const FIELDS_KEPT: usize = 4096;

/// The fields that an event will have. Reused for each event.
#[derive(Default)]
pub struct Cast {
    shape: Shape,
    /// The index of each key, if there are many.
    places: Map<KeyId, usize>,
}

impl Cast {
    /// Begins a list for an event for which this many values have been created.
    pub fn begin(&mut self, computed: u16) {
        if self.shape.fields.capacity() > FIELDS_KEPT || self.places.capacity() > FIELDS_KEPT {
            *self = Cast::default();
        }
        self.shape.fields.clear();
        self.places.clear();
        self.shape.computed = computed;
    }

    /// Adds a field, or sets the source of an existing field.
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

    /// Adds a field with the next value that is created for the event.
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
