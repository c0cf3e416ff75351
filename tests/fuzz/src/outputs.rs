//! Target `outputs`: what the output `file` stores: the state of a commit, and its journal.
//!
//! Promises: what is decoded encodes to the same bytes. A journal that was opened from any bytes opens again with the same
//! records and accepts more. After one flipped bit, a journal returns all records except the one with that bit, and reports
//! the damage if records follow.

use crate::Verdict;
use crate::script::Script;
use std::path::Path;
use tailwater::outputs::file::compress::Compression;
use tailwater::outputs::file::journal::{Journal, Opened, Step};
use tailwater::outputs::file::record::{Identity, State};
use tailwater_shards::sim::SimDisk;

const JOURNAL: &str = "/data/outputs/1.journal";

/// The first byte selects one of the two.
pub fn check(data: &[u8]) -> Verdict {
    let Some((which, rest)) = data.split_first() else { return Verdict::Refused };
    Verdict::accepted(match which % 3 {
        0 => state(rest),
        1 => found_journal(rest),
        _ => written_journal(rest),
    })
}

/// Whether the bytes are the state of a commit.
pub fn state(bytes: &[u8]) -> bool {
    let Some(state) = State::decode(bytes) else { return false };
    assert!(state.files.len() * 38 <= bytes.len());
    let mut again = Vec::new();
    state.encode(&mut again);
    assert_eq!(State::decode(&again), Some(state), "a state means what it meant");
    assert!(bytes[0] == 1 || again == bytes, "a state comes back as it was");
    true
}

fn open(disk: &SimDisk) -> Journal<SimDisk> {
    Journal::open(disk, Path::new(JOURNAL)).expect("a journal of ours opens")
}

/// The size of a record.
fn bytes_of(record: &Opened) -> usize {
    63 + record.path.len()
}

fn records(journal: &Journal<SimDisk>) -> Vec<Opened> {
    journal.behind(0).cloned().collect()
}

fn store(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.outside().create_dir_all("/data/outputs").expect("an empty disk takes a directory");
    disk.outside().write(JOURNAL, bytes).expect("an empty disk takes a file");
    disk
}

fn opened(script: &mut Script<'_>) -> Opened {
    let length = script.below(40);
    // Without a path it would be a record of a start or end.
    let path = [b"/", script.bytes(length)].concat();
    Opened {
        number: 0,
        step: [Step::Opened, Step::Left][script.below(2)],
        identity: Identity { device: script.long(), inode: script.long(), created: script.long() as i64 },
        length: script.long(),
        marker: script.long(),
        compression: [Some(Compression::None), Some(Compression::Gzip), Some(Compression::Zstd), None][script.below(4)],
        path,
    }
}

fn found_journal(bytes: &[u8]) -> bool {
    let disk = store(bytes);
    let mut journal = match Journal::open(&disk, Path::new(JOURNAL)) {
        Ok(journal) => journal,
        Err(error) => {
            assert!(error.to_string().contains("version"), "{error}");
            assert_eq!(disk.outside().read(JOURNAL).expect("it is there"), bytes, "what is not ours is not touched");
            return false;
        }
    };
    let first = records(&journal);
    let length = first.iter().map(bytes_of).sum::<usize>();
    let kept = disk.outside().read(JOURNAL).expect("it is there");
    let is_ours = |record: &Opened| record.compression.is_some();
    if !journal.is_damaged() && first.iter().all(is_ours) && bytes.first_chunk::<4>().is_some_and(|head| head[3] == 3) {
        assert_eq!(kept[..length], bytes[..length], "the records stay as they are");
        assert!(kept[length..].iter().all(|byte| *byte == 0), "what is no record goes");
    }
    assert_eq!(records(&open(&disk)), first, "it opens twice to the same");
    let more = opened(&mut Script::new(bytes));
    journal.append(vec![more.clone()]).expect("an opened journal takes more");
    let numbered = Opened { number: journal.last(), ..more };
    assert_eq!(records(&open(&disk)).last(), Some(&numbered), "what was appended is found");
    !first.is_empty()
}

fn written_journal(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let (place, count) = (script.short(), 1 + script.below(8));
    let disk = store(b"");
    let mut journal = open(&disk);
    let mut ends = vec![0];
    for _ in 0..count {
        let record = opened(&mut script);
        ends.push(ends[ends.len() - 1] + bytes_of(&record));
        journal.append(vec![record]).expect("it takes records");
    }
    let written = records(&journal);
    assert_eq!(records(&open(&disk)), written);
    let mut damaged = disk.outside().read(JOURNAL).expect("it is there");
    let bit = place % (ends[count] * 8);
    damaged[bit / 8] ^= 1 << (bit % 8);
    let hit = ends[1..].iter().filter(|end| **end <= bit / 8).count();
    let journal = open(&store(&damaged));
    let left: Vec<Opened> = [&written[..hit], &written[hit + 1..]].concat();
    assert_eq!((records(&journal), journal.is_damaged()), (left, hit + 1 < count), "bit {bit} was turned");
    true
}
