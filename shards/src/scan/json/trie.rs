//! Key sequences as nodes of a trie. What depends only on the keys of an object is decided once for each node.
//!
//! Guarantees: two objects reach the same node exactly when they have the same keys in the same order, however the keys are
//! spelled (escapes, white space around them). Finding a known key allocates nothing. Memory is limited by the number of nodes
//! and by [`KEY_BYTES_MAX`], whatever is parsed. Does not resolve keys that occur twice: each one is a separate step.
//!
//! An edge is labeled with the raw bytes from after the `{` or `,` to the colon. A node compares its first four short labels
//! itself. A common table holds all labels, and the names that the labels spell.

use super::kernel::Kernel;
use super::text::{trim, unescape_key};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Maximum bytes of keys and labels in one trie.
pub const KEY_BYTES_MAX: usize = 1024 * 1024;
/// Longest key, with the bytes around it, that becomes a step in a trie.
pub const LABEL_BYTES_MAX: usize = 4096;

/// Number of labels that a node compares itself.
const INLINE_EDGES: usize = 4;
/// Maximum bytes of such a label: one load of a vector register.
const INLINE_BYTES: usize = 32;
/// Edges in the table for each possible node: its name, and other spellings of it.
const EDGES_PER_NODE: usize = 4;
/// No inline label has this length.
const UNUSED: u8 = u8::MAX;
/// No edge has this number.
const NONE: u32 = u32::MAX;
/// Set in the parent of an edge whose label is a name and not a raw label.
const NAME: u32 = 1 << 31;

/// Which keys an object has, in order: a node of a [`Trie`], or one of the special values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// The object without fields.
    pub const ROOT: NodeId = NodeId(0);
    /// A valid object for whose keys the trie has no space. Its slots exist nevertheless.
    pub const OVERFLOW: NodeId = NodeId(u32::MAX - 1);
    /// Not one JSON object.
    pub const BAD: NodeId = NodeId(u32::MAX);

    /// Index of the node in its trie, counted from zero. Parents come before their children.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether it is a node of a trie, and not a special value.
    pub fn is_node(self) -> bool {
        self < NodeId::OVERFLOW
    }
}

#[repr(C, align(32))]
struct Node {
    labels: [[u8; INLINE_BYTES]; INLINE_EDGES],
    lengths: [u8; INLINE_EDGES],
    children: [u32; INLINE_EDGES],
    parent: u32,
    depth: u32,
    /// The range of its key in the bytes of the trie.
    key: (u32, u32),
}

struct Edge {
    parent: u32,
    /// The range of its label in the bytes of the trie.
    label: (u32, u32),
    child: u32,
    /// Another edge with the same hash.
    next: u32,
}

/// A hasher that does nothing, because the keys of the table are already hashes.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The key sequences seen so far.
pub struct Trie {
    nodes: Vec<Node>,
    nodes_max: usize,
    edges: Vec<Edge>,
    heads: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    bytes: Vec<u8>,
    /// Random for each trie, so that nobody can construct keys that collide.
    seed: u64,
    full: bool,
    scratch: Vec<u8>,
}

impl Trie {
    /// A trie with space for `nodes_max` nodes, including the empty object.
    ///
    /// # Panics
    /// If that is zero, or more than 2^30.
    pub fn new(nodes_max: usize) -> Trie {
        assert!((1..=1 << 30).contains(&nodes_max), "a trie of {nodes_max} nodes");
        let mut trie = Trie {
            nodes: Vec::new(),
            nodes_max,
            edges: Vec::new(),
            heads: HashMap::default(),
            bytes: Vec::new(),
            seed: RandomState::new().hash_one(0),
            full: false,
            scratch: Vec::new(),
        };
        trie.clear();
        trie
    }

    /// Number of nodes so far, including the empty object, which always exists.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there was no space for the keys of a line, because of the number of nodes or the bytes of all keys.
    #[cfg(test)]
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// The keys without the last one. For the empty object, the empty object itself.
    ///
    /// # Panics
    /// If `node` is not a node of this trie.
    pub fn parent(&self, node: NodeId) -> NodeId {
        NodeId(self.nodes[node.index()].parent)
    }

    /// Number of keys on the path to the node: the number of slots of its lines.
    ///
    /// # Panics
    /// If `node` is not a node of this trie.
    pub fn depth(&self, node: NodeId) -> usize {
        self.nodes[node.index()].depth as usize
    }

    /// The last key, unescaped, in UTF-8. Empty for the empty object.
    ///
    /// # Panics
    /// If `node` is not a node of this trie.
    pub fn key(&self, node: NodeId) -> &[u8] {
        self.text(self.nodes[node.index()].key)
    }

    /// Removes everything. Nodes returned earlier are no longer valid.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.edges.clear();
        self.heads.clear();
        self.bytes.clear();
        self.full = false;
        self.nodes.push(Node::new(0, 0, (0, 0)));
    }

    fn text(&self, (start, length): (u32, u32)) -> &[u8] {
        &self.bytes[start as usize..start as usize + length as usize]
    }

    /// The node after a label, if `node` itself knows it.
    ///
    /// # Safety
    /// `length` and 32 bytes can be read at `label`; the processor supports the tier.
    #[inline(always)]
    pub(super) unsafe fn known_child<K: Kernel>(&self, node: u32, label: *const u8, length: usize) -> Option<u32> {
        // No node stores a longer label, and one of these lengths marks an unused edge.
        if length > INLINE_BYTES {
            return None;
        }
        // Special values are greater than all nodes.
        let node = self.nodes.get(node as usize)?;
        for edge in 0..INLINE_EDGES {
            if usize::from(node.lengths[edge]) != length {
                continue;
            }
            // SAFETY: a label of the node has 32 bytes, and no stored label is longer; the caller guarantees the rest.
            if unsafe { K::equal(label, node.labels[edge].as_ptr(), length) } {
                return Some(node.children[edge]);
            }
        }
        None
    }

    /// The node after `label`, created if necessary. A special value if it is not a key, or if there is no space.
    #[cold]
    #[inline(never)]
    pub(super) fn child(&mut self, node: u32, label: &[u8]) -> u32 {
        if node == NodeId::OVERFLOW.0 || label.len() > LABEL_BYTES_MAX {
            return self.without_room(label).0;
        }
        if let Some(child) = self.find(node, label) {
            return child;
        }
        let mut name = std::mem::take(&mut self.scratch);
        name.clear();
        let child = if unescape_key(label, &mut name) { self.named_child(node, &name) } else { NodeId::BAD.0 };
        self.scratch = name;
        if child < NodeId::OVERFLOW.0 {
            self.remember(node, label, child);
        }
        child
    }

    /// The first pass knows whether a string is well formed. This checks that it is a string at all.
    fn without_room(&mut self, label: &[u8]) -> NodeId {
        match trim(label) {
            [b'"', .., b'"'] => NodeId::OVERFLOW,
            _ => NodeId::BAD,
        }
    }

    fn named_child(&mut self, node: u32, name: &[u8]) -> u32 {
        if let Some(child) = self.find(node | NAME, name) {
            return child;
        }
        if self.nodes.len() >= self.nodes_max || self.bytes.len() + name.len() > KEY_BYTES_MAX {
            self.full = true;
            return NodeId::OVERFLOW.0;
        }
        let child = self.nodes.len() as u32;
        let key = self.insert(node | NAME, name, child);
        let depth = self.nodes[node as usize].depth + 1;
        self.nodes.push(Node::new(node, depth, key));
        child
    }

    /// Stores a spelling of a key, if there is space, so that it is found faster the next time.
    fn remember(&mut self, node: u32, label: &[u8], child: u32) {
        let parent = &mut self.nodes[node as usize];
        let unused = parent.lengths.iter().position(|length| *length == UNUSED);
        if let Some(edge) = unused.filter(|_| label.len() <= INLINE_BYTES) {
            parent.labels[edge][..label.len()].copy_from_slice(label);
            parent.lengths[edge] = label.len() as u8;
            parent.children[edge] = child;
        } else if self.edges.len() < self.nodes_max * EDGES_PER_NODE && self.bytes.len() + label.len() <= KEY_BYTES_MAX
        {
            self.insert(node, label, child);
        }
    }

    fn hash(&self, parent: u32, label: &[u8]) -> u64 {
        xxh3_64_with_seed(label, self.seed.wrapping_add(u64::from(parent).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn find(&self, parent: u32, label: &[u8]) -> Option<u32> {
        let mut at = *self.heads.get(&self.hash(parent, label))?;
        while let Some(edge) = self.edges.get(at as usize) {
            if edge.parent == parent && self.text(edge.label) == label {
                return Some(edge.child);
            }
            at = edge.next;
        }
        None
    }

    /// Adds an edge, and returns the range of its label.
    fn insert(&mut self, parent: u32, label: &[u8], child: u32) -> (u32, u32) {
        let place = (self.bytes.len() as u32, label.len() as u32);
        self.bytes.extend_from_slice(label);
        let next = self.heads.insert(self.hash(parent, label), self.edges.len() as u32).unwrap_or(NONE);
        self.edges.push(Edge { parent, label: place, child, next });
        place
    }
}

impl Node {
    fn new(parent: u32, depth: u32, key: (u32, u32)) -> Node {
        Node {
            labels: [[0; INLINE_BYTES]; INLINE_EDGES],
            lengths: [UNUSED; INLINE_EDGES],
            children: [0; INLINE_EDGES],
            parent,
            depth,
            key,
        }
    }
}
