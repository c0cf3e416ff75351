//! Takes letters out of a queue on a real disk, and puts them back.

use super::claim::Claim;
use super::{KeptLetter, Queue, dlq, list};
use std::path::{Path, PathBuf};
use tailwater_shards::dlq::segment::{Segment, header};
use tailwater_shards::dlq::store::{ParcelEnd, SEAL_REQUEST, Store};
use tailwater_shards::dlq::{ComponentKind, DeadLetter, Options, WhenFull, letter, shard_folder};
use tailwater_shards::env::{Disk, ShardId, Timestamp};
use tailwater_shards::glommio_env::RealDisk;

const SHARD: ShardId = ShardId(0);

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a directory"))
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn queue(&self) -> Queue {
        Queue::open(self.root().to_path_buf()).expect("a queue")
    }

    fn store(&self) -> Store<RealDisk> {
        let options = Options { bytes_max: 1 << 30, segment_bytes: 1 << 20, when_full: WhenFull::Block };
        Store::open(RealDisk::new(), self.root(), SHARD, 1, options).expect("a store")
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = list(&RealDisk::new(), &shard_folder(self.root(), SHARD)).expect("a folder");
        entries.into_iter().map(|entry| entry.path).collect()
    }

    /// What the letters of the queue say, in order.
    fn texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        let read = self.queue().letters(|_, kept| {
            texts.push(text(kept));
            Ok(true)
        });
        read.expect("a readable queue");
        texts
    }

    fn claim(&self, wanted: &str) -> anyhow::Result<Claim> {
        self.queue().claim(|kept| kept.letter.component.contains(wanted))
    }
}

fn text(kept: &KeptLetter<'_>) -> String {
    String::from_utf8_lossy(kept.letter.original).into_owned()
}

/// Keeps a letter of each component.
fn keep(store: &mut Store<RealDisk>, components: &[&str]) {
    let mut letters = Vec::new();
    for component in components {
        let letter = DeadLetter {
            kind: ComponentKind::Output,
            component,
            place: "rejected",
            source: b"",
            reason: "why",
            attempts: 1,
            timestamp: Timestamp(7),
            original: component.as_bytes(),
        };
        letter::encode(&mut letters, Timestamp(9), &letter);
    }
    let now = Timestamp(1_795_392_754_000_000_000);
    assert_eq!(
        store.append(&letters, &[ParcelEnd { at: letters.len(), when_full: None }], now).expect("a disk").stored,
        components.len() as u64
    );
}

#[test]
fn what_is_not_wanted_stays_in_the_queue() {
    let folder = Folder::new();
    let mut store = folder.store();
    keep(&mut store, &["a1", "b1", "a2", "b2"]);
    store.seal().expect("a disk");
    keep(&mut store, &["b3"]);
    store.seal().expect("a disk");
    keep(&mut store, &["a3"]);
    drop(store);
    let claim = folder.claim("a").expect("a claim");
    assert_eq!((claim.letters, claim.longest, claim.segments.len(), claim.engine_runs), (3, 2, 2, false));
    assert_eq!(folder.texts()[..3], ["b1", "b2", "b3"], "a segment that a dead engine left open is taken too");
    claim.finish().expect("a disk");
    assert_eq!(folder.texts(), ["b1", "b2", "b3"]);
}

#[test]
fn what_is_given_back_is_there_again() {
    let folder = Folder::new();
    keep(&mut folder.store(), &["a1", "b1"]);
    let claim = folder.claim("a").expect("a claim");
    assert!(folder.claim("b").is_err(), "one at a time");
    claim.give_back().expect("a disk");
    let mut texts = folder.texts();
    texts.sort();
    assert_eq!(texts, ["a1", "b1"]);
    assert_eq!(folder.claim("x").expect("a claim").letters, 0);
}

#[test]
fn claim_of_a_process_that_died_goes_back() {
    let folder = Folder::new();
    keep(&mut folder.store(), &["a1", "b1"]);
    // Its lock goes with the process, its folder stays.
    drop(folder.claim("a").expect("a claim"));
    assert_eq!(folder.texts().len(), 2, "shown meanwhile");
    let claim = folder.claim("a").expect("a claim");
    assert_eq!(claim.letters, 1);
    claim.finish().expect("a disk");
    assert_eq!(folder.texts(), ["b1"]);
}

#[test]
fn split_that_was_cut_short_loses_nothing() {
    let folder = Folder::new();
    keep(&mut folder.store(), &["a1", "b1"]);
    drop(folder.store());
    let (original, path) = (std::fs::read(&folder.segments()[0]).expect("a segment"), folder.segments()[0].clone());
    for step in 0..3 {
        let claim = folder.root().join("dlq/claim-0000000000000001");
        std::fs::create_dir_all(&claim).expect("a folder");
        let name = path.file_name().expect("a name");
        std::fs::write(claim.join(name).with_extension("taken"), &original).expect("a file");
        std::fs::remove_file(&path).expect("a segment");
        if step > 0 {
            std::fs::write(claim.join(name), header(0, 1)).expect("a file");
        }
        if step > 1 {
            std::fs::write(&path, header(0, 1)).expect("a file");
        }
        folder.claim("nobody").expect("a claim").finish().expect("a disk");
        assert_eq!(folder.texts(), ["a1", "b1"], "step {step}");
        for other in folder.segments() {
            std::fs::remove_file(other).expect("a segment");
        }
        std::fs::write(&path, &original).expect("a segment");
    }
}

#[test]
fn damaged_segment_gives_its_letters_and_is_kept() {
    let folder = Folder::new();
    keep(&mut folder.store(), &["a1", "a2", "b1"]);
    drop(folder.store());
    let path = folder.segments()[0].clone();
    let mut bytes = std::fs::read(&path).expect("a segment");
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).expect("a segment");
    let claim = folder.claim("a").expect("a claim");
    assert_eq!(claim.letters, 1, "a1 is damaged");
    claim.finish().expect("a disk");
    assert_eq!(folder.texts(), ["b1"]);
    assert_eq!(std::fs::read(path.with_extension("damaged")).expect("it is kept"), bytes);
}

#[test]
fn segment_of_another_version_stays() {
    let folder = Folder::new();
    keep(&mut folder.store(), &["a1"]);
    drop(folder.store());
    let path = folder.segments()[0].clone();
    let mut bytes = std::fs::read(&path).expect("a segment");
    bytes[8] = 2;
    let checksum = tailwater_shards::wal::frame::checksum(&bytes[..64]);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&path, &bytes).expect("a segment");
    assert_eq!(folder.claim("").expect("a claim").letters, 0);
    assert_eq!(std::fs::read(&path).expect("it is there"), bytes);
}

#[test]
fn running_engine_is_asked_to_seal_what_it_writes() {
    let folder = Folder::new();
    let mut store = folder.store();
    let engine = RealDisk::new().lock(&folder.root().join("lock")).expect("the lock");
    keep(&mut store, &["a1"]);
    let request = shard_folder(folder.root(), SHARD).join(SEAL_REQUEST);
    let asked = std::thread::spawn(move || {
        while !request.exists() {
            std::thread::yield_now();
        }
        store.tend(false).expect("a disk");
        store
    });
    let claim = folder.claim("a").expect("a claim");
    let mut store = asked.join().expect("the engine");
    assert_eq!((claim.letters, claim.engine_runs), (1, true));
    keep(&mut store, &["a2"]);
    claim.finish().expect("a disk");
    drop(engine);
    assert_eq!(folder.texts(), ["a2"]);
}

#[test]
fn letters_handed_over_keep_what_they_say() {
    let folder = Folder::new();
    keep(&mut folder.store(), &["a1", "b1"]);
    let claim = folder.claim("a").expect("a claim");
    let run = Folder::new();
    keep(&mut run.store(), &["again"]);
    claim.hand_over(&shard_folder(run.root(), SHARD)).expect("a disk");
    claim.finish().expect("a disk");
    let mut texts = folder.texts();
    texts.sort();
    assert_eq!(texts, ["again", "b1"]);
    let read = Segment::open(&RealDisk::new(), &folder.segments()[0]).expect("a segment");
    assert_eq!(read.letters().expect("a disk"), 1);
    assert!(dlq::folder(folder.root()).exists());
}
