//! Where the NULs before a position begin.
//!
//! Guarantees: one call reads at most as many bytes as it was allowed, and continues where the last one ended, so a file of
//! any length is searched in steps. Holes are skipped if the file system reports them: the last data before a hole is found by
//! bisection, because the file system only searches forwards. Moves no position.

use super::identify::read_whole;
use crate::codec::nuls::trailing;
use std::io;
use tailwater_shards::env::File;

/// Bytes that one step may read while other files wait.
pub const STEP_BYTES: usize = if cfg!(test) { 128 * 1024 } else { 4 * 1024 * 1024 };

/// Bytes that may be read when a file is found: enough for everything that programs usually leave behind.
pub const FIRST_BYTES: usize = 64 * 1024;

/// Bytes that are read at once.
const BLOCK_BYTES: usize = 64 * 1024;

/// What a request to the file system counts as.
const REQUEST_BYTES: usize = 1024;

/// The smallest hole that a file system reports.
const HOLE_BYTES: u64 = 4096;

/// Where a search before a position stands.
#[derive(Clone, Copy, Debug)]
struct Known {
    end: u64,
    /// From here to `end`, everything is NUL.
    begin: u64,
    /// Whether the byte before `begin` is not NUL.
    done: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Backwards {
    known: Vec<Known>,
    /// Bytes that may still be read.
    left: usize,
}

impl Backwards {
    /// A search that may read this many bytes.
    pub fn within(bytes: usize) -> Backwards {
        Backwards { known: Vec::new(), left: bytes }
    }

    /// Allows another step.
    pub fn allow(&mut self, bytes: usize) {
        self.left = bytes;
    }

    /// Where the NULs before `end` begin; none if that needs another step. Blocks.
    pub fn begin_before<F: File>(&mut self, file: &F, end: u64) -> io::Result<Option<u64>> {
        let index = self.known.iter().position(|known| known.end == end).unwrap_or_else(|| {
            self.known.push(Known { end, begin: end, done: false });
            self.known.len() - 1
        });
        let mut known = self.known[index];
        let searched = self.search(file, &mut known);
        self.known[index] = known;
        searched.map(|()| known.done.then_some(known.begin))
    }

    fn search<F: File>(&mut self, file: &F, known: &mut Known) -> io::Result<()> {
        let mut block = Vec::new();
        while !known.done && self.left > 0 {
            let is_first = known.begin == known.end;
            if !is_first {
                known.begin = self.before_hole(file, known.begin);
            }
            // Usually there are none.
            let length = known.begin.min(if is_first { 64 } else { BLOCK_BYTES.min(self.left) as u64 }) as usize;
            block.resize(length, 0);
            let read = read_whole(file, known.begin - length as u64, &mut block)?;
            self.left = self.left.saturating_sub(read.max(REQUEST_BYTES));
            let nuls = trailing(&block[..read]);
            // In a file that was just truncated nothing can be found.
            known.begin -= if read < length { 0 } else { nuls as u64 };
            known.done = nuls < length || known.begin == 0;
        }
        Ok(())
    }

    /// The begin of the hole that ends at `end`; `end` if there is none.
    fn before_hole<F: File>(&mut self, file: &F, end: u64) -> u64 {
        let mut is_hole = |from: u64| {
            self.left = self.left.saturating_sub(REQUEST_BYTES);
            file.next_data(from).is_ok_and(|data| data.is_none_or(|data| data >= end))
        };
        let (mut data, mut hole, mut step) = (0, end, HOLE_BYTES);
        while hole > 0 {
            let from = hole.saturating_sub(step);
            if !is_hole(from) {
                data = from;
                break;
            }
            (hole, step) = (from, step.saturating_mul(2));
        }
        while hole - data > HOLE_BYTES && hole < end {
            let middle = data + (hole - data) / 2;
            if is_hole(middle) {
                hole = middle;
            } else {
                data = middle;
            }
        }
        hole
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sparse::Sparse;
    use super::*;

    fn begin(file: &Sparse, end: u64) -> u64 {
        let mut search = Backwards::default();
        for _ in 0..10_000 {
            search.allow(STEP_BYTES);
            let before = file.read_bytes();
            let found = search.begin_before(file, end).expect("read");
            assert!(file.read_bytes() - before <= STEP_BYTES as u64, "one step reads {}", file.read_bytes() - before);
            if let Some(found) = found {
                return found;
            }
        }
        panic!("not found");
    }

    #[test]
    fn begin_of_nuls_is_found_in_steps() {
        for (text, nuls) in [(0, 0), (0, 10), (0, 600_000), (100, 0), (100, 63), (100, 64), (100, 65), (300, 900_000)] {
            for reports_holes in [true, false] {
                let content = [vec![b'x'; text], vec![0; nuls]].concat();
                let file = Sparse::new(content.len() as u64, vec![(0, content)]).reporting(reports_holes);
                assert_eq!(begin(&file, (text + nuls) as u64), text as u64, "{nuls}");
            }
        }
    }

    #[test]
    fn holes_of_any_size_cost_one_step() {
        let tib = 1 << 40;
        for at in [0, 5000, 4096 * 7 + 13, tib, 14 * tib + 1] {
            let file = Sparse::new(15 * tib, vec![(at, b"line\n".to_vec())]);
            let mut search = Backwards::within(STEP_BYTES);
            assert_eq!(search.begin_before(&file, 15 * tib).expect("read"), Some(at + 5));
            assert!(file.read_bytes() < STEP_BYTES as u64 && file.requests() < 200);
        }
        let empty = Sparse::new(15 * tib, Vec::new());
        assert_eq!(Backwards::within(FIRST_BYTES).begin_before(&empty, 15 * tib).expect("read"), Some(0));
    }

    #[test]
    fn holes_between_zeros_that_were_written_are_searched_in_steps() {
        let zeros = (1..200).map(|number| (number << 20, vec![0; 4096]));
        let file = Sparse::new(200 << 20, [(77, b"line\n".to_vec())].into_iter().chain(zeros).collect());
        assert_eq!(begin(&file, 200 << 20), 82);
    }
}
