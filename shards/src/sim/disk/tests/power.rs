//! What a power loss removes and what it leaves.

use super::*;

#[test]
fn synced_bytes_survive_every_power_loss() {
    for seed in 0..200 {
        let (disk, file) = durable_file(seed, 4);
        file.write_at(&[2; 5000], 3000).unwrap();
        file.sync().unwrap();
        assert!(disk.outside().clean("/file").unwrap());
        disk.crash(Crash::Power);
        let mut expected = vec![1; 4 * 4096];
        expected[3000..8000].fill(2);
        assert_eq!(disk.outside().read("/file").unwrap(), expected, "seed {seed}");
        assert!(file.stat().is_err());
    }
}

#[test]
fn a_power_loss_keeps_any_subset_of_dirty_pages() {
    let mut subsets = BTreeSet::new();
    for seed in 0..400 {
        let (disk, file) = durable_file(seed, 3);
        disk.set_torn_sectors(false);
        for page in 0..3 {
            file.write_at(&[2; 4096], page * 4096).unwrap();
        }
        disk.crash(Crash::Power);
        let bytes = disk.outside().read("/file").unwrap();
        let survived: Vec<u8> = bytes.chunks(4096).map(|page| page[0]).collect();
        assert!(bytes.chunks(4096).all(|page| page.iter().all(|byte| *byte == page[0])), "seed {seed}: torn");
        subsets.insert(survived);
    }
    assert_eq!(subsets.len(), 8, "{subsets:?}");
}

#[test]
fn a_torn_page_is_a_mixture_of_whole_sectors() {
    let mut torn = 0;
    for seed in 0..100 {
        let (disk, file) = durable_file(seed, 1);
        file.write_at(&[2; 4096], 0).unwrap();
        disk.crash(Crash::Power);
        let bytes = disk.outside().read("/file").unwrap();
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "seed {seed}");
        torn += u32::from(bytes.contains(&1) && bytes.contains(&2));
    }
    assert!(torn > 10, "{torn}");
}

#[test]
fn the_length_of_an_append_is_lost_or_kept_apart_from_its_bytes() {
    let (mut short, mut holes, mut whole) = (0, 0, 0);
    for seed in 0..300 {
        let (disk, file) = durable_file(seed, 1);
        file.write_at(&[2; 8192], 4096).unwrap();
        disk.crash(Crash::Power);
        let bytes = disk.outside().read("/file").unwrap();
        assert_eq!(bytes[..4096], [1; 4096]);
        short += u32::from(bytes.len() < 3 * 4096);
        holes += u32::from(bytes.contains(&0));
        whole += u32::from(bytes.len() == 3 * 4096 && !bytes.contains(&0));
    }
    assert!(short > 20 && holes > 20 && whole > 20, "{short} short, {holes} with holes, {whole} whole");
}

#[test]
fn an_intermediate_state_of_a_page_may_be_what_survives() {
    let survived: BTreeSet<u8> = (0..300)
        .map(|seed| {
            let (disk, file) = durable_file(seed, 1);
            disk.set_torn_sectors(false);
            (2..6).for_each(|value| file.write_at(&[value; 4096], 0).unwrap());
            disk.crash(Crash::Power);
            disk.outside().read("/file").unwrap()[0]
        })
        .collect();
    assert_eq!(survived, BTreeSet::from([1, 2, 3, 4, 5]));
}

#[test]
fn a_failed_sync_forgets_its_pages_and_the_next_one_lies() {
    let mut lost = 0;
    for seed in 0..50 {
        let (disk, file) = durable_file(seed, 4);
        file.write_at(&[2; 4 * 4096], 0).unwrap();
        disk.fail_syncs(1);
        assert_eq!(code(file.sync()), Some(libc::EIO));
        assert!(disk.outside().clean("/file").unwrap());
        file.sync().unwrap();
        assert_eq!(read(&file, 4 * 4096, 0), [2; 4 * 4096]);
        disk.crash(Crash::Power);
        lost += u32::from(disk.outside().read("/file").unwrap().contains(&1));
    }
    assert!(lost > 40, "{lost}");
}

#[test]
fn a_slow_sync_never_takes_back_what_a_later_one_made_durable() {
    let (disk, file) = durable_file(1, 1);
    file.write_at(&[2; 4096], 0).unwrap();
    let slow = file.begin_sync();
    file.write_at(&[3; 4096], 0).unwrap();
    file.sync().unwrap();
    file.finish_sync(slow).unwrap();
    disk.crash(Crash::Power);
    assert_eq!(disk.outside().read("/file").unwrap(), [3; 4096]);
}

#[test]
fn a_name_is_durable_only_after_its_directory_was_synced() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(path("/data")).unwrap();
        disk.sync_dir(path("/")).unwrap();
        let file = create(&disk, "/data/first");
        file.sync().unwrap();
        disk.sync_dir(path("/data")).unwrap();
        create(&disk, "/data/second").sync().unwrap();
        disk.crash(Crash::Power);
        let names = disk.outside().list("/data").unwrap();
        assert!(names.contains(&OsString::from("first")), "seed {seed}");
        if names.len() == 2 { kept += 1 } else { lost += 1 }
    }
    assert!(lost > 10 && kept > 10, "{lost} lost, {kept} kept");
}

#[test]
fn an_unsynced_rename_leaves_the_old_or_the_new_file_and_never_two_names() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let outside = disk.outside();
        outside.write("/manifest", b"old").unwrap();
        outside.write("/manifest.new", b"new").unwrap();
        outside.sync_all();
        disk.rename(path("/manifest.new"), path("/manifest")).unwrap();
        assert_eq!(outside.read("/manifest").unwrap(), b"new");
        disk.crash(Crash::Power);
        let aside = outside.exists("/manifest.new");
        let bytes = outside.read("/manifest").unwrap();
        assert_eq!(aside, bytes == b"old", "seed {seed}");
        seen.insert(bytes);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_chain_of_unsynced_renames_leaves_each_file_under_one_name() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let outside = disk.outside();
        outside.write("/a", b"first").unwrap();
        outside.sync_all();
        disk.rename(path("/a"), path("/b")).unwrap();
        outside.write("/a", b"").unwrap();
        disk.rename(path("/b"), path("/c")).unwrap();
        disk.crash(Crash::Power);
        let names = outside.list("/").unwrap();
        let first = names.iter().filter(|name| outside.read(path("/").join(name)).unwrap() == b"first").count();
        assert!(first <= 1, "seed {seed}: {names:?}");
        assert!(names.iter().all(|name| outside.stat(path("/").join(name)).unwrap().links == 1));
    }
}

#[test]
fn an_unsynced_deletion_may_be_undone() {
    let mut back = 0;
    for seed in 0..60 {
        let (disk, file) = durable_file(seed, 1);
        drop(file);
        disk.set_inode_reuse(true);
        disk.remove(path("/file")).unwrap();
        disk.outside().write("/other", b"x").unwrap();
        disk.crash(Crash::Power);
        let outside = disk.outside();
        if let Ok(bytes) = outside.read("/file") {
            assert_eq!(bytes, [1; 4096]);
            back += 1;
            let other = outside.stat("/other").map(|stat| stat.inode).ok();
            assert_ne!(other, Some(outside.stat("/file").unwrap().inode), "seed {seed}");
        }
    }
    assert!(back > 10, "{back}");
}

#[test]
fn a_power_loss_is_a_function_of_the_seed() {
    let remains = |seed| {
        let (disk, file) = durable_file(seed, 8);
        file.write_at(&[2; 12 * 4096], 0).unwrap();
        (0..8).for_each(|number| drop(create(&disk, &format!("/{number}"))));
        disk.crash(Crash::Power);
        (disk.outside().read("/file").unwrap(), disk.outside().list("/").unwrap(), disk.trace_hash())
    };
    let all: BTreeSet<_> = (0..30).map(remains).collect();
    assert!((0..30).all(|seed| all.contains(&remains(seed))));
    assert!(all.len() > 25, "{}", all.len());
}
