//! The interface between the engine with its plugins and the operating system.
//!
//! Guarantees: nothing outside an implementation of these traits reads a clock, opens a file, spawns a task or knows which
//! executor runs it. There are two implementations: `glommio_env` uses io_uring, and `sim` runs from a seed.
//!
//! Includes the connections that outputs make. Does not include listeners yet: they are added with the first network input that
//! is simulated.
//!
//! Rules for callers. File calls that may wait for a disk run inside [`Env::blocking`] or are named `nowait`. Writes into the
//! page cache are the only exception (see [`File::write_at`]). Work that the WAL needs to continue runs in [`Pool::Log`], where
//! a hanging job of a plugin cannot block it. A file that may be on a disk that hangs is closed with [`Env::discard`]. A task
//! that works longer than a slice awaits [`Env::turn`].

pub mod located;

use futures_lite::io::{AsyncRead, AsyncWrite};
use located::{Links, Located};
use std::borrow::Cow;
use std::ffi::OsString;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Number of a shard in this process, from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Nanoseconds of a monotonic clock with an arbitrary origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// Time passed since `earlier`. Zero if that is in the future.
    pub fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time until the next whole multiple of `period`, at least a nanosecond. Periodic work that is not urgent runs at such
    /// moments, so that several tasks run together and an otherwise idle shard wakes once for all of them.
    pub fn until_next(self, period: Duration) -> Duration {
        let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(nanos - self.0 % nanos)
    }

    /// The moment `duration` later.
    pub fn after(self, duration: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// Which threads run a job that may block. No job of one pool ever waits for a job of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pool {
    /// For the WAL: maintenance, syncs of directories, cold pages, and the dead letter queue.
    Log,
    /// For plugins: whatever files and terminals they wait for.
    Plugins,
    /// For inputs that look at files and directories of others, any of which may be on a server that does not answer.
    Files,
}

/// One core's access to the operating system. Cheap to clone, never sent to another thread.
pub trait Env: Clone + 'static {
    /// Files and directories.
    type Disk: Disk;
    /// A directory watch.
    type Watch: Watch;
    /// A byte stream that cannot seek, such as standard input.
    type Stream: Stream;
    /// A TCP connection. Dropping it closes it.
    type Connection: AsyncRead + AsyncWrite + Unpin + 'static;

    /// The shard this environment belongs to.
    fn shard(&self) -> ShardId;
    /// Files and directories.
    fn disk(&self) -> &Self::Disk;
    /// The monotonic clock.
    fn now(&self) -> Monotonic;
    /// The wall clock.
    fn wall(&self) -> Timestamp;
    /// Random bits. In the simulator they are a function of the seed.
    fn random(&self) -> u64;

    /// Runs `future` on this shard until it ends. It is first polled after the caller has yielded. A panic in it is handled by
    /// the caller's wrapper. Without a wrapper, it aborts the process.
    fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static);
    /// Completes after `duration`, never earlier.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;
    /// Whether this shard has worked for a slice since its reactor last had a turn. Cheap enough to call once per batch.
    fn slice_used(&self) -> bool;
    /// Gives the reactor its turn. Costs about 30 microseconds: call it when [`Env::slice_used`] says so.
    fn turn(&self) -> impl Future<Output = ()> + 'static;
    /// Reports that this shard has just done useful work, so that its housekeeping stays on the short interval.
    fn touch(&self);
    /// Runs `work` of a plugin where blocking is allowed, off the executor. A panic in it is resumed in the caller. Once it has
    /// begun, or has a place in the queue, it runs to the end whether or not something still waits for it. The shutdown of the
    /// shard does not wait for it.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        self.blocking_in(Pool::Plugins, work)
    }
    /// The same on the threads of `pool`.
    fn blocking_in<T: Send + 'static>(
        &self,
        pool: Pool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static;
    /// Drops `thing`, such as the last handle of a file, where blocking is allowed. Everything that a shard discards is dropped
    /// one by one on a dedicated thread, so that disks that hang block no other thread. Nothing waits for it, not even the
    /// shutdown.
    fn discard(&self, thing: impl Send + 'static);
    /// Makes the bytes written to `file` durable (fdatasync) without blocking the executor. A failure means that bytes written
    /// since the last success may be lost. Calling it again proves nothing.
    fn sync(&self, file: &Arc<<Self::Disk as Disk>::File>) -> impl Future<Output = io::Result<()>> + 'static;
    /// A new directory watch.
    fn watch(&self) -> io::Result<Self::Watch>;
    /// The standard input of the process.
    fn stdin(&self) -> io::Result<Self::Stream>;
    /// The addresses of `name`, with port 0, looked up within `timeout`. Look-ups that hang delay only their own name: they use no
    /// thread of [`Env::blocking`]. The future may be dropped at any time.
    fn resolve(&self, name: &str, timeout: Duration) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + 'static;
    /// A connection to `address`, established within `timeout`. Written bytes are sent at once. The future may be dropped at
    /// any time. It uses no thread.
    fn connect(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> impl Future<Output = io::Result<Self::Connection>> + 'static;
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// Anything else: sockets, devices, pipes, and symbolic links if they are not followed.
    Other,
}

/// The metadata of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its kind.
    pub kind: FileKind,
    /// Device number.
    pub device: u64,
    /// Inode number on that device.
    pub inode: u64,
    /// Length in bytes.
    pub length: u64,
    /// Last modification of the content.
    pub modified: Timestamp,
    /// When the inode was created, if the file system knows it. It distinguishes a reused inode number from the earlier file.
    pub created: Option<Timestamp>,
    /// Number of names of the inode. Zero after it is deleted.
    pub links: u64,
    /// Number of the user who owns it.
    pub owner: u32,
    /// Permission bits, with those for another user, another group, and deletion by owners only.
    pub mode: u32,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name without its directory.
    pub name: OsString,
    /// Whether the entry itself (not what it links to) is a directory.
    pub directory: bool,
    /// Whether the entry is a symbolic link.
    pub link: bool,
    /// The inode number of the entry itself as the directory has it, which may differ from that in its metadata; zero if there is
    /// none.
    pub inode: u64,
}

/// A symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What is written in it.
    pub target: PathBuf,
    /// The user that owns it.
    pub owner: u32,
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading. The file must exist. Never blocks on a named pipe.
    Read,
    /// For reading and writing. The file must exist.
    Write,
    /// For reading and writing. Created if missing, otherwise left unchanged. A symbolic link as last component is refused.
    Create,
    /// The same, but a file that is made is for its owner alone until [`File::set_access`] says otherwise.
    CreatePrivate,
}

/// Who may do what with a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Permission bits, whatever the process's mask says; none leaves them as they are.
    pub mode: Option<u32>,
    /// The number of its group; none leaves it as it is.
    pub group: Option<u32>,
}

/// A deliberate defect of the engine in a simulation, which proves that a test would detect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Frames are read without verifying their checksums.
    SkipChecksum,
    /// A failed sync is called again, and its second result is trusted.
    RetryFailedSync,
    /// A batch is acknowledged before it is appended.
    AcknowledgeEarly,
    /// A cursor is committed before the output has delivered.
    CommitEarly,
    /// A segment is recycled while a reader may still go back to it.
    RecycleEarly,
    /// An event that should become a dead letter is passed without one.
    ForgetLetters,
    /// An instance of an output is opened with the state of another one.
    MixInstances,
    /// What was sent of a source that is spread over WALs counts as settled at once.
    SettleEarly,
    /// Commits get no more space than events: the segments that are reserved for them stay unused.
    RefuseCommits,
    /// The first part of a group that is appended in parts counts as the whole group.
    AppendFirstPart,
    /// Snapshots contain the cursors of outputs without their states.
    ForgetStates,
    /// A position is recorded although a processor holds events before it.
    ReleaseHeld,
    /// An event that fits in no segment is omitted without a dead letter.
    DropOversized,
    /// Dead letters count as stored before they are durable.
    KeepLettersEarly,
    /// An instance of an output does not wait for others that still have events of earlier starts.
    PassGate,
    /// A WAL that no shard writes any more is removed before it is delivered.
    RetireEarly,
    /// An output without a cursor in a WAL continues at its end.
    StartAtEnd,
}

/// Files and directories. All calls may block unless they say otherwise.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// A read-only view of an open file.
    type Map: Map;
    /// Holds an advisory lock until dropped or the process ends.
    type Lock: Send + Sync + 'static;
    /// What a name led to.
    type Located: Located<File = Self::File>;

    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Self::File>;
    /// Opens a regular file for reading. Anything else, such as a pipe, a device or a directory, is an error without a wait.
    fn open_regular(&self, path: &Path) -> io::Result<(Self::File, Stat)> {
        let regular = |stat: Stat| match stat.kind {
            FileKind::Regular => Ok(stat),
            FileKind::Directory => Err(io::Error::other("it is a directory, not a regular file")),
            FileKind::Other => Err(io::Error::other("it is a pipe, a device or a socket, not a regular file")),
        };
        // Some devices act when they are opened. The name may lead elsewhere by then, so the opened file is asked again.
        regular(self.stat(path)?)?;
        let file = self.open(path, Open::Read)?;
        let stat = regular(file.stat()?)?;
        Ok((file, stat))
    }
    /// The directory at `path`. Its links are followed: it is named by whoever runs this process.
    fn directory(&self, path: &Path) -> io::Result<Self::Located>;
    /// What `path` leads to, which begins with the directory `base`: links of `base` are followed, those below as `links` says.
    fn locate(&self, base: &Path, path: &Path, links: Links) -> io::Result<Self::Located> {
        let below = path.strip_prefix(base).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.directory(base)?.locate(below, links)
    }
    /// Maps the first `length` bytes of `file` for reading; they must be allocated.
    fn map(&self, file: &Self::File, length: u64) -> io::Result<Self::Map>;
    /// Metadata of what `path` leads to. Symbolic links are followed.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Whether `path` itself is a symbolic link, wherever it leads.
    fn is_link(&self, path: &Path) -> io::Result<bool>;
    /// Where `path` itself leads, if it is a symbolic link. By default a disk has none.
    fn link(&self, path: &Path) -> io::Result<Option<Link>> {
        let _ = path;
        Ok(None)
    }
    /// The number of the group of this name; none if the system knows no such group. May block.
    fn group(&self, name: &str) -> io::Result<Option<u32>>;
    /// The number of the user whose rights this process has.
    fn user(&self) -> u32 {
        0
    }
    /// Whether this process may write to a file, or create files in a directory: an error that says why not. Changes nothing.
    fn check_writable(&self, path: &Path) -> io::Result<()> {
        self.stat(path).map(drop)
    }
    /// The path with all symbolic links resolved.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
    /// The names in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<DirEntry>>;
    /// Renames a file and replaces an existing one.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its parents, for the owner and readers of the group.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;
    /// Takes the advisory lock of a file, which is created if missing, and which only its owner can open from then on, because any
    /// reader could hold the lock. `WouldBlock` if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Self::Lock>;
    /// Free bytes for an ordinary user on the file system of `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Makes the content of several files durable, and returns the results in the order of the files. On a real disk, all of them
    /// together take little longer than one. May block.
    fn sync_files(&self, files: &[Arc<Self::File>]) -> Vec<io::Result<()>> {
        files.iter().map(|file| file.sync()).collect()
    }
    /// How many calls of this process have failed because no descriptor was left, here or for a socket. When this number grows,
    /// components that hold descriptors they do not need release some, because any component may have made the call.
    fn exhausted(&self) -> u64;
    /// Identifies the time since the machine was switched on: what any process wrote in it is still in the page cache. None if
    /// that is unknown. May block.
    fn boot(&self) -> io::Result<Option<u128>> {
        Ok(None)
    }

    /// Whether this defect is enabled. Decided by the type, so that no setting of a real disk can enable it, and the branches
    /// that ask are not compiled in for one. Only the simulated disk overrides this.
    fn sabotaged(sabotage: Sabotage) -> bool {
        let _ = sabotage;
        false
    }
}

/// Whether an error of a [`Disk`] means that the process or the system had no descriptor left, so that nothing was attempted.
pub fn is_exhausted(error: &io::Error) -> bool {
    // The standard library has no error kind for these.
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// An open file. Reads and writes specify their position; there is no shared one.
pub trait File: Send + Sync + 'static {
    /// Whether it is provided by a server or a program that may not answer (NFS, FUSE). Any call except `read_nowait` may then
    /// wait for an unlimited time, and none may be made on the executor.
    fn is_remote(&self) -> bool {
        false
    }
    /// Reads into `buffer` if that needs no wait. Otherwise fails with `WouldBlock`, which it always does if the file system
    /// cannot tell. Zero bytes mean the end of the file.
    fn read_nowait(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads into `buffer`, waiting for the disk. Zero bytes mean the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` into the page cache. Waits only while the kernel throttles a process that dirties pages faster
    /// than the disk writes them. It is called on the executor unless [`File::is_remote`].
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// [`File::write_at`] for all `parts`, one after the other. After a failure, any prefix of them may have been written.
    fn write_parts_at(&self, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for part in parts {
            self.write_at(part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
    /// Writes all `parts` at the end of the file, wherever that is by now, and returns where they end: others who append at the
    /// same time overwrite nothing of it, and it nothing of theirs. A failure may leave any beginning of them written.
    fn append_parts(&self, parts: &[IoSlice<'_>]) -> io::Result<u64>;
    /// Waits until the writes of all programs of this machine that are under way have ended: before that, [`File::stat`] may show a
    /// length in the middle of one. Only for a file that is open for writing. May block.
    fn await_writes(&self) -> io::Result<()> {
        Ok(())
    }
    /// Takes the file for this handle and those that share its description, until [`File::unlock`] or the last of them is closed:
    /// `WouldBlock` with the name of the holder, if that is known, when another handle has it, in whatever process. Only a process
    /// that may write to the file can hold it. `Unsupported` where the file system has no locks, or none that readers would not feel,
    /// and with a text that says who, where another process has locked it for reading: then it is not taken. May block.
    fn try_lock(&self) -> io::Result<()>;
    /// Gives the lock back. May block where [`File::is_remote`].
    fn unlock(&self);
    /// Says who may do what with the file. May block.
    fn set_access(&self, access: Access) -> io::Result<()>;
    /// Reserves disk space for the first `length` bytes, which read as zero if nothing was written. May block.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Sets the length. May block.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// The current metadata of the file. May block if [`File::is_remote`].
    fn stat(&self) -> io::Result<Stat>;
    /// The first byte at or after `offset` that may be different from zero. None if only zeros follow. A file system without
    /// support for holes returns `offset`.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }
    /// Makes written bytes durable. Blocks. On an executor use [`Env::sync`].
    fn sync(&self) -> io::Result<()>;
}

/// A file as a stream from an offset, for decoders.
pub struct Sequential<'a, F> {
    file: &'a F,
    offset: u64,
}

impl<'a, F: File> Sequential<'a, F> {
    /// The stream that begins at `offset`.
    pub fn new(file: &'a F, offset: u64) -> Sequential<'a, F> {
        Sequential { file, offset }
    }

    /// Where the next read begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl<F: File> io::Read for Sequential<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}

/// A read-only view of a file's bytes, coherent with writes through [`File::write_at`].
pub trait Map: Send + Sync + 'static {
    /// Length in bytes.
    fn length(&self) -> usize;
    /// The bytes at `offset`. The caller may read only ranges that nothing is writing: published frames, or bytes that it
    /// verifies before it uses them. Waits for the disk if pages of the range are not in memory: a task makes sure that they
    /// are, unless they were just written.
    fn bytes(&self, offset: usize, length: usize) -> Cow<'_, [u8]>;
    /// Whether the range is in memory, so that reading it does not wait now. Does not block.
    fn is_resident(&self, offset: usize, length: usize) -> bool;
    /// Loads the range into memory. May block. A page that cannot be read is detected by the code that reads it.
    fn populate(&self, offset: usize, length: usize);
    /// Releases resident pages of the range. The bytes stay readable.
    fn release(&self, offset: usize, length: usize);
}

/// Number of a watched directory, valid until the watch is removed or [`WatchKind::Gone`] names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub i32);

/// What happened in a watched directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// A name appeared: created, moved in or linked.
    Appeared,
    /// A name disappeared: deleted or moved away.
    Vanished,
    /// The content of a file changed.
    Modified,
    /// The directory itself is gone. Its number is no longer valid.
    Gone,
    /// Events were lost: everything must be rescanned. Has no directory and no name.
    Overflow,
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The directory. Has no meaning for an overflow.
    pub directory: WatchId,
    /// What happened.
    pub kind: WatchKind,
    /// The name inside the directory; empty for `Gone` and `Overflow`.
    pub name: OsString,
}

/// Adds directories to a watch. May block.
pub type Adder = Box<dyn Fn(&Path) -> io::Result<WatchId> + Send>;

/// A directory watch. It only reduces latency: network and overlay file systems report nothing, and queues overflow.
pub trait Watch: 'static {
    /// Watches directories where blocking is allowed: one of them may be on a server that does not answer. Adding the same
    /// directory again returns the same number.
    fn adder(&self) -> Adder;
    /// Watches a directory. May block.
    fn add(&self, directory: &Path) -> io::Result<WatchId> {
        self.adder()(directory)
    }
    /// Stops watching.
    fn remove(&self, directory: WatchId);
    /// Waits for events and appends them. Only one task waits, and it never drops the future before it completes.
    fn next(&self, events: &mut Vec<WatchEvent>) -> impl Future<Output = io::Result<()>>;
}

/// A byte stream that cannot seek.
pub trait Stream: 'static {
    /// Waits for bytes and reads them into `buffer`. Zero bytes mean the end. The future is not dropped before it completes,
    /// except when the process stops.
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>>;
}
