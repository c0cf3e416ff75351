//! Temporary shapes and names of the current event, for which there is no space among the stored ones.
//!
//! Guarantees: their memory is reused for the next event, unless it is unusually large.

use super::{KeyId, Map, Shape, ShapeId};

/// Capacity for names of one event, and for fields of one shape, that is kept for the next event.
const NAMES_KEPT: usize = 4096;
const FIELDS_KEPT: usize = 4096;

/// See the module.
#[derive(Default)]
pub(super) struct Passing {
    /// The first `used` belong to the event. The others are spare.
    shapes: Vec<Shape>,
    used: usize,
    names: Vec<Box<[u8]>>,
    ids: Map<Box<[u8]>, KeyId>,
}

impl Passing {
    /// Starts a new event.
    pub(super) fn forget(&mut self) {
        for shape in &mut self.shapes[..self.used] {
            if shape.fields.capacity() > FIELDS_KEPT || shape.contested.capacity() > FIELDS_KEPT {
                *shape = Shape::default();
            }
        }
        self.used = 0;
        self.names.clear();
        // An event with very many names must not make clearing expensive for every later event.
        match self.ids.capacity() > NAMES_KEPT {
            true => self.ids = Map::default(),
            false => self.ids.clear(),
        }
    }

    /// Whether the event has no shape here yet.
    pub(super) fn is_unused(&self) -> bool {
        self.used == 0
    }

    /// Returns an empty shape, to be filled and passed to [`Passing::push`].
    pub(super) fn room(&mut self) -> Shape {
        let mut shape = self.shapes.get_mut(self.used).map(std::mem::take).unwrap_or_default();
        shape.fields.clear();
        shape.contested.clear();
        shape.computed = 0;
        shape
    }

    /// Stores a shape until the next event.
    pub(super) fn push(&mut self, shape: Shape) -> ShapeId {
        self.give_back(shape);
        self.used += 1;
        ShapeId(ShapeId::PASSING | (self.used as u32 - 1))
    }

    /// Takes back a shape from [`Passing::room`].
    pub(super) fn give_back(&mut self, shape: Shape) {
        match self.shapes.get_mut(self.used) {
            Some(room) => *room = shape,
            None => self.shapes.push(shape),
        }
    }

    pub(super) fn shape(&self, id: ShapeId) -> &Shape {
        &self.shapes[..self.used][id.index()]
    }

    pub(super) fn name(&self, key: KeyId) -> &[u8] {
        &self.names[(key.0 & !KeyId::PASSING) as usize]
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<KeyId> {
        self.ids.get(name).copied()
    }

    /// Stores a name until the next event.
    pub(super) fn add(&mut self, name: &[u8]) -> KeyId {
        self.names.push(name.into());
        let key = KeyId(KeyId::PASSING | (self.names.len() as u32 - 1));
        self.ids.insert(name.into(), key);
        key
    }
}
