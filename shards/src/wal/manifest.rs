//! The data directory: layout, lock, manifest and the logs in it.
//!
//! Guarantees: one engine per directory. A log id is never assigned twice, because the manifest with the next one is durable
//! before the log's directory is created. The number of each output is known even if a log has lost this information. A drained
//! log can be distinguished from a lost one. The names of all logs, and of the directory, are durable after it is opened. Does
//! not read logs.

mod text;

pub use text::{FORMAT_VERSION, KnownLogs};

use super::segment::{io_error, standby_number};
use super::{LogId, RegistryEntry, WalError};
use crate::env::{Disk, File as _, Open};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use text::Manifest;

/// Maximum bytes of a manifest: all outputs, with names of a kilobyte.
const MANIFEST_BYTES_MAX: usize = 96 * 1024;

/// An open data directory. Locked while this value exists.
pub struct DataDirectory<D: Disk> {
    disk: D,
    root: PathBuf,
    manifest: Manifest,
    /// Logs that were created or removed since: whether they exist.
    changed: Mutex<Vec<(LogId, bool)>>,
    /// Whether there was a manifest.
    stored: bool,
    _lock: Option<D::Lock>,
}

/// The file in the data directory `root` that a running engine has locked.
pub fn lock_path(root: &Path) -> PathBuf {
    root.join("lock")
}

impl<D: Disk> DataDirectory<D> {
    /// Opens the directory for an engine, creates it if missing, and locks it. Blocks.
    pub fn open(disk: D, root: &Path) -> Result<DataDirectory<D>, WalError> {
        disk.create_dir_all(&root.join("wal")).map_err(|error| {
            let what = if disk.stat(root).is_ok() { "written" } else { "created" };
            let reason = format!(
                "the data directory cannot be {what} ({error}): give it to the user that runs Tailwater, or set data_dir to a \
                 writable directory"
            );
            WalError::Unusable { path: root.to_path_buf(), reason }
        })?;
        let lock_path = lock_path(root);
        let lock = disk.lock(&lock_path).map_err(|error| {
            let reason = if error.kind() == io::ErrorKind::WouldBlock {
                "another Tailwater process uses this data directory: stop it, or set a different data_dir for this one"
                    .to_owned()
            } else {
                format!("the data directory cannot be locked ({error}): check its owner and permissions")
            };
            WalError::Unusable { path: lock_path.clone(), reason }
        })?;
        let mut directory = DataDirectory::inspect(disk, root)?;
        directory._lock = Some(lock);
        directory.check_next()?;
        if directory.stored {
            // Nothing is written, so that a start works on a full disk; an earlier life may have died after it made a log's
            // directory, or wrote the manifest, and before the name was durable.
            for parent in [&root.join("wal"), root] {
                directory.disk.sync_dir(parent).map_err(io_error(parent))?;
            }
        } else {
            directory.settle_parents()?;
            directory.store(&directory.manifest)?;
        }
        Ok(directory)
    }

    /// Makes the names on the path to the directory durable. The manifest records that this was done.
    fn settle_parents(&self) -> Result<(), WalError> {
        for parent in self.root.ancestors().skip(1) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            match self.disk.sync_dir(parent) {
                // Not ours, or nothing that is kept: what is in it was there before.
                Err(error) if is_foreign(&error) => break,
                synced => synced.map_err(io_error(parent))?,
            }
        }
        Ok(())
    }

    /// Opens the directory for inspection, without the lock: what is read may change in the meantime. Blocks.
    pub fn inspect(disk: D, root: &Path) -> Result<DataDirectory<D>, WalError> {
        let manifest = Manifest { next_log: 1, ..Manifest::default() };
        let mut directory = DataDirectory {
            disk,
            root: root.to_path_buf(),
            manifest,
            changed: Mutex::default(),
            stored: false,
            _lock: None,
        };
        let path = directory.manifest_path();
        match read_text(&directory.disk, &path) {
            Ok(text) => {
                directory.manifest = Manifest::decode(&text).map_err(|reason| WalError::Unusable { path, reason })?;
                directory.stored = true;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(highest) = directory.logs()?.last() {
                    let reason = format!(
                        "the manifest is missing although there are logs: restore it, or write the two lines \
                         \"tailwater-data 1\" and \"next_log N\" with N above {} and above every log \
                         that ever was here",
                        highest.0
                    );
                    return Err(WalError::Unusable { path, reason });
                }
            }
            Err(source) => return Err(WalError::Io { path, source }),
        }
        Ok(directory)
    }

    /// A manifest from a copy may be older than the logs. It would assign their ids once more.
    fn check_next(&self) -> Result<(), WalError> {
        let next_log = self.manifest.next_log;
        match self.logs()?.last() {
            Some(highest) if highest.0 >= next_log => {
                let reason = format!(
                    "the manifest says next_log {next_log}, but there is a log {}: it is older than the logs; write \"next_log N\" with \
                     N above every log that ever was here, and \"tailwater-data 1\" in the first line",
                    highest.0
                );
                Err(WalError::Unusable { path: self.manifest_path(), reason })
            }
            _ => Ok(()),
        }
    }

    /// Where the manifest is.
    pub fn manifest_path(&self) -> PathBuf {
        self.root.join("manifest")
    }

    /// Outputs by number, as recorded by the last start that changed any.
    pub fn outputs(&self) -> &[RegistryEntry] {
        &self.manifest.outputs
    }

    /// The logs that should exist, as recorded by the last start.
    pub fn known_logs(&self) -> &KnownLogs {
        &self.manifest.logs
    }

    /// Logs that had segments, as recorded by the last start.
    pub fn written_logs(&self) -> &[LogId] {
        &self.manifest.logs.written
    }

    /// Durably records the number of each output, before any log uses it, and which logs exist, with their content durable.
    /// Blocks.
    pub fn set_contents(&mut self, outputs: &[RegistryEntry], logs: KnownLogs) -> Result<(), WalError> {
        let contents = Manifest { next_log: self.manifest.next_log, logs, outputs: outputs.to_vec() };
        if self.manifest != contents {
            self.store(&contents)?;
            self.manifest = contents;
        }
        Ok(())
    }

    /// Where damaged bytes are copied to.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// The directory of a log.
    pub fn log_path(&self, id: LogId) -> PathBuf {
        self.root.join("wal").join(format!("log-{:08}", id.0))
    }

    /// The existing logs, in order. Blocks.
    pub fn logs(&self) -> Result<Vec<LogId>, WalError> {
        let path = self.root.join("wal");
        let entries = match self.disk.list(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(WalError::Io { path, source }),
        };
        // Only the canonical name counts: another spelling of the same number is not a directory of ours.
        let canonical = |id: &LogId, name: &str| self.log_path(*id).file_name().is_some_and(|own| own == name);
        let number = |name: &str| {
            let id = name.strip_prefix("log-").and_then(|digits| digits.parse().ok()).map(LogId);
            id.filter(|id| canonical(id, name))
        };
        let mut logs: Vec<_> = entries.iter().filter_map(|entry| entry.name.to_str().and_then(number)).collect();
        logs.sort();
        Ok(logs)
    }

    /// Creates a new, empty log. Blocks.
    pub fn new_log(&mut self) -> Result<LogId, WalError> {
        let id = LogId(self.manifest.next_log);
        self.manifest.next_log = id.0.checked_add(1).ok_or_else(|| WalError::Unusable {
            path: self.manifest_path(),
            reason: "next_log is the last number there is: restore the manifest from a copy".to_owned(),
        })?;
        self.store(&self.manifest)?;
        let path = self.log_path(id);
        self.disk.create_dir_all(&path).map_err(io_error(&path))?;
        let wal = self.root.join("wal");
        self.disk.sync_dir(&wal).map_err(io_error(&wal))?;
        Ok(id)
    }

    /// Removes a log that every output has drained. It leaves the manifest before its first segment is removed, which
    /// distinguishes a drained log from a lost one. Blocks.
    pub fn remove_log(&self, id: LogId) -> Result<(), WalError> {
        let path = self.log_path(id);
        let mut entries = self.disk.list(&path).map_err(io_error(&path))?;
        let remove = |name: &std::ffi::OsString| {
            let file = path.join(name);
            self.disk.remove(&file).map_err(io_error(&file))?;
            self.disk.sync_dir(&path).map_err(io_error(&path))
        };
        let is_standby = |name: &std::ffi::OsString| name.to_str().and_then(standby_number).is_some();
        // They are no part of what the log holds, and make room for the manifest on a disk that is full.
        for standby in entries.extract_if(.., |entry| is_standby(&entry.name)) {
            remove(&standby.name)?;
        }
        self.change(id, false)?;
        // The lowest segment goes first, as in recycling: what is left after a crash is still a log.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.iter().try_for_each(|entry| remove(&entry.name))?;
        self.disk.remove_dir(&path).map_err(io_error(&path))?;
        let wal = self.root.join("wal");
        self.disk.sync_dir(&wal).map_err(io_error(&wal))
    }

    /// Whether the manifest does not record that a log has segments.
    pub fn is_unwritten(&self, id: LogId) -> bool {
        !self.manifest.logs.written.contains(&id)
    }

    /// Durably records that a log has its first segment, which is durable. Blocks.
    pub fn log_has_begun(&self, id: LogId) -> Result<(), WalError> {
        self.change(id, true)
    }

    fn change(&self, id: LogId, is_there: bool) -> Result<(), WalError> {
        // Held until it is written: another shard may do the same with another log.
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.push((id, is_there));
        let mut manifest = self.manifest.clone();
        for (id, is_there) in &*changed {
            manifest.logs.all().into_iter().for_each(|logs| logs.retain(|log| log != id));
            manifest.logs.written.extend(is_there.then_some(*id));
        }
        manifest.logs.written.sort();
        let stored = self.store(&manifest);
        if stored.is_err() {
            changed.pop();
        }
        stored
    }

    fn store(&self, manifest: &Manifest) -> Result<(), WalError> {
        let path = self.manifest_path();
        let aside = self.root.join("manifest.new");
        let text = manifest.encode();
        let file = self.disk.open(&aside, Open::Create).map_err(io_error(&aside))?;
        let written = file.truncate(0).and_then(|()| file.write_at(text.as_bytes(), 0)).and_then(|()| file.sync());
        written.map_err(io_error(&aside))?;
        self.disk.rename(&aside, &path).map_err(io_error(&path))?;
        self.disk.sync_dir(&self.root).map_err(io_error(&self.root))
    }
}

/// Whether a directory cannot be synced because of its type or its owner.
fn is_foreign(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(error.kind(), PermissionDenied | InvalidInput | ReadOnlyFilesystem | Unsupported)
}

fn read_text<D: Disk>(disk: &D, path: &Path) -> io::Result<String> {
    let file = disk.open(path, Open::Read)?;
    let mut bytes = vec![0; MANIFEST_BYTES_MAX];
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}
