//! Whether a failure at one place is of that place alone: at the same time, a file can be made and written in the fixed directory.
//!
//! Guarantees: the answer costs a file that is made, synced and removed at most once in [`HOLDS_FOR`] for each power of two of its
//! size, however many files fail. It is as large as the write that failed, up to [`CONTENT_BYTES_MAX`]: a disk may have a few blocks left
//! that do not help anybody. A disk with less free space than [`FREE_BYTES_MIN`] counts as full everywhere. No input of this process reads
//! the file. Does not decide who may have caused a failure.

use super::*;
use std::cell::Cell;
use std::time::Duration;

/// Free space with which no disk is full. No delivery is as large.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// How long an answer counts.
const HOLDS_FOR: Duration = Duration::from_secs(1);

/// The name of the file, which is there for a moment.
const NAME: &str = ".tailwater-probe";

/// Its content, a block of most file systems, and how much of it is written at least and at most.
const CONTENT: [u8; 4096] = [0; 4096];
const CONTENT_BYTES_MAX: usize = 1 << 20;

/// What makes the file, and what it found last.
pub(super) struct Probe {
    claims: Arc<Claims>,
    output: Arc<str>,
    /// When it was made last, how large, and what that showed.
    last: Cell<Option<(Monotonic, usize, Works)>>,
    /// The bytes of a write that failed.
    failed_bytes: Cell<usize>,
}

impl Probe {
    /// That of an output with this name.
    pub(super) fn new(claims: Arc<Claims>, output: Arc<str>) -> Probe {
        Probe { claims, output, last: Cell::new(None), failed_bytes: Cell::new(0) }
    }
}

/// What can be said about the fixed directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Works {
    Yes,
    No,
    /// This user has no right to make files there, but may have it below.
    Unknown,
}

impl<D: Disk> Places<D> {
    /// A write of this many bytes failed, and the next question is about it.
    pub(in super::super) fn failed_to_write(&self, bytes: usize) {
        self.probe.failed_bytes.set(bytes);
    }

    /// Whether the fixed directory has not the failure that `path` below it has.
    pub(in super::super) fn works_without(&self, path: &Path, error: &io::Error, now: Monotonic) -> bool {
        let is_full = error.kind() == io::ErrorKind::StorageFull;
        if is_full && !self.disk.free_bytes(&self.fixed).is_ok_and(|bytes| bytes >= FREE_BYTES_MIN) {
            return false;
        }
        match self.works(now) {
            Works::Yes => true,
            Works::No => false,
            // Only a file that is made shows that the disk has inodes left.
            Works::Unknown => !is_full || self.stat(path).is_ok() || self.is_elsewhere(path),
        }
    }

    /// Whether a path leads to another file system than that of the fixed directory.
    fn is_elsewhere(&self, path: &Path) -> bool {
        let device = |directory: &Path| self.directory(directory).and_then(|found| found.stat());
        let nearest = path.ancestors().skip(1).find_map(|above| device(above).ok());
        nearest.is_some_and(|stat| device(&self.fixed).is_ok_and(|fixed| fixed.device != stat.device))
    }

    fn works(&self, now: Monotonic) -> Works {
        let wanted = self.probe.failed_bytes.take().clamp(CONTENT.len(), CONTENT_BYTES_MAX).next_power_of_two();
        if let Some((at, bytes, works)) = self.probe.last.get()
            && now.since(at) < HOLDS_FOR
            && (works != Works::Yes || wanted <= bytes)
        {
            return works;
        }
        let works = match self.make_a_file(wanted) {
            Ok(()) => Works::Yes,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Works::Unknown,
            Err(_) => Works::No,
        };
        self.probe.last.set(Some((now, wanted, works)));
        works
    }

    fn make_a_file(&self, bytes: usize) -> io::Result<()> {
        let directory = self.disk.directory(&self.fixed)?;
        let name = OsStr::new(NAME);
        if let Ok(at) = directory.path() {
            self.probe.claims.note_path(&at.join(name), &self.probe.output);
        }
        // That of a process that was killed.
        let _ = directory.remove(name);
        let file = match directory.create_new(name, Open::CreatePrivate) {
            // Another output made it since then.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        };
        let mut blocks = 0..bytes / CONTENT.len();
        let written = blocks.try_for_each(|_| file.append_parts(&[io::IoSlice::new(&CONTENT)]).map(drop));
        let written = written.and_then(|()| file.sync());
        match directory.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => written,
        }
    }
}
