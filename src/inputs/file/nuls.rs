//! NULs where a line is expected: a hole that a writer left, or preallocated space at the end of a file that is written
//! later.
//!
//! Guarantees: a position moves past NULs only if another byte was found after them and they were still NUL after that, so a
//! writer that fills preallocated space from its beginning loses nothing. Holes are skipped if the file system reports them,
//! and otherwise read in pieces; they are never stored. If NULs reach the end of the file, or if preallocated space is being
//! filled, the search is repeated after the file has changed. Each search is followed by a pause in proportion to its
//! duration.

use super::identity::{TAIL_BYTES, tail_marker};
use crate::codec::framing::Place;
use crate::codec::nuls::leading;
use std::io;
use std::ops::Range;
use std::time::Duration;
use tailwater_shards::env::{File, Monotonic, Stat, Timestamp};

/// Bytes that are read at once: few after a hole, because another one may follow, then more.
const BLOCK_BYTES_MIN: usize = 4 * 1024;
const BLOCK_BYTES: usize = 256 * 1024;

/// Bytes that are read before other files get their turn.
const SEARCH_BYTES: usize = if cfg!(test) { 2 * BLOCK_BYTES } else { 4 * 1024 * 1024 };

/// The pause after a search without a result, as a multiple of its duration, and the longest pause.
const REST: u32 = 10;
const REST_MAX: Duration = Duration::from_secs(5);

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The first byte that is not NUL, or the end of the searched range.
    Data(u64),
    /// NULs up to the end of the file, which is here.
    End(u64),
    /// NULs up to here; the search is not complete.
    Nuls(u64),
}

/// What is known about the NULs in a file.
#[derive(Clone, Debug, Default)]
pub struct Nuls {
    /// Bytes that were NUL when they were last read.
    range: Range<u64>,
    /// The modification time of the file when they reached its end.
    at_end: Option<Timestamp>,
    /// The position of a byte that is not NUL, and the position from which it was searched.
    data: u64,
    data_for: u64,
    /// How far the search from a position has come, and the modification time of the file when it began.
    searched: u64,
    searched_for: u64,
    began: Timestamp,
    spent: Duration,
    rest_until: Monotonic,
}

impl Nuls {
    /// How many of the bytes `from..to` were NUL and at the end of what was read.
    pub fn within(&self, from: u64, to: u64) -> u64 {
        self.range.end.min(to).saturating_sub(self.range.start.max(from))
    }

    /// Where the NULs after `from` begin, if they are known to reach the end of the file at `length`.
    pub fn begin_at_end(&self, from: u64, length: u64) -> Option<u64> {
        let Range { start, end } = self.range;
        (from <= start && start < end && end >= length).then_some(start)
    }

    /// They are no longer NUL.
    pub fn forget_end(&mut self) {
        self.at_end = None;
    }

    /// A read ended with these NULs.
    pub fn note(&mut self, nuls: Range<u64>) {
        let known = self.range.contains(&nuls.end) && self.range.start <= nuls.end;
        self.range = nuls.start..if known { self.range.end } else { nuls.end };
    }

    /// The end of the file, if a read ended with NULs at `end` and the NULs are known to continue to the end of the file.
    pub fn to_end(&self, end: u64, stat: &Stat) -> Option<u64> {
        let known = self.at_end == Some(stat.modified) && self.range.end == stat.length;
        (known && self.range.start < end && end < self.range.end).then_some(stat.length)
    }

    /// Whether the NULs at `end` of a read from `from` are known to be followed by another byte.
    pub fn are_followed(&self, from: u64, place: Place, end: u64) -> bool {
        self.data >= end && (self.data_for == from || place == Place::Inside)
    }

    /// Where to continue from `from`, if all bytes up to `end` are NUL.
    pub fn jump(&self, from: u64, end: u64) -> Option<u64> {
        (self.data_for == from && self.data > end).then_some(self.data)
    }

    /// Where a search after `end` continues in a file that was last modified at `modified`; none during a pause.
    pub fn search_from(&mut self, from: u64, end: u64, modified: Timestamp, now: Monotonic) -> Option<u64> {
        if now < self.rest_until {
            return None;
        }
        if self.searched_for != from && self.searched > 0 {
            // The space is being filled, so the results of the search are out of date.
            self.rest(now);
            return None;
        }
        if self.searched < end {
            (self.searched, self.searched_for, self.began) = (end, from, modified);
        }
        Some(self.searched)
    }

    fn rest(&mut self, now: Monotonic) {
        self.searched = 0;
        self.rest_until = now.after((std::mem::take(&mut self.spent) * REST).min(REST_MAX));
    }

    /// Records the result of a search that ended at `now` and took `spent`.
    pub fn take(&mut self, found: Found, spent: Duration, now: Monotonic) {
        self.spent += spent;
        match found {
            Found::Nuls(to) => self.searched = to,
            Found::Data(at) => {
                (self.data, self.data_for, self.searched, self.spent) = (at, self.searched_for, 0, Duration::ZERO);
                self.range.end = at;
                self.at_end = None;
            }
            Found::End(to) => {
                self.range.end = to;
                self.at_end = Some(self.began);
                self.rest(now);
            }
        }
    }
}

/// Searches for a byte that is not NUL, from `from` to `to` or to the end of the file. Blocks.
pub fn search<F: File>(file: &F, from: u64, to: Option<u64>) -> io::Result<Found> {
    let to = to.unwrap_or(u64::MAX);
    let mut block = vec![0; BLOCK_BYTES];
    let (mut at, mut bytes, mut size) = (from, 0, BLOCK_BYTES_MIN);
    while bytes < SEARCH_BYTES {
        // The length is read before the search for data: a write in between is found by the next search.
        let length = file.stat()?.length;
        match file.next_data(at) {
            Ok(Some(next)) if next > at => (at, size) = (next, BLOCK_BYTES_MIN),
            Ok(Some(_)) => {}
            Ok(None) if length < to => return Ok(Found::End(length.max(at))),
            Ok(None) => at = to,
            // The file system does not support the request, so the file is read.
            Err(_) => {}
        }
        if at >= to {
            return Ok(Found::Data(to));
        }
        let room = usize::try_from(to - at).unwrap_or(usize::MAX).min(size).min(SEARCH_BYTES - bytes);
        size = (2 * size).min(BLOCK_BYTES);
        match file.read_at(&mut block[..room], at) {
            Ok(0) => return Ok(Found::End(at)),
            Ok(more) => {
                let nuls = leading(&block[..more]);
                at += nuls as u64;
                bytes += more;
                if nuls < more {
                    return Ok(Found::Data(at));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Found::Nuls(at))
}

/// The tail marker of the position that is `nuls` NULs after `bytes`.
pub fn marker_behind(bytes: &[u8], nuls: u64) -> u64 {
    let nuls = nuls.min(TAIL_BYTES as u64) as usize;
    let kept = bytes.len().min(TAIL_BYTES - nuls);
    let mut window = [0; TAIL_BYTES];
    window[..kept].copy_from_slice(&bytes[bytes.len() - kept..]);
    tail_marker(&window[..kept + nuls])
}

#[cfg(test)]
mod tests {
    use super::super::tests::sparse::Sparse;
    use super::*;
    use tailwater_shards::env::{Disk, Open};
    use tailwater_shards::sim::SimDisk;

    fn file(content: &[u8]) -> <SimDisk as Disk>::File {
        let disk = SimDisk::new(1);
        disk.outside().create_dir_all("/log").expect("made");
        disk.outside().write("/log/a", content).expect("written");
        disk.open(std::path::Path::new("/log/a"), Open::Read).expect("there")
    }

    #[test]
    fn search_stops_at_data_at_the_end_and_after_its_share() {
        let mut content = vec![0; 3 * SEARCH_BYTES];
        let found = |content: &[u8], from, to| search(&file(content), from, to).expect("read");
        assert_eq!(found(&content, 5, None), Found::Nuls(SEARCH_BYTES as u64 + 5));
        assert_eq!(found(&content, 5, Some(1000)), Found::Data(1000));
        assert_eq!(found(&content[..1000], 5, None), Found::End(1000));
        assert_eq!(found(&content[..1000], 1000, None), Found::End(1000));
        content[700_000] = b'x';
        assert_eq!(found(&content, SEARCH_BYTES as u64, None), Found::Data(700_000));
        assert_eq!(found(&content, 700_000, None), Found::Data(700_000));
    }

    /// NULs that were written between holes: each costs a small read.
    #[test]
    fn nuls_between_holes_cost_few_bytes() {
        let pieces = (1..2000).map(|number| (number << 20, vec![0; 1])).chain([(2000 << 20, b"x\n".to_vec())]);
        let file = Sparse::new((2000 << 20) + 2, pieces.collect());
        let (mut at, mut before) = (0, 0);
        let found = loop {
            match search(&file, at, None).expect("read") {
                Found::Nuls(to) => at = to,
                found => break found,
            }
            let read = file.read_bytes() - before;
            assert!(read <= SEARCH_BYTES as u64, "one search reads {read}");
            before = file.read_bytes();
        };
        assert_eq!(found, Found::Data(2000 << 20));
        assert!(file.read_bytes() <= 2000 * 4096);
    }

    #[test]
    fn hole_up_to_the_end_costs_no_bytes() {
        let file = Sparse::new(15 << 40, vec![(0, b"line\n".to_vec())]);
        assert_eq!(search(&file, 5, None).expect("read"), Found::End(15 << 40));
        assert!(file.read_bytes() <= BLOCK_BYTES as u64 && file.requests() < 10);
    }

    #[test]
    fn marker_after_nuls_is_the_hash_of_the_bytes() {
        for (text, nuls) in [(0, 3), (5, 0), (5, 3), (100, 3), (100, 64), (100, 1000)] {
            let bytes = vec![b'x'; text];
            let all = [&bytes[..], &vec![0; nuls]].concat();
            assert_eq!(marker_behind(&bytes, nuls as u64), tail_marker(&all), "{text} {nuls}");
        }
    }

    #[test]
    fn failed_search_pauses_and_then_starts_over() {
        let (second, stamp) = (Duration::from_secs(1), Timestamp(7));
        let at = |secs: u64| Monotonic(secs * 1_000_000_000);
        let mut nuls = Nuls::default();
        nuls.note(10..100);
        assert_eq!(nuls.search_from(10, 100, stamp, at(1)), Some(100));
        nuls.take(Found::Nuls(500), second, at(2));
        assert_eq!(nuls.search_from(10, 100, Timestamp(8), at(2)), Some(500));
        nuls.take(Found::End(900), second / 10, at(3));
        assert_eq!(nuls.search_from(10, 100, stamp, at(7)), None);
        assert_eq!(nuls.search_from(10, 100, stamp, at(8)), Some(100));
        nuls.take(Found::Nuls(700), second / 10, at(8));
        assert_eq!(nuls.search_from(50, 120, stamp, at(8)), None, "the position has moved");
        assert_eq!(nuls.search_from(50, 120, stamp, at(8)), None);
        assert_eq!(nuls.search_from(50, 120, stamp, at(9)), Some(120));
        assert_eq!((nuls.within(10, 1000), nuls.within(20, 500), nuls.within(900, 1000)), (890, 480, 0));
    }
}
