//! What only the event at hand has: shapes and names for which there is no room among those that are kept.
//!
//! Guarantees: their memory serves again for the next event, as long as it is not unusually much.

use super::{KeyId, Map, Shape, ShapeId};

/// Room for names of one event, and for fields of one shape, that is kept for those of the next.
const NAMES_KEPT: usize = 4096;
const FIELDS_KEPT: usize = 4096;

/// See the module.
#[derive(Default)]
pub(super) struct Passing {
    /// The first `used` are those of the event; others are room.
    shapes: Vec<Shape>,
    used: usize,
    names: Vec<Box<[u8]>>,
    ids: Map<Box<[u8]>, KeyId>,
}

impl Passing {
    /// A new event.
    pub(super) fn forget(&mut self) {
        for shape in &mut self.shapes[..self.used] {
            if shape.fields.capacity() > FIELDS_KEPT {
                *shape = Shape::default();
            }
        }
        self.used = 0;
        self.names.clear();
        // An event with very many names must not make it dear to forget those of each event that follows.
        match self.ids.capacity() > NAMES_KEPT {
            true => self.ids = Map::default(),
            false => self.ids.clear(),
        }
    }

    /// Whether the event has no shape here yet.
    pub(super) fn is_unused(&self) -> bool {
        self.used == 0
    }

    /// An empty shape, to be filled and given to [`Passing::push`].
    pub(super) fn room(&mut self) -> Shape {
        let mut shape = self.shapes.get_mut(self.used).map(std::mem::take).unwrap_or_default();
        shape.fields.clear();
        shape.computed = 0;
        shape
    }

    /// Keeps a shape until the next event.
    pub(super) fn push(&mut self, shape: Shape) -> ShapeId {
        self.give_back(shape);
        self.used += 1;
        ShapeId(ShapeId::PASSING | (self.used as u32 - 1))
    }

    /// Takes back what [`Passing::room`] gave.
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

    /// Keeps a name until the next event.
    pub(super) fn add(&mut self, name: &[u8]) -> KeyId {
        self.names.push(name.into());
        let key = KeyId(KeyId::PASSING | (self.names.len() as u32 - 1));
        self.ids.insert(name.into(), key);
        key
    }
}
