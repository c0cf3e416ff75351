//! Maintenance of a log: consumed segments become standbys, missing standbys are made, surplus files go.
//!
//! Guarantees: all of it runs where it may block; segments go from the lowest, each durably before the next, so that a log
//! never has a hole; a recycled file's new name is durable before the file is written to again; a full disk is an answer, not a failure. Decides nothing: [`super::writer::Writer::take_maintenance`] does.

use super::WalError;
use super::segment::{Segment, Standby, standby_name};
use crate::env::{Disk, Map as _};
use std::path::PathBuf;

/// Work for a log that may block.
pub struct Maintenance<D: Disk> {
    pub(crate) disk: D,
    pub(crate) directory: PathBuf,
    pub(crate) segment_bytes: u64,
    /// Segments that nobody needs, lowest first.
    pub(crate) consumed: Vec<Segment<D>>,
    /// How many of them are kept as standbys; the rest is deleted.
    pub(crate) recycle: usize,
    /// How many standbys are made anew.
    pub(crate) create: usize,
    /// First free number of a standby file.
    pub(crate) first_number: u64,
}

/// What maintenance achieved.
pub struct Maintained<D: Disk> {
    pub(crate) standbys: Vec<Standby<D>>,
    /// Consumed segments that are still there: they go before any later one does.
    pub(crate) left: Vec<Segment<D>>,
    /// What kept it from achieving all.
    pub failed: Option<WalError>,
}

impl<D: Disk> Maintenance<D> {
    /// Does the work. Blocks: run it with [`crate::env::Env::blocking`].
    pub fn run(self) -> Maintained<D> {
        let mut done = Maintained { standbys: Vec::new(), left: Vec::new(), failed: None };
        if let Err(error) = self.work(&mut done) {
            done.failed = Some(error);
        }
        done
    }

    fn work(mut self, done: &mut Maintained<D>) -> Result<(), WalError> {
        let mut consumed = std::mem::take(&mut self.consumed).into_iter();
        while let Some(segment) = consumed.next() {
            // Its pages count as resident until they are given back.
            segment.map.release(0, segment.map.length());
            let recycled = self.recycle > 0 && segment.map.length() as u64 == self.segment_bytes;
            let path = self.directory.join(standby_name(self.first_number));
            let moved = if recycled { self.disk.rename(&segment.path, &path) } else { self.disk.remove(&segment.path) };
            if let Err(source) = moved {
                let error = WalError::Io { path: segment.path.clone(), source };
                done.left.push(segment);
                done.left.extend(consumed);
                return Err(error);
            }
            // One at a time, the lowest first: a power loss that kept a later removal and undid an earlier one would leave a
            // hole, and recovery might take what lies behind a hole for never durable.
            self.sync_names()?;
            if recycled {
                done.standbys.push(Standby { number: self.first_number, path, file: segment.file, map: segment.map });
                (self.recycle, self.first_number) = (self.recycle - 1, self.first_number + 1);
            }
        }
        let mut failed = Ok(());
        for number in self.first_number..self.first_number + self.create as u64 {
            match Standby::prepare(&self.disk, &self.directory, number, self.segment_bytes) {
                Ok(standby) => done.standbys.push(standby),
                Err(error) => failed = Err(error),
            }
        }
        if self.create > 0 {
            self.sync_names()?;
        }
        failed
    }

    /// A failure of it poisons the log as that of any sync: which names are durable is not known any more.
    fn sync_names(&self) -> Result<(), WalError> {
        let path = || self.directory.clone();
        self.disk.sync_dir(&self.directory).map_err(|source| WalError::Poisoned { what: "sync", path: path(), source })
    }
}
