//! The dead letter queue on a simulated disk: torn tails, damage, limits, and taking segments away.

use super::segment::{Entry, Found, HEADER_BYTES, Segment, list};
use super::store::{Appended, ParcelEnd, SEAL_REQUEST, Store};
use super::*;
use crate::env::{Disk as _, Timestamp};
use crate::sim::{Crash, SimDisk, Simulation};

const DATA: &str = "/data";
const SHARD: ShardId = ShardId(0);
const NOW: Timestamp = Timestamp(1_795_392_754_000_000_000);

fn machine(seed: u64) -> Simulation {
    let simulation = Simulation::new(seed);
    simulation.disk().outside().create_dir_all(DATA).unwrap();
    simulation.disk().outside().sync_all();
    simulation
}

fn options(bytes_max: u64, when_full: WhenFull) -> Options {
    Options { bytes_max, segment_bytes: 4096, when_full }
}

fn store(disk: &SimDisk, options: Options) -> Store<SimDisk> {
    Store::open(disk.clone(), Path::new(DATA), SHARD, 1, options).unwrap()
}

fn roomy(disk: &SimDisk) -> Store<SimDisk> {
    store(disk, options(1024 * 1024, WhenFull::Block))
}

fn letters(from: u64, count: u64, bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for number in from..from + count {
        let original = format!("{number} {}", "x".repeat(bytes));
        letter::encode(&mut out, NOW, &letter_of("es", original.as_bytes()));
    }
    letter::stamp(&mut out, 0);
    out
}

fn end(at: usize) -> ParcelEnd {
    ParcelEnd { at, when_full: None }
}

/// Appends letters of one parcel.
fn append(store: &mut Store<SimDisk>, letters: &[u8]) -> std::io::Result<Appended> {
    store.append(letters, &[end(letters.len())], NOW)
}

fn letter_of<'a>(component: &'a str, original: &'a [u8]) -> DeadLetter<'a> {
    DeadLetter {
        kind: ComponentKind::Output,
        component,
        place: "rejected",
        source: b"/var/log/app.log",
        reason: "status 400",
        attempts: 1,
        timestamp: Timestamp(5),
        original,
    }
}

fn folder() -> PathBuf {
    shard_folder(Path::new(DATA), SHARD)
}

fn entries(disk: &SimDisk) -> Vec<Entry> {
    list(disk, &folder()).unwrap()
}

/// The numbers of the letters in all segments, and the number of damaged places.
fn read(disk: &SimDisk) -> (Vec<u64>, usize) {
    let (mut numbers, mut damages) = (Vec::new(), 0);
    for entry in entries(disk) {
        let segment = Segment::open(disk, &entry.path).unwrap();
        let mut walk = segment.walk();
        while let Some(found) = walk.next().unwrap() {
            match found {
                Found::Letter(kept) => {
                    let text = str::from_utf8(kept.letter.original).unwrap();
                    numbers.push(text.split(' ').next().unwrap().parse().unwrap());
                }
                Found::Damage { .. } => damages += 1,
            }
        }
    }
    (numbers, damages)
}

#[test]
fn letter_comes_back_as_it_was() {
    let mut bytes = Vec::new();
    let original = b"\xff\xfe no text\0";
    letter::encode(&mut bytes, NOW, &letter_of("es", original));
    let length = bytes.len();
    letter::encode(&mut bytes, NOW, &letter_of("", b""));
    letter::stamp(&mut bytes, 77);
    let (kept, taken) = letter::decode(&bytes).unwrap();
    assert_eq!((kept.time, kept.letter, kept.synced, taken), (NOW, letter_of("es", original), 77, length));
    let long = "\u{fc}".repeat(letter::TEXT_BYTES_MAX);
    bytes.clear();
    letter::encode(&mut bytes, NOW, &DeadLetter { reason: &long, ..letter_of("es", b"a") });
    letter::stamp(&mut bytes, 0);
    assert_eq!(letter::decode(&bytes).unwrap().0.letter.reason.len(), letter::TEXT_BYTES_MAX);
}

#[test]
fn every_flipped_bit_of_a_letter_is_noticed() {
    let whole = letters(1, 1, 9);
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(letter::decode(&bytes).is_err(), "bit {bit}");
    }
    for length in 0..whole.len() {
        assert!(letter::decode(&whole[..length]).is_err(), "{length} bytes of it");
    }
}

#[test]
fn stored_letters_survive_a_loss_of_power() {
    for seed in 0..40 {
        let mut simulation = machine(seed);
        let mut store = roomy(simulation.disk());
        for number in 0..20 {
            let done = append(&mut store, &letters(number, 1, 900)).unwrap();
            assert_eq!(done.stored, 1);
        }
        drop(store);
        simulation.crash(Crash::Power);
        let disk = simulation.disk().clone();
        let store = roomy(&disk);
        assert!(!store.holding().open && entries(&disk).iter().all(|entry| entry.sealed), "seed {seed}");
        assert_eq!(read(&disk), ((0..20).collect(), 0), "seed {seed}");
    }
}

#[test]
fn torn_tail_is_cut_and_what_is_whole_stays() {
    let simulation = machine(1);
    let disk = simulation.disk().clone();
    let mut store = roomy(&disk);
    append(&mut store, &letters(0, 3, 100)).unwrap();
    drop(store);
    let path = entries(&disk)[0].path.clone();
    let outside = disk.outside();
    let torn = letters(3, 1, 100);
    outside.append(&path, &torn[..torn.len() - 8]).unwrap();
    let store = roomy(&disk);
    assert_eq!(read(&disk), (vec![0, 1, 2], 0));
    assert!(store.holding().bytes > 0);
    let path = entries(&disk)[0].path.clone();
    assert!(path.extension().is_some_and(|ending| ending == "seg"));
    // A write that did not complete a letter leaves nothing.
    outside.write(folder().join("2000000000000000.open"), &torn[..30]).unwrap();
    drop(roomy(&disk));
    assert_eq!(entries(&disk).len(), 1);
}

/// A process is killed between writing its letters and syncing them. The next start finds them intact and seals them.
#[test]
fn what_is_sealed_at_a_start_is_whole_after_a_loss_of_power() {
    let mut unsynced = 0;
    for seed in 0..40 {
        let mut simulation = machine(seed);
        let disk = simulation.disk().clone();
        let mut store = roomy(&disk);
        append(&mut store, &letters(0, 2, 900)).unwrap();
        disk.fail_syncs(1);
        disk.set_torn_sectors(true);
        disk.crash_after(1);
        unsynced += usize::from(append(&mut store, &letters(2, 3, 900)).is_err());
        drop(store);
        simulation.crash(Crash::Process);
        disk.fail_syncs(0);
        let disk = simulation.disk().clone();
        drop(roomy(&disk));
        let before = read(&disk);
        disk.sync_dir(&folder()).unwrap();
        simulation.crash(Crash::Power);
        assert_eq!((read(simulation.disk()), before.1), (before, 0), "seed {seed}");
    }
    assert_eq!(unsynced, 40, "no append came as far as its sync");
}

#[test]
fn torn_write_in_front_of_a_whole_one_is_no_damage() {
    let simulation = machine(10);
    let disk = simulation.disk().clone();
    let mut store = roomy(&disk);
    append(&mut store, &letters(0, 2, 100)).unwrap();
    let before = disk.outside().read(&entries(&disk)[0].path).unwrap().len();
    append(&mut store, &letters(2, 1, 100)).unwrap();
    append(&mut store, &letters(3, 3, 100)).unwrap();
    drop(store);
    let (path, whole) = (entries(&disk)[0].path.clone(), (before - HEADER_BYTES) / 2);
    let last = before + whole;
    // The first letter of the last write, about which nothing was promised, is torn: it is dropped, intact ones stay.
    disk.outside().rot(&path, (last + 60) as u64, 1).unwrap();
    // The previous letter was durable when the last ones were written: it counts as damaged.
    disk.outside().rot(&path, (before + 60) as u64, 1).unwrap();
    drop(roomy(&disk));
    assert_eq!(read(&disk), (vec![0, 1, 4, 5], 1));
    assert!(!disk.outside().exists(&path));
}

#[test]
fn letters_behind_damage_are_read() {
    for place in [HEADER_BYTES + 20, 3] {
        let simulation = machine(2);
        let disk = simulation.disk().clone();
        let mut store = roomy(&disk);
        append(&mut store, &letters(0, 4, 100)).unwrap();
        store.seal().unwrap();
        let path = entries(&disk)[0].path.clone();
        disk.outside().rot(&path, place as u64, 0x40).unwrap();
        let kept: Vec<u64> = if place == 3 { (0..4).collect() } else { (1..4).collect() };
        assert_eq!(read(&disk), (kept, 1), "byte {place}");
    }
}

#[test]
fn segment_of_another_version_is_not_read_as_ours() {
    let simulation = machine(3);
    let disk = simulation.disk().clone();
    let mut store = roomy(&disk);
    append(&mut store, &letters(0, 1, 10)).unwrap();
    store.seal().unwrap();
    let path = entries(&disk)[0].path.clone();
    let mut bytes = disk.outside().read(&path).unwrap();
    bytes[8] = 9;
    let checksum = crate::wal::frame::checksum(&bytes[..HEADER_BYTES]);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    disk.outside().write(&path, &bytes).unwrap();
    assert_eq!(Segment::open(&disk, &path).unwrap().header(), segment::Header::Foreign(9));
    assert_eq!(read(&disk), (vec![], 1));
    disk.outside().rename(&path, path.with_extension("open")).unwrap();
    drop(roomy(&disk));
    assert_eq!(disk.outside().read(&path).unwrap(), bytes, "it is not touched");
}

#[test]
fn full_queue_blocks_until_somebody_takes_a_segment() {
    let simulation = machine(4);
    let disk = simulation.disk().clone();
    let mut store = store(&disk, options(16 * 1024, WhenFull::Block));
    let all = letters(0, 20, 1000);
    let done = append(&mut store, &all).unwrap();
    // One source may use two fifths.
    assert!(done.dropped.is_empty() && done.removed == 0 && (5..8).contains(&done.stored), "{done:?}");
    let [stopped] = done.waiting[..] else { panic!("the parcel waits: {done:?}") };
    assert!(store.holding().bytes <= 16 * 1024);
    let oldest = entries(&disk)[0].path.clone();
    disk.remove(&oldest).unwrap();
    let more = append(&mut store, &all[stopped..]).unwrap();
    assert!(more.stored > 0, "the purge is noticed");
    let (numbers, _) = read(&disk);
    assert_eq!(numbers.last(), Some(&(done.stored + more.stored - 1)), "in order, none left out");
}

/// Letters of a component that floods the queue. A parcel of another one finds space whatever the policy is, also after a restart.
#[test]
fn component_that_floods_the_queue_costs_others_nothing() {
    for when_full in [WhenFull::Block, WhenFull::DropNewest, WhenFull::DropOldest] {
        let simulation = machine(13);
        let disk = simulation.disk().clone();
        let mut one = store(&disk, options(64 * 1024, when_full));
        let letter = |component: &str, number: u64| {
            let mut out = Vec::new();
            let original = format!("{number} {}", "x".repeat(1000));
            letter::encode(&mut out, NOW, &letter_of(component, original.as_bytes()));
            out
        };
        append(&mut one, &letter("quiet", 1000)).unwrap();
        let (mut group, mut ends) = (Vec::new(), Vec::new());
        for number in 0..200 {
            group.extend(letter("floods", number));
            ends.push(end(group.len()));
        }
        group.extend(letter("quiet", 1001));
        ends.push(end(group.len()));
        let done = one.append(&group, &ends, NOW).unwrap();
        let last = ends[199].at;
        assert!(!done.dropped.contains(&last) && !done.waiting.contains(&last), "{when_full:?}: {done:?}");
        let held = |store: &Store<SimDisk>| {
            let holders = store.holding().holders;
            holders.into_iter().map(|of| (of.name.to_string(), of.bytes)).collect::<Vec<_>>()
        };
        let before = held(&one);
        drop(one);
        let mut again = store(&disk, options(64 * 1024, when_full));
        assert_eq!(held(&again), before, "{when_full:?}");
        append(&mut again, &letter("floods", 500)).unwrap();
        append(&mut again, &letter("quiet", 1002)).unwrap();
        let kept = read(&disk).0;
        // The first one shares its segment with the flood, and goes with it.
        let first = if when_full == WhenFull::DropOldest { 1001 } else { 1000 };
        assert!((first..1003).all(|number| kept.contains(&number)), "{when_full:?}: {kept:?}");
    }
}

/// One of two parcels of a component drops what has no space, although the queue says that letters wait; and the other way round.
#[test]
fn policy_of_a_parcel_counts_more_than_that_of_the_queue() {
    for (queue, own) in [(WhenFull::Block, WhenFull::DropNewest), (WhenFull::DropNewest, WhenFull::Block)] {
        let simulation = machine(14);
        let mut one = store(&simulation.disk().clone(), options(16 * 1024, queue));
        append(&mut one, &letters(0, 2, 1000)).unwrap();
        let (group, length) = (letters(10, 60, 1000), letters(10, 1, 1000).len());
        let middle = ParcelEnd { at: 30 * length, when_full: Some(own) };
        let done = one.append(&group, &[middle, end(group.len())], NOW).unwrap();
        let (waits, dropped) = (done.waiting.clone(), done.dropped.clone());
        let first = done.stored as usize * length;
        assert!((1..10).contains(&done.stored), "{done:?}");
        let (from, to) = if own == WhenFull::Block { (middle.at, group.len()) } else { (first, middle.at) };
        assert_eq!(dropped, (from..to).step_by(length).collect::<Vec<_>>(), "{own:?}");
        assert_eq!(waits, [if own == WhenFull::Block { first } else { middle.at }], "{own:?}");
    }
}

#[test]
fn full_queue_drops_what_its_policy_says_and_counts_it() {
    let simulation = machine(5);
    let disk = simulation.disk().clone();
    let mut newest = store(&disk, options(16 * 1024, WhenFull::DropNewest));
    let done = append(&mut newest, &letters(0, 20, 1000)).unwrap();
    let dropped = done.dropped.len() as u64;
    assert!(done.waiting.is_empty() && done.stored + dropped == 20 && dropped > 0, "{done:?}");
    assert_eq!(read(&disk).0, (0..done.stored).collect::<Vec<_>>());
    drop(newest);
    let mut oldest = store(&disk, options(16 * 1024, WhenFull::DropOldest));
    let again = append(&mut oldest, &letters(100, 20, 1000)).unwrap();
    assert_eq!((again.stored, again.dropped.len(), again.waiting.len()), (20, 0, 0));
    let (numbers, _) = read(&disk);
    assert_eq!(numbers.last(), Some(&119));
    assert_eq!(numbers.len() as u64 + again.removed, done.stored + 20, "what went is counted to the letter");
    assert!(oldest.holding().bytes <= 16 * 1024);
    let huge = append(&mut oldest, &letters(200, 1, 100_000)).unwrap();
    assert_eq!((huge.stored, &huge.dropped[..]), (0, &[0][..]), "what can never fit is no reason to wait");
}

#[test]
fn letter_larger_than_a_segment_has_one_of_its_own() {
    let simulation = machine(6);
    let disk = simulation.disk().clone();
    let mut store = roomy(&disk);
    for (number, bytes) in [(0, 100), (1, 50_000), (2, 100)] {
        assert_eq!(append(&mut store, &letters(number, 1, bytes)).unwrap().stored, 1);
    }
    assert_eq!((read(&disk), entries(&disk).len()), ((vec![0, 1, 2], 0), 3));
}

#[test]
fn failed_sync_puts_the_letters_into_another_segment() {
    let mut simulation = machine(7);
    let disk = simulation.disk().clone();
    let mut store = roomy(&disk);
    append(&mut store, &letters(0, 1, 100)).unwrap();
    disk.fail_syncs(1);
    assert!(append(&mut store, &letters(1, 1, 100)).is_err());
    assert_eq!(append(&mut store, &letters(1, 1, 100)).unwrap().stored, 1);
    store.tend(false).unwrap();
    assert_eq!(entries(&disk).iter().filter(|entry| entry.sealed).count(), 1, "what was left is sealed");
    drop(store);
    simulation.crash(Crash::Power);
    assert_eq!(read(simulation.disk()), (vec![0, 1], 0));
}

#[test]
fn request_seals_the_open_segment() {
    let simulation = machine(8);
    let disk = simulation.disk().clone();
    let mut store = roomy(&disk);
    append(&mut store, &letters(0, 1, 100)).unwrap();
    store.tend(false).unwrap();
    assert!(store.holding().open, "nobody asked");
    disk.outside().write(folder().join(SEAL_REQUEST), b"").unwrap();
    store.tend(false).unwrap();
    assert!(!store.holding().open && entries(&disk)[0].sealed);
    assert!(!disk.outside().exists(folder().join(SEAL_REQUEST)));
    let first = entries(&disk)[0].number;
    disk.remove(&entries(&disk)[0].path).unwrap();
    append(&mut store, &letters(1, 1, 100)).unwrap();
    assert!(entries(&disk)[0].number > first, "a name that was taken away does not come back");
}

#[test]
fn first_shard_takes_over_what_shards_that_are_no_more_left() {
    let simulation = machine(9);
    let disk = simulation.disk().clone();
    let open = |shard, shards| {
        let options = options(1024 * 1024, WhenFull::Block);
        Store::open(disk.clone(), Path::new(DATA), ShardId(shard), shards, options).unwrap()
    };
    for shard in 0..3 {
        append(&mut open(shard, 3), &letters(u64::from(shard) * 10, 2, 100)).unwrap();
    }
    drop(open(0, 1));
    let (mut numbers, damages) = read(&disk);
    numbers.sort_unstable();
    assert_eq!((numbers, damages), (vec![0, 1, 10, 11, 20, 21], 0));
}

#[test]
fn any_bytes_are_walked_to_their_end() {
    let simulation = machine(11);
    let (disk, mut chance) = (simulation.disk().clone(), simulation.prng("mutations"));
    let mut whole = segment::header(0, 1).to_vec();
    whole.extend(letters(0, 6, 30));
    for round in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..chance.between(0, 6) {
            let at = chance.index(bytes.len());
            bytes[at] = chance.below(256) as u8;
        }
        bytes.truncate(chance.between(0, bytes.len() as u64) as usize);
        let path = folder().join(segment::file_name(round + 1, false));
        disk.outside().create_dir_all(folder()).unwrap();
        disk.outside().write(&path, &bytes).unwrap();
        let segment = Segment::open(&disk, &path).unwrap();
        let mut walk = segment.walk();
        while walk.next().unwrap().is_some() {}
        assert_eq!(walk.at(), bytes.len() as u64, "round {round}");
        let before = segment.letters().unwrap();
        settle::settle(&disk, &entries(&disk)[0]).unwrap();
        let of = |entry: &Entry| Segment::open(&disk, &entry.path).unwrap().letters().unwrap();
        let after: u64 = entries(&disk).iter().map(of).sum();
        assert_eq!(after, before, "round {round}: what is whole stays");
        entries(&disk).iter().for_each(|entry| disk.remove(&entry.path).unwrap());
    }
}

/// A segment many times larger than one read, with letters and damage larger than one read.
#[test]
fn large_segment_is_read_and_settled_in_bounded_memory() {
    let simulation = machine(12);
    let disk = simulation.disk().clone();
    let large = segment::WINDOW_BYTES * 3;
    let mut whole = segment::header(0, 1).to_vec();
    let mut longest = 0;
    for number in 0..40 {
        let start = whole.len();
        let bytes = if number % 8 == 7 { large } else { 20_000 };
        whole.extend(letters(number, 1, bytes));
        longest = longest.max(whole.len() - start);
        if number == 20 {
            // Bytes that look like the beginning of a letter of maximum length.
            let mut flipped = letters(99, 1, 10);
            flipped[8..12].copy_from_slice(&((letter::LETTER_BYTES_MAX - 8) as u32).to_le_bytes());
            whole.extend(flipped);
            whole.resize(whole.len() + large, b'x');
            whole.resize(whole.len().next_multiple_of(8), b'x');
        }
    }
    let path = folder().join(segment::file_name(1, false));
    disk.outside().create_dir_all(folder()).unwrap();
    disk.outside().write(&path, &whole).unwrap();
    let segment = Segment::open(&disk, &path).unwrap();
    let (mut walk, mut most, mut found) = (segment.walk(), 0, [0, 0]);
    while let Some(next) = walk.next().unwrap() {
        found[usize::from(matches!(next, Found::Damage { .. }))] += 1;
        most = most.max(walk.in_memory());
    }
    assert_eq!(found, [40, 1]);
    assert!(most <= longest.max(segment::WINDOW_BYTES), "{most} bytes in memory, the longest letter has {longest}");
    settle::settle(&disk, &entries(&disk)[0]).unwrap();
    assert_eq!(read(&disk), ((0..40).collect(), 0), "the damage is behind what was durable");
    let length = disk.outside().read(&entries(&disk)[0].path).unwrap().len();
    assert!(length < whole.len() - large);
}

/// Another program removes the segment that is being written, the whole folder, or renames it: what was in it is told and counted,
/// and each letter that is stored afterwards is in a file with a name.
#[test]
fn letters_after_a_removal_of_the_open_segment_are_in_another_one() {
    for how in ["remove", "remove folder", "rename"] {
        let simulation = machine(15);
        let disk = simulation.disk().clone();
        let mut store = roomy(&disk);
        let lose = || match (how, &entries(&disk)[..]) {
            ("remove", [one]) => disk.remove(&one.path).unwrap(),
            ("rename", [one]) => disk.outside().rename(&one.path, "/data/elsewhere").unwrap(),
            _ => disk.outside().remove_dir_all("/data/dlq").unwrap(),
        };
        append(&mut store, &letters(0, 2, 100)).unwrap();
        append(&mut store, &letters(2, 1, 100)).unwrap();
        lose();
        assert_eq!(append(&mut store, &letters(3, 2, 100)).unwrap().stored, 2);
        assert_eq!((read(&disk), store.holding().lost), ((vec![3, 4], 0), 3), "{how}");
        lose();
        store.tend(false).unwrap();
        let holding = store.holding();
        assert_eq!((holding.lost, holding.bytes, holding.open, holding.holders.len()), (5, 0, false, 0), "{how}");
        append(&mut store, &letters(5, 1, 100)).unwrap();
        lose();
        store.seal().unwrap();
        append(&mut store, &letters(6, 1, 100)).unwrap();
        store.seal().unwrap();
        assert_eq!((read(&disk), store.holding().lost), ((vec![6], 0), 6), "{how}");
    }
}

fn torn_files(disk: &SimDisk) -> Vec<PathBuf> {
    let names = disk.outside().list(folder()).unwrap();
    let paths = names.iter().map(|name| folder().join(name));
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "torn")).collect()
}

/// An open segment that is damaged from the beginning, one that is damaged at its end, and one with zeros at its end.
#[test]
fn bytes_that_a_start_cuts_are_set_aside() {
    let simulation = machine(16);
    let disk = simulation.disk().clone();
    let stored = |number: u64| {
        let mut store = roomy(&disk);
        append(&mut store, &letters(number, 1, 100)).unwrap();
        let path = entries(&disk).pop().unwrap().path;
        drop(store);
        (disk.outside().read(&path).unwrap(), path)
    };
    let (whole, path) = stored(0);
    let garbage = vec![0xa5; whole.len()];
    disk.outside().write(&path, &garbage).unwrap();
    drop(roomy(&disk));
    assert_eq!((read(&disk), torn_files(&disk)), ((vec![], 0), vec![path.with_extension("torn")]));
    assert_eq!(disk.outside().read(path.with_extension("torn")).unwrap(), garbage);

    let (_, path) = stored(1);
    disk.outside().append(&path, b"no letter").unwrap();
    drop(roomy(&disk));
    assert_eq!(read(&disk), (vec![1], 0));
    let second = torn_files(&disk).into_iter().find(|found| *found != path.with_extension("torn")).unwrap();
    assert_eq!(disk.outside().read(second).unwrap(), b"no letter", "the name was taken");

    let (_, path) = stored(2);
    disk.outside().append(&path, &[0; 5000]).unwrap();
    drop(roomy(&disk));
    assert_eq!((read(&disk), torn_files(&disk).len()), ((vec![1, 2], 0), 2), "zeros are nothing");

    // A file system that damages every segment fills no disk.
    for number in 3..40 {
        let (_, path) = stored(number);
        disk.outside().append(&path, b"no letter").unwrap();
        drop(roomy(&disk));
    }
    assert_eq!((read(&disk).0.len(), torn_files(&disk).len()), (39, 16));
}
