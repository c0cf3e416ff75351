//! Converts any bytes to the body of a JSON string.
//!
//! Guarantees: the result is valid UTF-8 and valid inside a JSON string. Valid UTF-8 is restored byte for byte when it is
//! unescaped. Other bytes become U+FFFD exactly as with `String::from_utf8_lossy`. Hot: called once for each event.
//!
//! The vector code widens each block of input so that every byte has space for a backslash before it, and then packs the bytes
//! that are kept. The cost therefore depends on the length and hardly on the number of quotes: a JSON line inside JSON has
//! dozens.

use super::Tier;

/// Appends `text` as the body of a JSON string, without the surrounding quotes. Returns the number of replacement characters
/// for bytes that were not UTF-8.
pub fn escape_json_into(text: &[u8], out: &mut Vec<u8>) -> u64 {
    escape_json_with(Tier::best(), text, out)
}

/// [`escape_json_into`] on a chosen tier.
///
/// # Panics
/// If this processor does not support the tier.
pub fn escape_json_with(tier: Tier, text: &[u8], out: &mut Vec<u8>) -> u64 {
    let start = out.len();
    let high = escape_utf8(tier, text, out);
    if !high || std::str::from_utf8(text).is_ok() {
        return 0;
    }
    out.truncate(start);
    let mut replaced = 0;
    for chunk in text.utf8_chunks() {
        escape_utf8(tier, chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
            replaced += 1;
        }
    }
    replaced
}

/// Escapes, and leaves bytes above 0x7f unchanged. Returns whether there were any.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn escape_utf8(tier: Tier, text: &[u8], out: &mut Vec<u8>) -> bool {
    match tier {
        Tier::Portable => portable(text, out),
        Tier::Sse2 => x86::sse2(text, out),
        Tier::Avx2 => {
            assert!(tier == Tier::best() || tier.is_available(), "the processor has no AVX2");
            // SAFETY: the assertion says that the processor has the features of the function.
            unsafe { x86::avx2(text, out) }
        }
        Tier::Avx512 => {
            assert!(tier == Tier::best() || tier.is_available(), "the processor has no AVX-512 VBMI2");
            // SAFETY: the assertion says that the processor has the features of the function.
            unsafe { x86::avx512(text, out) }
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn escape_utf8(tier: Tier, text: &[u8], out: &mut Vec<u8>) -> bool {
    assert_eq!(tier, Tier::Portable, "only the portable tier exists here");
    portable(text, out)
}

/// For each byte: zero if it is not escaped, `u` for the long form, otherwise the letter after the backslash.
const LETTERS: [u8; 256] = {
    let mut letters = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        letters[byte] = b'u';
        byte += 1;
    }
    letters[0x08] = b'b';
    letters[b'\t' as usize] = b't';
    letters[b'\n' as usize] = b'n';
    letters[0x0c] = b'f';
    letters[b'\r' as usize] = b'r';
    letters[b'"' as usize] = b'"';
    letters[b'\\' as usize] = b'\\';
    letters
};

fn portable(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.reserve(text.len());
    let mut high = 0;
    let mut clean = 0;
    for (at, &byte) in text.iter().enumerate() {
        high |= byte;
        let letter = LETTERS[usize::from(byte)];
        if letter == 0 {
            continue;
        }
        out.extend_from_slice(&text[clean..at]);
        clean = at + 1;
        match letter {
            b'u' => {
                let hex = b"0123456789abcdef";
                let digits = [hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digits[0], digits[1]]);
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
    }
    out.extend_from_slice(&text[clean..]);
    high >= 0x80
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    //! Every kernel keeps this account of room: it reserves twice the remaining bytes plus 64. A byte of input produces at most
    //! two bytes of output, because a block with a longer form goes through `portable`, after which space is reserved again. No
    //! store is wider than 64 bytes.

    use super::{LETTERS, portable};
    use std::arch::x86_64::*;

    /// Letters of the short forms of 0x00 to 0x0f. Zero if only the long form exists.
    const SHORT: [u8; 16] = {
        let mut short = [0; 16];
        let mut byte = 0;
        while byte < 16 {
            if LETTERS[byte] != b'u' {
                short[byte] = LETTERS[byte];
            }
            byte += 1;
        }
        short
    };

    /// For each mask of eight bytes: the shuffle that puts a backslash (taken from byte 8) before every marked byte.
    static SPREAD: [[u8; 16]; 256] = {
        let mut table = [[0; 16]; 256];
        let mut mask = 0;
        while mask < 256 {
            let (mut from, mut to) = (0, 0);
            while from < 8 {
                if mask >> from & 1 == 1 {
                    table[mask][to] = 8;
                    to += 1;
                }
                table[mask][to] = from as u8;
                to += 1;
                from += 1;
            }
            mask += 1;
        }
        table
    };

    /// The first `count` bits.
    fn first_bits(count: usize) -> u32 {
        if count >= 32 { u32::MAX } else { (1 << count) - 1 }
    }

    pub fn sse2(text: &[u8], out: &mut Vec<u8>) -> bool {
        let mut high = 0;
        let mut at = 0;
        out.reserve(text.len() * 2 + 64);
        let mut to = out.len();
        while at < text.len() {
            let count = (text.len() - at).min(16);
            let mut end = [0; 32];
            // A block that was just written and is read at an odd place waits for its way to memory: only the end is copied.
            let block = match text[at..].first_chunk::<32>() {
                Some(block) => block,
                None => {
                    let rest = (text.len() - at).min(32);
                    end[..rest].copy_from_slice(&text[at..at + rest]);
                    &end
                }
            };
            // SAFETY: `block` is 32 bytes long; SSE2 is part of every x86-64.
            let (special, marks) = unsafe {
                let bytes = _mm_loadu_si128(block.as_ptr().cast());
                let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
                let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
                let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
                let special = _mm_or_si128(_mm_or_si128(quote, backslash), control);
                (_mm_movemask_epi8(special) as u32 & first_bits(count), _mm_movemask_epi8(bytes))
            };
            high |= marks;
            // SAFETY: see the account of room; `to` is where the initialised bytes end.
            let written = unsafe { spread_sse2(block, count, special, out.as_mut_ptr().add(to)) };
            at += count;
            if let Some(written) = written {
                to += written;
                continue;
            }
            // SAFETY: all up to `to` has been written.
            unsafe { out.set_len(to) };
            portable(&block[..count], out);
            out.reserve((text.len() - at) * 2 + 64);
            to = out.len();
        }
        // SAFETY: all up to `to` has been written.
        unsafe { out.set_len(to) };
        high != 0
    }

    /// Writes the first `count` bytes of `block` with a backslash before each special one, and returns how many bytes it wrote.
    /// None if one of them needs the long form. The bytes written until then are meaningless.
    ///
    /// # Safety
    /// 64 bytes at `target` may be written; `count` is at most 16.
    unsafe fn spread_sse2(block: &[u8; 32], count: usize, special: u32, target: *mut u8) -> Option<usize> {
        let (mut from, mut to, mut rest) = (0, 0, special);
        loop {
            let end = if rest == 0 { count } else { rest.trailing_zeros() as usize };
            // SAFETY: `from` is at most 16 and `block` has 32 bytes; `to` is at most 32. Bytes copied beyond `end` are
            // overwritten or not counted.
            unsafe {
                let run = _mm_loadu_si128(block.as_ptr().add(from).cast());
                _mm_storeu_si128(target.add(to).cast(), run);
            }
            to += end - from;
            if rest == 0 {
                return Some(to);
            }
            let letter = LETTERS[usize::from(block[end])];
            if letter == b'u' {
                return None;
            }
            // SAFETY: `to` is at most 30.
            unsafe { target.add(to).cast::<[u8; 2]>().write([b'\\', letter]) };
            (from, to) = (end + 1, to + 2);
            rest &= rest - 1;
        }
    }

    #[target_feature(enable = "avx2,popcnt")]
    pub fn avx2(text: &[u8], out: &mut Vec<u8>) -> bool {
        let mut high = 0;
        let mut at = 0;
        while at < text.len() {
            out.reserve((text.len() - at) * 2 + 64);
            let mut to = out.len();
            while at < text.len() {
                let count = (text.len() - at).min(32);
                let mut tail = [0; 32];
                let from = if count == 32 {
                    text[at..].as_ptr()
                } else {
                    tail[..count].copy_from_slice(&text[at..]);
                    tail.as_ptr()
                };
                // SAFETY: `from` has 32 bytes: of the text, or of `tail`.
                let bytes = unsafe { _mm256_loadu_si256(from.cast()) };
                high |= _mm256_movemask_epi8(bytes);
                let quote = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'"' as i8));
                let backslash = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\\' as i8));
                let control = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes);
                let special = _mm256_or_si256(_mm256_or_si256(quote, backslash), control);
                let special = _mm256_movemask_epi8(special) as u32 & first_bits(count);
                // SAFETY: see the account of room; `to` is where the initialised bytes end.
                let target = unsafe { out.as_mut_ptr().add(to) };
                if special == 0 {
                    // SAFETY: see the account of room.
                    unsafe { _mm256_storeu_si256(target.cast(), bytes) };
                    (to, at) = (to + count, at + count);
                    continue;
                }
                let mut letters = bytes;
                let controls = _mm256_movemask_epi8(control) as u32 & first_bits(count);
                if controls != 0 {
                    let (changed, long) = short_forms_avx2(bytes, control);
                    if long & controls != 0 {
                        // SAFETY: all up to `to` has been written.
                        unsafe { out.set_len(to) };
                        portable(&text[at..at + count], out);
                        at += count;
                        to = out.len();
                        out.reserve((text.len() - at) * 2 + 64);
                        continue;
                    }
                    letters = changed;
                }
                // SAFETY: see the account of room: four stores of 16 bytes, each at most 16 bytes after the previous one.
                unsafe { spread_avx2(letters, special, target) };
                (to, at) = (to + count + special.count_ones() as usize, at + count);
            }
            // SAFETY: all up to `to` has been written.
            unsafe { out.set_len(to) };
        }
        high != 0
    }

    /// Replaces control bytes by the letters of their short forms, and marks those that have none.
    #[target_feature(enable = "avx2")]
    fn short_forms_avx2(bytes: __m256i, control: __m256i) -> (__m256i, u32) {
        // SAFETY: the table is 16 bytes long.
        let table = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(SHORT.as_ptr().cast()) });
        let letters = _mm256_shuffle_epi8(table, bytes);
        let without = _mm256_cmpeq_epi8(letters, _mm256_setzero_si256());
        let upper = _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, _mm256_set1_epi8(0x10)), bytes);
        let long = _mm256_movemask_epi8(_mm256_or_si256(without, upper)) as u32;
        (_mm256_blendv_epi8(bytes, letters, control), long)
    }

    /// Writes 32 bytes with a backslash before each special one.
    ///
    /// # Safety
    /// 64 bytes at `target` may be written.
    #[target_feature(enable = "avx2,popcnt")]
    unsafe fn spread_avx2(letters: __m256i, special: u32, target: *mut u8) {
        let backslashes = _mm_set1_epi8(b'\\' as i8);
        let halves = [_mm256_castsi256_si128(letters), _mm256_extracti128_si256::<1>(letters)];
        let groups = [
            _mm_unpacklo_epi64(halves[0], backslashes),
            _mm_unpackhi_epi64(halves[0], backslashes),
            _mm_unpacklo_epi64(halves[1], backslashes),
            _mm_unpackhi_epi64(halves[1], backslashes),
        ];
        let mut to = 0;
        for (index, group) in groups.into_iter().enumerate() {
            let mask = (special >> (index * 8) & 0xff) as usize;
            // SAFETY: a row has 16 bytes; group `index` starts at most `16 * index` bytes in, as each one before it advances
            // by 8 and its at most 8 marks.
            unsafe {
                let row = _mm_loadu_si128(SPREAD[mask].as_ptr().cast());
                _mm_storeu_si128(target.add(to).cast(), _mm_shuffle_epi8(group, row));
            }
            to += 8 + mask.count_ones() as usize;
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,bmi2,popcnt")]
    pub fn avx512(text: &[u8], out: &mut Vec<u8>) -> bool {
        // SAFETY: the table is 16 bytes long.
        let short = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(SHORT.as_ptr().cast()) });
        let mut high = 0;
        let mut at = 0;
        out.reserve(text.len() * 2 + 64);
        let mut to = out.len();
        while at < text.len() {
            let count = (text.len() - at).min(32);
            let valid = first_bits(count);
            // SAFETY: only the first `count` bytes are loaded, and the text has them.
            let bytes = unsafe { _mm256_maskz_loadu_epi8(valid, text.as_ptr().add(at).cast()) };
            high |= _mm256_movepi8_mask(bytes);
            let control = _mm256_mask_cmplt_epu8_mask(valid, bytes, _mm256_set1_epi8(0x20));
            let quote = _mm256_cmpeq_epi8_mask(bytes, _mm256_set1_epi8(b'"' as i8));
            let backslash = _mm256_cmpeq_epi8_mask(bytes, _mm256_set1_epi8(b'\\' as i8));
            let special = quote | backslash | control;
            let mut letters = bytes;
            if control != 0 {
                letters = _mm256_mask_shuffle_epi8(bytes, control, short, bytes);
                let without = _mm256_mask_cmpeq_epi8_mask(control, letters, _mm256_setzero_si256());
                let upper = _mm256_mask_cmpge_epu8_mask(control, bytes, _mm256_set1_epi8(0x10));
                if without | upper != 0 {
                    // SAFETY: all up to `to` has been written.
                    unsafe { out.set_len(to) };
                    portable(&text[at..at + count], out);
                    at += count;
                    out.reserve((text.len() - at) * 2 + 64);
                    to = out.len();
                    continue;
                }
            }
            // Each byte becomes a pair: a backslash, and the byte itself.
            let pairs = _mm512_slli_epi16::<8>(_mm512_cvtepu8_epi16(letters));
            let pairs = _mm512_or_si512(pairs, _mm512_set1_epi16(i16::from(b'\\')));
            let keep = _pdep_u64(u64::from(special), 0x5555_5555_5555_5555)
                | _pdep_u64(u64::from(valid), 0xaaaa_aaaa_aaaa_aaaa);
            let packed = _mm512_maskz_compress_epi8(keep, pairs);
            // SAFETY: see the account of room.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().add(to).cast(), packed) };
            (to, at) = (to + count + special.count_ones() as usize, at + count);
        }
        // SAFETY: all up to `to` has been written.
        unsafe { out.set_len(to) };
        high != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expected(text: &[u8]) -> Vec<u8> {
        let quoted = serde_json::to_vec(&String::from_utf8_lossy(text)).expect("a string");
        quoted[1..quoted.len() - 1].to_vec()
    }

    fn check(text: &[u8]) {
        let replaced: usize = text.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
        for tier in Tier::ALL.into_iter().filter(|tier| tier.is_available()) {
            let mut out = b"before".to_vec();
            assert_eq!(escape_json_with(tier, text, &mut out), replaced as u64, "{tier:?} {text:?}");
            assert_eq!(out[..6], *b"before");
            assert_eq!(out[6..].escape_ascii().to_string(), expected(text).escape_ascii().to_string(), "{tier:?}");
        }
    }

    #[test]
    fn every_byte_at_every_place_is_escaped_as_json_does() {
        for byte in 0..=255 {
            for length in [1, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65] {
                for at in [0, length / 2, length - 1] {
                    let mut text = vec![b'x'; length];
                    text[at] = byte;
                    check(&text);
                }
                check(&vec![byte; length]);
            }
        }
    }

    #[test]
    fn every_length_is_whole() {
        let line = br#"{"level":"info","msg":"a \"quoted\" word	and a tab","n":17,"unicode":"gr\u00fc\u00dfe"}"#;
        let long: Vec<u8> = line.iter().copied().cycle().take(300).collect();
        for length in 0..=long.len() {
            check(&long[..length]);
        }
    }

    /// The text ends where its allocation ends, and bytes after it in a larger allocation must have no effect.
    #[test]
    fn bytes_behind_the_text_do_not_matter() {
        for length in 0..100 {
            let mut text = [b'"'; 200];
            text[length..].fill(0xff);
            check(&text[..length]);
            check(&vec![b'"'; length].into_boxed_slice());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_agree_with_the_reference(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            check(&text);
        }

        #[test]
        fn texts_agree_with_the_reference(text in "([ -~]|[\"\\\\]|[\\x00-\\x1f]|ü|€|𝄞){0,120}") {
            check(text.as_bytes());
        }
    }
}
