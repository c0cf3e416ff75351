//! Where in a line a position is, and where the last line of a file begins.
//!
//! Guarantees: the answer depends on the bytes before the position only. What needs more bytes than the search may read is
//! left open and found in later steps. Changes nothing.

use super::LineTooLong;
use super::backwards::Backwards;
use super::follow::{Beginning, Span};
use super::identify::{marker_at, read_exactly};
use crate::codec::framing::{Place, Rules};
use std::io;
use tailwater_shards::env::File;

/// The span with a known beginning; none if that needs another step. Blocks.
pub fn find_beginning<F: File>(file: &F, span: Span, rules: Rules, nuls: &mut Backwards) -> io::Result<Option<Span>> {
    match span.beginning {
        Beginning::Known => Ok(Some(span)),
        Beginning::Unplaced => {
            let place = place_of(file, span.from, rules, nuls)?;
            Ok(place.map(|place| Span { place, beginning: Beginning::Known, ..span }))
        }
        Beginning::LastLine => {
            let Some(from) = last_line_start(file, span.from, rules, nuls)? else { return Ok(None) };
            let Some(place) = place_of(file, from, rules, nuls)? else { return Ok(None) };
            Ok(Some(Span { from, marker: Some(marker_at(file, from)?), place, ..Span::WHOLE }))
        }
    }
}

/// Where in a line a crash left `position`. If the rest of a line was being skipped, at least as many bytes as a line may
/// have come before the position without a newline, not counting NULs at the beginning of the line. Anything shorter was an
/// unfinished last line that has been completed.
fn place_of<F: File>(file: &F, position: u64, rules: Rules, nuls: &mut Backwards) -> io::Result<Option<Place>> {
    let newline = rules.encoding.newline();
    let width = newline.len() as u64;
    let is_line_start =
        |at: u64| Ok::<_, io::Error>(at < width || read_exactly(file, at - width, newline.len())? == newline);
    if is_line_start(position)? {
        return Ok(Some(Place::LineStart));
    }
    if rules.skip_nuls {
        let Some(begin) = nuls.begin_before(file, position)? else { return Ok(None) };
        if is_line_start(begin)? {
            return Ok(Some(Place::LineStart));
        }
    }
    if rules.encoding.is_wide() {
        return wide_place_of(file, position, rules).map(Some);
    }
    // If the limit falls inside a character, the line is cut up to three bytes earlier.
    let least = rules.line_bytes_max as u64 - 3;
    if rules.too_long == LineTooLong::Split || position < least {
        return Ok(Some(Place::Inside));
    }
    let begin = position - least;
    let before = read_exactly(file, begin, least as usize)?;
    if (before.len() as u64) < least || before.contains(&b'\n') {
        return Ok(Some(Place::Inside));
    }
    if before[0] != 0 {
        return Ok(Some(Place::Skipping));
    }
    let Some(begin) = nuls.begin_before(file, begin)? else { return Ok(None) };
    Ok(Some(if is_line_start(begin)? { Place::Inside } else { Place::Skipping }))
}

/// The same for UTF-16. A line that is too long only when converted to UTF-8 counts as an unfinished line that has been
/// completed.
fn wide_place_of<F: File>(file: &F, position: u64, rules: Rules) -> io::Result<Place> {
    let least = rules.encoding.line_bytes_max(rules.line_bytes_max) as u64;
    if rules.too_long == LineTooLong::Split || position < least {
        return Ok(Place::Inside);
    }
    let before = read_exactly(file, position - least, least as usize)?;
    let is_newline = before.chunks_exact(2).any(|unit| unit == rules.encoding.newline());
    Ok(if is_newline { Place::Inside } else { Place::Skipping })
}

/// Where the last, unfinished line begins. If there is none, or if it is too long: the end of the data, because NULs after it
/// may be preallocated space.
fn last_line_start<F: File>(file: &F, length: u64, rules: Rules, nuls: &mut Backwards) -> io::Result<Option<u64>> {
    let end = if rules.skip_nuls { nuls.begin_before(file, length)? } else { Some(length / 2 * 2) };
    let Some(length) = end else { return Ok(None) };
    let longest = rules.encoding.line_bytes_max(rules.line_bytes_max) as u64;
    let window = length.min(longest / 2 * 2 + 2);
    let bytes = read_exactly(file, length - window, window as usize)?;
    if rules.encoding.is_wide() {
        let newline = bytes.chunks_exact(2).rposition(|unit| unit == rules.encoding.newline());
        return Ok(Some(match newline {
            Some(unit) => length - window + 2 * unit as u64 + 2,
            None if window == length => 0,
            None => length,
        }));
    }
    Ok(Some(match memchr::memrchr(b'\n', &bytes) {
        Some(newline) => length - window + newline as u64 + 1,
        None if window == length => 0,
        None => length,
    }))
}
