//! Files on disk and in memory, mappings, durability, locks.

use super::{child, is_child, run_one, say};
use crate::env::{Disk, Env, File, FileKind, Map, Open};
use crate::glommio_env::{RealDisk, RealFile, install_map_fault_handler};
use crate::wal::manifest::DataDirectory;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// The same calls on the machine's disk and on the one in memory.
fn on_both(check: impl Fn(&RealDisk, &Path)) {
    let directory = tempfile::tempdir().expect("a directory");
    check(&RealDisk::new(), directory.path());
    let memory = RealDisk::memory();
    memory.create_dir_all(Path::new("/log")).expect("memory takes names");
    check(&memory, Path::new("/log"));
}

#[test]
fn reads_agree_whether_they_may_wait_or_not() {
    on_both(|disk, at| {
        let file = disk.open(&at.join("a"), Open::Create).expect("created");
        file.write_at(b"hello, world", 0).expect("written");
        for read in [RealFile::read_nowait, File::read_at] {
            let mut buffer = [0u8; 32];
            assert_eq!(read(&file, &mut buffer, 7).expect("cached bytes"), 5);
            assert_eq!(&buffer[..5], b"world");
            assert_eq!(read(&file, &mut buffer, 12).expect("the end"), 0);
        }
        assert_eq!(file.stat().expect("open").length, 12);
    });
}

/// The kernel's own files have no non-blocking reads, like those of network file systems.
#[test]
fn read_that_cannot_be_kept_from_waiting_is_refused() {
    let file = RealDisk::new().open(Path::new("/proc/self/limits"), Open::Read).expect("proc is mounted");
    let mut buffer = [0u8; 64];
    for _ in 0..2 {
        let refused = file.read_nowait(&mut buffer, 0).expect_err("it may wait");
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(file.read_at(&mut buffer, 0).expect("readable"), 64);
}

/// The kernel writes page by page, and shows everybody how far it is. File systems differ in what waits for what.
#[test]
fn length_that_stays_when_writes_were_awaited_is_not_in_the_middle_of_one() {
    let directory = tempfile::tempdir().expect("a directory");
    no_length_is_torn(directory.path());
    if let Some(mounted) = Mounted::xfs() {
        no_length_is_torn(&mounted.at());
    }
}

fn no_length_is_torn(directory: &Path) {
    const RECORD: usize = 20_000;
    let path = directory.join("a");
    let file = RealDisk::new().open(&path, Open::Create).expect("created");
    let length = || file.stat().expect("open").length as usize;
    let mut torn = 0;
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut theirs = std::fs::OpenOptions::new().append(true).open(&path).expect("it is there");
            for _ in 0..4_000 {
                std::io::Write::write_all(&mut theirs, &[b'x'; RECORD]).expect("written");
            }
        });
        while !writing.is_finished() {
            let before = length();
            torn += usize::from(before % RECORD != 0);
            file.await_writes().expect("open for writing");
            assert!(before % RECORD == 0 || length() > before, "{before} bytes are not whole");
        }
    });
    if torn == 0 {
        say("NOT CHECKED: no write was seen in its middle");
    }
}

/// A file system in a file, mounted until this is dropped.
struct Mounted {
    directory: tempfile::TempDir,
}

impl Mounted {
    /// An ext2, which has no call that reserves space. None if mounting is not possible.
    fn ext2(megabytes: u64) -> Option<Mounted> {
        Mounted::new(megabytes, "mkfs.ext2", &["-q", "-F", "-m", "0"])
    }

    /// An XFS of the smallest size.
    fn xfs() -> Option<Mounted> {
        Mounted::new(300, "mkfs.xfs", &["-q", "-f"])
    }

    fn new(megabytes: u64, make: &str, options: &[&str]) -> Option<Mounted> {
        let directory = tempfile::tempdir().expect("a directory");
        let (image, at) = (directory.path().join("image"), directory.path().join("at"));
        std::fs::create_dir(&at).expect("a directory");
        std::fs::File::create(&image).and_then(|image| image.set_len(megabytes << 20)).expect("a sparse file");
        let made = Command::new(make).args(options).arg(&image).output();
        let mounted = made.and_then(|_| Command::new("mount").args(["-o", "loop"]).args([&image, &at]).output());
        match mounted {
            Ok(output) if output.status.success() => Some(Mounted { directory }),
            other => {
                let why = other.map_or_else(
                    |error| error.to_string(),
                    |output| String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                );
                say(&format!("NOT RUN, nothing can be mounted: {why}"));
                None
            }
        }
    }

    fn at(&self) -> std::path::PathBuf {
        self.directory.path().join("at")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.at()).status();
    }
}

#[test]
fn space_is_reserved_where_no_call_does_it() {
    let Some(mounted) = Mounted::ext2(8) else { return };
    let disk = RealDisk::new();
    let file = disk.open(&mounted.at().join("a"), Open::Create).expect("created");
    file.write_at(b"kept", 100_000).expect("written");
    file.allocate(1 << 20).expect("room");
    let mut bytes = vec![1; (1 << 20) + 1];
    assert_eq!(file.read_at(&mut bytes, 0).expect("readable"), 1 << 20);
    assert_eq!(&bytes[100_000..100_004], b"kept");
    assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 5, "all else reads as zero");
    let free = disk.free_bytes(&mounted.at()).expect("answered");
    assert!(free < 7 << 20, "{free} bytes are free: the space is not taken");
    let error = file.allocate(64 << 20).expect_err("more than there is");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
}

#[test]
fn parts_are_written_one_behind_the_other() {
    on_both(|disk, at| {
        let file = disk.open(&at.join("a"), Open::Create).expect("created");
        let parts: Vec<Vec<u8>> = (0..300u32).map(|part| vec![part as u8; (part * 37 % 5000) as usize]).collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_parts_at(&slices, 3).expect("written");
        let mut found = vec![0; parts.concat().len() + 3];
        assert_eq!(file.read_at(&mut found, 0).expect("read"), found.len());
        assert!(found[..3] == [0; 3] && found[3..] == parts.concat());
    });
}

#[test]
fn populated_pages_are_resident() {
    on_both(|disk, at| {
        let file = disk.open(&at.join("a"), Open::Create).expect("created");
        file.allocate(1 << 20).expect("room");
        file.write_at(&[7; 300_000], 100).expect("written");
        file.sync().expect("durable");
        let map = disk.map(&file, 1 << 20).expect("mapped");
        // Any range, whole pages or not, up to the end and beyond.
        for (offset, length) in
            [(0, 1 << 20), (5000, 1), (5000, 0), ((1 << 20) - 1, 1), (1 << 20, 10), (70_000, 5 << 20)]
        {
            map.populate(offset, length);
            assert!(map.is_resident(offset, length), "{offset} {length}");
        }
        map.release(0, 1 << 20);
        assert_eq!(&*map.bytes(99, 2), [0, 7]);
    });
}

#[test]
fn nothing_but_zeros_lies_before_the_next_data() {
    on_both(|disk, at| {
        let file = disk.open(&at.join("a"), Open::Create).expect("created");
        file.allocate(1 << 20).expect("room");
        file.write_at(b"x", 600_000).expect("written");
        let found = file.next_data(0).expect("answered").expect("there is data");
        assert!(found <= 600_000);
        let within = file.next_data(600_000).expect("answered");
        assert_eq!(within, Some(600_000));
        // A file system without support for holes reports everything as data.
        let behind = file.next_data(700_000).expect("answered");
        assert!(behind.is_none_or(|data| data >= 700_000));
    });
}

#[test]
fn data_directory_in_memory_may_have_a_relative_path() {
    for root in ["data", "a/b", "./data", "../data", "/var/data"] {
        let memory = RealDisk::memory();
        let opened = DataDirectory::open(memory.clone(), Path::new(root)).map(drop);
        assert!(opened.is_ok(), "{root}: {opened:?}");
        assert!(memory.stat(&Path::new(root).join("manifest")).is_ok(), "{root}");
    }
}

#[test]
fn names_behave_alike_on_disk_and_in_memory() {
    on_both(|disk, at| {
        let (a, b, sub) = (at.join("a"), at.join("b"), at.join("sub"));
        assert_eq!(disk.open(&a, Open::Read).err().map(|e| e.kind()), Some(ErrorKind::NotFound));
        assert_eq!(disk.open(&a, Open::Write).err().map(|e| e.kind()), Some(ErrorKind::NotFound));
        disk.open(&a, Open::Create).expect("created").write_at(b"x", 0).expect("written");
        disk.rename(&a, &b).expect("renamed");
        assert_eq!(disk.stat(&a).err().map(|e| e.kind()), Some(ErrorKind::NotFound));
        let stat = disk.stat(&b).expect("there");
        assert_eq!((stat.kind, stat.length), (FileKind::Regular, 1));
        disk.create_dir_all(&sub.join("deep")).expect("made");
        assert_eq!(disk.stat(&sub).expect("there").kind, FileKind::Directory);
        assert_eq!(disk.remove_dir(&sub).err().map(|e| e.kind()), Some(ErrorKind::DirectoryNotEmpty));
        let mut names: Vec<_> =
            disk.list(at).expect("a directory").into_iter().map(|e| (e.name, e.directory)).collect();
        names.sort();
        assert_eq!(names, [("b".into(), false), ("sub".into(), true)]);
        let open = disk.open(&b, Open::Read).expect("there");
        disk.remove(&b).expect("removed");
        assert_eq!(disk.remove(&b).err().map(|e| e.kind()), Some(ErrorKind::NotFound));
        let mut byte = [0];
        assert_eq!(open.read_at(&mut byte, 0).expect("still open"), 1);
        disk.remove_dir(&sub.join("deep")).expect("empty");
        disk.remove_dir(&sub).expect("empty");
        disk.sync_dir(at).expect("a directory");
        assert!(disk.free_bytes(at).expect("a file system") > 0);
    });
}

#[test]
fn lock_is_held_once() {
    on_both(|disk, at| {
        let path = at.join("lock");
        let held = disk.lock(&path).expect("free");
        assert_eq!(disk.lock(&path).err().map(|e| e.kind()), Some(ErrorKind::WouldBlock));
        drop(held);
        disk.lock(&path).map(drop).expect("free again");
    });
}

/// Whoever could open it for reading could hold the lock, and keep a start from its data directory.
#[test]
fn file_of_a_lock_is_its_owners_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let (disk, path) = (RealDisk::new(), directory.path().join("lock"));
    for mode in [None, Some(0o644), Some(0o660)] {
        if let Some(mode) = mode {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        }
        drop(disk.lock(&path).expect("free"));
        let found = disk.stat(&path).expect("it is there").mode & 0o7777;
        assert_eq!(found, 0o600, "{mode:?}: {found:o}");
    }
}

#[test]
fn map_shows_what_is_written_and_keeps_it_when_released() {
    on_both(|disk, at| {
        let file = disk.open(&at.join("segment"), Open::Create).expect("created");
        file.allocate(64 * 1024).expect("room");
        assert_eq!(file.stat().expect("open").length, 64 * 1024);
        let map = disk.map(&file, 64 * 1024).expect("mapped");
        assert_eq!(map.length(), 64 * 1024);
        assert!(map.bytes(0, 64 * 1024).iter().all(|byte| *byte == 0));
        file.write_at(b"frame", 5000).expect("written");
        assert_eq!(&*map.bytes(5000, 5), b"frame");
        map.release(0, 64 * 1024);
        map.release(5000, 10);
        assert_eq!(&*map.bytes(5000, 5), b"frame");
        file.write_at(b"FRAME", 5000).expect("written");
        assert_eq!(&*map.bytes(5000, 5), b"FRAME");
    });
}

#[test]
fn map_beyond_the_end_is_refused() {
    on_both(|disk, at| {
        let file = disk.open(&at.join("short"), Open::Create).expect("created");
        file.truncate(100).expect("set");
        assert!(disk.map(&file, 101).is_err());
    });
}

#[test]
fn fault_in_a_map_names_the_segment() {
    const NAME: &str = "fault_in_a_map_names_the_segment";
    if is_child(NAME) {
        install_map_fault_handler().expect("installed");
        let directory = tempfile::tempdir().expect("a directory");
        let file = RealDisk::new().open(&directory.path().join("0007.segment"), Open::Create).expect("created");
        file.allocate(8192).expect("room");
        let map = RealDisk::new().map(&file, 8192).expect("mapped");
        std::fs::remove_dir_all(directory.path()).expect("removed");
        file.truncate(0).expect("cut");
        panic!("no fault came, read {:?}", map.bytes(4096, 1));
    }
    let output = child(&[], "files", NAME).output().expect("the test starts itself");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(text.contains("0007.segment"), "{text}");
}

#[test]
fn sync_makes_durable_or_says_why_not() {
    run_one(|env| async move {
        let directory = tempfile::tempdir().expect("a directory");
        let file = Arc::new(env.disk().open(&directory.path().join("a"), Open::Create).expect("created"));
        file.write_at(&[1; 100_000], 0).expect("written");
        env.sync(&file).await.expect("a regular file can be synced");
        File::sync(&*file).expect("a regular file can be synced");
        // A pipe has nothing to make durable, and the kernel returns an error.
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let pipe = Arc::new(RealFile::new(std::fs::File::from(OwnedFd::from(reader)), false));
        let error = env.sync(&pipe).await.expect_err("a pipe cannot be synced");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        // In memory there is nothing to do, so nothing can fail.
        let memory = RealDisk::memory();
        let file = Arc::new(memory.open(Path::new("/a"), Open::Create).expect("created"));
        env.sync(&file).await.expect("nothing to do");
    });
}

/// More than there are threads for them, and not in equal parts.
#[test]
fn files_are_synced_together_and_each_has_its_result() {
    on_both(|disk, at| {
        for count in [0, 1, 2, 16, 17, 70] {
            let file =
                |number: usize| Arc::new(disk.open(&at.join(number.to_string()), Open::Create).expect("created"));
            let files: Vec<Arc<RealFile>> = (0..count).map(file).collect();
            for file in &files {
                file.write_at(b"x", 0).expect("written");
            }
            let synced = disk.sync_files(&files);
            assert!(synced.len() == count && synced.iter().all(|one| one.is_ok()), "{synced:?}");
        }
    });
}

/// The kernel cannot sync its own files.
#[test]
fn file_that_cannot_be_synced_says_so_among_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = RealDisk::new();
    let ours = |number: usize| disk.open(&directory.path().join(number.to_string()), Open::Create).expect("created");
    let file = |number: usize| match number {
        20 => disk.open(Path::new("/proc/self/limits"), Open::Read).expect("proc is mounted"),
        _ => ours(number),
    };
    let synced = disk.sync_files(&(0..40).map(|number| Arc::new(file(number))).collect::<Vec<_>>());
    let failed: Vec<usize> = (0..40).filter(|number| synced[*number].is_err()).collect();
    assert_eq!((synced.len(), failed), (40, vec![20]));
}

#[test]
fn sync_that_is_given_up_keeps_its_descriptor_number() {
    run_one(|env| async move {
        let directory = tempfile::tempdir().expect("a directory");
        let file = Arc::new(env.disk().open(&directory.path().join("a"), Open::Create).expect("created"));
        let weak = Arc::downgrade(&file);
        let sync = env.sync(&file);
        drop(file);
        futures_lite::future::or(async { drop(sync.await) }, async {}).await;
        assert!(weak.upgrade().is_some(), "the number could come to mean another file");
    });
}

#[test]
fn opening_a_named_pipe_does_not_block() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().expect("coreutils").success());
    let file = RealDisk::new().open(&path, Open::Read).expect("opened without a writer");
    assert_eq!(file.stat().expect("open").kind, FileKind::Other);
}

#[test]
fn creating_refuses_a_symbolic_link() {
    let directory = tempfile::tempdir().expect("a directory");
    let (target, link) = (directory.path().join("target"), directory.path().join("link"));
    std::fs::write(&target, "kept").expect("written");
    std::os::unix::fs::symlink(&target, &link).expect("linked");
    let error = RealDisk::new().open(&link, Open::Create).err().expect("refused");
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    let entries = RealDisk::new().list(directory.path()).expect("a directory");
    assert_eq!(entries.iter().filter(|entry| entry.link).count(), 1);
    assert_eq!(RealDisk::new().canonical(&link).expect("resolved"), target.canonicalize().expect("resolved"));
}

#[test]
fn full_disk_is_an_error_of_allocate() {
    let directory = tempfile::tempdir().expect("a directory");
    let mount = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"];
    let mounted = Command::new("mount").args(mount).arg(directory.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return say("NOT RUN, a tmpfs cannot be mounted here: full_disk_is_an_error_of_allocate");
    }
    let outcome = (|| {
        let disk = RealDisk::new();
        let file = disk.open(&directory.path().join("segment"), Open::Create)?;
        file.allocate(256 * 1024)?;
        let refused = file.allocate(64 * 1024 * 1024).err().and_then(|error| error.raw_os_error());
        std::io::Result::Ok((refused, disk.free_bytes(directory.path())?))
    })();
    let unmounted = Command::new("umount").arg(directory.path()).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    let (refused, free) = outcome.expect("a small file fits");
    assert_eq!(refused, Some(libc::ENOSPC));
    assert!(free < 1024 * 1024);
}
