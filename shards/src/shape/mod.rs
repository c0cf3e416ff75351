//! Shapes: which fields an event has, in which order, and where the value of each comes from.
//!
//! An event is the bytes it came as, the spans of its fields, and a shape. Two events with the same keys in the same order have
//! the same shape, so whatever depends on keys alone (where a field is, what an edit does, how the line is put together) is
//! worked out once for each shape and looked up for each event.
//!
//! Guarantees: shapes are bounded in number and in fields, their plans in bytes, whatever the keys of the events; an event whose
//! shape or plan is not kept has one of its own for as long as it is worked on, and comes out the same, only slower. Keys that no
//! event has any more do not take up that room for good. Of fields with the same key the last one counts. Holds no bytes of events: [`crate::record`] brings shape and bytes together.

mod cast;
mod edit;
mod hashed;
mod passing;
mod plan;

pub use cast::Cast;
pub use edit::{Edit, EditId, Find};
pub(crate) use plan::{From, Plan, Segment};

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
    /// Set in a name that only the event at hand has.
    const PASSING: u32 = 1 << 31;

    fn is_passing(self) -> bool {
        self.0 & KeyId::PASSING != 0
    }
}

/// Where the value of a field comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The line's field of this number as it stands there: its key, which is the field's name, and its JSON.
    Slot(u16),
    /// The JSON of the line's field of this number; the field has another name now.
    Value(u16),
    /// The whole event as text, which has to be escaped.
    Text,
    /// The value of this number that was made for this event: JSON.
    Computed(u16),
    /// The same JSON for every event.
    Constant(ConstantId),
    /// What the input knows of the event.
    Meta(Meta),
}

/// A JSON text that edits name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConstantId(u32);

/// What an input knows of each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meta {
    /// When it was read.
    Timestamp,
    /// The host.
    Host,
    /// The name of its source.
    File,
    /// Its place in the source.
    Offset,
}

/// A field of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name.
    pub key: KeyId,
    /// Where its value comes from.
    pub source: Source,
}

/// Names a shape: for good, or for as long as one event is worked on.
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
    /// Values that were made for the event so far: the number of the next one.
    computed: u16,
}

/// All shapes of one input on one shard.
pub struct Shapes {
    /// The keys of lines, in their order.
    pub trie: Trie,
    names: Vec<Box<[u8]>>,
    /// Of these, as many that are not of events alone.
    own_names: usize,
    ids: Map<Box<[u8]>, KeyId>,
    shapes: Vec<Shape>,
    known: Map<Shape, ShapeId>,
    fields_total: usize,
    shapes_max: usize,
    plans: Vec<Option<Plan>>,
    plan_bytes_total: usize,
    /// Shapes and names that only the event at hand has.
    passing: Passing,
    /// The keys of a line whose shape is being made, and one of their names.
    keys: Vec<KeyId>,
    name: Vec<u8>,
    /// The plan made last, where it is not kept.
    passing_plan: Plan,
    /// The shape of each node of the trie.
    of_node: Vec<ShapeId>,
    metas: Vec<Field>,
    text: ShapeId,
    /// Events without a shape or a plan that is kept, since the last renewal.
    misses: u32,
    constants: Vec<Box<[u8]>>,
    edits: Vec<Edit>,
    /// What each edit makes of each shape.
    edited: Vec<Vec<ShapeId>>,
    finds: Vec<KeyId>,
    /// Where each shape has the field of each find.
    found: RefCell<Vec<Vec<u32>>>,
}

/// Room for the keys of a line that is kept for those of the next.
const KEYS_KEPT: usize = 4096;

/// Keys that are compared each with each.
const COMPARED_MAX: usize = 32;

/// Not looked for yet; looked for in vain.
const UNSEEN: u32 = u32::MAX;
const ABSENT: u32 = u32::MAX - 1;

impl Shapes {
    /// Shapes of events that have the fields `metas` besides their own; `text` is the name of the field of an event that is
    /// not parsed, none if it is left out.
    pub fn new(metas: &[(Meta, &str)], text: Option<&str>) -> Shapes {
        Shapes::with_limits(metas, text, TRIE_NODES_MAX, SHAPES_MAX)
    }

    /// The same with other bounds.
    pub fn with_limits(metas: &[(Meta, &str)], text: Option<&str>, nodes_max: usize, shapes_max: usize) -> Shapes {
        let mut shapes = Shapes {
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
            text: ShapeId::NONE,
            misses: 0,
            constants: Vec::new(),
            edits: Vec::new(),
            edited: Vec::new(),
            finds: Vec::new(),
            found: RefCell::default(),
        };
        shapes.metas = metas
            .iter()
            .map(|(meta, name)| Field { key: shapes.key(name.as_bytes()), source: Source::Meta(*meta) })
            .collect();
        let own = text.map(|name| Field { key: shapes.key(name.as_bytes()), source: Source::Text });
        let is_own = |meta: &Field| own.is_some_and(|own| own.key == meta.key);
        let fields = shapes.metas.iter().copied().filter(|meta| !is_own(meta)).chain(own).collect();
        shapes.text = shapes.add(Shape { fields, computed: 0 }, false);
        shapes
    }

    /// The number of a name that the configuration says. It is good for as long as these shapes are.
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

    /// The number of a name that an event brought: of the event at hand only, when there are too many.
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

    /// A JSON text for edits.
    pub fn constant(&mut self, json: &[u8]) -> ConstantId {
        self.constants.push(json.into());
        ConstantId(self.constants.len() as u32 - 1)
    }

    /// The JSON text of a constant.
    pub fn constant_json(&self, id: ConstantId) -> &[u8] {
        &self.constants[id.0 as usize]
    }

    /// The shape of an event that is text.
    pub fn of_text(&mut self) -> ShapeId {
        self.passing.forget();
        self.text
    }

    /// The shape of a line. `name_of` appends the name of a slot's key: asked only when the line's keys are not in the trie.
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
        push_fields(&self.metas, &keys, &mut shape.fields);
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
        push_fields(&self.metas, &self.keys, &mut shape.fields);
        if self.keys.capacity() > KEYS_KEPT || self.name.capacity() > KEYS_KEPT {
            (self.keys, self.name) = Default::default();
        }
        self.pass(shape)
    }

    /// Forgets what events have brought, once there was no room for the keys of many: else a few odd events would make all that
    /// come after them slow. To be called between batches: lines that were parsed, shapes and names of events mean nothing after it.
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

    /// Keeps a shape for good, if there is room and it may be kept.
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

    /// Keeps a shape until the next event.
    fn pass(&mut self, shape: Shape) -> ShapeId {
        // An event counts once, whatever its verbs do.
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

    /// Values made for an event of this shape.
    pub fn computed(&self, id: ShapeId) -> u16 {
        self.shape(id).computed
    }

    /// Shapes that are kept.
    pub fn len(&self) -> usize {
        self.shapes.len()
    }

    /// Names that are kept.
    #[cfg(test)]
    pub(crate) fn names(&self) -> usize {
        self.names.len()
    }

    /// Bytes of the plans that are kept.
    #[cfg(test)]
    pub(crate) fn plan_bytes_total(&self) -> usize {
        self.plan_bytes_total
    }

    /// Whether none is kept; never.
    pub fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// Prepares to look for a field by its name.
    pub fn register_find(&mut self, name: &[u8]) -> Find {
        let key = self.key(name);
        let at = self.finds.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.finds.push(key);
            self.found.get_mut().push(Vec::new());
            self.finds.len() - 1
        });
        Find(at)
    }

    /// The field of a prepared name, if the shape has it.
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

    /// Whether events know their place in the source.
    pub(crate) fn has_offset(&self) -> bool {
        self.metas.iter().any(|field| field.source == Source::Meta(Meta::Offset))
    }

    /// How the line of an event of this shape is put together.
    #[inline]
    pub(crate) fn plan(&mut self, id: ShapeId) -> &Plan {
        // A passing shape has a number beyond all plans.
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

/// The fields of a line with these keys: what the input knows comes first, unless the event has a field of that name, and then of
/// each key the last field, in the order of the slots.
fn push_fields(metas: &[Field], keys: &[KeyId], fields: &mut Vec<Field>) {
    fields.extend(metas.iter().filter(|meta| !keys.contains(&meta.key)));
    let field = |(slot, key): (usize, &KeyId)| Field { key: *key, source: Source::Slot(slot as u16) };
    let slots = keys.iter().enumerate();
    if keys.len() <= COMPARED_MAX {
        fields.extend(slots.filter(|(slot, key)| !keys[slot + 1..].contains(key)).map(field));
        return;
    }
    let last: Map<KeyId, usize> = keys.iter().enumerate().map(|(slot, key)| (*key, slot)).collect();
    fields.extend(slots.filter(|(slot, key)| last[key] == *slot).map(field));
}
