//! Fixtures: the bytes that each version of each durable format wrote, except the WAL (`shards/src/wal/tests/fixtures.rs`
//! reads `wal-v1`), can still be read and have the same meaning. An unknown version is rejected and not changed.
//!
//! `TAILWATER_WRITE_FIXTURES=1 cargo test --test fixtures` creates the files of a new version. Those of released versions are
//! never written again.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use tailwater::inputs::file::identity::{Descriptor, Head, Identity, Inode};
use tailwater::outputs::file::compress::Compression;
use tailwater::outputs::file::journal::{Journal, Opened, Step};
use tailwater::outputs::file::record::{Committed, Identity as OutputIdentity, State};
use tailwater_shards::dlq::segment::{self, Found, HEADER_BYTES, Header, Segment};
use tailwater_shards::dlq::{ComponentKind, DeadLetter, KeptLetter, letter};
use tailwater_shards::env::Timestamp;
use tailwater_shards::glommio_env::RealDisk;
use tailwater_shards::sim::SimDisk;
use tailwater_shards::wal::manifest::{DataDirectory, KnownLogs};
use tailwater_shards::wal::{LogId, OutputNumber, RegistryEntry, WalError};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The bytes of a fixture; `made` are the bytes that the current version writes.
fn fixture(name: &str, made: &[u8]) -> Vec<u8> {
    if std::env::var_os("TAILWATER_WRITE_FIXTURES").is_some() {
        std::fs::write(path(name), made).expect("a fixture can be written");
    }
    std::fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn identity(created: Option<Timestamp>) -> Identity {
    Identity { inode: Inode { device: 64_769, number: 131_074, created }, head: Head::of(b"2026-11-23 started\n") }
}

#[test]
fn descriptor_of_a_file() {
    let identity = identity(Some(Timestamp(1_795_392_754_000_000_000)));
    let file = Path::new("/var/log/app/current.log");
    let made = Descriptor::encode(&identity, file);
    let bytes = fixture("inputs-v2/descriptor.bin", &made);
    let expected = Descriptor { identity, path: b"/var/log/app/current.log".to_vec() };
    assert_eq!(Descriptor::decode(&bytes), Some(expected));
    assert_eq!(made, bytes, "this version writes what it wrote");
    let foreign: Vec<u8> = bytes.iter().enumerate().map(|(at, byte)| if at == 0 { 3 } else { *byte }).collect();
    assert_eq!(Descriptor::decode(&foreign), None);
}

#[test]
fn descriptor_of_a_file_without_a_creation_time() {
    let bytes = std::fs::read(path("inputs-v1/descriptor.bin")).expect("the fixture is there");
    let expected = Descriptor { identity: identity(None), path: b"/var/log/app/current.log".to_vec() };
    assert_eq!(Descriptor::decode(&bytes), Some(expected));
}

fn committed(path: &str, number: u64) -> Committed {
    Committed {
        path: path.as_bytes().to_vec(),
        identity: output_identity(number),
        length: number * 1000,
        marker: number << 40,
        first_write: 1_795_392_754_000_000_000,
        generation: number as u32,
        compression: Some(if path.ends_with(".gz") { Compression::Gzip } else { Compression::None }),
    }
}

fn output_identity(inode: u64) -> OutputIdentity {
    OutputIdentity { device: 64_769, inode, created: 1_795_392_753_000_000_000 }
}

/// The identity of a file in version 1.
fn of_version_1(identity: OutputIdentity) -> OutputIdentity {
    OutputIdentity { created: 0, ..identity }
}

#[test]
fn state_of_a_commit() {
    let state = State {
        journal: 7,
        made: 1_795_392_755_000_000_000,
        files: vec![committed("/srv/logs/a.json", 1), committed("/srv/logs/b.json.gz", 2)],
    };
    let mut made = Vec::new();
    state.encode(&mut made);
    let bytes = fixture("outputs-v2/state.bin", &made);
    assert_eq!(State::decode(&bytes), Some(state.clone()));
    assert_eq!(made, bytes, "this version writes what it wrote");
    let foreign: Vec<u8> = bytes.iter().enumerate().map(|(at, byte)| if at == 0 { 3 } else { *byte }).collect();
    assert_eq!(State::decode(&foreign), None);
    let bytes = std::fs::read(path("outputs-v1/state.bin")).expect("the fixture is there");
    let files = state.files.into_iter().map(|file| Committed {
        identity: of_version_1(file.identity),
        marker: 0,
        compression: None,
        ..file
    });
    assert_eq!(State::decode(&bytes), Some(State { journal: 7, made: 0, files: files.collect() }));
}

const JOURNAL: &str = "/data/outputs/1.journal";

fn open_journal(bytes: &[u8]) -> (SimDisk, std::io::Result<Journal<SimDisk>>) {
    let disk = SimDisk::new(1);
    disk.outside().create_dir_all("/data/outputs").expect("an empty disk takes a directory");
    disk.outside().write(JOURNAL, bytes).expect("an empty disk takes a file");
    let journal = Journal::open(&disk, Path::new(JOURNAL));
    (disk, journal)
}

fn opened(path: &str, number: u64) -> Opened {
    let (identity, marker) = (output_identity(131_074 + number), number << 50);
    let (step, compression) = (Step::Opened, Some(Compression::Zstd));
    Opened { number, step, identity, length: number * 500, marker, compression, path: path.into() }
}

#[test]
fn journal_of_an_output() {
    let left = Opened { step: Step::Left, ..opened("/srv/logs/a.json", 3) };
    let records = [opened("/srv/logs/a.json", 1), opened("/srv/logs/b.json.gz", 2), left];
    let (disk, journal) = open_journal(b"");
    journal.expect("an empty journal opens").append(records.to_vec()).expect("it takes records");
    let length: usize = records.iter().map(|record| 63 + record.path.len()).sum();
    let made = disk.outside().read(JOURNAL).expect("it is there")[..length].to_vec();
    let bytes = fixture("outputs-v3/journal.bin", &made);
    let read = |bytes: &[u8]| open_journal(bytes).1.expect("it opens").behind(0).cloned().collect::<Vec<_>>();
    assert_eq!(read(&bytes), records);
    let of_version =
        |version: u8| std::fs::read(path(&format!("outputs-v{version}/journal.bin"))).expect("the fixture is there");
    assert_eq!(read(&of_version(2)), records[..2]);
    let first = records[..2].iter().map(|record| Opened {
        identity: of_version_1(record.identity),
        marker: 0,
        compression: None,
        ..record.clone()
    });
    assert_eq!(read(&of_version(1)), first.collect::<Vec<_>>());
    assert_eq!(made, bytes, "this version writes what it wrote");
    let foreign = foreign_journal(&bytes);
    let (disk, journal) = open_journal(&foreign);
    assert!(journal.is_err_and(|error| error.to_string().contains("version 4")));
    assert_eq!(disk.outside().read(JOURNAL).expect("it is there"), foreign, "it is not touched");
}

/// The same records as a later version would write them.
fn foreign_journal(bytes: &[u8]) -> Vec<u8> {
    let mut foreign = bytes.to_vec();
    foreign[3] = 4;
    let word = u32::from_le_bytes([foreign[0], foreign[1], foreign[2], foreign[3]]);
    let payload = &bytes[12..12 + (word & 0xff_ffff) as usize];
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(payload, u64::from(word));
    foreign[4..12].copy_from_slice(&hash.to_le_bytes());
    foreign
}

const MANIFEST_2: &[u8] =
    b"tailwater-data 2\nnext_log 3\noutput 0 present es\noutput 2 removed an\\\\old\\none\nchecksum be25ca95\n";

#[test]
fn manifest_of_a_data_directory() {
    let open = |bytes: &[u8]| {
        let disk = SimDisk::new(1);
        disk.outside().create_dir_all("/data/wal/log-00000002").expect("an empty disk takes a directory");
        disk.outside().write("/data/manifest", bytes).expect("an empty disk takes a file");
        let directory = DataDirectory::open(disk.clone(), Path::new("/data"));
        (disk, directory)
    };
    let first = fixture("data-v1/manifest", b"tailwater-data 1\nnext_log 3\n");
    let (_, directory) = open(&first);
    let mut directory = directory.unwrap_or_else(|error| panic!("{error}"));
    assert!(directory.outputs().is_empty());
    assert_eq!(directory.new_log().unwrap_or_else(|error| panic!("{error}")), LogId(3));
    let entry =
        |number, name: &str, removed| RegistryEntry { number: OutputNumber(number), name: name.into(), removed };
    let outputs = [entry(0, "es", false), entry(2, "an\\old\none", true)];
    let bytes = fixture("data-v2/manifest", MANIFEST_2);
    let (disk, directory) = open(&bytes);
    let mut directory = directory.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(directory.outputs(), outputs);
    assert_eq!(disk.outside().read("/data/manifest").expect("it is there"), bytes, "opening changes nothing");
    directory.set_contents(&outputs[..1], KnownLogs::default()).unwrap_or_else(|error| panic!("{error}"));
    directory.set_contents(&outputs, KnownLogs::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(disk.outside().read("/data/manifest").expect("it is there"), bytes, "this version writes what it wrote");
    assert_eq!(directory.logs().unwrap_or_else(|error| panic!("{error}")), [LogId(2)]);
    assert_eq!(directory.new_log().unwrap_or_else(|error| panic!("{error}")), LogId(3));
    let text = String::from_utf8(bytes).expect("a manifest is text");
    let foreign = text.replace("data 2", "data 3");
    let (disk, directory) = open(foreign.as_bytes());
    let refused = directory.map(|_| ());
    assert!(matches!(refused, Err(WalError::Unusable { reason, .. }) if reason.contains("format 3")));
    assert_eq!(disk.outside().read("/data/manifest").expect("it is there"), foreign.as_bytes(), "it is not touched");
}

fn dead_letter(kind: ComponentKind, original: &[u8]) -> DeadLetter<'_> {
    DeadLetter {
        kind,
        component: "search",
        place: "rejected",
        source: b"/var/log/app.log",
        reason: "status 400, mapper_parsing_exception",
        attempts: 2,
        timestamp: Timestamp(1_795_392_753_000_000_000),
        original,
    }
}

/// A segment of dead letters as version 1 wrote it: two writes, the second after the first was durable.
#[test]
fn segment_of_dead_letters() {
    let time = Timestamp(1_795_392_754_000_000_000);
    let letters = [
        (dead_letter(ComponentKind::Output, b"{\"message\":\"hello\"}\n"), 0),
        (dead_letter(ComponentKind::Input, b"\xff no JSON"), 264),
    ];
    let mut made = segment::header(3, 1_795_392_754_000_000).to_vec();
    for (dead, synced) in &letters {
        let start = made.len();
        letter::encode(&mut made, time, dead);
        letter::stamp(&mut made[start..], *synced);
    }
    assert_eq!(fixture("dlq-v1/1795392754000000.seg", &made), made, "this version writes what it wrote");
    let read = Segment::open(&RealDisk::new(), &path("dlq-v1/1795392754000000.seg")).expect("the fixture is there");
    assert_eq!(read.header(), Header::Known);
    let expected = letters.map(|(letter, synced)| Found::Letter(KeptLetter { time, synced, letter }));
    let mut walk = read.walk();
    for expected in expected {
        assert_eq!(walk.next().expect("the fixture can be read"), Some(expected));
    }
    assert_eq!(walk.next().expect("the fixture can be read"), None);
    assert!(made.len() > HEADER_BYTES && made.len() as u64 > letters[1].1);
}
