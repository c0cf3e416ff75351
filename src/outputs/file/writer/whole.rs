//! The end of a file without what was being written to it: whole lines, or whole members or frames.
//!
//! Guarantees: what is kept reads to its end; nothing that a commit covers is cut, since a commit ends lines and members. Reads
//! a compressed file from its beginning, which takes its time.

use super::super::compress::Compression;
use std::io::{self, BufRead, BufReader, Read};
use tailwater_shards::env::{File, Sequential};

/// Bytes that are read at once.
const WINDOW_BYTES: usize = 64 * 1024;

/// How many of the `length` bytes of a file are whole.
pub(super) fn whole_bytes(file: &impl File, length: u64, compression: Compression) -> io::Result<u64> {
    match compression {
        Compression::None => last_line_end(file, length),
        Compression::Gzip | Compression::Zstd => last_member_end(file, compression),
    }
}

fn last_line_end(file: &impl File, length: u64) -> io::Result<u64> {
    let mut window = vec![0; WINDOW_BYTES];
    let mut end = length;
    while end > 0 {
        let from = end.saturating_sub(WINDOW_BYTES as u64);
        let part = &mut window[..(end - from) as usize];
        Sequential::new(file, from).read_exact(part)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

fn last_member_end(file: &impl File, compression: Compression) -> io::Result<u64> {
    let mut input = BufReader::with_capacity(WINDOW_BYTES, Sequential::new(file, 0));
    let mut whole = 0;
    loop {
        if input.fill_buf()?.is_empty() {
            return Ok(whole);
        }
        let read = match compression {
            Compression::Zstd => zstd::stream::read::Decoder::with_buffer(&mut input)
                .map(|decoder| decoder.single_frame())
                .and_then(drain),
            _ => drain(flate2::bufread::GzDecoder::new(&mut input)),
        };
        match read {
            Ok(()) => whole = input.get_ref().offset() - input.buffer().len() as u64,
            Err(error) if is_of_the_content(&error) => return Ok(whole),
            Err(error) => return Err(error),
        }
    }
}

fn drain(mut decoder: impl Read) -> io::Result<()> {
    io::copy(&mut decoder, &mut io::sink()).map(drop)
}

/// Whether a decoder did not like what it read, or there was not enough of it.
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
        let disk = SimDisk::new(1);
        disk.outside().write("/x", bytes).expect("there is room");
        let file = disk.open(Path::new("/x"), Open::Read).expect("it is there");
        whole_bytes(&file, bytes.len() as u64, compression).expect("it can be read")
    }

    #[test]
    fn lines_that_have_no_end_are_not_whole() {
        let long = "x".repeat(3 * WINDOW_BYTES);
        for (text, whole) in [("", 0), ("a", 0), ("a\n", 2), ("a\nb", 2), ("\n\n", 2), (&format!("a\n{long}"), 2)] {
            assert_eq!(whole_of(text.as_bytes(), Compression::None), whole, "{} bytes", text.len());
        }
    }

    #[test]
    fn members_that_have_no_end_are_not_whole() {
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
        }
    }
}
