//! Finds lines in a chunk of a source.
//!
//! Guarantees: the events do not depend on how the bytes of a source were split into reads. Every byte is either consumed or left
//! for the next read. A line longer than allowed follows the policy. If the rules say so, NULs before a line are not part of it,
//! and NULs that may still be overwritten are never consumed. Pure.

use super::encoding::{self, Converted, Encoding};
use super::nuls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tailwater_shards::batch::{Batch, EventSpan};
use tailwater_shards::limits::BATCH_EVENTS_MAX;

/// What happens to a line longer than `max_line_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineTooLong {
    /// Its beginning is kept and the rest is skipped; the line is counted.
    #[default]
    Truncate,
    /// It becomes several events.
    Split,
    /// It is dropped and counted.
    Discard,
}

/// How bytes are split into lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The longest line, in bytes without its line ending.
    pub line_bytes_max: usize,
    /// What happens to a longer one.
    pub too_long: LineTooLong,
    /// Whether a carriage return before the newline belongs to the line.
    pub keep_cr: bool,
    /// Whether NULs at the beginning of a line are skipped: holes in a file, and preallocated space. NULs at the end of the bytes
    /// are then left for the next read unless something is known to follow them.
    pub skip_nuls: bool,
    /// Whether empty lines are skipped.
    pub skip_empty: bool,
    /// The encoding of the text.
    pub encoding: Encoding,
}

/// What the first byte of a chunk belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// At the beginning of a line, or of the NULs before it.
    #[default]
    LineStart,
    /// Inside a line whose first part is already an event.
    Inside,
    /// In a line whose rest is skipped.
    Skipping,
}

/// The result for one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cut {
    /// Bytes that were consumed, counted from the beginning of the chunk.
    pub consumed: usize,
    /// What the next byte belongs to.
    pub place: Place,
    /// Events that were truncated.
    pub truncated: u64,
    /// Lines that were discarded.
    pub discarded: u64,
    /// NULs at the end of the bytes that are not consumed because they may be overwritten.
    pub nuls: usize,
}

/// What follows the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// More may follow: an unfinished line waits, and so do NULs at its end.
    Open,
    /// A byte other than NUL follows, but not in this chunk: an unfinished line waits, and NULs at the end belong to it.
    Followed,
    /// Nothing follows for now: an unfinished line is an event, and NULs after it wait.
    Final,
    /// Nothing follows, or it is already handled: an unfinished line is an event, and NULs at the end belong to it.
    Closed,
}

impl Ending {
    fn is_final(self) -> bool {
        matches!(self, Ending::Final | Ending::Closed)
    }

    /// Whether NULs at the end may be overwritten.
    fn may_change(self) -> bool {
        matches!(self, Ending::Open | Ending::Final)
    }
}

/// Splits `bytes[start..]` into lines and appends them to `events`, at most [`BATCH_EVENTS_MAX`]. Hot: 5 to 10 ns per line.
pub fn cut(bytes: &[u8], start: usize, place: Place, rules: Rules, ending: Ending, events: &mut Vec<EventSpan>) -> Cut {
    if rules.encoding != Encoding::Utf8 {
        return cut_encoded(bytes, start, place, rules, ending, events);
    }
    cut_bytes(bytes, start, place, rules, ending, events)
}

#[cold]
fn cut_encoded(
    bytes: &[u8],
    start: usize,
    place: Place,
    rules: Rules,
    ending: Ending,
    events: &mut Vec<EventSpan>,
) -> Cut {
    if rules.encoding.is_wide() {
        return encoding::cut_wide(bytes, start, place, rules, ending, events);
    }
    let line_bytes_max = rules.encoding.line_bytes_max(rules.line_bytes_max);
    let cut = cut_bytes(bytes, start, place, Rules { line_bytes_max, ..rules }, ending, events);
    // The conversion to UTF-8 truncates and counts.
    Cut { truncated: 0, ..cut }
}

/// Finishes the events of a batch that [`cut`] just found: marks the `truncated` ones, removes a byte order mark, and converts
/// text that is not UTF-8.
pub fn finish(batch: &mut Batch, rules: Rules, truncated: u64) -> Converted {
    if rules.encoding != Encoding::Utf8 {
        return encoding::convert(batch, rules);
    }
    if truncated > 0 {
        batch.truncated = cut_short(batch.chunk.bytes(), rules, &batch.events);
    }
    if batch.chunk_offset == 0 {
        leave_out_mark(batch.chunk.bytes(), rules, &mut batch.events);
    }
    Converted { truncated, ..Converted::default() }
}

/// The place of byte `at` in bytes that began at `place`, if an event begins there.
pub fn place_at(bytes: &[u8], at: usize, place: Place, rules: Rules) -> Place {
    match at {
        0 => place,
        _ if bytes[..at].ends_with(rules.encoding.newline()) => Place::LineStart,
        _ => Place::Inside,
    }
}

/// The indices of events that contain only the beginning of their line. Called if [`cut`] counted such events.
fn cut_short(bytes: &[u8], rules: Rules, events: &[EventSpan]) -> Vec<u32> {
    let is_short = |event: &EventSpan| {
        let rest = bytes.get(event.end as usize..).unwrap_or_default();
        let is_end = rest.is_empty() || rest[0] == b'\n' || !rules.keep_cr && rest.starts_with(b"\r\n");
        event.length() + 4 > rules.line_bytes_max && !is_end
    };
    events.iter().enumerate().filter(|(_, event)| is_short(event)).map(|(index, _)| index as u32).collect()
}

/// Removes a byte order mark from the first event if it starts at the first byte of a source.
fn leave_out_mark(bytes: &[u8], rules: Rules, events: &mut Vec<EventSpan>) {
    if let Some(first) = events.first_mut()
        && first.start == 0
        && bytes[first.range()].starts_with(encoding::MARK)
        && rules.encoding == Encoding::Utf8
    {
        first.start = encoding::MARK.len() as u32;
        if first.length() == 0 && rules.skip_empty {
            events.remove(0);
        }
    }
}

fn cut_bytes(
    bytes: &[u8],
    start: usize,
    place: Place,
    rules: Rules,
    ending: Ending,
    events: &mut Vec<EventSpan>,
) -> Cut {
    let mut cut = Cut { consumed: start, place, ..Cut::default() };
    for newline in memchr::memchr_iter(b'\n', &bytes[start..]) {
        if events.len() >= BATCH_EVENTS_MAX {
            return cut;
        }
        let newline = start + newline;
        if cut.place != Place::Skipping {
            if bytes[cut.consumed] == 0 {
                cut.pass_nuls(&bytes[..newline], rules);
            }
            let end = without_cr(bytes, cut.consumed, newline, rules.keep_cr);
            if end == cut.consumed && rules.skip_empty {
                // The line is empty.
            } else if end - cut.consumed <= rules.line_bytes_max {
                events.push(span(cut.consumed, end));
            } else if !cut_long(bytes, end, rules, events, &mut cut) {
                return cut;
            }
        }
        cut.place = Place::LineStart;
        cut.consumed = newline + 1;
    }
    if events.len() < BATCH_EVENTS_MAX {
        cut_rest(bytes, rules, ending, events, &mut cut);
    }
    cut
}

impl Cut {
    /// Skips the NULs at the beginning of a line, if a line begins here.
    #[cold]
    fn pass_nuls(&mut self, bytes: &[u8], rules: Rules) {
        if rules.skip_nuls && self.place == Place::LineStart {
            self.consumed += nuls::leading(&bytes[self.consumed..]);
        }
    }
}

fn span(start: usize, end: usize) -> EventSpan {
    EventSpan { start: start as u32, end: end as u32 }
}

fn without_cr(bytes: &[u8], start: usize, newline: usize, keep_cr: bool) -> usize {
    let ends_in_cr = newline > start && bytes[newline - 1] == b'\r';
    if ends_in_cr && !keep_cr { newline - 1 } else { newline }
}

/// Handles a complete line that ends at `end` and is too long. Returns false if the limit of events was reached inside the line.
fn cut_long(bytes: &[u8], end: usize, rules: Rules, events: &mut Vec<EventSpan>, cut: &mut Cut) -> bool {
    match rules.too_long {
        LineTooLong::Truncate => {
            events.push(span(cut.consumed, piece_end(bytes, cut.consumed, rules)));
            cut.truncated += 1;
        }
        LineTooLong::Discard => cut.discarded += 1,
        LineTooLong::Split => {
            while end - cut.consumed > rules.line_bytes_max {
                if !push_piece(bytes, rules, events, cut) {
                    return false;
                }
            }
            if events.len() >= BATCH_EVENTS_MAX {
                return false;
            }
            events.push(span(cut.consumed, end));
        }
    }
    true
}

/// Handles the bytes after the last newline.
fn cut_rest(bytes: &[u8], rules: Rules, ending: Ending, events: &mut Vec<EventSpan>, cut: &mut Cut) {
    if rules.skip_nuls && ending.may_change() {
        cut.nuls = nuls::trailing(&bytes[cut.consumed..]);
    }
    // Excludes the NULs that wait.
    let bytes = &bytes[..bytes.len() - cut.nuls];
    if cut.place == Place::Skipping {
        cut.consumed = bytes.len();
        return;
    }
    cut.pass_nuls(bytes, rules);
    let is_too_long = |from: usize| {
        // The extra byte may be the carriage return of a line that just fits.
        let room = rules.line_bytes_max + usize::from(!rules.keep_cr && bytes.last() == Some(&b'\r'));
        bytes.len() - from > if ending.is_final() { rules.line_bytes_max } else { room }
    };
    if is_too_long(cut.consumed) {
        match rules.too_long {
            LineTooLong::Truncate | LineTooLong::Discard => {
                cut_long(bytes, bytes.len(), rules, events, cut);
                cut.consumed = bytes.len();
                cut.place = Place::Skipping;
            }
            LineTooLong::Split => {
                while is_too_long(cut.consumed) {
                    if !push_piece(bytes, rules, events, cut) {
                        return;
                    }
                }
            }
        }
    }
    if ending.is_final() && cut.consumed < bytes.len() && events.len() < BATCH_EVENTS_MAX {
        events.push(span(cut.consumed, bytes.len()));
        cut.consumed = bytes.len();
        cut.place = Place::Inside;
    }
}

fn push_piece(bytes: &[u8], rules: Rules, events: &mut Vec<EventSpan>, cut: &mut Cut) -> bool {
    if events.len() >= BATCH_EVENTS_MAX {
        return false;
    }
    let end = piece_end(bytes, cut.consumed, rules);
    events.push(span(cut.consumed, end));
    cut.consumed = end;
    cut.place = Place::Inside;
    true
}

/// Where a part of a line that is too long ends: after at most `line_bytes_max` bytes, not inside a UTF-8 character.
fn piece_end(bytes: &[u8], start: usize, rules: Rules) -> usize {
    let end = start + rules.line_bytes_max;
    let is_continuation = |at: usize| bytes[at] & 0xc0 == 0x80;
    match (0..4).map(|back| end - back).find(|&at| !is_continuation(at)) {
        Some(at) if at > start => at,
        // Not UTF-8, so there is no better place.
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(line_bytes_max: usize, too_long: LineTooLong) -> Rules {
        Rules { line_bytes_max, too_long, keep_cr: false, skip_nuls: true, skip_empty: false, encoding: Encoding::Utf8 }
    }

    /// Reads `content` as the input does: from the first unread byte, in reads that see up to `sizes` more bytes each time.
    fn read_all(content: &[u8], sizes: &[usize], rules: Rules) -> (Vec<Vec<u8>>, u64, u64) {
        let (mut lines, mut position, mut seen, mut place) = (Vec::new(), 0, 0, Place::LineStart);
        let (mut truncated, mut discarded) = (0, 0);
        let mut sizes = sizes.iter().cycle();
        loop {
            let ending = if seen == content.len() { Ending::Final } else { Ending::Open };
            let mut events = Vec::new();
            let cut = cut(&content[..seen], position, place, rules, ending, &mut events);
            lines.extend(events.iter().map(|event| content[event.range()].to_vec()));
            (position, place) = (cut.consumed, cut.place);
            truncated += cut.truncated;
            discarded += cut.discarded;
            if ending == Ending::Final && position + cut.nuls == content.len() {
                return (lines, truncated, discarded);
            }
            seen = (seen + sizes.next().expect("endless")).min(content.len());
        }
    }

    fn check(content: &str, rules: Rules, expected: &[&str]) {
        let (lines, ..) = read_all(content.as_bytes(), &[content.len().max(1)], rules);
        let lines: Vec<&str> = lines.iter().map(|line| std::str::from_utf8(line).expect("text")).collect();
        assert_eq!(lines, expected, "{content:?}");
    }

    #[test]
    fn lines_lose_their_ends() {
        let plain = rules(100, LineTooLong::Truncate);
        check("a\nbb\n\nc\n", plain, &["a", "bb", "", "c"]);
        check("a\r\n\r\nb\rc\n", plain, &["a", "", "b\rc"]);
        check("a\r\n", Rules { keep_cr: true, ..plain }, &["a\r"]);
        check("a\nlast", plain, &["a", "last"]);
        check("", plain, &[]);
    }

    #[test]
    fn empty_lines_are_left_out_where_the_rules_say_so() {
        let skipping = Rules { skip_empty: true, ..rules(6, LineTooLong::Split) };
        check("\n\na\n\r\n \n012345\n0123456\n\n", skipping, &["a", " ", "012345", "012345", "6"]);
        check("\r\n", Rules { keep_cr: true, ..skipping }, &["\r"]);
    }

    #[test]
    fn mark_is_no_part_of_the_first_line() {
        let lines = |content: &[u8], skip_empty| {
            let rules = Rules { skip_empty, ..rules(100, LineTooLong::Truncate) };
            let mut events = Vec::new();
            cut(content, 0, Place::LineStart, rules, Ending::Closed, &mut events);
            leave_out_mark(content, rules, &mut events);
            events.iter().map(|event| content[event.range()].to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(lines(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", true), [&b"a"[..], b"\xef\xbb\xbfb"]);
        assert_eq!(lines(b"\xef\xbb\xbf\na\n", true), [b"a"]);
        assert_eq!(lines(b"\xef\xbb\xbf\na\n", false), [&b""[..], b"a"]);
        assert_eq!(lines(b"\xef\xbb\n", true), [b"\xef\xbb"]);
    }

    #[test]
    fn beginnings_of_lines_are_known_from_whole_ones() {
        let content = b"012345\n0123456\n012345\r\n01234\n0123456789";
        let rules = rules(6, LineTooLong::Truncate);
        let mut events = Vec::new();
        let cut = cut(content, 0, Place::LineStart, rules, Ending::Open, &mut events);
        assert_eq!((events.len(), cut.truncated), (5, 2));
        assert_eq!(cut_short(content, rules, &events), [1, 4]);
    }

    #[test]
    fn long_lines_follow_the_policy() {
        let long = "0123456789abcdef\nshort\n";
        check(long, rules(6, LineTooLong::Truncate), &["012345", "short"]);
        check(long, rules(6, LineTooLong::Split), &["012345", "6789ab", "cdef", "short"]);
        check(long, rules(6, LineTooLong::Discard), &["short"]);
        check("012345\r\n", rules(6, LineTooLong::Truncate), &["012345"]);
        check("01234567", rules(4, LineTooLong::Split), &["0123", "4567"]);
    }

    #[test]
    fn pieces_do_not_break_characters() {
        check("aééé\n", rules(4, LineTooLong::Split), &["aé", "éé"]);
        check("aaa€\n", rules(5, LineTooLong::Truncate), &["aaa"]);
    }

    #[test]
    fn too_many_lines_wait_for_the_next_batch() {
        let content = vec![b'\n'; BATCH_EVENTS_MAX + 10];
        let mut events = Vec::new();
        let cut = cut(&content, 0, Place::LineStart, rules(10, LineTooLong::Truncate), Ending::Open, &mut events);
        assert_eq!((events.len(), cut.consumed), (BATCH_EVENTS_MAX, BATCH_EVENTS_MAX));
    }

    #[test]
    fn nuls_before_a_line_are_no_part_of_it() {
        let plain = rules(6, LineTooLong::Truncate);
        check("\0\0\0\0\0\0\0\0\0line\n\0\0next\n", plain, &["line", "next"]);
        check("a\0b\n\0c\0\n\0\r\0\n", plain, &["a\0b", "c\0", "\r\0"]);
        check("\0\0\n\0\r\nx\n", plain, &["", "", "x"]);
        check("\0\0\0\0abcdef\n", plain, &["abcdef"]);
        check("\0\0\0\0abcdefghij\nx\n", rules(6, LineTooLong::Split), &["abcdef", "ghij", "x"]);
        check("0123\0\0\0\089\n", rules(4, LineTooLong::Split), &["0123", "\0\0\0\0", "89"]);
        check("\0\0line\n", Rules { skip_nuls: false, ..plain }, &["\0\0line"]);
    }

    /// The consumed bytes of `content`, the place after them, the events, and the NULs that wait.
    fn cut_once(content: &[u8], place: Place, ending: Ending) -> (usize, Place, Vec<&[u8]>, usize) {
        let mut events = Vec::new();
        let cut = cut(content, 0, place, rules(6, LineTooLong::Truncate), ending, &mut events);
        (cut.consumed, cut.place, events.iter().map(|event| &content[event.range()]).collect(), cut.nuls)
    }

    #[test]
    fn nuls_at_the_end_are_not_consumed_while_they_may_be_written_over() {
        use Place::{Inside, LineStart, Skipping};
        for ending in [Ending::Open, Ending::Final] {
            assert_eq!(cut_once(b"a\n\0\0\0", LineStart, ending), (2, LineStart, vec![&b"a"[..]], 3));
            assert_eq!(cut_once(&[0; 100], LineStart, ending), (0, LineStart, vec![], 100));
            assert_eq!(cut_once(b"zzz\0\0", Skipping, ending), (3, Skipping, vec![], 2));
            assert_eq!(cut_once(b"0123456789\0", LineStart, ending), (10, Skipping, vec![&b"012345"[..]], 1));
        }
        // Without the NULs, the line is not too long.
        assert_eq!(cut_once(b"\0\0ab\0\0\0\0\0\0", LineStart, Ending::Open), (2, LineStart, vec![], 6));
        assert_eq!(cut_once(b"ab\0\0\0\0\0\0", LineStart, Ending::Final), (2, Inside, vec![&b"ab"[..]], 6));
        let followed = |content, place| cut_once(content, place, Ending::Followed);
        assert_eq!(followed(&[0; 100], LineStart), (100, LineStart, vec![], 0));
        assert_eq!(followed(b"zz\0", Skipping), (3, Skipping, vec![], 0));
        assert_eq!(followed(b"ab\0\0", LineStart), (0, LineStart, vec![], 0));
        assert_eq!(followed(b"ab\0\0\0\0\0", LineStart), (7, Skipping, vec![&b"ab\0\0\0\0"[..]], 0));
        assert_eq!(cut_once(b"a\n\0\0", LineStart, Ending::Closed), (4, LineStart, vec![&b"a"[..]], 0));
        assert_eq!(cut_once(b"ab\0", LineStart, Ending::Closed), (3, Inside, vec![&b"ab\0"[..]], 0));
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![4 => Just(b'a'), 2 => Just(b'\n'), 1 => Just(b'\r'), 1 => Just(0xc3), 1 => Just(0xa9), 2 => Just(0)];
        proptest::collection::vec(byte, 0..200)
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_lines(
            content in bytes(),
            sizes in proptest::collection::vec(1usize..40, 1..10),
            line_bytes_max in 4usize..30,
            policy in 0u8..3,
            keep_cr: bool,
            skip_nuls: bool,
            skip_empty: bool,
        ) {
            let too_long = [LineTooLong::Truncate, LineTooLong::Split, LineTooLong::Discard][usize::from(policy)];
            let rules = Rules { keep_cr, skip_nuls, skip_empty, ..rules(line_bytes_max, too_long) };
            let mut content = content;
            content.push(b'\n');
            prop_assert_eq!(read_all(&content, &sizes, rules), read_all(&content, &[content.len()], rules));
        }

        #[test]
        fn short_lines_come_out_as_they_are(content in bytes(), sizes in proptest::collection::vec(1usize..40, 1..10)) {
            let rules = Rules { keep_cr: true, skip_nuls: false, ..rules(1000, LineTooLong::Discard) };
            let (lines, truncated, discarded) = read_all(&content, &sizes, rules);
            let mut expected: Vec<Vec<u8>> = content.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(lines, expected);
            prop_assert_eq!((truncated, discarded), (0, 0));
        }
    }
}
