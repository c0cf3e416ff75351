//! Lookup files of transforms, read again when they change.
//!
//! Guarantees: a lookup never waits for a file. A new version replaces the old one as a whole. If it cannot be read, the old
//! version stays in use, one warning is logged, and reading is retried at least once a minute. A version is read only after the
//! file was the same at two checks, so that a file is not read while it is being written. A version that is renamed into place
//! is complete at once.

use futures_lite::future::or;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tailwater_shards::env::{Disk, Env, File, Stat};
use tailwater_shards::plugin::LocalFuture;
use tailwater_shards::service::Service;
use tailwater_shards::stop::{Phase, Stop};

/// How often files are checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The largest number of checks between two attempts to read a version that cannot be read.
const RETRY_LOOKS_MAX: u32 = 60;

/// Reads files.
pub trait Files {
    /// The metadata of the file at a path.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// The content of a file of at most this many bytes.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>>;
}

impl<D: Disk> Files for D {
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Disk::stat(self, path)
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let (file, Stat { length, .. }) = self.open_regular(path)?;
        let too_large = || {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it has more than {bytes_max} bytes, the limit in `max_bytes`"),
            )
        };
        if length > bytes_max {
            return Err(too_large());
        }
        // One byte more than the file has, so that its end is found without another buffer.
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| too_large())? + 1];
        let mut filled = 0;
        loop {
            match file.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                more => filled += more,
            }
            if filled == bytes.len() {
                return Err(io::Error::other("it grew while it was read"));
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// A file that is kept up to date, whatever its parsed type.
pub trait Kept: Send + Sync {
    /// The path of the file.
    fn path(&self) -> &Path;
    /// Reads the file for the first time.
    fn load(&self, files: &dyn Files) -> Result<(), String>;
    /// Checks the file, and reads it if it has changed.
    fn look(&self, files: &dyn Files);
}

/// Parses the content of a file, or says why it cannot.
type Make<T> = Box<dyn Fn(Vec<u8>) -> Result<T, String> + Send + Sync>;

/// A file and its parsed value.
pub struct Watched<T> {
    path: PathBuf,
    bytes_max: u64,
    make: Make<T>,
    /// The number of versions so far.
    version: AtomicU64,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Option<Arc<T>>,
    /// The metadata of the file when the current version was read.
    read: Option<Stat>,
    /// A later version that could not be read. The cause is not necessarily visible in the metadata.
    failed: Option<Failed>,
    /// The metadata at the last check.
    looked: Option<Stat>,
    /// It cannot be checked, and this was logged.
    away: bool,
}

/// A version that could not be read, and when it is retried.
struct Failed {
    stat: Stat,
    looks: u32,
    looks_left: u32,
}

impl<T> Watched<T> {
    /// A file of at most this many bytes, not read yet.
    pub fn new(
        path: PathBuf,
        bytes_max: u64,
        make: impl Fn(Vec<u8>) -> Result<T, String> + Send + Sync + 'static,
    ) -> Watched<T> {
        let state = State { value: None, read: None, failed: None, looked: None, away: false };
        Watched { path, bytes_max, make: Box::new(make), version: AtomicU64::new(0), state: Mutex::new(state) }
    }

    fn read(&self, files: &dyn Files) -> Result<(), String> {
        let made = files.read(&self.path, self.bytes_max).map_err(|error| error.to_string()).and_then(&self.make);
        let value = made.map_err(|error| format!("{}: {error}", self.path.display()))?;
        // The old version is freed here, where nobody waits.
        let old = self.state.lock().unwrap_or_else(PoisonError::into_inner).value.replace(Arc::new(value));
        self.version.fetch_add(1, Ordering::Release);
        drop(old);
        Ok(())
    }

    fn with_state<R>(&self, work: impl FnOnce(&mut State<T>) -> R) -> R {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the file differs from the version in use, and was the same at two checks.
    fn is_due(&self, stat: Stat) -> bool {
        self.with_state(|state| {
            let settled = state.looked.replace(stat) == Some(stat);
            match &mut state.failed {
                Some(failed) if failed.stat == stat => {
                    failed.looks_left = failed.looks_left.saturating_sub(1);
                    failed.looks_left == 0
                }
                _ => settled && state.read != Some(stat),
            }
        })
    }

    /// Sets when a version that could not be read is retried. True for its first failure.
    fn put_off(&self, stat: Stat) -> bool {
        self.with_state(|state| {
            let before = state.failed.as_ref().filter(|failed| failed.stat == stat).map(|failed| failed.looks);
            let looks = before.map_or(1, |looks| (2 * looks).min(RETRY_LOOKS_MAX));
            state.failed = Some(Failed { stat, looks, looks_left: looks });
            before.is_none()
        })
    }
}

impl<T: Send + Sync> Kept for Watched<T> {
    fn path(&self) -> &Path {
        &self.path
    }

    fn load(&self, files: &dyn Files) -> Result<(), String> {
        let stat = files.stat(&self.path).map_err(|error| format!("{}: {error}", self.path.display()))?;
        self.read(files)?;
        self.with_state(|state| (state.read, state.looked) = (Some(stat), Some(stat)));
        Ok(())
    }

    fn look(&self, files: &dyn Files) {
        let stat = match files.stat(&self.path) {
            Ok(stat) => stat,
            Err(error) => {
                if !self.with_state(|state| std::mem::replace(&mut state.away, true)) {
                    tracing::warn!(file = %self.path.display(), %error, "a lookup file is gone: its last version stays in use");
                }
                return;
            }
        };
        self.with_state(|state| state.away = false);
        if !self.is_due(stat) {
            return;
        }
        match self.read(files) {
            Ok(()) => {
                self.with_state(|state| (state.read, state.failed) = (Some(stat), None));
                tracing::info!(file = %self.path.display(), "a lookup file has changed and was read again");
            }
            Err(error) => {
                if self.put_off(stat) {
                    tracing::warn!(%error, "a lookup file has changed but cannot be read: its last version stays in use, and reading is retried");
                }
            }
        }
    }
}

/// The version that one shard uses.
pub struct Current<T> {
    watched: Arc<Watched<T>>,
    version: u64,
    value: Option<Arc<T>>,
}

impl<T> Current<T> {
    /// Of a file.
    pub fn new(watched: Arc<Watched<T>>) -> Current<T> {
        Current { watched, version: 0, value: None }
    }

    /// The latest version, if there is one, and whether it is new since the last call. Locks only if it is new.
    #[inline]
    pub fn get(&mut self) -> (Option<&Arc<T>>, bool) {
        let version = self.watched.version.load(Ordering::Acquire);
        let changed = version != self.version;
        if changed {
            self.version = version;
            self.value = self.watched.with_state(|state| state.value.clone());
        }
        (self.value.as_ref(), changed)
    }
}

/// Checks files as long as the engine runs.
pub struct Keeper {
    /// The files.
    pub kept: Vec<Arc<dyn Kept>>,
}

impl<E: Env> Service<E> for Keeper {
    fn run(&self, env: E, stop: Stop) -> LocalFuture<'static, ()> {
        let kept: Arc<[Arc<dyn Kept>]> = self.kept.clone().into();
        Box::pin(async move {
            while !stop.is_asked() {
                or(env.sleep(env.now().until_next(LOOK_INTERVAL)), stop.reached(Phase::Draining)).await;
                let (kept, disk) = (kept.clone(), env.disk().clone());
                env.blocking(move || kept.iter().for_each(|kept| kept.look(&disk))).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_shards::glommio_env::RealDisk;

    fn number(path: &Path) -> Arc<Watched<u64>> {
        Arc::new(Watched::new(path.to_owned(), 8, |bytes| {
            String::from_utf8_lossy(&bytes).trim().parse().map_err(|error| format!("no number: {error}"))
        }))
    }

    #[test]
    fn new_versions_come_when_they_are_settled_and_broken_ones_never() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("number");
        let files = RealDisk::new();
        let watched = number(&path);
        assert!(watched.load(&files).expect_err("no file").contains("number"));
        std::fs::write(&path, "1").expect("written");
        watched.load(&files).expect("read");
        let mut current = Current::new(watched.clone());
        assert_eq!(current.get(), (Some(&Arc::new(1)), true));
        assert_eq!(current.get(), (Some(&Arc::new(1)), false));

        std::fs::write(&path, "22").expect("written");
        watched.look(&files);
        assert_eq!(current.get(), (Some(&Arc::new(1)), false), "it may still be written");
        watched.look(&files);
        assert_eq!(current.get(), (Some(&Arc::new(22)), true));

        for broken in ["abc", "123456789"] {
            std::fs::write(&path, broken).expect("written");
            (0..3).for_each(|_| watched.look(&files));
            assert_eq!(current.get(), (Some(&Arc::new(22)), false), "{broken}");
        }
        std::fs::remove_file(&path).expect("removed");
        watched.look(&files);
        assert_eq!(current.get(), (Some(&Arc::new(22)), false));
        std::fs::write(directory.path().join("new"), "333").expect("written");
        std::fs::rename(directory.path().join("new"), &path).expect("renamed");
        (0..2).for_each(|_| watched.look(&files));
        assert_eq!(current.get(), (Some(&Arc::new(333)), true));
    }

    /// The real files, which for a while give nothing away: bytes that cannot be read do not show in what a file is.
    struct Unwell {
        files: RealDisk,
        failures_left: AtomicU64,
        reads: AtomicU64,
    }

    impl Files for Unwell {
        fn stat(&self, path: &Path) -> io::Result<Stat> {
            Files::stat(&self.files, path)
        }

        fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let left = |left: u64| left.checked_sub(1);
            match self.failures_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
                Ok(_) => Err(io::Error::other("not now")),
                Err(_) => self.files.read(path, bytes_max),
            }
        }
    }

    #[test]
    fn version_that_could_not_be_read_is_tried_again_less_and_less_often() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("number");
        std::fs::write(&path, "1").expect("written");
        let files = Unwell { files: RealDisk::new(), failures_left: AtomicU64::new(0), reads: AtomicU64::new(0) };
        let watched = number(&path);
        watched.load(&files).expect("read");
        let mut current = Current::new(watched.clone());

        std::fs::write(&path, "22").expect("written");
        files.failures_left.store(1, Ordering::Relaxed);
        (0..2).for_each(|_| watched.look(&files));
        assert_eq!(current.get(), (Some(&Arc::new(1)), true));
        watched.look(&files);
        assert_eq!(current.get(), (Some(&Arc::new(22)), true), "the file has not changed since it could not be read");

        std::fs::write(&path, "333").expect("written");
        files.failures_left.store(u64::MAX, Ordering::Relaxed);
        files.reads.store(0, Ordering::Relaxed);
        (0..600).for_each(|_| watched.look(&files));
        let reads = files.reads.load(Ordering::Relaxed);
        assert!((10..=20).contains(&reads), "{reads} attempts in ten minutes");
        files.failures_left.store(0, Ordering::Relaxed);
        (0..60).for_each(|_| watched.look(&files));
        assert_eq!(current.get(), (Some(&Arc::new(333)), true));
    }

    #[test]
    fn file_larger_than_allowed_is_not_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("number");
        std::fs::write(&path, "00000001").expect("written");
        number(&path).load(&RealDisk::new()).expect("just as large as allowed");
        std::fs::write(&path, "000000001").expect("written");
        let error = number(&path).load(&RealDisk::new()).expect_err("too large");
        assert!(error.contains("more than 8 bytes"), "{error}");
    }
}
