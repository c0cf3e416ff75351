//! Looks at paths that may never answer, such as those on a dead file server.
//!
//! Guarantees: the caller waits no longer than a limit without a step, and learns which path is at fault. What hangs keeps its thread,
//! which is one for each call that is given up, and ends with the process. Does not cancel a call: the kernel cannot.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tailwater_shards::env::located::Links;
use tailwater_shards::env::{DirEntry, Disk, Link, Open, Stat};
use tailwater_shards::glommio_env::RealDisk;

/// How long a command waits for a path that does not answer.
pub const LIMIT: Duration = Duration::from_secs(5);

/// The same where large files are read between two steps.
pub const LIMIT_OF_CHECK: Duration = Duration::from_secs(20);

/// The same for a start, which looks only for warnings.
pub const LIMIT_OF_START: Duration = Duration::from_secs(2);

/// Number of paths that a command gives up before it looks at no more.
pub const GIVEN_UP_MAX: usize = 3;

const STACK_BYTES: usize = 8 << 20;

/// What to do about a path that does not answer.
pub const HELP: &str = "see whether its file system is mounted and its server runs (NFS, FUSE), or name another path";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The disk of the machine, which knows the path of the last call.
#[derive(Clone)]
pub struct Noted {
    disk: RealDisk,
    at: Arc<Mutex<(u64, PathBuf)>>,
}

impl Noted {
    fn new() -> Noted {
        Noted { disk: RealDisk::new(), at: Arc::default() }
    }

    /// The next calls are about this path.
    pub fn note(&self, path: &Path) {
        let mut at = lock(&self.at);
        at.0 += 1;
        path.clone_into(&mut at.1);
    }

    fn at(&self, path: &Path) -> &RealDisk {
        self.note(path);
        &self.disk
    }

    fn steps(&self) -> (u64, PathBuf) {
        lock(&self.at).clone()
    }
}

enum State<R> {
    Working,
    Done(std::thread::Result<R>),
    GivenUp,
}

/// Runs `work` on a thread of its own, and returns its result; the path at which it is, if it makes no step for `limit`. Then `late` gets
/// the result if it comes.
pub fn within<R: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(&Noted) -> R + Send + 'static,
    late: impl FnOnce(R) + Send + 'static,
) -> Result<R, PathBuf> {
    let (disk, shared) = (Noted::new(), Arc::new((Mutex::new(State::Working), Condvar::new())));
    let (theirs, answer) = (disk.clone(), shared.clone());
    let run = move || {
        let result = catch_unwind(AssertUnwindSafe(|| work(&theirs)));
        let mut state = lock(&answer.0);
        if let State::Working = *state {
            *state = State::Done(result);
            answer.1.notify_all();
            return;
        }
        drop(state);
        if let Ok(result) = result {
            late(result);
        }
    };
    let thread = std::thread::Builder::new().name("looks".to_owned()).stack_size(STACK_BYTES).spawn(run);
    thread.expect("a command can start a thread");
    let (mut state, mut before) = (lock(&shared.0), u64::MAX);
    loop {
        let is_working = |state: &mut State<R>| matches!(state, State::Working);
        let waited = shared.1.wait_timeout_while(state, limit, is_working);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if let State::Done(_) = *state {
            break;
        }
        let (steps, path) = disk.steps();
        if std::mem::replace(&mut before, steps) == steps {
            *state = State::GivenUp;
            return Err(path);
        }
    }
    match std::mem::replace(&mut *state, State::GivenUp) {
        State::Done(Ok(result)) => Ok(result),
        State::Done(Err(panic)) => resume_unwind(panic),
        State::Working | State::GivenUp => unreachable!("the loop ends with a result"),
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "this command only looks"))
}

impl Disk for Noted {
    type File = <RealDisk as Disk>::File;
    type Map = <RealDisk as Disk>::Map;
    type Lock = <RealDisk as Disk>::Lock;
    type Located = <RealDisk as Disk>::Located;

    fn open(&self, path: &Path, how: Open) -> io::Result<Self::File> {
        match how {
            Open::Read => self.at(path).open(path, how),
            Open::Write | Open::Create | Open::CreatePrivate => refused(),
        }
    }

    fn directory(&self, path: &Path) -> io::Result<Self::Located> {
        self.at(path).directory(path)
    }

    fn locate(&self, base: &Path, path: &Path, links: Links) -> io::Result<Self::Located> {
        self.at(path).locate(base, path, links)
    }

    fn map(&self, file: &Self::File, length: u64) -> io::Result<Self::Map> {
        self.disk.map(file, length)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.at(path).stat(path)
    }

    fn is_link(&self, path: &Path) -> io::Result<bool> {
        self.at(path).is_link(path)
    }

    fn link(&self, path: &Path) -> io::Result<Option<Link>> {
        self.at(path).link(path)
    }

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        self.disk.group(name)
    }

    fn user(&self) -> u32 {
        self.disk.user()
    }

    fn check_writable(&self, path: &Path) -> io::Result<()> {
        self.at(path).check_writable(path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.at(path).canonical(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirEntry>> {
        self.at(directory).list(directory)
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _: &Path) -> io::Result<Self::Lock> {
        refused()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.at(path).free_bytes(path)
    }

    fn exhausted(&self) -> u64 {
        self.disk.exhausted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn work_that_makes_steps_is_waited_for_and_its_result_returned() {
        let work = |disk: &Noted| {
            disk.note(Path::new("/a"));
            disk.stat(Path::new("/")).is_ok()
        };
        assert_eq!(within(LIMIT, work, |_| panic!("it is not late")), Ok(true));
    }

    #[test]
    fn path_that_does_not_answer_is_named_and_its_late_answer_used() {
        let (answer, hangs) = channel::<u8>();
        let (late, comes) = channel();
        let work = move |disk: &Noted| {
            disk.note(Path::new("/dead"));
            hangs.recv().expect("the test answers")
        };
        let given_up = within(SHORT, work, move |number| late.send(number).expect("the test waits"));
        assert_eq!(given_up, Err(PathBuf::from("/dead")));
        answer.send(7).expect("it waits");
        assert_eq!(comes.recv(), Ok(7));
    }
}
