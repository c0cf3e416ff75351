//! The least that the kernel needs per event, whatever the program does: reading its line from the page cache, writing its part
//! of the write-ahead log and syncing it. This is the lower limit of every figure with files as input and output.
//!
//! Measures the CPU time of the thread, as the kernel accounts it, because a sync waits for a disk. The files are in the
//! system's temporary folder and are removed.

use crate::Outcome;
use crate::data::{fold, fold_bytes, line};
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;
use tailwater_shards::limits::CHUNK_BYTES;

/// Bytes that a line of this data uses in the write-ahead log, with its envelope and its share of the frame.
const LOGGED_BYTES: u64 = 497;

/// This many times the events: more bytes than fit in a processor's cache.
const TIMES: u64 = 5;

/// The size of a frame of one chunk, and of the blocks that the writer collects.
const FRAME_BYTES: usize = 97_384;
const BLOCK_BYTES: usize = 256 * 1024;

/// A file that is removed when the value is dropped.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn new(name: &str) -> Option<Scratch> {
        let path = std::env::temp_dir().join(format!("tailwater-bench-{name}-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).ok()?;
        Some(Scratch { path, file })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The processor time of this thread so far.
fn cpu_time() -> Option<Duration> {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).ok()
}

/// Reads lines in chunks from the page cache.
pub fn read(events: u64) -> Option<Outcome> {
    let scratch = Scratch::new("read")?;
    let mut length = 0;
    for number in 0..TIMES * events {
        // Line by line, as programs write their logs: the page cache then has single pages.
        let line = line(number);
        scratch.file.write_all_at(line.as_bytes(), length).ok()?;
        length += line.len() as u64;
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut offset, mut hash) = (0, 0);
    let begun = cpu_time()?;
    loop {
        let length = scratch.file.read_at(&mut chunk, offset).ok()?;
        if length == 0 {
            break;
        }
        hash = fold(hash, length as u64);
        offset += length as u64;
    }
    let elapsed = cpu_time()?.saturating_sub(begun) / TIMES as u32;
    Some(Outcome { elapsed, hash: fold_bytes(hash, &chunk) })
}

/// Writes as many bytes as the events use in the write-ahead log, one frame of one chunk at a time.
pub fn write_frames(events: u64) -> Option<Outcome> {
    write(events, "frames", FRAME_BYTES)
}

/// The same in blocks.
pub fn write_blocks(events: u64) -> Option<Outcome> {
    write(events, "blocks", BLOCK_BYTES)
}

fn write(events: u64, name: &str, step: usize) -> Option<Outcome> {
    let scratch = Scratch::new(name)?;
    let total = TIMES * events * LOGGED_BYTES;
    scratch.file.set_len(total).ok()?;
    let bytes = vec![b'x'; step];
    let (mut offset, mut hash) = (0, 0);
    let begun = cpu_time()?;
    while offset < total {
        let length = (total - offset).min(step as u64);
        scratch.file.write_all_at(&bytes[..length as usize], offset).ok()?;
        hash = fold(hash, length);
        offset += length;
    }
    scratch.file.sync_data().ok()?;
    let elapsed = cpu_time()?.saturating_sub(begun) / TIMES as u32;
    let mut last = [0; 8];
    scratch.file.read_exact_at(&mut last, total - 8).ok()?;
    Some(Outcome { elapsed, hash: fold_bytes(hash, &last) })
}
