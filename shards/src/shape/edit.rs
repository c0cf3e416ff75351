//! Edits: what changes the fields of an event is a step from one shape to another.
//!
//! Guarantees: the step is worked out once for a shape that is kept. An edit that finds nothing to do leaves the shape as it is.

use super::{ConstantId, Field, KeyId, Shape, ShapeId, Shapes, Source};

/// A change of fields by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Edit {
    /// Without this field.
    Remove(KeyId),
    /// Without any field but these.
    Keep(Vec<KeyId>),
    /// The field `from` is called `to`; one that had this name before is gone.
    Rename {
        /// The old name.
        from: KeyId,
        /// The new name.
        to: KeyId,
    },
    /// The value of `from` is that of `to` too.
    Copy {
        /// Where the value is.
        from: KeyId,
        /// The field that gets it: a new last one, or in its place if it exists.
        to: KeyId,
    },
    /// The field has the same value in every event: a new last one, or in its place if it exists.
    Constant(KeyId, ConstantId),
    /// The field has a value made for this event: a new last one, or in its place if it exists.
    Computed(KeyId),
    /// No field at all.
    Clear,
    /// These edits, one after the other.
    All(Vec<EditId>),
}

/// A prepared edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EditId(usize);

/// A prepared name to look for.
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

    /// The shape that an edit makes of a shape.
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
