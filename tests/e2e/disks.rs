//! Disks that fail on purpose: small disks, disks that break, disks that lose power. Needs root.
//!
//! Guarantees: a mount is removed when its value is dropped, also if a case panics, and the loop device with it. Without
//! root, a case reports on standard error what was not checked.

use crate::case::Case;
use crate::product::is_root;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The bit of `CAP_SYS_ADMIN` in the capabilities of a process.
const SYS_ADMIN: u32 = 21;

/// Reports on standard error, past the test harness, that something was not checked; `tests/run.sh` counts these lines.
pub fn not_checked(what: &str, why: &str) {
    let _ = writeln!(io::stderr(), "NOT CHECKED: {what}: {why}");
}

/// Whether this process may mount and set limits. If not, reports that `what` was not checked.
pub fn may_administrate(what: &str) -> bool {
    let may = is_administrator();
    if !may {
        not_checked(what, "it needs root with CAP_SYS_ADMIN");
    }
    may
}

fn is_administrator() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    is_root() && bits >> SYS_ADMIN & 1 == 1
}

/// Runs a command that must succeed.
pub fn run(command: &str, arguments: &[&str]) {
    let output = Command::new(command).args(arguments).output().unwrap_or_else(|error| panic!("{command}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {arguments:?}: {errors}");
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A mounted file system.
pub struct Mount {
    at: PathBuf,
    mounted: bool,
}

impl Mount {
    /// A file system in memory with this size, mounted over a directory of the case. Its content is lost when it is dropped.
    pub fn memory(at: PathBuf, size: &str) -> Mount {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=0750"), "tmpfs", utf8(&at)]);
        Mount { at, mounted: true }
    }

    /// A file system that no program serves (FUSE), as if this user had mounted it: only he may look into it.
    pub fn of_user(at: PathBuf, user: u32) -> Mount {
        let options = format!("fd=3,rootmode=40000,user_id={user},group_id={user}");
        let program = "exec 3<>/dev/fuse && mount -i -t fuse -o \"$0\" stranger \"$1\"";
        run("sh", &["-c", program, &options, utf8(&at)]);
        Mount { at, mounted: true }
    }

    /// A file, mounted over another one.
    pub fn file(file: &Path, at: PathBuf) -> Mount {
        run("mount", &["--bind", utf8(file), utf8(&at)]);
        Mount { at, mounted: true }
    }

    /// Makes a file system in memory larger or smaller.
    pub fn resize(&self, size: &str) {
        run("mount", &["-o", &format!("remount,size={size}"), utf8(&self.at)]);
    }

    fn unmount(&mut self) {
        self.mounted = false;
        run("umount", &[utf8(&self.at)]);
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // The last one hides those before it.
        while let Some(mount) = self.mounts.pop() {
            drop(mount);
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted {
            let plain = Command::new("umount").arg(&self.at).output();
            if !plain.is_ok_and(|output| output.status.success()) {
                let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
            }
        }
    }
}

/// An ext4 file system in a file, mounted over a directory of the case.
pub struct LoopDisk {
    image: PathBuf,
    at: PathBuf,
    /// The last one is the one at the path.
    mounts: Vec<Mount>,
}

impl LoopDisk {
    /// Creates the file system and mounts it.
    pub fn new(case: &Case, image: &str, at: &str, megabytes: u64) -> LoopDisk {
        LoopDisk::with(case, (image, at), megabytes, &[])
    }

    /// Like [`LoopDisk::new`], with options for the file system.
    pub fn with(case: &Case, (image, at): (&str, &str), megabytes: u64, options: &[&str]) -> LoopDisk {
        let (image, at) = (case.path(image), case.path(at));
        let file = File::create(&image).unwrap_or_else(|error| panic!("{}: {error}", image.display()));
        file.set_len(megabytes << 20).expect("a sparse file");
        // No space is reserved for root, because root's product must see a full disk.
        run("mkfs.ext4", &[&["-q", "-F", "-m", "0", "-E", "nodiscard"], options, &[utf8(&image)]].concat());
        let mut disk = LoopDisk { image, at, mounts: Vec::new() };
        disk.mount();
        disk
    }

    /// A disk at `at` that nothing else uses, so that a freed inode number is reused at once. None if this process may not
    /// mount; then [`LoopDisk::assert_reused`] is less strict.
    pub fn for_inodes(case: &Case, at: &str) -> Option<LoopDisk> {
        is_administrator().then(|| LoopDisk::new(case, "inodes", at, 16))
    }

    /// Checks that an inode number was reused in each of `rounds`. Without an own disk, reports what was not checked instead.
    pub fn assert_reused(disk: Option<LoopDisk>, what: &str, reused: u32, rounds: u32) {
        match disk {
            Some(_) => assert_eq!(reused, rounds, "{what}: rounds in which an inode number came back"),
            None if reused == 0 => not_checked(what, "this file system gave no inode number out again"),
            None => {}
        }
    }

    /// Mounts it; its journal is replayed.
    pub fn mount(&mut self) {
        run("mount", &["-t", "ext4", "-o", "loop", utf8(&self.image), utf8(&self.at)]);
        self.mounts.push(Mount { at: self.at.clone(), mounted: true });
    }

    /// Kilobytes that the image occupies.
    pub fn image_kilobytes(&self) -> u64 {
        fs::metadata(&self.image).expect("an image").blocks() / 2
    }

    /// Stops the disk like a power loss: data that was not written yet never will be, and every call fails from now on.
    pub fn cut_power(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", utf8(&self.at)]);
    }

    /// Repairs it like a machine does at boot, and mounts it.
    pub fn restart(&mut self) {
        while let Some(mut mount) = self.mounts.pop() {
            mount.unmount();
        }
        self.repair();
        self.mount();
    }

    /// Mounts a disk with the content of the dead one over it, which is still in use: the path leads to the new one.
    pub fn replace(&mut self) {
        let other = self.image.with_extension(self.mounts.len().to_string());
        run("cp", &["--sparse=always", utf8(&self.image), utf8(&other)]);
        self.image = other;
        self.mount();
    }

    fn repair(&self) {
        let check = Command::new("e2fsck").args(["-p", "-f"]).arg(&self.image).output().expect("e2fsck");
        // Exit code 1 says that errors were corrected.
        assert!(check.status.code().is_some_and(|code| code <= 1), "{check:?}");
    }
}

/// Fills the disk except for `spared` bytes. Removing the file frees the space.
pub fn fill(folder: &Path, spared: u64) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).expect("a filler");
    for step in [1 << 20, 64 << 10, 4 << 10, 1 << 10, 1] {
        let bytes = vec![1; step];
        while file.write_all(&bytes).is_ok() {}
    }
    let length = file.metadata().expect("a filler").len();
    file.set_len(length.saturating_sub(spared)).expect("a shorter filler");
    path
}

#[test]
fn disks_fill_break_and_come_back() {
    if !may_administrate("disks that fail") {
        return;
    }
    let case = Case::new("disks");
    let small = Mount::memory(case.path("out"), "1m");
    let filler = fill(&case.path("out"), 4096);
    assert!(fs::write(case.path("out/a"), vec![0; 8192]).is_err(), "a full disk takes bytes");
    small.resize("2m");
    fs::write(case.path("out/a"), vec![0; 8192]).expect("room");
    assert!(fs::metadata(filler).expect("a filler").len() > 900 << 10);
    let mut disk = LoopDisk::new(&case, "image", "data", 16);
    let device = fs::metadata(case.path("data")).expect("a folder").dev();
    assert_ne!(device, fs::metadata(case.path("logs")).expect("a folder").dev());
    let kept = File::create(case.path("data/kept")).expect("a file");
    (&kept).write_all(b"kept").expect("bytes");
    kept.sync_all().expect("a sync");
    fs::write(case.path("data/lost"), b"lost").expect("bytes");
    disk.cut_power();
    assert!(kept.sync_all().is_err() && fs::read(case.path("data/kept")).is_err(), "a disk without power works");
    drop(kept);
    disk.restart();
    assert_eq!(fs::read(case.path("data/kept")).expect("a file"), b"kept");
    assert!(!fs::read(case.path("data/lost")).is_ok_and(|bytes| bytes == b"lost"), "the power was not cut");
}
