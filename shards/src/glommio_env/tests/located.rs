//! What a name leads to: links, exchanges, and everything that is no file.

use crate::env::located::{Links, Located, is_link_refused};
use crate::env::{Disk, File, FileKind, Open};
use crate::glommio_env::{RealDisk, RealLocated};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;

fn disk_and_base() -> (RealDisk, tempfile::TempDir) {
    let base = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(base.path().join("in/deep")).expect("directories");
    fs::write(base.path().join("secret"), "secret").expect("written");
    fs::write(base.path().join("in/a.log"), "line").expect("written");
    fs::write(base.path().join("in/deep/b.log"), "other").expect("written");
    (RealDisk::new(), base)
}

fn find(disk: &RealDisk, base: &Path, below: &str, links: Links) -> std::io::Result<RealLocated> {
    disk.locate(base, &base.join(below), links)
}

fn text(found: &RealLocated) -> String {
    let (file, mut buffer) = (found.open(Open::Read).expect("a file"), [0u8; 32]);
    let length = file.read_at(&mut buffer, 0).expect("readable");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn no_link_below_the_base_is_passed_unless_it_is_allowed() {
    let (disk, base) = disk_and_base();
    let inside = base.path().join("in");
    symlink(base.path().join("secret"), inside.join("file")).expect("linked");
    symlink(base.path(), inside.join("up")).expect("linked");
    symlink("a.log", inside.join("near")).expect("linked");
    for name in ["file", "up", "up/secret", "near", "up/in/a.log"] {
        let refused = find(&disk, &inside, name, Links::Refuse).map(drop).expect_err(name);
        assert!(is_link_refused(&refused), "{name}: {refused}");
    }
    for out in ["../secret", "deep/../../secret"] {
        let refused = find(&disk, &inside, out, Links::Refuse).map(drop).expect_err(out);
        assert!(is_link_refused(&refused), "{out}: {refused}");
    }
    let found = find(&disk, &inside, "up/secret", Links::Follow).expect("followed");
    assert_eq!(found.path().expect("proc is mounted"), fs::canonicalize(base.path()).expect("there").join("secret"));
    assert_eq!(text(&found), "secret");
    assert_eq!(text(&find(&disk, &inside, "deep/b.log", Links::Refuse).expect("no link")), "other");
    symlink(&inside, base.path().join("admin")).expect("linked");
    assert_eq!(text(&find(&disk, &base.path().join("admin"), "a.log", Links::Refuse).expect("of the base")), "line");
}

#[test]
fn links_of_the_kernel_are_never_passed() {
    let (disk, base) = disk_and_base();
    let file = fs::File::open(base.path().join("secret")).expect("there");
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    symlink(name, base.path().join("in/magic")).expect("linked");
    let refused = find(&disk, base.path(), "in/magic", Links::Follow).map(drop).expect_err("made up");
    assert!(is_link_refused(&refused), "{refused}");
}

#[test]
fn what_was_found_stays_when_its_name_is_exchanged() {
    let (disk, base) = disk_and_base();
    let found = find(&disk, base.path(), "in/a.log", Links::Refuse).expect("there");
    let directory = find(&disk, base.path(), "in", Links::Refuse).expect("there");
    fs::rename(base.path().join("in"), base.path().join("moved")).expect("renamed");
    symlink("/", base.path().join("in")).expect("linked");
    assert_eq!(text(&found), "line");
    let names: Vec<_> = directory.list().expect("a directory").into_iter().map(|entry| entry.name).collect();
    for most in [0, 1] {
        assert_eq!(directory.list_some(most).expect("a directory").len(), most);
    }
    assert!(names.contains(&"a.log".into()), "{names:?}");
    let file = directory.create(OsStr::new("new"), Open::Create).expect("made where it was found");
    file.write_at(b"x", 0).expect("written");
    assert_eq!(fs::read(base.path().join("moved/new")).expect("there"), b"x");
}

/// The kernel adds ` (deleted)` to the path of what a descriptor points at, and somebody may have made a file of that name.
#[test]
fn what_was_found_is_opened_by_its_descriptor_and_not_by_a_path() {
    let (disk, base) = disk_and_base();
    let found = find(&disk, base.path(), "in/a.log", Links::Refuse).expect("there");
    fs::remove_file(base.path().join("in/a.log")).expect("removed");
    symlink(base.path().join("secret"), base.path().join("in/a.log")).expect("linked");
    symlink(base.path().join("secret"), base.path().join("in/a.log (deleted)")).expect("linked");
    assert_eq!(text(&found), "line");
}

#[test]
fn only_regular_files_are_opened_and_looking_wakes_no_writer() {
    let (disk, base) = disk_and_base();
    let pipe = base.path().join("in/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
    let found = find(&disk, base.path(), "in/pipe", Links::Refuse).expect("there");
    assert_eq!(found.stat().expect("known").kind, FileKind::Other);
    let writer = fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&pipe);
    assert_eq!(writer.map(drop).expect_err("nobody reads").raw_os_error(), Some(libc::ENXIO));
    for how in [Open::Read, Open::Write] {
        assert_eq!(found.open(how).map(drop).expect_err("no file").kind(), ErrorKind::InvalidInput);
    }
    let directory = find(&disk, base.path(), "in", Links::Refuse).expect("there");
    let refused = directory.create(OsStr::new("pipe"), Open::Create).map(drop).expect_err("no file");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(directory.open(Open::Read).map(drop).expect_err("no file").kind(), ErrorKind::InvalidInput);
}

#[test]
fn names_are_made_moved_and_removed_in_their_directory_only() {
    let (disk, base) = disk_and_base();
    let directory = find(&disk, base.path(), "in", Links::Refuse).expect("there");
    let deep = directory.locate(Path::new("deep"), Links::Refuse).expect("there");
    symlink(base.path().join("secret"), base.path().join("in/link")).expect("linked");
    let refused = directory.create(OsStr::new("link"), Open::Create).map(drop).expect_err("a link");
    assert!(is_link_refused(&refused), "{refused}");
    for name in ["../secret", "deep/x", "", ".", "..", "/etc"] {
        assert!(directory.create(OsStr::new(name), Open::Create).is_err(), "{name}");
        assert!(directory.remove(OsStr::new(name)).is_err(), "{name}");
        assert!(directory.make_dir(OsStr::new(name), 0o750).is_err(), "{name}");
        assert!(directory.rename(OsStr::new("a.log"), &deep, OsStr::new(name)).is_err(), "{name}");
        assert!(directory.stat_name(OsStr::new(name)).is_err(), "{name}");
    }
    assert_eq!(directory.stat_name(OsStr::new("link")).expect("there").kind, FileKind::Other);
    directory.make_dir(OsStr::new("made"), 0o750).expect("made");
    let again = directory.make_dir(OsStr::new("made"), 0o750).expect_err("there already");
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    directory.rename(OsStr::new("a.log"), &deep, OsStr::new("c.log")).expect("moved");
    directory.sync_names().expect("durable");
    assert_eq!(fs::read_to_string(base.path().join("in/deep/c.log")).expect("there"), "line");
    deep.remove(OsStr::new("c.log")).expect("removed");
    assert!(!base.path().join("in/deep/c.log").exists());
}

/// A stranger makes the name just when something is to get it: a look before the rename would not notice.
#[test]
fn name_that_must_be_free_is_never_replaced() {
    const ROUNDS: usize = 4_000;
    let (disk, base) = disk_and_base();
    let directory = find(&disk, base.path(), "in", Links::Refuse).expect("there");
    let wanted = base.path().join("in/wanted");
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let strangers = scope.spawn(|| {
            let made = (0..ROUNDS).map(|_| {
                barrier.wait();
                let made = fs::File::create_new(&wanted).is_ok();
                barrier.wait();
                made
            });
            made.collect::<Vec<bool>>()
        });
        let ours = (0..ROUNDS).map(|round| {
            let name = format!("ours-{round}");
            fs::write(base.path().join("in").join(&name), "ours").expect("written");
            let _ = fs::remove_file(&wanted);
            barrier.wait();
            let renamed = directory.rename_new(OsStr::new(&name), &directory, OsStr::new("wanted"));
            barrier.wait();
            renamed.map_err(|error| error.kind())
        });
        let ours: Vec<_> = ours.collect();
        for (ours, theirs) in ours.into_iter().zip(strangers.join().expect("no panic")) {
            assert_eq!(ours, if theirs { Err(ErrorKind::AlreadyExists) } else { Ok(()) });
        }
    });
    symlink("nowhere", base.path().join("in/link")).expect("linked");
    for taken in ["link", "deep"] {
        let refused = directory.rename_new(OsStr::new("a.log"), &directory, OsStr::new(taken)).expect_err("taken");
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{taken}");
    }
}

#[test]
fn metadata_agree_however_they_are_asked_for() {
    let (disk, base) = disk_and_base();
    let path = base.path().join("in/a.log");
    let by_path = disk.stat(&path).expect("there");
    assert_eq!(find(&disk, base.path(), "in/a.log", Links::Refuse).expect("there").stat().expect("known"), by_path);
    let directory = find(&disk, base.path(), "in", Links::Refuse).expect("there");
    assert_eq!(directory.stat_name(OsStr::new("a.log")).expect("known"), by_path);
    let metadata = fs::metadata(&path).expect("there");
    assert_eq!((by_path.owner, by_path.mode), (metadata.uid(), metadata.mode() & 0o7777));
}

/// Takes a lease on a file, and ignores the signal that says that somebody wants it.
#[allow(unsafe_code, reason = "no safe interface knows leases")]
fn lease(file: &fs::File) -> bool {
    // SAFETY: takes numbers only.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    // SAFETY: takes a descriptor that is open, and numbers.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) == 0 }
}

/// The owner of a file may ask the kernel to keep an opening waiting until he agrees.
#[test]
fn lease_is_an_error_and_keeps_nobody_waiting() {
    let (disk, base) = disk_and_base();
    let path = base.path().join("in/a.log");
    let held = fs::File::open(&path).expect("there");
    if !lease(&held) {
        println!("NOT CHECKED: this file system has no leases");
        return;
    }
    let found = find(&disk, base.path(), "in/a.log", Links::Refuse).expect("there");
    assert_eq!(found.open(Open::Write).map(drop).expect_err("leased").kind(), ErrorKind::WouldBlock);
    assert_eq!(text(&found), "line");
    let directory = find(&disk, base.path(), "in", Links::Refuse).expect("there");
    let refused = directory.create(OsStr::new("a.log"), Open::Create).map(drop).expect_err("leased");
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    drop(held);
    let file = found.open(Open::Write).expect("free again");
    let flags = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.descriptor())).expect("proc is mounted");
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
    let flags = i32::from_str_radix(flags, 8).expect("octal");
    assert_eq!(flags & libc::O_NONBLOCK, 0, "later calls wait as usual");
}

#[test]
fn memory_knows_names_by_the_same_rules() {
    let disk = RealDisk::memory();
    disk.create_dir_all(Path::new("/log/in")).expect("made");
    let base = disk.locate(Path::new("/log"), Path::new("/log/in"), Links::Refuse).expect("there");
    base.create(OsStr::new("a"), Open::Create).expect("made").write_at(b"line", 0).expect("written");
    let found = base.locate(Path::new("a"), Links::Refuse).expect("there");
    assert_eq!(text(&found), "line");
    assert!(is_link_refused(&base.locate(Path::new("../x"), Links::Refuse).map(drop).expect_err("outside")));
}

/// A name that is there, whatever has it, is not opened as a new file: its permissions are somebody else's.
#[test]
fn new_file_is_made_only_where_nothing_is() {
    let (disk, base) = disk_and_base();
    let inside = find(&disk, base.path(), "in", Links::Refuse).expect("there");
    fs::hard_link(base.path().join("secret"), base.path().join("in/linked")).expect("linked");
    symlink("nowhere", base.path().join("in/dangling")).expect("linked");
    for name in ["a.log", "deep", "linked", "dangling"] {
        let refused = inside.create_new(OsStr::new(name), Open::CreatePrivate).map(drop).expect_err(name);
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{name}");
    }
    inside.create_new(OsStr::new("new"), Open::CreatePrivate).expect("nothing is there");
    assert_eq!(fs::metadata(base.path().join("in/new")).expect("there").mode() & 0o7777, 0o600);
    assert!(!base.path().join("in/nowhere").exists());
}

#[test]
fn permissions_are_those_of_what_was_found() {
    let (disk, base) = disk_and_base();
    let found = find(&disk, base.path(), "in/deep", Links::Refuse).expect("there");
    fs::rename(base.path().join("in/deep"), base.path().join("in/moved")).expect("renamed");
    fs::create_dir(base.path().join("in/deep")).expect("a directory");
    let before = fs::metadata(base.path().join("in/deep")).expect("there").mode();
    found.set_access(crate::env::Access { mode: Some(0o711), group: None }).expect("it is ours");
    assert_eq!(fs::metadata(base.path().join("in/moved")).expect("there").mode() & 0o7777, 0o711);
    assert_eq!(fs::metadata(base.path().join("in/deep")).expect("there").mode(), before);
}
