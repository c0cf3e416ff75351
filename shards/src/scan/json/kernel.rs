//! What a tier provides to the parser: sets of bytes as bit masks, and a few operations on them.
//!
//! Guarantees: every kernel returns the same masks for the same bytes. Bit `n` of a mask stands for byte `n` of a block.

/// Number of bytes that are processed together.
pub(super) const BLOCK: usize = 64;

/// Classification of the bytes of a block.
#[derive(Clone, Copy)]
pub(super) struct Masks {
    pub quotes: u64,
    pub backslashes: u64,
    pub newlines: u64,
    /// `{` `}` `[` `]` `:` `,`
    pub operators: u64,
    /// Space, tab, carriage return, newline.
    pub white: u64,
    /// Below 0x20.
    pub controls: u64,
    /// Above 0x7f.
    pub high: u64,
}

/// One tier. Its functions are inlined only into functions that enable the tier's processor features.
pub(super) trait Kernel {
    /// Classifies the bytes of a block.
    ///
    /// # Safety
    /// 64 bytes at `block` can be read; the processor supports the tier.
    unsafe fn classify(block: *const u8) -> Masks;

    /// Bit `n` of the result is the parity of the bits up to and including `n`.
    ///
    /// # Safety
    /// The processor supports the tier.
    unsafe fn prefix_xor(bits: u64) -> u64;

    /// Whether the first `length` of 32 bytes are equal; `length` is at most 32.
    ///
    /// # Safety
    /// 32 bytes can be read at both; the processor supports the tier.
    unsafe fn equal(left: *const u8, right: *const u8, length: usize) -> bool;

    /// Writes `base` plus the index of each set bit, in order, and returns their number.
    ///
    /// # Safety
    /// 64 numbers can be written at `out`; the processor supports the tier.
    #[inline(always)]
    unsafe fn flatten(out: *mut u32, base: u32, bits: u64) -> usize {
        let count = bits.count_ones() as usize;
        let mut rest = bits;
        // Writes eight at a time without checking whether there are that many: a mispredicted branch costs more.
        let mut to = 0;
        while to < count {
            for step in 0..8 {
                // SAFETY: `to` is a multiple of eight and less than `count`, so at most 56.
                unsafe { out.add(to + step).write(base.wrapping_add(rest.trailing_zeros())) };
                rest &= rest.wrapping_sub(1);
            }
            to += 8;
        }
        count
    }
}

/// Eight bytes at a time in ordinary registers.
pub(super) struct Portable;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The highest bits of eight bytes, packed together.
#[inline(always)]
fn gather(marks: u64) -> u64 {
    ((marks & HIGH) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Marks the bytes that are zero.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    !(((word & !HIGH) + !HIGH) | word) & HIGH
}

/// Marks the bytes that are `byte`.
#[inline(always)]
fn same(word: u64, byte: u8) -> u64 {
    zeros(word ^ (LOW * u64::from(byte)))
}

impl Kernel for Portable {
    #[inline(always)]
    unsafe fn classify(block: *const u8) -> Masks {
        let mut masks = Masks { quotes: 0, backslashes: 0, newlines: 0, operators: 0, white: 0, controls: 0, high: 0 };
        for part in 0..8 {
            // SAFETY: the caller says that 64 bytes can be read.
            let word = u64::from_le_bytes(unsafe { block.add(part * 8).cast::<[u8; 8]>().read() });
            let shift = part * 8;
            let folded = word | (LOW * 0x20);
            let newlines = same(word, b'\n');
            let white = same(word, b' ') | newlines | same(word, b'\t') | same(word, b'\r');
            let brackets = same(folded, b'{') | same(folded, b'}');
            masks.quotes |= gather(same(word, b'"')) << shift;
            masks.backslashes |= gather(same(word, b'\\')) << shift;
            masks.newlines |= gather(newlines) << shift;
            masks.operators |= gather(brackets | same(word, b':') | same(word, b',')) << shift;
            masks.white |= gather(white) << shift;
            masks.controls |= gather(zeros(word & (LOW * 0xe0))) << shift;
            masks.high |= gather(word) << shift;
        }
        masks
    }

    #[inline(always)]
    unsafe fn prefix_xor(bits: u64) -> u64 {
        super::kernel::prefix_xor(bits)
    }

    #[inline(always)]
    unsafe fn equal(left: *const u8, right: *const u8, length: usize) -> bool {
        // SAFETY: the caller says that 32 bytes can be read at both, and `length` is at most 32.
        unsafe { std::slice::from_raw_parts(left, length) == std::slice::from_raw_parts(right, length) }
    }
}

/// [`Kernel::prefix_xor`] without a carry-less multiplication.
#[inline(always)]
pub(super) fn prefix_xor(bits: u64) -> u64 {
    let mut parity = bits;
    for shift in [1, 2, 4, 8, 16, 32] {
        parity ^= parity << shift;
    }
    parity
}
