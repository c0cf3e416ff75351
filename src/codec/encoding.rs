//! Text encodings other than UTF-8: finds lines in UTF-16, and converts UTF-16 and Latin-1 to UTF-8.
//!
//! Guarantees: the events do not depend on how the bytes were split into reads. The result is UTF-8; bytes that cannot be decoded
//! become U+FFFD. No event is longer than allowed after the conversion. Positions count the source's own bytes. A byte order mark
//! is not part of a line. Does not switch encodings: [`Encoding::seen_in`] only reports what the bytes look like.

use super::framing::{Cut, Ending, LineTooLong, Place, Rules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tailwater_shards::batch::{Batch, EventSpan};
use tailwater_shards::limits::BATCH_EVENTS_MAX;

/// The byte order mark of UTF-8.
pub const MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes that show UTF-16 without a byte order mark: this many ASCII characters in a row are not a coincidence.
const PROOF_BYTES: usize = 32;

/// How the source encodes text as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Encoding {
    /// Not converted; a byte order mark at the beginning is removed.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// Low byte first, as Windows writes UTF-16.
    #[serde(rename = "utf-16le")]
    Utf16Le,
    /// High byte first.
    #[serde(rename = "utf-16be")]
    Utf16Be,
    /// Each byte is a character (ISO 8859-1).
    #[serde(rename = "latin1")]
    Latin1,
}

impl Encoding {
    /// As the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "utf-8",
            Encoding::Utf16Le => "utf-16le",
            Encoding::Utf16Be => "utf-16be",
            Encoding::Latin1 => "latin1",
        }
    }

    /// Whether a character takes two or four bytes.
    pub fn is_wide(self) -> bool {
        matches!(self, Encoding::Utf16Le | Encoding::Utf16Be)
    }

    /// The UTF-16 encoding that the beginning of a source suggests: by its byte order mark, or because every other byte is zero.
    pub fn seen_in(bytes: &[u8]) -> Option<Encoding> {
        match bytes {
            [0xff, 0xfe, ..] => return Some(Encoding::Utf16Le),
            [0xfe, 0xff, ..] => return Some(Encoding::Utf16Be),
            _ => {}
        }
        let pairs = bytes.get(..PROOF_BYTES)?.chunks_exact(2);
        let is = |nul: usize| pairs.clone().all(|pair| pair[nul] == 0 && pair[1 - nul] != 0 && pair[1 - nul] < 0x80);
        match () {
            () if is(1) => Some(Encoding::Utf16Le),
            () if is(0) => Some(Encoding::Utf16Be),
            () => None,
        }
    }

    /// The longest line to read from the source, in bytes, so that a line longer than `most` bytes of UTF-8 is recognized as
    /// such.
    pub fn line_bytes_max(self, most: usize) -> usize {
        match self {
            Encoding::Utf8 => most,
            Encoding::Latin1 => most + 1,
            Encoding::Utf16Le | Encoding::Utf16Be => 2 * most + 2,
        }
    }

    /// Decodes a UTF-16 code unit.
    fn unit(self, pair: &[u8]) -> u16 {
        let pair = [pair[0], pair[1]];
        if self == Encoding::Utf16Be { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
    }

    /// The bytes of a newline.
    pub fn newline(self) -> &'static [u8] {
        match self {
            Encoding::Utf16Le => b"\n\0",
            Encoding::Utf16Be => b"\0\n",
            Encoding::Utf8 | Encoding::Latin1 => b"\n",
        }
    }

    /// Appends `bytes`, converted to UTF-8.
    fn decode(self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut push = |character: char| out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        match self {
            Encoding::Utf8 => out.extend_from_slice(bytes),
            Encoding::Latin1 => bytes.iter().for_each(|byte| push(char::from(*byte))),
            Encoding::Utf16Le | Encoding::Utf16Be => {
                let units = bytes.chunks_exact(2).map(|pair| self.unit(pair));
                char::decode_utf16(units).for_each(|unit| push(unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
                if bytes.len() % 2 == 1 {
                    push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
    }
}

/// Like [`super::framing::cut`], for UTF-16. A line that is too long only as UTF-8 is left to [`convert`].
pub fn cut_wide(
    bytes: &[u8],
    start: usize,
    place: Place,
    rules: Rules,
    ending: Ending,
    events: &mut Vec<EventSpan>,
) -> Cut {
    let mut cut = Cut { consumed: start, place, ..Cut::default() };
    let most = rules.encoding.line_bytes_max(rules.line_bytes_max);
    let whole = start + (bytes.len() - start) / 2 * 2;
    let mut at = start;
    while let Some(newline) = next_newline(&bytes[..whole], at, start, rules.encoding) {
        if events.len() >= BATCH_EVENTS_MAX {
            return cut;
        }
        if !cut_line(&bytes[..newline], most, rules, events, &mut cut) {
            return cut;
        }
        at = newline + 2;
        (cut.consumed, cut.place) = (at, Place::LineStart);
    }
    if events.len() < BATCH_EVENTS_MAX {
        let is_final = matches!(ending, Ending::Final | Ending::Closed);
        let end = if is_final { bytes.len() } else { whole };
        let is_long = end - cut.consumed > most;
        if cut.place == Place::Skipping {
            cut.consumed = end;
        } else if end > cut.consumed && (is_final || is_long) && cut_line(&bytes[..end], most, rules, events, &mut cut)
        {
            cut.place = match rules.too_long {
                LineTooLong::Truncate | LineTooLong::Discard if is_long => Place::Skipping,
                _ => Place::Inside,
            };
            cut.consumed = end;
        }
    }
    cut
}

/// Creates the events of a line that ends with `bytes`. Returns false if the limit of events was reached inside the line.
fn cut_line(bytes: &[u8], most: usize, rules: Rules, events: &mut Vec<EventSpan>, cut: &mut Cut) -> bool {
    let mut end = bytes.len();
    let line = &bytes[cut.consumed..];
    if cut.place == Place::Skipping {
        return true;
    }
    if !rules.keep_cr && line.len() >= 2 && rules.encoding.unit(&line[line.len() / 2 * 2 - 2..]) == u16::from(b'\r') {
        end -= 2;
    }
    while end - cut.consumed > most {
        match rules.too_long {
            LineTooLong::Truncate => end = cut.consumed + most,
            LineTooLong::Discard => {
                cut.discarded += 1;
                return true;
            }
            LineTooLong::Split => {
                // Do not split a surrogate pair.
                let halves = (0xd800..0xdc00).contains(&rules.encoding.unit(&bytes[cut.consumed + most - 2..]));
                let piece = most - if halves { 2 } else { 0 };
                push(cut.consumed, cut.consumed + piece, events);
                (cut.consumed, cut.place) = (cut.consumed + piece, Place::Inside);
                if events.len() >= BATCH_EVENTS_MAX {
                    return false;
                }
            }
        }
    }
    if end > cut.consumed || !rules.skip_empty {
        push(cut.consumed, end, events);
    }
    true
}

fn push(start: usize, end: usize, events: &mut Vec<EventSpan>) {
    events.push(EventSpan { start: start as u32, end: end as u32 });
}

/// The next newline at or after `from`; characters start at `start` and every two bytes after it.
fn next_newline(bytes: &[u8], from: usize, start: usize, encoding: Encoding) -> Option<usize> {
    let place_in_unit = usize::from(encoding == Encoding::Utf16Be);
    memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at).find_map(|at| {
        let unit = at.checked_sub(place_in_unit).filter(|unit| *unit >= from && (unit - start).is_multiple_of(2))?;
        (bytes.get(unit..unit + 2)? == encoding.newline()).then_some(unit)
    })
}

/// What [`convert`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// Events that were truncated.
    pub truncated: u64,
    /// Lines that were discarded.
    pub discarded: u64,
    /// Where the first line begins that did not fit any more, if there is one.
    pub left: Option<usize>,
}

/// Replaces the bytes of a batch with UTF-8. Events that do not fit are removed from the batch.
pub fn convert(batch: &mut Batch, rules: Rules) -> Converted {
    let mut converted = Converted::default();
    if rules.encoding == Encoding::Utf8 {
        return converted;
    }
    let room = batch.chunk.capacity();
    let (mut text, mut spans, mut offsets, mut truncated) =
        (Vec::with_capacity(batch.chunk.bytes().len()), Vec::new(), Vec::new(), Vec::new());
    for event in &batch.events {
        let (begin, first) = (text.len(), spans.len());
        rules.encoding.decode(&batch.chunk.bytes()[event.range()], &mut text);
        if batch.chunk_offset + u64::from(event.start) == 0 && text[begin..].starts_with(MARK) {
            text.drain(begin..begin + MARK.len());
        }
        let is_long = text.len() - begin > rules.line_bytes_max;
        if is_long && rules.too_long == LineTooLong::Truncate {
            text.truncate(begin + piece(&text[begin..], rules.line_bytes_max));
        } else if is_long && rules.too_long == LineTooLong::Discard {
            text.truncate(begin);
            converted.discarded += 1;
            continue;
        }
        if text.len() > room || spans.len() >= BATCH_EVENTS_MAX {
            text.truncate(begin);
            converted.left = Some(event.start as usize);
            break;
        }
        let mut at = begin;
        while text.len() - at > rules.line_bytes_max {
            let end = at + piece(&text[at..], rules.line_bytes_max);
            push(at, end, &mut spans);
            at = end;
        }
        if text.len() > at || !rules.skip_empty {
            push(at, text.len(), &mut spans);
        }
        if is_long && rules.too_long == LineTooLong::Truncate {
            truncated.push(first as u32);
            converted.truncated += 1;
        }
        offsets.resize(spans.len(), batch.chunk_offset + u64::from(event.start));
    }
    batch.chunk.set_length(0);
    batch.chunk.spare()[..text.len()].copy_from_slice(&text);
    batch.chunk.set_length(text.len());
    (batch.events, batch.offsets, batch.truncated) = (spans, offsets, truncated);
    converted
}

/// The longest prefix of `text` of at most `most` bytes that does not split a character.
fn piece(text: &[u8], most: usize) -> usize {
    (0..4).map(|back| most - back).find(|at| text[*at] & 0xc0 != 0x80).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::super::framing::cut;
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use tailwater_shards::batch::{Source, SourceKey};

    fn rules(encoding: Encoding, line_bytes_max: usize, too_long: LineTooLong) -> Rules {
        Rules { line_bytes_max, too_long, keep_cr: false, skip_nuls: false, skip_empty: true, encoding }
    }

    fn encode(text: &str, encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Utf8 => text.as_bytes().to_vec(),
            Encoding::Latin1 => text.chars().map(|one| u8::try_from(u32::from(one)).unwrap_or(b'?')).collect(),
            Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }

    /// Reads `content` in reads that see up to `size` more bytes each time; returns the lines and their offsets.
    fn read_all(content: &[u8], size: usize, rules: Rules) -> (Vec<(String, u64)>, u64) {
        let source = Source {
            key: SourceKey(1),
            input: "in".into(),
            name: Vec::new(),
            descriptor: Vec::new(),
            repeatable: true,
        };
        let source = Arc::new(source);
        let (mut lines, mut position, mut seen, mut place, mut count) = (Vec::new(), 0, 0, Place::LineStart, 0);
        loop {
            let ending = if seen == content.len() { Ending::Final } else { Ending::Open };
            let mut batch = Batch::new(content.len() * 2 + 64, source.clone());
            let bytes = &content[position..seen];
            batch.chunk.spare()[..bytes.len()].copy_from_slice(bytes);
            batch.chunk.set_length(bytes.len());
            batch.chunk_offset = position as u64;
            let cut = cut(bytes, 0, place, rules, ending, &mut batch.events);
            let converted = convert(&mut batch, rules);
            assert_eq!(converted.left, None);
            count += converted.truncated + converted.discarded + cut.discarded;
            for index in 0..batch.events.len() {
                let line = String::from_utf8(batch.event(index).to_vec()).expect("UTF-8");
                assert!(line.len() <= rules.line_bytes_max, "{line}");
                lines.push((line, batch.offset_of(index)));
            }
            position += cut.consumed;
            place = cut.place;
            if ending == Ending::Final {
                assert_eq!(position, content.len());
                return (lines, count);
            }
            seen = (seen + size).min(content.len());
        }
    }

    #[test]
    fn lines_of_every_encoding_are_utf_8() {
        for encoding in [Encoding::Utf16Le, Encoding::Utf16Be, Encoding::Latin1] {
            let content = encode("année\r\n\r\nĊ is no newline\nlast", encoding);
            let (lines, _) = read_all(&content, 3, rules(encoding, 100, LineTooLong::Truncate));
            let texts: Vec<&str> = lines.iter().map(|line| line.0.as_str()).collect();
            let second = if encoding == Encoding::Latin1 { "? is no newline" } else { "Ċ is no newline" };
            assert_eq!(texts, ["année", second, "last"]);
            let unit = if encoding == Encoding::Latin1 { 1 } else { 2 };
            assert_eq!(lines[1].1, 9 * unit, "its position in the file");
        }
        let marked = [b"\xff\xfe".to_vec(), encode("😀\n", Encoding::Utf16Le)].concat();
        let (lines, _) = read_all(&marked, 100, rules(Encoding::Utf16Le, 100, LineTooLong::Truncate));
        assert_eq!(lines, [("😀".to_owned(), 0)]);
        let broken =
            [&encode("a", Encoding::Utf16Le)[..], b"\x00\xd8", &encode("b\n", Encoding::Utf16Le), b"x"].concat();
        let (lines, _) = read_all(&broken, 100, rules(Encoding::Utf16Le, 100, LineTooLong::Truncate));
        assert_eq!(lines, [("a\u{fffd}b".to_owned(), 0), ("\u{fffd}".to_owned(), 8)]);
    }

    #[test]
    fn length_of_a_line_is_that_of_its_utf_8() {
        let check = |text: &str, too_long, expected: &[&str], count| {
            let content = encode(text, Encoding::Utf16Be);
            let (lines, counted) = read_all(&content, 5, rules(Encoding::Utf16Be, 6, too_long));
            let texts: Vec<&str> = lines.iter().map(|line| line.0.as_str()).collect();
            assert_eq!((texts.as_slice(), counted), (expected, count), "{text}");
        };
        check("123456\n€€€\nx\n", LineTooLong::Truncate, &["123456", "€€", "x"], 1);
        check("123456\n€€€\nx\n", LineTooLong::Split, &["123456", "€€", "€", "x"], 0);
        check("123456\n€€€\nx\n", LineTooLong::Discard, &["123456", "x"], 1);
        check("0123456789abcdef0\nx\n", LineTooLong::Truncate, &["012345", "x"], 1);
        check("0123456789abcdef0\nx\n", LineTooLong::Discard, &["x"], 1);
    }

    #[test]
    fn utf_16_is_seen_by_its_mark_or_its_zeros() {
        let long = "2026-11-29 10:00:00 started and ready\n";
        for encoding in [Encoding::Utf16Le, Encoding::Utf16Be] {
            assert_eq!(Encoding::seen_in(&encode(long, encoding)), Some(encoding));
            assert_eq!(Encoding::seen_in(&encode("\u{feff}x", encoding)), Some(encoding));
            assert_eq!(Encoding::seen_in(&encode("short", encoding)), None);
        }
        assert_eq!((Encoding::seen_in(long.as_bytes()), Encoding::seen_in(&[0; 100])), (None, None));
    }

    #[test]
    fn what_finds_no_room_is_left_for_the_next_batch() {
        let source = Source {
            key: SourceKey(1),
            input: "in".into(),
            name: Vec::new(),
            descriptor: Vec::new(),
            repeatable: true,
        };
        let content = encode("€€€€\n€€€€\n", Encoding::Utf16Le);
        let mut batch = Batch::new(content.len(), Arc::new(source));
        batch.chunk.spare()[..content.len()].copy_from_slice(&content);
        batch.chunk.set_length(content.len());
        let rules = rules(Encoding::Utf16Le, 100, LineTooLong::Truncate);
        cut(&content, 0, Place::LineStart, rules, Ending::Open, &mut batch.events);
        assert_eq!((batch.events.len(), convert(&mut batch, rules).left), (2, Some(10)));
        assert_eq!((batch.events.len(), batch.event(0)), (1, "€€€€".as_bytes()));
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_lines(
            text in "[a-c€é😀\n\r]{0,60}", size in 1usize..20, wide in 0u8..3, policy in 0u8..2, most in 8usize..20,
        ) {
            let encoding = [Encoding::Utf16Le, Encoding::Utf16Be, Encoding::Latin1][usize::from(wide)];
            let too_long = [LineTooLong::Truncate, LineTooLong::Discard][usize::from(policy)];
            let content = encode(&format!("{text}\n"), encoding);
            let rules = rules(encoding, most, too_long);
            prop_assert_eq!(read_all(&content, size, rules), read_all(&content, content.len(), rules));
        }

        #[test]
        fn hostile_bytes_do_not_panic(content: Vec<u8>, size in 1usize..20, wide in 0u8..3) {
            let encoding = [Encoding::Utf16Le, Encoding::Utf16Be, Encoding::Latin1][usize::from(wide)];
            read_all(&content, size, rules(encoding, 8, LineTooLong::Split));
        }
    }
}
