//! Finds the end of the complete lines, members or frames in a file.
//!
//! Guarantees: what is kept can be read to its end. Nothing before `from`, the end of a line or member, is removed or read.
//! Only content that ends too early counts as incomplete; content that cannot be read at all is left alone. Of compressed files that
//! others can write to, no more is read than [`STRANGERS_BYTES_MAX`], so that a small file that becomes large keeps nobody waiting.

use super::super::compress::Compression;
use super::judge::Writers;
use std::io::{self, BufRead, BufReader, Read};
use tailwater_shards::env::{File, Sequential};

/// Number of bytes that are read at once.
const WINDOW_BYTES: usize = 64 * 1024;

/// Bytes, compressed or not, that are read of a compressed file that others can write to.
pub(super) const STRANGERS_BYTES_MAX: u64 = 64 << 20;

/// How much of a file is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// This many bytes.
    Upto(u64),
    /// Some of it is not in the expected format, or it is more than is read.
    Unreadable,
}

/// How much is complete between `from`, where a line or member begins, and `length`, the end of a file that these can write to.
pub(super) fn whole_bytes(
    file: &impl File,
    from: u64,
    length: u64,
    compression: Compression,
    writers: Writers,
) -> io::Result<Whole> {
    let room = if writers == Writers::Nobody { u64::MAX } else { STRANGERS_BYTES_MAX };
    match compression {
        Compression::None => last_line_end(file, from, length).map(Whole::Upto),
        _ if length.saturating_sub(from) > room => Ok(Whole::Unreadable),
        Compression::Gzip | Compression::Zstd => last_member_end(file, from, compression, room),
    }
}

fn last_line_end(file: &impl File, least: u64, length: u64) -> io::Result<u64> {
    let mut window = vec![0; WINDOW_BYTES];
    let mut end = length;
    while end > least {
        let from = end.saturating_sub(WINDOW_BYTES as u64).max(least);
        let part = &mut window[..(end - from) as usize];
        Sequential::new(file, from).read_exact(part)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(least)
}

/// Reads `room` decompressed bytes at most.
fn last_member_end(file: &impl File, from: u64, compression: Compression, mut room: u64) -> io::Result<Whole> {
    let mut input = BufReader::with_capacity(WINDOW_BYTES, Sequential::new(file, from));
    let mut whole = from;
    loop {
        if input.fill_buf()?.is_empty() {
            return Ok(Whole::Upto(whole));
        }
        let read = match compression {
            Compression::Zstd => zstd::stream::read::Decoder::with_buffer(&mut input)
                .map(|decoder| decoder.single_frame())
                .and_then(|decoder| drain(decoder, &mut room)),
            _ => drain(flate2::bufread::GzDecoder::new(&mut input), &mut room),
        };
        match read {
            Ok(()) => whole = input.get_ref().offset() - input.buffer().len() as u64,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Whole::Upto(whole)),
            Err(error) if is_of_the_content(&error) => return Ok(Whole::Unreadable),
            Err(error) => return Err(error),
        }
    }
}

/// Reads to the end, and takes what was read from `room`.
fn drain(decoder: impl Read, room: &mut u64) -> io::Result<()> {
    let read = io::copy(&mut decoder.take(room.saturating_add(1)), &mut io::sink())?;
    *room = room.checked_sub(read).ok_or_else(|| io::Error::other("it is more than is read"))?;
    Ok(())
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
        let disk = SimDisk::new(1);
        disk.outside().write("/x", bytes).expect("there is room");
        let file = disk.open(Path::new("/x"), Open::Read).expect("it is there");
        whole_bytes(&file, from, bytes.len() as u64, compression, Writers::Nobody).expect("it can be read")
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

    /// 70 MiB of one letter, and members of nothing, which take as long to read.
    #[test]
    fn no_more_is_read_of_the_file_of_a_stranger_than_is_bounded() {
        let disk = SimDisk::new(1);
        let stranger = Writers::Others { owner: 8, bits: 0 };
        for compression in [Compression::Gzip, Compression::Zstd] {
            let large = member(compression, &"x".repeat(70 << 20));
            disk.outside().write("/x", &large).expect("there is room");
            let file = disk.open(Path::new("/x"), Open::Read).expect("it is there");
            let whole = |length, writers| whole_bytes(&file, 0, length, compression, writers).expect("it can be read");
            let length = large.len() as u64;
            assert_eq!(whole(length, Writers::Nobody), Whole::Upto(length), "{compression:?}");
            assert_eq!(whole(length, stranger), Whole::Unreadable, "{compression:?}");
            assert_eq!(whole(STRANGERS_BYTES_MAX + 1, stranger), Whole::Unreadable, "{compression:?}");
            let small = member(compression, "x\n");
            disk.outside().write("/x", &small).expect("there is room");
            assert_eq!(whole(small.len() as u64, stranger), Whole::Upto(small.len() as u64), "{compression:?}");
        }
    }

    #[test]
    fn nothing_before_the_known_end_is_removed() {
        for (from, text, whole) in [(2, "a\nbc", 2), (2, "a\nbc\nd", 5), (3, "a\nb", 3), (0, "", 0)] {
            assert_eq!(whole_from(from, text.as_bytes(), Compression::None), Whole::Upto(whole), "{text:?}");
        }
    }
}
