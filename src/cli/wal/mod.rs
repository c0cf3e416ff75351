//! `wal`: shows the contents of a data directory.
//!
//! Guarantees: changes nothing, by construction: the engine's own recovery runs on a disk that rejects every write. Works while
//! an engine runs; data that the engine writes meanwhile may appear as a truncated end or as damage, and the commands say so.

mod cat;
mod check;
mod ls;
mod untouched;

use super::configuration::Place;
use super::{Exit, output};
use crate::app::advice;
use clap::{Args, Subcommand};
use std::fs::{File, TryLockError};
use std::path::Path;
use tailwater_shards::glommio_env::{RealDisk, install_map_fault_handler};
use tailwater_shards::wal::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, FrameView};
use tailwater_shards::wal::manifest::{DataDirectory, KnownLogs, lock_path};
use tailwater_shards::wal::recovery::{RecoveredLog, scan_log};
use tailwater_shards::wal::segment::SEGMENT_HEADER_BYTES;
use tailwater_shards::wal::{LogId, RegistryEntry};
use untouched::Untouched;

/// Show the contents of the write-ahead log, without changing anything
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List logs, segments, outputs with their cursors, and sources
    Ls(Place),
    /// Scan all logs as a start would, and report damaged or missing parts; the exit code is 1 if there are any
    Check(Place),
    /// Print the events in the logs, one per line
    Cat(cat::Arguments),
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let place = match &arguments.verb {
        Verb::Ls(place) | Verb::Check(place) => place,
        Verb::Cat(cat) => &cat.place,
    };
    let Some(root) = place.root() else { return Ok(Exit::Configuration) };
    install_map_fault_handler()?;
    let data = Data::open(&root)?;
    if data.logs()?.is_empty() && data.known_logs().written.is_empty() {
        output::complain(&format!(
            "note: no log in {}: Tailwater has not run there yet, or ran with `wal.type: memory`\n",
            root.display()
        ));
    }
    match &arguments.verb {
        Verb::Ls(_) => ls::run(&data),
        Verb::Check(_) => check::run(&data),
        Verb::Cat(cat) => cat::run(&data, cat),
    }
}

type Recovered = RecoveredLog<Untouched>;

/// An open data directory.
struct Data {
    directory: DataDirectory<Untouched>,
    disk: Untouched,
    /// Held so that no engine starts meanwhile; none if an engine runs, if none ever did, or if locks are not available.
    _lock: Option<File>,
    /// Whether an engine runs on it.
    live: bool,
}

impl Data {
    fn open(root: &Path) -> anyhow::Result<Data> {
        if !root.exists() {
            anyhow::bail!("{} does not exist: set the data directory with --data-dir or -c", root.display());
        }
        if !root.is_dir() {
            anyhow::bail!("{} is not a directory: set the data directory with --data-dir or -c", root.display());
        }
        if std::fs::read_dir(root).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
            anyhow::bail!("{} cannot be read by this user: {}", root.display(), advice::as_owner(root));
        }
        let (lock, live) = lock(root);
        let disk = Untouched(RealDisk::new());
        let directory = DataDirectory::inspect(disk.clone(), root)?;
        let data = Data { directory, disk, _lock: lock, live };
        if data.live {
            output::complain("note: Tailwater is running here; the end of its logs may be incomplete\n");
        }
        Ok(data)
    }

    fn logs(&self) -> anyhow::Result<Vec<LogId>> {
        Ok(self.directory.logs()?)
    }

    /// The outputs that the manifest names.
    fn outputs(&self) -> &[RegistryEntry] {
        self.directory.outputs()
    }

    /// The logs in which a start expects frames.
    fn known_logs(&self) -> &KnownLogs {
        self.directory.known_logs()
    }

    fn scan(&self, id: LogId) -> anyhow::Result<Recovered> {
        Ok(scan_log(&self.disk, &self.directory.log_path(id), id, None)?)
    }
}

/// The engine's lock, shared with other readers, if no engine holds it; and whether one does. Writes nothing and never creates
/// the file, so that a read-only file system works too.
fn lock(root: &Path) -> (Option<File>, bool) {
    let path = lock_path(root);
    let unlocked = |error: std::io::Error| {
        output::complain(&format!(
            "note: {} cannot be locked ({error}): it is unknown whether Tailwater is running here\n",
            path.display()
        ));
        (None, false)
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (None, false),
        Err(error) => return unlocked(error),
    };
    match file.try_lock_shared() {
        Ok(()) => (Some(file), false),
        Err(TryLockError::WouldBlock) => (None, true),
        Err(TryLockError::Error(error)) => unlocked(error),
    }
}

/// Calls `each` for every frame of a scanned log up to its tail. `Err` ends the walk.
fn frames(
    log: &Recovered,
    mut each: impl FnMut(&FrameHeader, &FrameView<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(tail) = log.tail else { return Ok(()) };
    for segment in log.segments.iter().filter(|segment| segment.number <= tail.segment) {
        let end = if segment.number == tail.segment { tail.offset } else { segment.bytes() };
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        while offset + FRAME_HEADER_BYTES as u64 <= end {
            if let Some(behind) = segment.gap_end(offset) {
                offset = behind;
                continue;
            }
            let Ok(header) = FrameHeader::decode(&segment.read(offset, FRAME_HEADER_BYTES)) else { break };
            let Ok(view) = FrameView::new(segment.read(offset, header.length as usize)) else { break };
            each(&header, &view)?;
            offset += u64::from(header.length);
            if header.kind == FrameKind::Seal {
                break;
            }
        }
    }
    Ok(())
}
