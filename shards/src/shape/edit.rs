//! Edits: every change of an event's fields is a step from one shape to another.
//!
//! Guarantees: the step is computed once for a cached shape. An edit that changes nothing returns the same shape.

use super::{ConstantId, Field, KeyId, Shape, ShapeId, Shapes, Source};

/// A change of fields by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Edit {
    /// Removes this field.
    Remove(KeyId),
    /// Removes all fields except these.
    Keep(Vec<KeyId>),
    /// Renames the field `from` to `to`. An existing field `to` is removed.
    Rename {
        /// The old name.
        from: KeyId,
        /// The new name.
        to: KeyId,
    },
    /// Copies the value of `from` to `to`.
    Copy {
        /// The source field.
        from: KeyId,
        /// The target field: replaced if it exists, otherwise appended.
        to: KeyId,
    },
    /// Sets the field to the same value in every event: replaced if it exists, otherwise appended.
    Constant(KeyId, ConstantId),
    /// Sets the field to a value created for this event: replaced if it exists, otherwise appended.
    Computed(KeyId),
    /// Removes all fields.
    Clear,
    /// These edits, one after the other.
    All(Vec<EditId>),
}

/// A prepared edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EditId(usize);

/// A prepared name for lookups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Find(pub(super) usize);

impl Shapes {
    /// Prepares an edit.
    pub fn register_edit(&mut self, edit: Edit) -> EditId {
        let at = self.edits.iter().position(|known| *known == edit).unwrap_or_else(|| {
            self.edits.push(edit);
            self.edited.push(Vec::new());
            self.edits.len() - 1
        });
        EditId(at)
    }

    /// The shape that results from applying an edit to a shape.
    #[inline]
    pub fn edit(&mut self, edit: EditId, id: ShapeId) -> ShapeId {
        match self.edited[edit.0].get(id.0 as usize) {
            Some(next) if *next != ShapeId::NONE => *next,
            _ => self.edit_anew(edit, id),
        }
    }

    #[cold]
    fn edit_anew(&mut self, edit: EditId, id: ShapeId) -> ShapeId {
        let mut after = self.passing.room();
        let before = self.shape(id);
        after.fields.extend_from_slice(&before.fields);
        after.computed = before.computed;
        self.apply(&self.edits[edit.0], &mut after);
        let next = match after == *before {
            true => {
                self.passing.give_back(after);
                id
            }
            false if id.is_passing() => self.pass(after),
            false => self.add(after, true),
        };
        if !id.is_passing() && !next.is_passing() {
            let edited = &mut self.edited[edit.0];
            if edited.len() <= id.index() {
                edited.resize(self.shapes.len(), ShapeId::NONE);
            }
            edited[id.index()] = next;
        }
        next
    }

    fn apply(&self, edit: &Edit, shape: &mut Shape) {
        match edit {
            Edit::All(edits) => edits.iter().for_each(|edit| self.apply(&self.edits[edit.0], shape)),
            edit => apply(edit, shape),
        }
    }
}

fn apply(edit: &Edit, shape: &mut Shape) {
    let fields = &mut shape.fields;
    match edit {
        Edit::Remove(key) => fields.retain(|field| field.key != *key),
        Edit::Keep(keys) => fields.retain(|field| keys.contains(&field.key)),
        Edit::Rename { from, to } if from != to => {
            if fields.iter().any(|field| field.key == *from) {
                fields.retain(|field| field.key != *to);
                let renamed = |field: &mut Field| *field = Field { key: *to, source: without_key(field.source) };
                fields.iter_mut().filter(|field| field.key == *from).for_each(renamed);
            }
        }
        Edit::Rename { .. } => {}
        Edit::Copy { from, to } => {
            if let Some(source) = fields.iter().find(|field| field.key == *from).map(|field| field.source) {
                put(fields, *to, without_key(source));
            }
        }
        Edit::Constant(key, constant) => put(fields, *key, Source::Constant(*constant)),
        Edit::Computed(key) => {
            put(fields, *key, Source::Computed(shape.computed));
            shape.computed += 1;
        }
        Edit::Clear => fields.clear(),
        Edit::All(_) => unreachable!("its parts are applied one by one"),
    }
}

fn put(fields: &mut Vec<Field>, key: KeyId, source: Source) {
    match fields.iter_mut().find(|field| field.key == key) {
        Some(field) => field.source = source,
        None => fields.push(Field { key, source }),
    }
}

fn without_key(source: Source) -> Source {
    match source {
        Source::Slot(slot) => Source::Value(slot),
        source => source,
    }
}
