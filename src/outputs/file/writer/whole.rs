//! Finds the end of the complete lines, members or frames in a file.
//!
//! Guarantees: what is kept can be read to its end. Nothing before `from`, the end of a line or member, is removed or read.
//! Only content that ends too early counts as incomplete; content that cannot be read at all is left alone. What is read is bounded by
//! the caller, so that a small file that becomes large, or one of terabytes without a line, keeps nobody waiting: [`super::room`].

use super::super::compress::Compression;
use std::io::{self, BufRead, BufReader, Read, Write};
use tailwater_shards::env::{File, Sequential};

/// Number of bytes that are read at once.
const WINDOW_BYTES: usize = 64 * 1024;

/// A member costs as much as this many bytes: a decoder has to be set up for it.
const MEMBER_BYTES: u64 = 512;

/// How much of a file is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// This many bytes.
    Upto(u64),
    /// Some of it is not in the expected format, or it is more than is read.
    Unreadable,
}

/// How much is complete between `from`, where a line or member begins, and `length`, the end of the file. Takes what it read from `room`,
/// bytes with and without compression, and reads no more than that.
pub(super) fn whole_bytes(
    file: &impl File,
    from: u64,
    length: u64,
    compression: Compression,
    room: &mut u64,
) -> io::Result<Whole> {
    match compression {
        Compression::None => last_line_end(file, from, length, room),
        _ if length.saturating_sub(from) > *room => Ok(Whole::Unreadable),
        Compression::Gzip | Compression::Zstd => {
            let mut input = BufReader::with_capacity(WINDOW_BYTES, Sequential::new(file, from));
            let whole = last_member_end(&mut input, from, compression, room);
            *room = room.saturating_sub(input.get_ref().offset().saturating_sub(from));
            whole
        }
    }
}

fn last_line_end(file: &impl File, least: u64, length: u64, room: &mut u64) -> io::Result<Whole> {
    let mut window = vec![0; WINDOW_BYTES];
    let (mut end, reach) = (length, length.saturating_sub(*room).max(least));
    while end > reach {
        let from = end.saturating_sub(WINDOW_BYTES as u64).max(reach);
        let part = &mut window[..(end - from) as usize];
        Sequential::new(file, from).read_exact(part)?;
        *room = room.saturating_sub(end - from);
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(Whole::Upto(from + at as u64 + 1));
        }
        end = from;
    }
    Ok(if reach > least { Whole::Unreadable } else { Whole::Upto(least) })
}

fn last_member_end<F: File>(
    input: &mut BufReader<Sequential<'_, F>>,
    from: u64,
    compression: Compression,
    room: &mut u64,
) -> io::Result<Whole> {
    let mut whole = from;
    loop {
        if input.fill_buf()?.is_empty() {
            return Ok(Whole::Upto(whole));
        }
        let read = match compression {
            Compression::Zstd => zstd::stream::read::Decoder::with_buffer(&mut *input)
                .map(|decoder| decoder.single_frame())
                .and_then(|decoder| drain(decoder, room)),
            _ => drain(flate2::bufread::GzDecoder::new(&mut *input), room),
        };
        match read {
            Ok(()) => whole = input.get_ref().offset() - input.buffer().len() as u64,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Whole::Upto(whole)),
            Err(error) if is_of_the_content(&error) => return Ok(Whole::Unreadable),
            Err(error) => return Err(error),
        }
    }
}

/// Reads to the end, and takes what was read from `room`, also if it ends too early.
fn drain(decoder: impl Read, room: &mut u64) -> io::Result<()> {
    let mut count = Count(0);
    let read = io::copy(&mut decoder.take(room.saturating_add(1)), &mut count);
    let left = room.checked_sub(count.0.saturating_add(MEMBER_BYTES));
    *room = left.unwrap_or(0);
    read?;
    left.map(drop).ok_or_else(|| io::Error::other("it is more than is read"))
}

/// Counts what is written to it.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether an error comes from the decoder and not from the disk.
fn is_of_the_content(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::file::compress::Member;
    use std::path::Path;
    use tailwater_shards::env::{Disk as _, Open};
    use tailwater_shards::sim::SimDisk;

    fn member(compression: Compression, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut member = Member::begin(compression).expect("a member").expect("it compresses");
        member.push(text.as_bytes(), &mut out).expect("it is taken");
        member.end(&mut out).expect("it ends");
        out
    }

    fn whole_of(bytes: &[u8], compression: Compression) -> u64 {
        match whole_from(0, bytes, compression) {
            Whole::Upto(whole) => whole,
            Whole::Unreadable => panic!("it reads"),
        }
    }

    fn whole_from(from: u64, bytes: &[u8], compression: Compression) -> Whole {
        let mut room = u64::MAX;
        let disk = SimDisk::new(1);
        disk.outside().write("/x", bytes).expect("there is room");
        let file = disk.open(Path::new("/x"), Open::Read).expect("it is there");
        whole_bytes(&file, from, bytes.len() as u64, compression, &mut room).expect("it can be read")
    }

    #[test]
    fn lines_without_an_end_are_incomplete() {
        let long = "x".repeat(3 * WINDOW_BYTES);
        for (text, whole) in [("", 0), ("a", 0), ("a\n", 2), ("a\nb", 2), ("\n\n", 2), (&format!("a\n{long}"), 2)] {
            assert_eq!(whole_of(text.as_bytes(), Compression::None), whole, "{} bytes", text.len());
        }
    }

    #[test]
    fn members_without_an_end_are_incomplete() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (one, other) = (member(compression, &"one\n".repeat(50_000)), member(compression, "other\n"));
            let both = [one.clone(), other].concat();
            for length in 0..=both.len() {
                let whole = [both.len(), one.len(), 0].into_iter().find(|whole| *whole <= length);
                assert_eq!(
                    whole_of(&both[..length], compression),
                    whole.unwrap_or(0) as u64,
                    "{compression:?} {length}"
                );
            }
            let mut bytes = both.clone();
            bytes[0] ^= 0x40;
            assert_eq!(whole_from(0, &bytes, compression), Whole::Unreadable, "{compression:?}");
            let behind = whole_from(one.len() as u64, &bytes, compression);
            assert_eq!(behind, Whole::Upto(both.len() as u64), "{compression:?}: nothing before it is read");
        }
    }

    /// Whether the end is found with this room, and how much of it is left.
    fn within(mut room: u64, bytes: &[u8], compression: Compression) -> (bool, u64) {
        let disk = SimDisk::new(1);
        disk.outside().write("/x", bytes).expect("there is room");
        let file = disk.open(Path::new("/x"), Open::Read).expect("it is there");
        let whole = whole_bytes(&file, 0, bytes.len() as u64, compression, &mut room).expect("it can be read");
        (whole != Whole::Unreadable, room)
    }

    const MIB: u64 = 1 << 20;

    /// A mebibyte of one letter, the same without its end, and thousands of members of nothing.
    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let large = member(compression, &"x".repeat(MIB as usize));
            let (is_found, left) = within(4 * MIB, &large, compression);
            assert!(is_found && left < 3 * MIB, "{compression:?}: {left}");
            assert_eq!(within(MIB / 2, &large, compression), (false, 0), "{compression:?}");
            let (is_found, left) = within(4 * MIB, &large[..large.len() - 1], compression);
            assert!(is_found && left < 3 * MIB, "{compression:?}: what has no end is read as well, {left}");
            let nothing = member(compression, "").repeat(4000);
            assert!(within(4 * MIB, &nothing, compression).0, "{compression:?}");
            assert!(!within(MIB, &nothing, compression).0, "{compression:?}");
            assert_eq!(within(10, &nothing, compression), (false, 10), "{compression:?}: it is not even begun");
        }
    }

    #[test]
    fn end_of_a_line_is_looked_for_within_the_room() {
        let long = [b"a\n".to_vec(), vec![0; 3 * WINDOW_BYTES]].concat();
        let window = WINDOW_BYTES as u64;
        assert_eq!(within(2 * window, &long, Compression::None), (false, 0));
        assert_eq!(within(4 * window, &long, Compression::None), (true, window - 2));
        assert_eq!(within(0, b"", Compression::None), (true, 0));
    }

    #[test]
    fn nothing_before_the_known_end_is_removed() {
        for (from, text, whole) in [(2, "a\nbc", 2), (2, "a\nbc\nd", 5), (3, "a\nb", 3), (0, "", 0)] {
            assert_eq!(whole_from(from, text.as_bytes(), Compression::None), Whole::Upto(whole), "{text:?}");
        }
    }
}
