//! The seam: all that the engine and its plugins need of the world.
//!
//! Guarantees: nothing outside an implementation of these traits reads a clock, opens a file, spawns a task or knows what
//! drives the executor. Two implementations exist from the first day: `glommio_env` on io_uring and `sim` on a seed.
//!
//! Carries the connections that outputs make. Does not carry listeners yet: they join the seam with the first network input that
//! is simulated.
//!
//! Rules for callers. File calls that may wait for a disk run inside [`Env::blocking`] or are named `nowait`; writes into the
//! page cache are the one exception (see [`File::write_at`]). What the log needs to go on runs in [`Pool::Log`], where a job of a
//! plugin that hangs cannot keep it. A file that may lie on a disk that hangs is closed by [`Env::discard`]. A task that works
//! longer than a slice awaits [`Env::turn`].

use futures_lite::io::{AsyncRead, AsyncWrite};
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
    /// Time passed since `earlier`, zero if that lies in the future.
    pub fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time until the next whole multiple of `period`, at least a nanosecond. What is done now and then and is not urgent is
    /// done at such moments: then it falls together, and a shard that has nothing else to do wakes once for all of it.
    pub fn until_next(self, period: Duration) -> Duration {
        let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(nanos - self.0 % nanos)
    }

    /// This moment and `duration` on top.
    pub fn after(self, duration: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// Whose threads do a job that may block. No job of one pool ever waits for a job of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pool {
    /// The log's: upkeep, syncs of directories, cold pages, and the dead letter queue.
    Log,
    /// The plugins': whatever files, terminals and name servers they wait for.
    Plugins,
}

/// One core's view of the world. Cheap to clone, never sent to another thread.
pub trait Env: Clone + 'static {
    /// Files and directories.
    type Disk: Disk;
    /// A directory watch.
    type Watch: Watch;
    /// A byte stream that cannot seek, such as standard input.
    type Stream: Stream;
    /// A connection over TCP. Dropping it ends it.
    type Connection: AsyncRead + AsyncWrite + Unpin + 'static;

    /// The shard this environment belongs to.
    fn shard(&self) -> ShardId;
    /// Files and directories.
    fn disk(&self) -> &Self::Disk;
    /// The monotonic clock.
    fn now(&self) -> Monotonic;
    /// The wall clock.
    fn wall(&self) -> Timestamp;
    /// Random bits; a function of the seed in the simulator.
    fn random(&self) -> u64;

    /// Runs `future` on this shard until it ends. It is first polled after the caller has yielded. What a panic in it does
    /// is the caller's choice of wrapper; an unwrapped panic aborts the process.
    fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static);
    /// Completes after `duration`, never before.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;
    /// Whether this shard has worked for a slice since its reactor last had a turn. Cheap enough for once a batch.
    fn slice_used(&self) -> bool;
    /// Gives the reactor its turn. Costs about 30 microseconds: call it when [`Env::slice_used`] says so.
    fn turn(&self) -> impl Future<Output = ()> + 'static;
    /// Says that this shard just did useful work, so that its housekeeping stays on the short interval.
    fn touch(&self);
    /// Runs `work` of a plugin where it may block, off the executor. A panic in it is resumed in the caller. It runs whole
    /// whether or not somebody still waits, once it has begun or a place in the queue was free; the end of the shard does not
    /// wait for it.
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
    /// Drops `thing`, such as the last handle of a file, where that may block. All that one shard discards goes one by one
    /// through a thread of its own, so that disks that hang keep no other; nobody waits for it, nor does the end.
    fn discard(&self, thing: impl Send + 'static);
    /// Makes what was written to `file` durable (fdatasync) without blocking the executor. A failure means that bytes
    /// written since the last success may be lost; calling it again proves nothing.
    fn sync(&self, file: &Arc<<Self::Disk as Disk>::File>) -> impl Future<Output = io::Result<()>> + 'static;
    /// A new directory watch.
    fn watch(&self) -> io::Result<Self::Watch>;
    /// The standard input of the process.
    fn stdin(&self) -> io::Result<Self::Stream>;
    /// A connection to `address`, made within `timeout`. What is written leaves at once. The future may be dropped at any time.
    fn connect(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> impl Future<Output = io::Result<Self::Connection>> + 'static;
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// Anything else: sockets, devices, pipes, and symbolic links where they are not followed.
    Other,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Device number.
    pub device: u64,
    /// Inode number on that device.
    pub inode: u64,
    /// Length in bytes.
    pub length: u64,
    /// Last modification of the content.
    pub modified: Timestamp,
    /// When the inode was made, where the file system knows: it tells a reused inode number from the one before.
    pub created: Option<Timestamp>,
    /// Names that lead to the inode; zero once it is deleted.
    pub links: u64,
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
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading; must exist. Never blocks on a named pipe.
    Read,
    /// For reading and writing; must exist.
    Write,
    /// For reading and writing; made if absent, kept as it is otherwise. A symbolic link as last component is refused.
    Create,
}

/// A mistake that the engine makes on purpose in a simulation, so that a test can prove that it would be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Frames are read without a look at their checksums.
    SkipChecksum,
    /// A sync that failed is called again, and the second answer is believed.
    RetryFailedSync,
    /// A batch is acknowledged before it is appended.
    AcknowledgeEarly,
    /// A cursor is committed before the output has delivered.
    CommitEarly,
    /// A segment is given back while a reader may still come back to it.
    RecycleEarly,
    /// An event that is to be a dead letter is passed without one.
    ForgetLetters,
    /// An instance of an output is opened with the state of another one.
    MixInstances,
    /// What was sent of a source that is spread over logs is called settled at once.
    SettleEarly,
    /// Commits get no more room than events: the segments that are kept back for them stay unused.
    RefuseCommits,
    /// Of a group that is appended in parts the first one counts as all of it.
    AppendFirstPart,
    /// The heads of segments say the cursors of outputs without their states.
    ForgetStates,
    /// A position is recorded although a processor holds events before it.
    ReleaseHeld,
    /// An event that no segment can hold is left out without a dead letter.
    DropOversized,
    /// Dead letters count as kept before they are durable.
    KeepLettersEarly,
    /// An instance of an output does not wait for what others have yet to deliver of earlier starts.
    PassGate,
    /// A log that no shard writes any more is removed before it is delivered.
    RetireEarly,
    /// An output without a cursor in a log goes on at its end.
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

    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Self::File>;
    /// Maps the first `length` bytes of `file` for reading; they must be allocated.
    fn map(&self, file: &Self::File, length: u64) -> io::Result<Self::Map>;
    /// What `path` leads to, symbolic links followed.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// The path with every symbolic link resolved.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
    /// The names in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<DirEntry>>;
    /// Renames a file, replacing what was there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;
    /// Takes the advisory lock of a file that is made if absent. `WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Self::Lock>;
    /// Bytes that an ordinary user may still write where `path` lies.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// How many calls of this process have found no descriptor left, here or for a socket. Whoever holds descriptors that it
    /// can do without gives some back when this has grown: the call may have been anybody's.
    fn exhausted(&self) -> u64;

    /// Whether this mistake is made on purpose. Decided by the type, so that no setting of a real disk can say yes, and the
    /// branches that ask are gone from what is compiled for one. Only the simulated disk answers for itself.
    fn sabotaged(sabotage: Sabotage) -> bool {
        let _ = sabotage;
        false
    }
}

/// Whether an error of a [`Disk`] means that the process or the system had no descriptor left, so that nothing was tried.
pub fn is_exhausted(error: &io::Error) -> bool {
    // These have no kind of their own.
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// An open file. Reads and writes name their position; there is no shared one.
pub trait File: Send + Sync + 'static {
    /// Whether it lies with a server or a program that may not answer (NFS, FUSE): then any call but `read_nowait` may wait for
    /// as long as it likes, and none is made on the executor.
    fn is_remote(&self) -> bool {
        false
    }
    /// Reads into `buffer` if that needs no wait, else fails with `WouldBlock`: each time, where the file system cannot tell.
    /// Zero bytes mean the end of the file.
    fn read_nowait(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads into `buffer`, waiting for the disk. Zero bytes mean the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` into the page cache. It waits only when the kernel throttles a process that dirties pages
    /// faster than the disk takes them; it is called on the executor unless [`File::is_remote`].
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// [`File::write_at`] of all `parts`, one behind the other. A failure may leave any beginning of them written.
    fn write_parts_at(&self, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for part in parts {
            self.write_at(part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
    /// Reserves disk space for the first `length` bytes, which read as zero where nothing was written. May block.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Sets the length. May block.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// What is known of the file now. May block where [`File::is_remote`].
    fn stat(&self) -> io::Result<Stat>;
    /// The first byte at or behind `offset` that may be other than zero; none when only zeros follow. A file system that knows
    /// nothing of holes says `offset`.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }
    /// Makes written bytes durable, blocking. On an executor use [`Env::sync`].
    fn sync(&self) -> io::Result<()>;
}

/// A file as a stream from a place on, for decoders.
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

/// A read-only view of a file's bytes; coherent with writes through [`File::write_at`].
pub trait Map: Send + Sync + 'static {
    /// Bytes in view.
    fn length(&self) -> usize;
    /// The bytes at `offset`. The caller reads only ranges that nobody is writing: published frames, or bytes that it
    /// checks before it believes them. Waits for the disk where pages of the range are not in memory: a task makes sure of it
    /// before, unless they were just written.
    fn bytes(&self, offset: usize, length: usize) -> Cow<'_, [u8]>;
    /// Whether the range is in memory, so that reading it does not wait now. Does not block.
    fn is_resident(&self, offset: usize, length: usize) -> bool;
    /// Brings the range into memory. May block. What cannot be read is found out by who reads it.
    fn populate(&self, offset: usize, length: usize);
    /// Gives resident pages of the range back to the system; the bytes stay readable.
    fn release(&self, offset: usize, length: usize);
}

/// Number of a watched directory, valid until it is removed or [`WatchKind::Gone`] names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub i32);

/// What happened in a watched directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// A name appeared: created, moved in or linked.
    Appeared,
    /// A name went: deleted or moved away.
    Vanished,
    /// The content of a file changed.
    Modified,
    /// The directory itself is gone; its number is void.
    Gone,
    /// Events were lost: everything has to be looked at. No directory, no name.
    Overflow,
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The directory; meaningless for an overflow.
    pub directory: WatchId,
    /// What happened.
    pub kind: WatchKind,
    /// The name inside the directory; empty for `Gone` and `Overflow`.
    pub name: OsString,
}

/// A directory watch. It only shortens latency: network and overlay file systems deliver nothing, queues overflow.
pub trait Watch: 'static {
    /// Watches a directory; the same directory again gives the same number.
    fn add(&self, directory: &Path) -> io::Result<WatchId>;
    /// Stops watching.
    fn remove(&self, directory: WatchId);
    /// Waits for events and appends them. Only one task waits, and it never drops the future before it completes.
    fn next(&self, events: &mut Vec<WatchEvent>) -> impl Future<Output = io::Result<()>>;
}

/// A byte stream that cannot seek.
pub trait Stream: 'static {
    /// Waits for bytes and reads them into `buffer`; zero bytes mean the end. The future is not dropped before it
    /// completes, except when the process stops.
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>>;
}
