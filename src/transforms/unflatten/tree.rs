//! The objects of one event while fields move into them: a tree in which a field is found by its name, whatever their number.
//!
//! Guarantees: moving a field costs the bytes of its name and value. An object of the event is parsed once, when the first field
//! moves into it or through it, and stays byte for byte if none does. All of that together takes at most [`WORK_BYTES_MAX`];
//! then the tree is over, and its objects must not be used. Between events at most [`KEPT_BYTES_MAX`] are kept.

use crate::codec::json::{Fields, body_is, pieces};
use memchr::{memchr, memmem};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use tailwater_shards::scan::escape_json_into;

/// The bytes that may be read or written to move the fields of one event. A node counts as [`NODE_BYTES`].
pub const WORK_BYTES_MAX: usize = 16 << 20;

/// What is kept for the next event, of each buffer.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// The bytes that a node counts as: those that it uses.
const NODE_BYTES: usize = size_of::<Node>();

/// The number of fields of an object up to which all are compared.
const COMPARED_MAX: usize = 16;

/// An object or another value in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u32);

/// The event itself.
const ROOT: NodeId = NodeId(0);

/// A part of [`Tree::bytes`].
#[derive(Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Clone, Copy)]
enum Content {
    /// The value of this field of the event, not read yet.
    Field,
    Json(Span),
    /// An object: how it was written, its first and its last field, and their number.
    Object {
        source: Span,
        ends: Option<(NodeId, NodeId)>,
        count: usize,
    },
}

#[derive(Clone, Copy)]
struct Node {
    name: Span,
    /// Whether the name is written as in JSON.
    is_body: bool,
    /// Whether a field moved into the object or an object below.
    is_changed: bool,
    content: Content,
    next: Option<NodeId>,
    /// The field of the event whose place it has, if it is a field of the event.
    place: u32,
    /// The field before it with the same hash.
    same: Option<NodeId>,
}

/// See the module. Reused for each event.
#[derive(Default)]
pub struct Tree {
    nodes: Vec<Node>,
    /// Names and values.
    bytes: Vec<u8>,
    /// The last field with each hash of the objects with more than [`COMPARED_MAX`] fields, by the number of the object. The
    /// hash has a secret, because events choose the names.
    index: HashMap<(u32, u64), NodeId>,
    hasher: RandomState,
    plain: Vec<u8>,
    way: Vec<NodeId>,
    work: usize,
}

impl Tree {
    /// Begins an event.
    pub fn begin(&mut self) {
        self.work = 0;
        let content = Content::Object { source: Span::default(), ends: None, count: 0 };
        self.nodes.push(Node::new(Span::default(), false, content));
    }

    /// Ends an event.
    pub fn end(&mut self) {
        let Tree { nodes, bytes, index, plain, .. } = self;
        let many = KEPT_BYTES_MAX / NODE_BYTES;
        let is_large = |bytes: &Vec<u8>| bytes.capacity() > KEPT_BYTES_MAX;
        if nodes.capacity() > many || is_large(bytes) || index.capacity() > many || is_large(plain) {
            (*nodes, *bytes, *index, *plain) = Default::default();
        }
        nodes.clear();
        bytes.clear();
        index.clear();
    }

    /// Whether the event took too much work.
    pub fn is_over(&self) -> bool {
        self.work > WORK_BYTES_MAX
    }

    /// Adds a field of the event that is not split.
    pub fn add_field(&mut self, name: &[u8], place: usize) {
        let name = self.keep(name);
        self.add(ROOT, Node { place: place as u32, ..Node::new(name, false, Content::Field) });
    }

    /// Moves the value of the field at `place` to the path that its name has. Returns the object at the top, and the field
    /// whose place it has. None, and nothing is changed, if a part of the path is not an object, or the value would replace an
    /// object. `load` appends the JSON of a field.
    pub fn put(
        &mut self,
        name: &[u8],
        separator: &[u8],
        place: usize,
        load: impl Fn(usize, &mut Vec<u8>),
    ) -> Option<(NodeId, usize)> {
        self.way.clear();
        let (mut at, mut rest) = (ROOT, name);
        let found = loop {
            let (part, behind) = split(rest, separator);
            let Some(child) = self.child(at, part) else { break None };
            let Some(behind) = behind else { break Some(child) };
            if !self.open(child, &load) {
                return None;
            }
            self.way.push(child);
            (at, rest) = (child, behind);
        };
        if found.is_some_and(|child| self.is_object(child)) || self.is_over() {
            return None;
        }
        let value = self.bytes.len();
        load(place, &mut self.bytes);
        let value = Content::Json(self.span(value));
        match found {
            Some(child) => self.nodes[child.at()].content = value,
            None => self.grow(at, rest, separator, place, value),
        }
        for node in &self.way {
            self.nodes[node.at()].is_changed = true;
        }
        let head = *self.way.first()?;
        Some((head, self.nodes[head.at()].place as usize))
    }

    /// The name of a field of the event.
    pub fn name(&self, node: NodeId) -> &[u8] {
        self.read(self.nodes[node.at()].name)
    }

    /// Appends the JSON of a value. Recurses as deep as names have parts.
    pub fn write(&self, node: NodeId, out: &mut Vec<u8>) {
        let node = &self.nodes[node.at()];
        let mut next = match node.content {
            Content::Field => return,
            Content::Json(span) => return out.extend_from_slice(self.read(span)),
            Content::Object { source, .. } if !node.is_changed => return out.extend_from_slice(self.read(source)),
            Content::Object { ends, .. } => ends.map(|(first, _)| first),
        };
        out.push(b'{');
        let mut before: &[u8] = b"\"";
        while let Some(child) = next {
            let node = &self.nodes[child.at()];
            out.extend_from_slice(before);
            match node.is_body {
                true => out.extend_from_slice(self.read(node.name)),
                false => {
                    escape_json_into(self.read(node.name), out);
                }
            }
            out.extend_from_slice(b"\":");
            self.write(child, out);
            (before, next) = (b",\"", node.next);
        }
        out.push(b'}');
    }

    fn read(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    /// What was appended since.
    fn span(&mut self, start: usize) -> Span {
        self.work += self.bytes.len() - start;
        Span { start: start as u32, end: self.bytes.len() as u32 }
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.span(start)
    }

    fn is_object(&self, node: NodeId) -> bool {
        match self.nodes[node.at()].content {
            Content::Object { .. } => true,
            Content::Json(span) => self.read(span).starts_with(b"{"),
            Content::Field => false,
        }
    }

    /// The last field of an object with this name.
    fn child(&mut self, of: NodeId, name: &[u8]) -> Option<NodeId> {
        let Content::Object { ends, count, .. } = self.nodes[of.at()].content else { return None };
        self.work += name.len();
        if count > COMPARED_MAX {
            let mut next = self.index.get(&(of.0, self.hasher.hash_one(name))).copied();
            while let Some(child) = next.filter(|child| !self.has_name(*child, name)) {
                next = self.nodes[child.at()].same;
            }
            return next;
        }
        self.work += count;
        let (mut next, mut found) = (ends.map(|(first, _)| first), None);
        while let Some(child) = next {
            if self.has_name(child, name) {
                found = Some(child);
            }
            next = self.nodes[child.at()].next;
        }
        found
    }

    fn has_name(&self, node: NodeId, name: &[u8]) -> bool {
        let node = &self.nodes[node.at()];
        let own = self.read(node.name);
        if node.is_body { body_is(own, name) } else { own == name }
    }

    /// Parses the fields of an object. False if it is none, or there is no room for them.
    fn open(&mut self, node: NodeId, load: impl Fn(usize, &mut Vec<u8>)) -> bool {
        let Node { content, place, .. } = self.nodes[node.at()];
        let span = match content {
            Content::Object { .. } => return true,
            Content::Json(span) => span,
            Content::Field => {
                let start = self.bytes.len();
                load(place as usize, &mut self.bytes);
                let span = self.span(start);
                self.nodes[node.at()].content = Content::Json(span);
                span
            }
        };
        if !self.is_object(node) {
            return false;
        }
        self.work += (span.end - span.start) as usize;
        let bytes = std::mem::take(&mut self.bytes);
        let json = &bytes[span.start as usize..span.end as usize];
        let base = bytes.as_ptr() as usize;
        let place_of = |part: &[u8]| {
            let start = (part.as_ptr() as usize - base) as u32;
            Span { start, end: start + part.len() as u32 }
        };
        self.nodes[node.at()].content = Content::Object { source: span, ends: None, count: 0 };
        for (body, value) in Fields::of(json).into_iter().flatten() {
            if self.is_over() {
                break;
            }
            self.link(node, Node::new(place_of(body), true, Content::Json(place_of(value))));
        }
        self.bytes = bytes;
        self.index_all(node);
        !self.is_over()
    }

    /// Adds the objects that a path needs below `of`, and the value.
    fn grow(&mut self, of: NodeId, path: &[u8], separator: &[u8], place: usize, value: Content) {
        let (mut of, mut rest) = (of, path);
        loop {
            let (part, behind) = split(rest, separator);
            let name = self.keep(part);
            let Some(behind) = behind else {
                self.add(of, Node::new(name, false, value));
                return;
            };
            let content = Content::Object { source: Span::default(), ends: None, count: 0 };
            of = self.add(of, Node { place: place as u32, ..Node::new(name, false, content) });
            self.way.push(of);
            rest = behind;
        }
    }

    fn add(&mut self, of: NodeId, node: Node) -> NodeId {
        let added = self.link(of, node);
        match self.nodes[of.at()].content {
            Content::Object { count, .. } if count == COMPARED_MAX + 1 => self.index_all(of),
            Content::Object { count, .. } if count > COMPARED_MAX => self.index_one(of, added),
            _ => {}
        }
        added
    }

    fn link(&mut self, of: NodeId, node: Node) -> NodeId {
        self.work += NODE_BYTES;
        let added = NodeId(self.nodes.len() as u32);
        self.nodes.push(node);
        let Content::Object { ends, count, .. } = &mut self.nodes[of.at()].content else { return added };
        *count += 1;
        let last = ends.map(|(_, last)| last);
        *ends = Some(ends.map_or((added, added), |(first, _)| (first, added)));
        if let Some(last) = last {
            self.nodes[last.at()].next = Some(added);
        }
        added
    }

    /// Indexes the fields of an object if they are many.
    fn index_all(&mut self, of: NodeId) {
        let Content::Object { ends: Some((first, _)), count, .. } = self.nodes[of.at()].content else { return };
        let mut next = Some(first).filter(|_| count > COMPARED_MAX);
        while let Some(child) = next {
            self.index_one(of, child);
            next = self.nodes[child.at()].next;
        }
    }

    fn index_one(&mut self, of: NodeId, child: NodeId) {
        let Tree { nodes, bytes, index, hasher, plain, .. } = self;
        let Node { name, is_body, .. } = nodes[child.at()];
        let mut name = &bytes[name.start as usize..name.end as usize];
        if is_body && memchr(b'\\', name).is_some() {
            plain.clear();
            pieces(name, |piece| {
                plain.extend_from_slice(piece);
                true
            });
            name = &plain[..];
        }
        nodes[child.at()].same = index.insert((of.0, hasher.hash_one(name)), child);
    }
}

impl NodeId {
    fn at(self) -> usize {
        self.0 as usize
    }
}

impl Node {
    fn new(name: Span, is_body: bool, content: Content) -> Node {
        Node { name, is_body, is_changed: false, content, next: None, place: 0, same: None }
    }
}

/// The first part of a name, and the rest after the separator.
pub fn split<'a>(name: &'a [u8], separator: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    match memmem::find(name, separator) {
        Some(at) => (&name[..at], Some(&name[at + separator.len()..])),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_shards::scan::json::NESTING_MAX;

    /// The work of moving these fields, all of which must move.
    fn work(names: &[String]) -> usize {
        let mut tree = Tree::default();
        tree.begin();
        for (place, name) in names.iter().enumerate() {
            let put = tree.put(name.as_bytes(), b".", place, |_, out| out.push(b'1'));
            assert!(put.is_some(), "{name}");
        }
        tree.work
    }

    #[test]
    fn work_grows_with_the_bytes_of_the_names() {
        let deep = ".a".repeat(NESTING_MAX as usize - 2);
        let shapes: [(&str, &dyn Fn(usize) -> String); 5] = [
            ("one deep path", &|number| format!("a{deep}.{number}")),
            ("one object", &|number| format!("a.{number}")),
            ("many objects", &|number| format!("{number}.a")),
            ("many deep objects", &|number| format!("{number}{deep}")),
            ("objects that fork", &|number| format!("a.{}.{number}", number % 100)),
        ];
        for (shape, name) in shapes {
            let names = |count: usize| (0..count).map(name).collect::<Vec<_>>();
            let (few, many) = (work(&names(500)), work(&names(1000)));
            assert!(many < few * 21 / 10, "{shape}: {few} for 500 fields, {many} for 1000");
            let bytes: usize = names(1000).iter().map(String::len).sum();
            assert!(many < bytes * 2 * (NODE_BYTES + COMPARED_MAX), "{shape}: {many} for {bytes} bytes");
        }
    }

    #[test]
    fn nothing_of_a_large_event_is_kept() {
        let mut tree = Tree::default();
        tree.begin();
        for number in 0..100_000 {
            tree.add_field(format!("name{number}").as_bytes(), number);
        }
        tree.end();
        assert!(tree.nodes.capacity() == 0 && tree.bytes.capacity() == 0 && tree.index.capacity() == 0);
        // A long name, and one whose bytes without escapes need a larger buffer than all that was read.
        for name in
            [format!("\\n{}", "n".repeat(2 * KEPT_BYTES_MAX)), format!("{}\\n", "n".repeat(KEPT_BYTES_MAX - 1000))]
        {
            tree.begin();
            let fields: Vec<String> = (0..20).map(|number| format!("\"\\u0061{number}\":1")).collect();
            let object = format!("{{{},\"{name}\":1}}", fields.join(","));
            tree.add_field(b"o", 0);
            let load = |place, out: &mut Vec<u8>| out.extend_from_slice([object.as_bytes(), b"1"][place]);
            assert!(tree.put(b"o.x", b".", 1, load).is_some());
            assert!(tree.plain.capacity() > KEPT_BYTES_MAX);
            tree.end();
            assert!(tree.plain.capacity() <= KEPT_BYTES_MAX && tree.bytes.capacity() <= KEPT_BYTES_MAX);
        }
    }

    #[test]
    fn tree_without_room_is_over() {
        let mut tree = Tree::default();
        tree.begin();
        let mut put = 0;
        let value = "v".repeat(1 << 20);
        while !tree.is_over() {
            put += 1;
            tree.put(format!("a.{put}").as_bytes(), b".", put, |_, out| out.extend_from_slice(value.as_bytes()));
        }
        assert!((10..=WORK_BYTES_MAX >> 20).contains(&put), "{put}");
        assert!(tree.put(b"b.c", b".", 0, |_, _| {}).is_none());
    }
}
