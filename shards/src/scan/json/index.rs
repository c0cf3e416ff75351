//! The first pass over the bytes: finds the operators outside of strings, and errors that are visible already.
//!
//! Guarantees: every newline begins a new line, whatever was open before it. Findings in one line never depend on another line.
//! In a line without an error, there is only white space between two operators with at most one token in it, and a token that
//! begins with a quote is a complete string. The second pass therefore needs only the first byte of each token.
//!
//! Leaves to the second pass which operator may follow which, what tokens without quotes are, and UTF-8.

use super::kernel::{BLOCK, Kernel, Masks};

/// Bits at even places.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// The findings in a stretch of bytes. All numbers are positions in the chunk, in order.
#[derive(Default)]
pub(super) struct Index {
    /// Operators outside of strings and all newlines: `count` of them, then the end of the stretch.
    operators: Vec<u32>,
    count: usize,
    /// Positions with an error: no line that contains one is valid.
    faults: Vec<u32>,
    /// Blocks with bytes above 0x7f, by their first byte.
    high_blocks: Vec<u32>,
}

/// Capacity that a stretch may leave in memory for the next ones. The capacity for a longer line is released.
const KEPT_MAX: usize = 128 * 1024;

/// State that one block passes to the next.
#[derive(Clone, Copy, Default)]
struct Carry {
    /// All ones inside a string.
    in_string: u64,
    /// The first byte follows a backslash.
    escaped: bool,
    /// The last byte closed a string.
    closed: u64,
    /// The last byte is part of a token.
    token: u64,
    /// The last byte is white space after a token.
    gap: bool,
}

impl Index {
    pub fn operators(&self) -> &[u32] {
        &self.operators[..=self.count]
    }

    pub fn faults(&self) -> &[u32] {
        &self.faults
    }

    pub fn high_blocks(&self) -> &[u32] {
        &self.high_blocks
    }

    /// Scans `from..to`. No string is open at `from`.
    ///
    /// # Safety
    /// `from <= to`, `bytes` has at least 64 bytes after `to`, and is shorter than 4 GiB; the processor supports the tier.
    #[inline(always)]
    pub unsafe fn build<K: Kernel>(&mut self, bytes: &[u8], from: usize, to: usize) {
        let blocks = (to - from).div_ceil(BLOCK);
        // A block has at most 64 operators, and 64 are always written, used or not. The end follows them.
        let room = (blocks + 1) * BLOCK + 1;
        if self.operators.len() > KEPT_MAX && room <= KEPT_MAX {
            *self = Index::default();
        }
        if self.operators.len() < room {
            self.operators.resize(room, 0);
        }
        self.faults.clear();
        self.high_blocks.clear();
        let (mut carry, mut count, mut at) = (Carry::default(), 0, from);
        while at < to {
            // SAFETY: `at` is less than `to`, after which there are 64 bytes.
            let mut masks = unsafe { K::classify(bytes.as_ptr().add(at)) };
            if to - at < BLOCK {
                masks = masks.first(to - at);
            }
            // SAFETY: the caller says that the processor has the tier.
            let (found, faults) = unsafe { block::<K>(&masks, &mut carry, bytes, at) };
            if faults != 0 {
                self.add_faults(at, faults);
            }
            if masks.high != 0 {
                self.high_blocks.push(at as u32);
            }
            // SAFETY: `count` is at most 64 for each block so far, and there is room for those of one block more.
            count += unsafe { K::flatten(self.operators.as_mut_ptr().add(count), at as u32, found) };
            at += BLOCK;
        }
        self.operators[count] = to as u32;
        self.count = count;
    }

    #[cold]
    fn add_faults(&mut self, at: usize, faults: u64) {
        let mut rest = faults;
        while rest != 0 {
            self.faults.push(at as u32 + rest.trailing_zeros());
            rest &= rest - 1;
        }
    }
}

impl Masks {
    /// The first `length` bytes, less than 64, followed by white space.
    #[inline(always)]
    fn first(self, length: usize) -> Masks {
        let kept = (1 << length) - 1;
        Masks {
            quotes: self.quotes & kept,
            backslashes: self.backslashes & kept,
            newlines: self.newlines & kept,
            operators: self.operators & kept,
            white: self.white | !kept,
            controls: self.controls & kept,
            high: self.high & kept,
        }
    }
}

/// The operators and newlines of one block, and its errors.
///
/// # Safety
/// The processor supports the tier.
#[inline(always)]
unsafe fn block<K: Kernel>(masks: &Masks, carry: &mut Carry, bytes: &[u8], at: usize) -> (u64, u64) {
    let mut faults = 0;
    let mut escaped = 0;
    if masks.backslashes != 0 || carry.escaped {
        escaped = find_escaped(masks.backslashes, &mut carry.escaped);
        faults |= wrong_escapes(escaped, bytes, at);
    }
    let quotes = masks.quotes & !escaped;
    // SAFETY: the caller says that the processor has the tier.
    let mut inside = unsafe { K::prefix_xor(quotes) } ^ carry.in_string;
    if masks.newlines & inside != 0 {
        // SAFETY: as before.
        faults |= unsafe { close_at_newlines::<K>(masks.newlines, quotes, &mut inside) };
    }
    carry.in_string = ((inside as i64) >> 63) as u64;
    let operators = (masks.operators & !inside) | masks.newlines;
    let white = masks.white & !inside & !masks.newlines;
    let tokens = !(operators | white);
    let opening = quotes & inside;
    let closing = quotes & !inside;
    // A string is separate: no token touches its quotes from outside.
    faults |= (closing << 1 | carry.closed) & tokens;
    faults |= opening & (tokens << 1 | carry.token);
    faults |= masks.controls & inside;
    // White space between two tokens: a bit set where a gap begins is carried through it by the addition.
    if white != 0 || carry.gap {
        let begins = (tokens << 1 | carry.token) & white;
        let (sum, first) = white.overflowing_add(begins);
        let (sum, second) = sum.overflowing_add(u64::from(carry.gap));
        faults |= sum & !white & tokens;
        carry.gap = first | second;
    }
    carry.closed = closing >> 63;
    carry.token = tokens >> 63;
    (operators, faults)
}

/// The bytes after a backslash that is not itself escaped.
#[inline(always)]
fn find_escaped(backslashes: u64, carry: &mut bool) -> u64 {
    let backslashes = backslashes & !u64::from(*carry);
    let follows = backslashes << 1 | u64::from(*carry);
    // A carry through the runs distinguishes those that begin at odd positions.
    let odd_begins = backslashes & !EVEN & !follows;
    let (even_runs, overflow) = odd_begins.overflowing_add(backslashes);
    *carry = overflow;
    (EVEN ^ (even_runs << 1)) & follows
}

/// The escaped bytes that do not form a valid escape. Those outside of strings may be marked or not: a backslash there is an
/// error anyway.
#[inline(always)]
fn wrong_escapes(escaped: u64, bytes: &[u8], at: usize) -> u64 {
    let (mut rest, mut wrong) = (escaped, 0);
    while rest != 0 {
        let bit = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        let good = match bytes.get(at + bit) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => true,
            Some(b'u') => {
                bytes.get(at + bit + 1..at + bit + 5).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
            }
            _ => false,
        };
        wrong |= u64::from(!good) << bit;
    }
    wrong
}

/// Ends open strings at a newline, and returns those newlines.
///
/// # Safety
/// The processor supports the tier.
#[cold]
#[inline(always)]
unsafe fn close_at_newlines<K: Kernel>(newlines: u64, quotes: u64, inside: &mut u64) -> u64 {
    let mut wrong = 0;
    loop {
        let open = newlines & *inside;
        if open == 0 {
            return wrong;
        }
        let newline = open & open.wrapping_neg();
        wrong |= newline;
        let before = newline - 1;
        let behind = !(before | newline);
        // SAFETY: the caller says that the processor has the tier.
        let anew = unsafe { K::prefix_xor(quotes & behind) };
        *inside = *inside & before | anew & behind;
    }
}
