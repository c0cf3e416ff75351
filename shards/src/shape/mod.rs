//! Shapes: which fields an event has, in which order, and where the value of each comes from.
//!
//! An event consists of its original bytes, the spans of its fields, and a shape. Two events with the same keys in the same
//! order have the same shape. Whatever depends only on keys (where a field is, what an edit does, how the line is assembled) is
//! therefore computed once for each shape and looked up for each event.
//!
//! Guarantees: the number of shapes, their fields and the bytes of their plans are limited, whatever the keys of the events. An
//! event whose shape or plan is not cached has a temporary one while it is processed; the result is the same, only slower. Keys
//! that no longer occur do not use that space permanently. If a key occurs more than once, the last field counts. Holds no
//! bytes of events: [`crate::record`] combines shape and bytes.

mod cast;
mod edit;
mod guard;
mod hashed;
mod passing;
mod plan;

pub use cast::Cast;
pub use edit::{Edit, EditId, Find};
pub use guard::Guarded;
pub(crate) use plan::{From, Plan, Segment};

use guard::Guard;
use passing::Passing;

use crate::limits::{
    PLAN_BYTES_TOTAL_MAX, SHAPE_FIELDS_TOTAL_MAX, SHAPE_NAMES_MAX, SHAPES_MAX, SHAPES_RENEWAL_EVENTS, TRIE_NODES_MAX,
};
use crate::scan::escape_json_into;
use crate::scan::json::{LABEL_BYTES_MAX, Line, NodeId, Trie};
use std::cell::RefCell;
use std::collections::HashMap;

/// A map whose keys may come from events.
type Map<K, V> = HashMap<K, V, hashed::Build>;

/// The name of a top-level field, interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(u32);

impl KeyId {
    /// Set in a name that only the current event has.
    const PASSING: u32 = 1 << 31;

    fn is_passing(self) -> bool {
        self.0 & KeyId::PASSING != 0
    }
}

/// Where the value of a field comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The line's field with this number, unchanged: its key, which is the field's name, and its JSON.
    Slot(u16),
    /// The JSON of the line's field with this number. The field has a different name now.
    Value(u16),
    /// The whole event as text, which must be escaped.
    Text,
    /// The JSON value with this number that was created for this event.
    Computed(u16),
    /// The same JSON for every event.
    Constant(ConstantId),
    /// Metadata that the input has about the event.
    Meta(Meta),
}

/// A JSON text used by edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConstantId(u32);

/// The metadata that an input has about each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meta {
    /// When it was read.
    Timestamp,
    /// The host.
    Host,
    /// The name of its source.
    File,
    /// Its position in the source.
    Offset,
    /// The name of the input.
    Input,
}

/// A field of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name.
    pub key: KeyId,
    /// Where its value comes from.
    pub source: Source,
}

/// Identifies a shape: permanently, or while one event is processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShapeId(u32);

impl ShapeId {
    const NONE: ShapeId = ShapeId(u32::MAX);
    const PASSING: u32 = 1 << 31;

    fn is_passing(self) -> bool {
        self.0 & ShapeId::PASSING != 0
    }

    fn index(self) -> usize {
        (self.0 & !ShapeId::PASSING) as usize
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Shape {
    fields: Vec<Field>,
    /// Fields of a line whose names are guarded.
    contested: Vec<Field>,
    /// Number of values created for the event so far, which is the number of the next one.
    computed: u16,
}

/// All shapes of one input on one shard.
pub struct Shapes {
    /// The keys of lines, in order.
    pub trie: Trie,
    names: Vec<Box<[u8]>>,
    /// How many of the names do not come from events.
    own_names: usize,
    ids: Map<Box<[u8]>, KeyId>,
    shapes: Vec<Shape>,
    known: Map<Shape, ShapeId>,
    fields_total: usize,
    shapes_max: usize,
    plans: Vec<Option<Plan>>,
    plan_bytes_total: usize,
    /// Shapes and names that only the current event has.
    passing: Passing,
    /// Buffers for the keys of a line whose shape is being created, and for one of their names.
    keys: Vec<KeyId>,
    name: Vec<u8>,
    /// The last created plan, if it is not cached.
    passing_plan: Plan,
    /// The shape of each node of the trie.
    of_node: Vec<ShapeId>,
    metas: Vec<Field>,
    guard: Guard,
    /// Whether events have a position in their source, and whether anything reads it.
    offset: [bool; 2],
    text: ShapeId,
    /// Events without a cached shape or plan since the last renewal.
    misses: u32,
    constants: Vec<Box<[u8]>>,
    edits: Vec<Edit>,
    /// The result of each edit for each shape.
    edited: Vec<Vec<ShapeId>>,
    finds: Vec<KeyId>,
    /// For each find, the index of the field in each shape.
    found: RefCell<Vec<Vec<u32>>>,
}

/// Capacity for the keys of a line that is kept for the next line.
const KEYS_KEPT: usize = 4096;

/// Number of keys up to which all pairs are compared.
const COMPARED_MAX: usize = 32;

/// Not looked up yet; looked up and not found.
const UNSEEN: u32 = u32::MAX;
const ABSENT: u32 = u32::MAX - 1;

impl Shapes {
    /// Shapes of events that have the fields `metas` in addition to their own. `text` is the name of the field of an unparsed
    /// event, or none if it is omitted.
    pub fn new(metas: &[(Meta, &str)], text: Option<&str>) -> Shapes {
        Shapes::with_limits(metas, text, TRIE_NODES_MAX, SHAPES_MAX)
    }

    /// The same with other limits.
    pub fn with_limits(metas: &[(Meta, &str)], text: Option<&str>, nodes_max: usize, shapes_max: usize) -> Shapes {
        Shapes::empty(nodes_max, shapes_max).of(metas, text)
    }

    /// The same for events that cannot set fields with these names.
    pub fn guarding(names: &[&str], metas: &[(Meta, &str)], text: Option<&str>) -> Shapes {
        let mut shapes = Shapes::empty(TRIE_NODES_MAX, SHAPES_MAX);
        shapes.guard(names);
        shapes.of(metas, text)
    }

    fn empty(nodes_max: usize, shapes_max: usize) -> Shapes {
        Shapes {
            shapes_max,
            trie: Trie::new(nodes_max),
            names: Vec::new(),
            own_names: 0,
            ids: Map::default(),
            shapes: Vec::new(),
            known: Map::default(),
            fields_total: 0,
            plans: Vec::new(),
            plan_bytes_total: 0,
            passing: Passing::default(),
            keys: Vec::new(),
            name: Vec::new(),
            passing_plan: Plan::default(),
            of_node: Vec::new(),
            metas: Vec::new(),
            guard: Guard::default(),
            offset: [false; 2],
            text: ShapeId::NONE,
            misses: 0,
            constants: Vec::new(),
            edits: Vec::new(),
            edited: Vec::new(),
            finds: Vec::new(),
            found: RefCell::default(),
        }
    }

    fn of(mut self, metas: &[(Meta, &str)], text: Option<&str>) -> Shapes {
        self.metas = metas
            .iter()
            .map(|(meta, name)| Field { key: self.key(name.as_bytes()), source: Source::Meta(*meta) })
            .collect();
        self.offset = [metas.iter().any(|(meta, _)| *meta == Meta::Offset); 2];
        let own = text.map(|name| Field { key: self.key(name.as_bytes()), source: Source::Text });
        let is_own = |meta: &Field| own.is_some_and(|own| own.key == meta.key);
        let fields = self.metas.iter().copied().filter(|meta| !is_own(meta)).chain(own).collect();
        self.text = self.add(Shape { fields, ..Shape::default() }, false);
        self
    }

    /// The number of a name from the configuration. It is valid for as long as these shapes exist.
    pub fn key(&mut self, name: &[u8]) -> KeyId {
        let key = self.intern(name);
        self.own_names = self.own_names.max(key.0 as usize + 1);
        key
    }

    fn intern(&mut self, name: &[u8]) -> KeyId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = KeyId(u32::try_from(self.names.len()).expect("names are bounded by the trie and the configuration"));
        self.names.push(name.into());
        self.ids.insert(name.into(), id);
        id
    }

    /// The number of a name from an event. If there are too many, it is valid only for the current event.
    pub fn key_of_event(&mut self, name: &[u8]) -> KeyId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        if let Some(id) = self.passing.find(name) {
            return id;
        }
        let room = self.names.len() < SHAPE_NAMES_MAX && name.len() <= LABEL_BYTES_MAX;
        if room { self.intern(name) } else { self.passing.add(name) }
    }

    /// The name of a key.
    pub fn name(&self, key: KeyId) -> &[u8] {
        match key.is_passing() {
            true => self.passing.name(key),
            false => &self.names[key.0 as usize],
        }
    }

    /// Registers a JSON text for edits.
    pub fn constant(&mut self, json: &[u8]) -> ConstantId {
        self.constants.push(json.into());
        ConstantId(self.constants.len() as u32 - 1)
    }

    /// The JSON text of a constant.
    pub fn constant_json(&self, id: ConstantId) -> &[u8] {
        &self.constants[id.0 as usize]
    }

    /// The shape of an unparsed event.
    pub fn of_text(&mut self) -> ShapeId {
        self.passing.forget();
        self.text
    }

    /// The shape of a line. `name_of` appends the name of a slot's key. It is called only if the line's keys are not in the
    /// trie.
    pub fn of_line(&mut self, line: &Line, name_of: impl FnMut(u16, &mut Vec<u8>)) -> ShapeId {
        debug_assert!(line.node != NodeId::BAD, "a line that is no object has no shape of its own");
        self.passing.forget();
        if line.node == NodeId::OVERFLOW {
            return self.of_overflow(line, name_of);
        }
        match self.of_node.get(line.node.index()) {
            Some(shape) if *shape != ShapeId::NONE => *shape,
            _ => self.of_new_node(line.node),
        }
    }

    #[cold]
    fn of_new_node(&mut self, node: NodeId) -> ShapeId {
        let mut keys = Vec::with_capacity(self.trie.depth(node));
        let mut at = node;
        while at != NodeId::ROOT {
            let name = self.trie.key(at).to_vec();
            keys.push(self.intern(&name));
            at = self.trie.parent(at);
        }
        keys.reverse();
        let mut shape = Shape::default();
        push_fields(&self.metas, &keys, self.guard, &mut shape);
        self.guard.is_contested |= !shape.contested.is_empty();
        let shape = self.add(shape, true);
        if !shape.is_passing() {
            let index = node.index();
            if self.of_node.len() <= index {
                self.of_node.resize(index + 1, ShapeId::NONE);
            }
            self.of_node[index] = shape;
        }
        shape
    }

    #[cold]
    fn of_overflow(&mut self, line: &Line, mut name_of: impl FnMut(u16, &mut Vec<u8>)) -> ShapeId {
        self.keys.clear();
        for slot in 0..line.slots as u16 {
            self.name.clear();
            name_of(slot, &mut self.name);
            let known = self.ids.get(&self.name[..]).copied().or_else(|| self.passing.find(&self.name));
            self.keys.push(known.unwrap_or_else(|| self.passing.add(&self.name)));
        }
        let mut shape = self.passing.room();
        push_fields(&self.metas, &self.keys, self.guard, &mut shape);
        self.guard.is_contested |= !shape.contested.is_empty();
        if self.keys.capacity() > KEYS_KEPT || self.name.capacity() > KEYS_KEPT {
            (self.keys, self.name) = Default::default();
        }
        self.pass(shape)
    }

    /// Forgets what events have added, if there was no space for the keys of many events. Otherwise a few unusual events would
    /// make all later ones slow. Must be called between batches: parsed lines, shapes and names of events are invalid
    /// afterwards.
    pub fn renew_if_due(&mut self) {
        if self.misses < SHAPES_RENEWAL_EVENTS {
            return;
        }
        let text = self.shapes[self.text.index()].clone();
        self.misses = 0;
        self.passing.forget();
        self.trie.clear();
        self.names.truncate(self.own_names);
        self.ids.retain(|_, id| (id.0 as usize) < self.own_names);
        self.shapes.clear();
        self.known.clear();
        self.fields_total = 0;
        self.plans.clear();
        self.plan_bytes_total = 0;
        self.of_node.clear();
        self.edited.iter_mut().for_each(Vec::clear);
        self.found.get_mut().iter_mut().for_each(Vec::clear);
        self.text = self.add(text, false);
    }

    /// Stores a shape permanently, if there is space and it may be stored.
    fn add(&mut self, shape: Shape, may_pass: bool) -> ShapeId {
        if let Some(id) = self.known.get(&shape) {
            return *id;
        }
        let full =
            self.shapes.len() >= self.shapes_max || self.fields_total + shape.fields.len() > SHAPE_FIELDS_TOTAL_MAX;
        if may_pass && (full || shape.fields.iter().any(|field| field.key.is_passing())) {
            return self.pass(shape);
        }
        let id = ShapeId(self.shapes.len() as u32);
        self.fields_total += shape.fields.len();
        self.known.insert(shape.clone(), id);
        self.shapes.push(shape);
        self.plans.push(None);
        id
    }

    /// Stores a shape until the next event.
    fn pass(&mut self, shape: Shape) -> ShapeId {
        // An event counts once, whatever its transforms do.
        self.misses = self.misses.saturating_add(u32::from(self.passing.is_unused()));
        self.passing.push(shape)
    }

    fn shape(&self, id: ShapeId) -> &Shape {
        if id.is_passing() { self.passing.shape(id) } else { &self.shapes[id.index()] }
    }

    /// The fields of a shape.
    pub fn fields(&self, id: ShapeId) -> &[Field] {
        &self.shape(id).fields
    }

    /// Number of values created for an event of this shape.
    pub fn computed(&self, id: ShapeId) -> u16 {
        self.shape(id).computed
    }

    /// Number of stored shapes.
    pub fn len(&self) -> usize {
        self.shapes.len()
    }

    /// Number of stored names.
    #[cfg(test)]
    pub(crate) fn names(&self) -> usize {
        self.names.len()
    }

    /// Bytes of the stored plans.
    #[cfg(test)]
    pub(crate) fn plan_bytes_total(&self) -> usize {
        self.plan_bytes_total
    }

    /// Whether no shape is stored. Always false.
    pub fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// Prepares the lookup of a field by its name.
    pub fn register_find(&mut self, name: &[u8]) -> Find {
        let key = self.key(name);
        let at = self.finds.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.finds.push(key);
            self.found.get_mut().push(Vec::new());
            self.finds.len() - 1
        });
        Find(at)
    }

    /// The field with a prepared name, if the shape has it.
    #[inline]
    pub fn find(&self, find: Find, id: ShapeId) -> Option<Source> {
        let known = self.found.borrow()[find.0].get(id.0 as usize).copied().unwrap_or(UNSEEN);
        let at = if known == UNSEEN { self.find_anew(find, id) } else { known };
        (at != ABSENT).then(|| self.shape(id).fields[at as usize].source)
    }

    #[cold]
    fn find_anew(&self, find: Find, id: ShapeId) -> u32 {
        let key = self.finds[find.0];
        let at = self.shape(id).fields.iter().position(|field| field.key == key).map_or(ABSENT, |at| at as u32);
        if !id.is_passing() {
            let found = &mut self.found.borrow_mut()[find.0];
            if found.len() <= id.index() {
                found.resize(self.shapes.len(), UNSEEN);
            }
            found[id.index()] = at;
        }
        at
    }

    /// Whether the position of an event in its source is needed.
    #[inline]
    pub(crate) fn has_offset(&self) -> bool {
        self.offset == [true; 2]
    }

    /// Says that events have a position in their source, even if it is not one of their fields.
    pub fn know_offset(&mut self) {
        self.offset[0] = true;
    }

    /// Says that something reads the position, even if it is not a field.
    pub fn need_offset(&mut self) {
        self.offset[1] = true;
    }

    /// How the line of an event of this shape is assembled.
    #[inline]
    pub(crate) fn plan(&mut self, id: ShapeId) -> &Plan {
        // A temporary shape has a number greater than those of all plans.
        if !matches!(self.plans.get(id.0 as usize), Some(Some(_))) {
            self.make_plan(id);
        }
        match self.plans.get(id.0 as usize) {
            Some(Some(plan)) => plan,
            _ => &self.passing_plan,
        }
    }

    #[cold]
    fn make_plan(&mut self, id: ShapeId) {
        let mut plan = std::mem::take(&mut self.passing_plan);
        plan.fill(
            &self.shape(id).fields,
            |key, out| {
                out.push(b'"');
                escape_json_into(self.name(key), out);
                out.extend_from_slice(b"\":");
            },
            |constant, out| out.extend_from_slice(self.constant_json(constant)),
        );
        let total = self.plan_bytes_total + plan.bytes();
        if id.is_passing() || total > PLAN_BYTES_TOTAL_MAX {
            self.misses = self.misses.saturating_add(u32::from(!id.is_passing()));
            self.passing_plan = plan;
            return;
        }
        self.plan_bytes_total = total;
        self.plans[id.index()] = Some(plan.fitted());
    }
}

/// The fields of a line with these keys: first the metadata, unless the event has a field with that name that is not guarded, and
/// then the last field of each key, in the order of the slots.
fn push_fields(metas: &[Field], keys: &[KeyId], guard: Guard, shape: &mut Shape) {
    let is_named = |key: KeyId| guard.of(key) == Some(Guarded::Name);
    shape.fields.extend(metas.iter().filter(|meta| is_named(meta.key) || !keys.contains(&meta.key)));
    let mut push = |(slot, key): (usize, &KeyId)| {
        let field = Field { key: *key, source: Source::Slot(slot as u16) };
        if guard.of(*key).is_some() {
            shape.contested.push(field);
        }
        if !is_named(*key) {
            shape.fields.push(field);
        }
    };
    let slots = keys.iter().enumerate();
    if keys.len() <= COMPARED_MAX {
        return slots.filter(|(slot, key)| !keys[slot + 1..].contains(key)).for_each(push);
    }
    let last: Map<KeyId, usize> = keys.iter().enumerate().map(|(slot, key)| (*key, slot)).collect();
    slots.filter(|(slot, key)| last[key] == *slot).for_each(&mut push);
}
