//! The kernels for x86-64.
//!
//! Every load is unaligned. Tables are as long as what is loaded from them.

use super::kernel::{BLOCK, Kernel, Masks, prefix_xor};
use std::arch::x86_64::*;

/// By the low half of a byte: the white space byte with that half, otherwise a byte with another half.
static WHITE: [u8; 16] = [b' ', 100, 100, 100, 17, 100, 113, 2, 100, b'\t', b'\n', 112, 100, b'\r', 100, 100];
/// By the low half of a byte: the operator with that half and its case bit set, otherwise a byte that no byte with its case bit
/// set can equal.
static OPERATORS: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b':', b'{', b',', b'}', 0, 0];
/// 0 to 63.
static NUMBERS: [u8; BLOCK] = {
    let mut numbers = [0; BLOCK];
    let mut number = 0;
    while number < BLOCK {
        numbers[number] = number as u8;
        number += 1;
    }
    numbers
};

/// 16 bytes at a time.
pub(super) struct Sse2;
/// 32 bytes at a time.
pub(super) struct Avx2;
/// 64 bytes at a time.
pub(super) struct Avx512;

impl Kernel for Sse2 {
    #[inline(always)]
    unsafe fn classify(block: *const u8) -> Masks {
        let mut masks = Masks { quotes: 0, backslashes: 0, newlines: 0, operators: 0, white: 0, controls: 0, high: 0 };
        for part in 0..4 {
            let shift = part * 16;
            // SAFETY: the caller says that 64 bytes can be read; SSE2 is part of every x86-64.
            unsafe {
                let bytes = _mm_loadu_si128(block.add(shift).cast());
                let same = |byte: u8| _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8));
                let mask = |marks: __m128i| u64::from(_mm_movemask_epi8(marks) as u32) << shift;
                let folded = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
                let open = _mm_cmpeq_epi8(folded, _mm_set1_epi8(b'{' as i8));
                let close = _mm_cmpeq_epi8(folded, _mm_set1_epi8(b'}' as i8));
                let others = _mm_or_si128(same(b':'), same(b','));
                let newlines = same(b'\n');
                let blanks = _mm_or_si128(_mm_or_si128(same(b' '), newlines), _mm_or_si128(same(b'\t'), same(b'\r')));
                masks.quotes |= mask(same(b'"'));
                masks.backslashes |= mask(same(b'\\'));
                masks.newlines |= mask(newlines);
                masks.operators |= mask(_mm_or_si128(_mm_or_si128(open, close), others));
                masks.white |= mask(blanks);
                masks.controls |= mask(_mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes));
                masks.high |= mask(bytes);
            }
        }
        masks
    }

    #[inline(always)]
    unsafe fn prefix_xor(bits: u64) -> u64 {
        prefix_xor(bits)
    }

    #[inline(always)]
    unsafe fn equal(left: *const u8, right: *const u8, length: usize) -> bool {
        let wanted = (1u64 << length) - 1;
        // SAFETY: the caller says that 32 bytes can be read at both; SSE2 is part of every x86-64.
        let same = unsafe {
            let low = _mm_cmpeq_epi8(_mm_loadu_si128(left.cast()), _mm_loadu_si128(right.cast()));
            let high = _mm_cmpeq_epi8(_mm_loadu_si128(left.add(16).cast()), _mm_loadu_si128(right.add(16).cast()));
            u64::from(_mm_movemask_epi8(low) as u32) | u64::from(_mm_movemask_epi8(high) as u32) << 16
        };
        same & wanted == wanted
    }
}

impl Kernel for Avx2 {
    #[inline(always)]
    unsafe fn classify(block: *const u8) -> Masks {
        let mut masks = Masks { quotes: 0, backslashes: 0, newlines: 0, operators: 0, white: 0, controls: 0, high: 0 };
        for part in 0..2 {
            let shift = part * 32;
            // SAFETY: the caller says that 64 bytes can be read and that the processor has AVX2; a table has 16 bytes.
            unsafe {
                let white = _mm256_broadcastsi128_si256(_mm_loadu_si128(WHITE.as_ptr().cast()));
                let operators = _mm256_broadcastsi128_si256(_mm_loadu_si128(OPERATORS.as_ptr().cast()));
                let bytes = _mm256_loadu_si256(block.add(shift).cast());
                let mask = |marks: __m256i| u64::from(_mm256_movemask_epi8(marks) as u32) << shift;
                let same = |byte: u8| _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8));
                let folded = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
                masks.quotes |= mask(same(b'"'));
                masks.backslashes |= mask(same(b'\\'));
                masks.newlines |= mask(same(b'\n'));
                let controls = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes);
                let operators = _mm256_cmpeq_epi8(folded, _mm256_shuffle_epi8(operators, bytes));
                // With its case bit set a control byte looks like an operator.
                masks.operators |= mask(_mm256_andnot_si256(controls, operators));
                masks.white |= mask(_mm256_cmpeq_epi8(bytes, _mm256_shuffle_epi8(white, bytes)));
                masks.controls |= mask(controls);
                masks.high |= mask(bytes);
            }
        }
        masks
    }

    #[inline(always)]
    unsafe fn prefix_xor(bits: u64) -> u64 {
        // SAFETY: the caller says that the processor has the tier, and with it this multiplication.
        unsafe {
            let product = _mm_clmulepi64_si128(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1), 0);
            _mm_cvtsi128_si64(product) as u64
        }
    }

    #[inline(always)]
    unsafe fn equal(left: *const u8, right: *const u8, length: usize) -> bool {
        let wanted = (1u64 << length) - 1;
        // SAFETY: the caller says that 32 bytes can be read at both and that the processor has AVX2.
        let same = unsafe {
            let marks = _mm256_cmpeq_epi8(_mm256_loadu_si256(left.cast()), _mm256_loadu_si256(right.cast()));
            u64::from(_mm256_movemask_epi8(marks) as u32)
        };
        same & wanted == wanted
    }
}

impl Kernel for Avx512 {
    #[inline(always)]
    unsafe fn classify(block: *const u8) -> Masks {
        // SAFETY: the caller says that 64 bytes can be read and that the processor has the tier; a table has 16 bytes.
        unsafe {
            let white = _mm512_broadcast_i32x4(_mm_loadu_si128(WHITE.as_ptr().cast()));
            let operators = _mm512_broadcast_i32x4(_mm_loadu_si128(OPERATORS.as_ptr().cast()));
            let bytes = _mm512_loadu_si512(block.cast());
            let same = |byte: u8| _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8));
            let folded = _mm512_or_si512(bytes, _mm512_set1_epi8(0x20));
            let controls = _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(0x20));
            Masks {
                quotes: same(b'"'),
                backslashes: same(b'\\'),
                newlines: same(b'\n'),
                // With its case bit set a control byte looks like an operator.
                operators: _mm512_mask_cmpeq_epi8_mask(!controls, folded, _mm512_shuffle_epi8(operators, bytes)),
                white: _mm512_cmpeq_epi8_mask(bytes, _mm512_shuffle_epi8(white, bytes)),
                controls,
                high: _mm512_movepi8_mask(bytes),
            }
        }
    }

    #[inline(always)]
    unsafe fn prefix_xor(bits: u64) -> u64 {
        // SAFETY: the caller says that the processor has the tier, which has all of the tier below.
        unsafe { Avx2::prefix_xor(bits) }
    }

    #[inline(always)]
    unsafe fn equal(left: *const u8, right: *const u8, length: usize) -> bool {
        // SAFETY: as above, and the caller says that 32 bytes can be read at both.
        unsafe { Avx2::equal(left, right, length) }
    }

    #[inline(always)]
    unsafe fn flatten(out: *mut u32, base: u32, bits: u64) -> usize {
        let count = bits.count_ones() as usize;
        // SAFETY: the caller says that 64 numbers can be written and that the processor has the tier; the table has 64 bytes.
        unsafe {
            let numbers = _mm512_maskz_compress_epi8(bits, _mm512_loadu_si512(NUMBERS.as_ptr().cast()));
            let base = _mm512_set1_epi32(base as i32);
            let place = |quarter: __m128i| _mm512_add_epi32(_mm512_cvtepu8_epi32(quarter), base);
            _mm512_storeu_si512(out.cast(), place(_mm512_castsi512_si128(numbers)));
            if count > 16 {
                _mm512_storeu_si512(out.add(16).cast(), place(_mm512_extracti32x4_epi32::<1>(numbers)));
            }
            if count > 32 {
                _mm512_storeu_si512(out.add(32).cast(), place(_mm512_extracti32x4_epi32::<2>(numbers)));
                _mm512_storeu_si512(out.add(48).cast(), place(_mm512_extracti32x4_epi32::<3>(numbers)));
            }
        }
        count
    }
}
