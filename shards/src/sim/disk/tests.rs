//! The simulated disk, used without an executor: what is seen, what survives, what fails.

mod power;

use super::*;
use crate::env::{File, Map};
use std::collections::BTreeSet;
use std::ffi::OsString;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn create(disk: &SimDisk, name: &str) -> SimFile {
    disk.open(path(name), Open::Create).unwrap()
}

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn read(file: &SimFile, length: usize, offset: u64) -> Vec<u8> {
    let mut buffer = vec![0; length];
    let length = file.read_at(&mut buffer, offset).unwrap();
    buffer.truncate(length);
    buffer
}

/// A disk with one file of `pages` pages of ones, durable in content and name.
fn durable_file(seed: u64, pages: usize) -> (SimDisk, SimFile) {
    let disk = SimDisk::new(seed);
    disk.outside().write("/file", &vec![1; pages * 4096]).unwrap();
    disk.outside().sync_all();
    let file = disk.open(path("/file"), Open::Write).unwrap();
    (disk, file)
}

#[test]
fn what_is_written_is_read_and_gaps_are_zero() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/file");
    file.write_at(b"abc", 0).unwrap();
    file.write_at(b"xyz", 5000).unwrap();
    assert_eq!(read(&file, 4, 0), b"abc\0");
    assert_eq!(read(&file, 10, 4999), b"\0xyz");
    assert_eq!(read(&file, 10, 5003), b"");
    file.truncate(2).unwrap();
    file.allocate(4).unwrap();
    assert_eq!(read(&file, 10, 0), b"ab\0\0");
    file.allocate(1).unwrap();
    assert_eq!(file.stat().unwrap().length, 4);
}

#[test]
fn reads_without_waiting_sometimes_refuse_and_never_lie() {
    let (_, file) = durable_file(4, 1);
    let (mut refused, mut short, mut whole) = (0, 0, 0);
    for _ in 0..400 {
        let mut buffer = [0; 100];
        match file.read_nowait(&mut buffer, 0) {
            Ok(100) => whole += 1,
            Ok(length) => {
                assert!(length > 0 && buffer[..length] == [1; 100][..length]);
                short += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                refused += 1;
            }
        }
    }
    assert!(refused > 10 && short > 10 && whole > 200, "{refused} refused, {short} short, {whole} whole");
}

#[test]
fn a_killed_process_loses_nothing_but_its_handles() {
    let disk = SimDisk::new(1);
    let process = disk.of_this_process();
    let file = create(&process, "/file");
    file.write_at(b"cached", 0).unwrap();
    disk.crash(Crash::Process);
    assert!(file.write_at(b"late", 0).is_err());
    assert!(file.sync().is_err());
    assert!(process.stat(path("/file")).is_err());
    assert_eq!(disk.outside().read("/file").unwrap(), b"cached");
    assert!(disk.of_this_process().open(path("/file"), Open::Read).is_ok());
}

#[test]
fn an_open_file_works_on_after_it_was_unlinked() {
    let (disk, file) = durable_file(1, 1);
    disk.remove(path("/file")).unwrap();
    file.write_at(b"still here", 0).unwrap();
    assert_eq!(read(&file, 10, 0), b"still here");
    assert_eq!(file.stat().unwrap().links, 0);
    file.sync().unwrap();
    assert_eq!(code(disk.stat(path("/file"))), Some(libc::ENOENT));
}

#[test]
fn inode_numbers_come_back_only_when_asked_for_and_only_when_free() {
    for reuse in [false, true] {
        let (disk, file) = durable_file(1, 1);
        disk.set_inode_reuse(reuse);
        let number = file.stat().unwrap().inode;
        disk.remove(path("/file")).unwrap();
        assert_ne!(create(&disk, "/while-open").stat().unwrap().inode, number);
        drop(file);
        assert_eq!(create(&disk, "/after").stat().unwrap().inode == number, reuse);
    }
}

#[test]
fn a_full_disk_takes_what_fits_and_space_comes_back() {
    let (disk, file) = durable_file(1, 1);
    disk.set_free_bytes(Some(2 * 4096));
    assert_eq!(code(file.write_at(&[2; 4 * 4096], 4096)), Some(libc::ENOSPC));
    assert_eq!(file.stat().unwrap().length, 3 * 4096);
    assert_eq!(disk.free_bytes(path("/")).unwrap(), 0);
    file.write_at(&[3; 3 * 4096], 0).unwrap();
    let other = create(&disk, "/other");
    assert_eq!(code(other.allocate(1)), Some(libc::ENOSPC));
    disk.remove(path("/file")).unwrap();
    assert_eq!(code(other.allocate(1)), Some(libc::ENOSPC));
    drop(file);
    other.allocate(3 * 4096).unwrap();
    disk.set_free_bytes(None);
    other.allocate(100 * 4096).unwrap();
}

#[test]
fn reads_writes_and_directory_syncs_fail_as_told() {
    let (disk, file) = durable_file(1, 1);
    disk.fail_writes(1);
    assert_eq!(code(file.write_at(b"x", 0)), Some(libc::EIO));
    file.write_at(b"x", 0).unwrap();
    disk.fail_reads(path("/file"), true).unwrap();
    assert_eq!(code(file.read_at(&mut [0; 4], 0)), Some(libc::EIO));
    disk.fail_reads(path("/file"), false).unwrap();
    assert_eq!(read(&file, 2, 0), b"x\x01");
    disk.fail_directory_syncs(1);
    assert_eq!(code(disk.sync_dir(path("/"))), Some(libc::EIO));
    disk.sync_dir(path("/")).unwrap();
    disk.deny(path("/file"), true).unwrap();
    assert_eq!(code(disk.open(path("/file"), Open::Read)), Some(libc::EACCES));
}

#[test]
fn a_lock_is_held_until_dropped_or_until_its_process_dies() {
    let disk = SimDisk::new(1);
    let process = disk.of_this_process();
    let lock = process.lock(path("/lock")).unwrap();
    assert_eq!(disk.lock(path("/lock")).err().map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
    drop(lock);
    let held = process.lock(path("/lock")).unwrap();
    disk.crash(Crash::Process);
    let next = disk.of_this_process().lock(path("/lock")).unwrap();
    drop(held);
    assert!(disk.lock(path("/lock")).is_err());
    drop(next);
    assert!(disk.lock(path("/lock")).is_ok());
}

#[test]
fn a_view_shows_what_is_written_later() {
    let (disk, file) = durable_file(1, 2);
    let view = disk.map(&file, 8192).unwrap();
    file.write_at(b"later", 4094).unwrap();
    assert_eq!(&*view.bytes(4094, 5), b"later");
    view.release(0, 8192);
    assert_eq!((view.length(), view.bytes(0, 1)[0]), (8192, 1));
    assert_eq!(code(disk.map(&file, 8193)), Some(libc::EINVAL));
}

#[test]
fn links_are_followed_resolved_and_refused_where_a_file_is_made() {
    let disk = SimDisk::new(1);
    let outside = disk.outside();
    outside.create_dir_all("/var/log/app").unwrap();
    outside.write("/var/log/app/now", b"x").unwrap();
    outside.symlink("app", "/var/log/current").unwrap();
    outside.symlink("/var/log/current/../app/now", "/now").unwrap();
    outside.symlink("/loop", "/loop").unwrap();
    outside.symlink("/nowhere", "/dangling").unwrap();
    assert_eq!(disk.canonical(path("/now")).unwrap(), path("/var/log/app/now"));
    assert_eq!(disk.stat(path("/now")).unwrap(), outside.stat("/var/log/app/now").unwrap());
    assert_eq!(code(disk.open(path("/now"), Open::Create)), Some(libc::ELOOP));
    assert_eq!(code(disk.stat(path("/loop"))), Some(libc::ELOOP));
    assert_eq!(code(disk.open(path("/dangling"), Open::Write)), Some(libc::ENOENT));
    let entries = disk.list(path("/var/log")).unwrap();
    let kinds: BTreeSet<_> = entries.iter().map(|entry| (entry.name.clone(), entry.directory, entry.link)).collect();
    assert_eq!(kinds, BTreeSet::from([("app".into(), true, false), ("current".into(), false, true)]));
}

#[test]
fn paths_fail_as_on_linux() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(path("/a/b")).unwrap();
    create(&disk, "/a/file");
    assert_eq!(code(disk.open(path("/a/file/x"), Open::Create)), Some(libc::ENOTDIR));
    assert_eq!(code(disk.open(path("/c/x"), Open::Create)), Some(libc::ENOENT));
    assert_eq!(code(disk.open(path("/a"), Open::Write)), Some(libc::EISDIR));
    assert_eq!(code(disk.remove(path("/a"))), Some(libc::EISDIR));
    assert_eq!(code(disk.remove_dir(path("/a"))), Some(libc::ENOTEMPTY));
    assert_eq!(code(disk.rename(path("/a/file"), path("/a/b"))), Some(libc::EISDIR));
    assert_eq!(code(disk.create_dir_all(path("/a/file/c"))), Some(libc::EEXIST));
    disk.outside().pipe("/pipe").unwrap();
    let pipe = disk.open(path("/pipe"), Open::Read).unwrap();
    assert_eq!(pipe.stat().unwrap().kind, FileKind::Other);
    assert_eq!(code(pipe.read_at(&mut [0; 4], 0)), Some(libc::ESPIPE));
    disk.remove_dir(path("/a/b")).unwrap();
    assert_eq!(disk.outside().list("/a").unwrap(), ["file"]);
}

#[test]
fn the_wall_clock_moves_with_time_and_jumps_when_set() {
    let disk = SimDisk::new(1);
    let start = disk.wall();
    disk.set_now(Monotonic(5_000_000_000));
    assert_eq!(disk.wall().0 - start.0, 5_000_000_000);
    let file = create(&disk, "/file");
    assert_eq!(file.stat().unwrap().modified, disk.wall());
    disk.set_wall(Timestamp(start.0 - 1));
    assert_eq!(disk.wall().0, start.0 - 1);
}
