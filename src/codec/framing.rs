//! A stream's bytes cut into lines.
//!
//! Guarantees: the events found do not depend on how the bytes were split into chunks, as long as what [`split_lines`] leaves
//! over stands at the start of the next chunk. Pure; long lines are the caller's, who knows what to do with them.

use memchr::memchr;
use tailwater_shards::batch::EventSpan;

/// How lines are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineOptions {
    /// Whether a `\r` before the newline belongs to the line.
    pub keep_cr: bool,
    /// Most events that one call appends.
    pub events_max: usize,
}

/// Appends the whole lines of `chunk` from byte `from` on, until there is none or `events` holds as many as it may. Returns
/// where the first byte lies that belongs to no line found.
pub fn split_lines(chunk: &[u8], from: usize, options: LineOptions, events: &mut Vec<EventSpan>) -> usize {
    let mut start = from;
    while events.len() < options.events_max {
        let Some(length) = memchr(b'\n', &chunk[start..]) else {
            return start;
        };
        events.push(span(chunk, start, start + length, options.keep_cr));
        start += length + 1;
    }
    start
}

/// The event of a line that lies at `start..end`, its newline not included.
pub fn span(chunk: &[u8], start: usize, end: usize, keep_cr: bool) -> EventSpan {
    let cut = usize::from(!keep_cr && end > start && chunk[end - 1] == b'\r');
    EventSpan { start: start as u32, end: (end - cut) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(text: &[u8], keep_cr: bool) -> (Vec<Vec<u8>>, usize) {
        let mut events = Vec::new();
        let rest = split_lines(text, 0, LineOptions { keep_cr, events_max: usize::MAX }, &mut events);
        (events.into_iter().map(|event| text[event.range()].to_vec()).collect(), rest)
    }

    #[test]
    fn carriage_return_is_cut_unless_kept() {
        assert_eq!(lines(b"a\r\n\r\n\n\rb\nrest", false), (vec![b"a".to_vec(), vec![], vec![], b"\rb".to_vec()], 9));
        assert_eq!(lines(b"a\r\n\r\n", true).0, [&b"a\r"[..], b"\r"]);
    }

    #[test]
    fn full_batch_ends_the_cut() {
        let mut events = Vec::new();
        let options = LineOptions { keep_cr: false, events_max: 2 };
        assert_eq!(split_lines(b"a\nb\nc\n", 0, options, &mut events), 4);
        assert_eq!(split_lines(b"a\nb\nc\n", 4, options, &mut events), 4);
        assert_eq!(events.len(), 2);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(text in "[a\r\n]{0,60}", cut in 0usize..60) {
            let text = text.as_bytes();
            let cut = cut.min(text.len());
            let (mut found, rest) = lines(&text[..cut], false);
            let (later, end) = lines(&text[rest..], false);
            found.extend(later);
            prop_assert_eq!((found, rest + end), lines(text, false));
        }
    }
}
