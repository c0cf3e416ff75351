//! The second pass: from operators to fields, line by line.
//!
//! Guarantees: a line is valid only if the operators and the bytes between them form one object. Relies on the index for the
//! content of strings: a line with an error there is invalid whatever is found here, and the findings stay within bounds.
//!
//! The bounds of all unchecked reads, stated here once. `at` is an index into `operators`, at most the last one, which is the
//! end of the stretch and whose byte is neither an operator nor white space: `at` advances only past an operator whose byte has
//! been compared. Every position that is read from there is therefore less than the bytes' length minus 64. A search through
//! white space stays inside the bytes in both directions: forwards it ends at the next operator or the end of the stretch,
//! backwards at the previous operator. From such a position, at most 32 bytes are read at once.

use super::kernel::Kernel;
use super::{NESTING_MAX, NodeId, Slot, Trie};
use crate::batch::EventSpan;

pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    operators: &'a [u32],
    at: usize,
    slots: *mut Slot,
    slot: usize,
}

#[inline(always)]
fn is_white(byte: u8) -> bool {
    byte == b' ' || byte == b'\t' || byte == b'\r'
}

impl<'a> Walk<'a> {
    /// # Safety
    /// `operators` belong to `bytes`, as described in the module documentation; a slot can be written at `slots` for every
    /// second operator.
    pub unsafe fn new(bytes: &'a [u8], operators: &'a [u32], slots: *mut Slot) -> Walk<'a> {
        Walk { bytes, operators, at: 0, slots, slot: 0 }
    }

    /// Number of slots written so far and not removed.
    #[inline(always)]
    pub fn slots(&self) -> usize {
        self.slot
    }

    /// Removes the slots from `slot` on.
    #[inline(always)]
    pub fn take_back(&mut self, slot: usize) {
        self.slot = slot;
    }

    #[inline(always)]
    fn byte(&self, place: u32) -> u8 {
        debug_assert!((place as usize) < self.bytes.len());
        // SAFETY: see the module.
        unsafe { *self.bytes.get_unchecked(place as usize) }
    }

    #[inline(always)]
    fn operator(&self) -> u32 {
        debug_assert!(self.at < self.operators.len());
        // SAFETY: see the module.
        unsafe { *self.operators.get_unchecked(self.at) }
    }

    #[inline(always)]
    fn behind_white(&self, mut place: u32) -> u32 {
        while is_white(self.byte(place)) {
            place += 1;
        }
        place
    }

    #[inline(always)]
    fn before_white(&self, mut place: u32) -> u32 {
        while is_white(self.byte(place - 1)) {
            place -= 1;
        }
        place
    }

    /// Skips the operators before `start`.
    #[inline(always)]
    pub fn skip_to(&mut self, start: u32) {
        // The last operator is the end of the stretch, and `start` is inside the stretch.
        while self.operator() < start {
            self.at += 1;
        }
    }

    /// The object that is the whole event except for white space. The event is followed, perhaps after a carriage return, by a
    /// newline or the end of the stretch.
    ///
    /// # Safety
    /// The processor supports the tier; the event is not beyond the end of the stretch.
    #[inline(always)]
    pub unsafe fn object<K: Kernel>(&mut self, event: EventSpan, trie: &mut Trie) -> u32 {
        let open = self.behind_white(event.start);
        if open != self.operator() || self.byte(open) != b'{' {
            return NodeId::BAD.0;
        }
        self.at += 1;
        let mut node = NodeId::ROOT.0;
        let mut end = self.operator();
        if self.byte(end) == b'}' {
            if self.behind_white(open + 1) != end {
                return NodeId::BAD.0;
            }
        } else {
            let mut before = open;
            loop {
                // SAFETY: the caller says that the processor has the tier.
                let (child, behind) = unsafe { self.field::<K>(node, before + 1, trie) };
                node = child;
                end = behind;
                if node == NodeId::BAD.0 || self.byte(end) != b',' {
                    break;
                }
                self.at += 1;
                before = end;
            }
            if node == NodeId::BAD.0 || self.byte(end) != b'}' {
                return NodeId::BAD.0;
            }
        }
        self.at += 1;
        let behind = self.operator();
        if behind < event.end || self.behind_white(end + 1) != behind {
            return NodeId::BAD.0;
        }
        node
    }

    /// One field, whose key begins at `key`: the node after it, and the operator that ends it, which is then the next one.
    ///
    /// # Safety
    /// The processor supports the tier.
    #[inline(always)]
    unsafe fn field<K: Kernel>(&mut self, node: u32, key: u32, trie: &mut Trie) -> (u32, u32) {
        const BAD: (u32, u32) = (NodeId::BAD.0, 0);
        let colon = self.operator();
        if self.byte(colon) != b':' {
            return BAD;
        }
        // SAFETY: the caller says that the processor has the tier; 32 bytes can be read at `key`, see the module.
        let known = unsafe {
            let label = self.bytes.as_ptr().add(key as usize);
            trie.known_child::<K>(node, label, (colon - key) as usize)
        };
        let child = match known {
            Some(child) => child,
            None => trie.child(node, &self.bytes[key as usize..colon as usize]),
        };
        if child == NodeId::BAD.0 {
            return BAD;
        }
        self.at += 1;
        let start = self.behind_white(colon + 1);
        let mut behind = self.operator();
        let end;
        match self.byte(start) {
            b'"' => end = self.before_white(behind),
            b'{' | b'[' => {
                let Some(close) = self.nested() else { return BAD };
                end = close + 1;
                behind = self.operator();
                if end != behind && self.behind_white(end) != behind {
                    return BAD;
                }
            }
            _ => {
                end = self.before_white(behind);
                if !self.is_scalar(start, end) {
                    return BAD;
                }
            }
        }
        // SAFETY: a slot uses two operators, its colon and the one that ends it, and there is space for every second operator.
        unsafe { self.slots.add(self.slot).write(Slot { key, start, end }) };
        self.slot += 1;
        (child, behind)
    }

    /// The position of the bracket that closes the one at the current operator. It is then the operator before the next one.
    #[inline(always)]
    fn nested(&mut self) -> Option<u32> {
        let mut before = self.operator();
        // One bit for each open level: whether it is an object.
        let mut levels = u64::from(self.byte(before) == b'{');
        let mut depth = 2;
        let mut first = true;
        self.at += 1;
        loop {
            let mut end = self.operator();
            let mut value = before + 1;
            let close = if levels & 1 == 1 { b'}' } else { b']' };
            let empty = first && self.byte(end) == close && self.behind_white(value) == end;
            if !empty {
                if levels & 1 == 1 {
                    if self.byte(end) != b':' || self.byte(self.behind_white(value)) != b'"' {
                        return None;
                    }
                    self.at += 1;
                    value = end + 1;
                    end = self.operator();
                }
                value = self.behind_white(value);
                match self.byte(value) {
                    byte @ (b'{' | b'[') => {
                        if depth == NESTING_MAX {
                            return None;
                        }
                        depth += 1;
                        levels = levels << 1 | u64::from(byte == b'{');
                        (before, first) = (end, true);
                        self.at += 1;
                        continue;
                    }
                    b'"' => {}
                    _ => {
                        if !self.is_scalar(value, self.before_white(end)) {
                            return None;
                        }
                    }
                }
            }
            loop {
                let close = if levels & 1 == 1 { b'}' } else { b']' };
                if self.byte(end) == b',' {
                    self.at += 1;
                    (before, first) = (end, false);
                    break;
                }
                if self.byte(end) != close {
                    return None;
                }
                self.at += 1;
                depth -= 1;
                levels >>= 1;
                if depth == 1 {
                    return Some(end);
                }
                let closed = end;
                end = self.operator();
                if self.behind_white(closed + 1) != end {
                    return None;
                }
            }
        }
    }

    /// Whether `start..end` is a number, `true`, `false` or `null`. At most 16 bytes are compared at once.
    #[inline(always)]
    fn is_scalar(&self, start: u32, end: u32) -> bool {
        let first = self.byte(start);
        let length = end.wrapping_sub(start) as usize;
        if first >= b'a' {
            // SAFETY: see the module.
            let word = unsafe { self.bytes.as_ptr().add(start as usize).cast::<[u8; 4]>().read() };
            return match length {
                4 => word == *b"true" || word == *b"null",
                5 => word == *b"fals" && self.byte(start + 4) == b'e',
                _ => false,
            };
        }
        if (1..=8).contains(&length) {
            // SAFETY: see the module.
            let word = u64::from_le_bytes(unsafe { self.bytes.as_ptr().add(start as usize).cast::<[u8; 8]>().read() });
            if is_digits(word, length) {
                return first != b'0' || length == 1;
            }
        }
        self.bytes.get(start as usize..end as usize).is_some_and(is_number)
    }
}

/// Whether the first `length` bytes, one to eight, are digits.
#[inline(always)]
fn is_digits(word: u64, length: usize) -> bool {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH_HALVES: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const SIXES: u64 = 0x0606_0606_0606_0606;
    // Shifts the relevant bytes to the end, with zero digits before them.
    let shift = 64 - length * 8;
    let word = if shift == 0 { word } else { word << shift | ZEROS >> (64 - shift) };
    (word & HIGH_HALVES) | ((word.wrapping_add(SIXES) & HIGH_HALVES) >> 4) == ZEROS | ZEROS >> 4
}

/// The grammar of numbers.
pub(super) fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || whole > 1 && text[0] == b'0' {
        return false;
    }
    let mut rest = &text[whole..];
    if let [b'.', behind @ ..] = rest {
        let fraction = digits(behind);
        if fraction == 0 {
            return false;
        }
        rest = &behind[fraction..];
    }
    if let [b'e' | b'E', behind @ ..] = rest {
        let behind = match behind {
            [b'+' | b'-', behind @ ..] => behind,
            _ => behind,
        };
        let exponent = digits(behind);
        return exponent > 0 && exponent == behind.len();
    }
    rest.is_empty()
}
