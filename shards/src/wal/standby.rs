//! Maintenance of a log: consumed segments become standby files, missing standby files are created, surplus files are removed.
//!
//! Guarantees: all of it runs where blocking is allowed. Segments are removed from the lowest, each durably before the next, so
//! that a log never has a gap. The new name of a recycled file is durable before the file is written again. A full disk is a
//! normal result, not a failure. Work that an error left unfinished is returned. A failed sync of the directory poisons the log
//! like any failed sync, because it is unknown which names are durable. Decides nothing:
//! [`super::writer::Writer::take_maintenance`] does.

use super::WalError;
use super::segment::{Segment, Standby, io_error, standby_name};
use crate::env::{Disk, Map as _, is_exhausted};
use std::collections::VecDeque;
use std::path::PathBuf;

/// Number of segments for which the disk must have space before optional standby files are created: the last space is left for
/// others.
const ROOMY_SEGMENTS: u64 = 8;

/// Work for a log that may block.
pub struct Maintenance<D: Disk> {
    pub(crate) disk: D,
    pub(crate) directory: PathBuf,
    pub(crate) segment_bytes: u64,
    /// Segments that are no longer needed, lowest first.
    pub(crate) consumed: Vec<Segment<D>>,
    /// How many of them are kept as standby files. The others are deleted.
    pub(crate) recycle: usize,
    /// How many standby files are created.
    pub(crate) create: usize,
    /// How many of them the log needs. The others only improve speed.
    pub(crate) needed: usize,
    /// First free number of a standby file.
    pub(crate) first_number: u64,
    /// Work that an earlier round could not finish.
    pub(crate) unsettled: Unsettled<D>,
}

/// The result of maintenance.
pub struct Maintained<D: Disk> {
    pub(crate) standbys: Vec<Standby<D>>,
    /// Segments that are no longer needed but still exist, lowest first.
    pub(crate) left: VecDeque<Segment<D>>,
    pub(crate) unsettled: Unsettled<D>,
    /// Optional standby files were not created, because the disk has little space.
    pub(crate) scarce: bool,
    /// The error that prevented the rest of the work.
    pub failed: Option<WalError>,
}

/// Names that were changed while the directory could not be synced.
pub(crate) struct Unsettled<D: Disk> {
    /// Usable when their names are durable.
    pub(crate) standbys: Vec<Standby<D>>,
    pub(crate) names: bool,
}

impl<D: Disk> Default for Unsettled<D> {
    fn default() -> Unsettled<D> {
        Unsettled { standbys: Vec::new(), names: false }
    }
}

impl<D: Disk> Unsettled<D> {
    pub(crate) fn is_empty(&self) -> bool {
        self.standbys.is_empty() && !self.names
    }
}

impl<D: Disk> Maintenance<D> {
    /// Does the work. Blocks: run it with [`crate::env::Env::blocking`].
    pub fn run(mut self) -> Maintained<D> {
        let left = std::mem::take(&mut self.consumed).into();
        let unsettled = std::mem::take(&mut self.unsettled);
        let mut done = Maintained { standbys: Vec::new(), left, unsettled, scarce: false, failed: None };
        done.failed = self.work(&mut done).err();
        done
    }

    fn work(self, done: &mut Maintained<D>) -> Result<(), WalError> {
        self.settle(done)?;
        let (mut number, mut recycle) = (self.first_number, self.recycle);
        while let Some(segment) = done.left.pop_front() {
            // Its pages count as resident until they are released.
            segment.map.release(0, segment.map.length());
            let again = recycle > 0 && segment.map.length() as u64 == self.segment_bytes;
            let path = self.directory.join(standby_name(number));
            let gone = if again { self.disk.rename(&segment.path, &path) } else { self.disk.remove(&segment.path) };
            if let Err(error) = gone {
                let failed = io_error(&segment.path)(error);
                done.left.push_front(segment);
                return Err(failed);
            }
            done.unsettled.names = true;
            if again {
                done.unsettled.standbys.push(Standby { number, path, file: segment.file, map: segment.map });
                (number, recycle) = (number + 1, recycle - 1);
            }
            // One at a time, the lowest first. If a power loss kept a later removal and reverted an earlier one, the log would
            // have a gap, and recovery might treat what follows the gap as never durable.
            self.settle(done)?;
        }
        let mut failed = Ok(());
        for (made, number) in (number..number + self.create as u64).enumerate() {
            if made >= self.needed && !self.is_roomy() {
                done.scarce = true;
                break;
            }
            match Standby::prepare(&self.disk, &self.directory, number, self.segment_bytes) {
                Ok(standby) => {
                    done.unsettled.names = true;
                    done.unsettled.standbys.push(standby);
                }
                Err(error) => failed = Err(error),
            }
        }
        self.settle(done)?;
        failed
    }

    fn is_roomy(&self) -> bool {
        self.disk.free_bytes(&self.directory).is_ok_and(|free| free >= ROOMY_SEGMENTS * self.segment_bytes)
    }

    /// Makes changed names durable. Files that waited for that are then ready.
    fn settle(&self, done: &mut Maintained<D>) -> Result<(), WalError> {
        if done.unsettled.names {
            self.disk.sync_dir(&self.directory).map_err(|source| match is_exhausted(&source) {
                // The directory could not be opened, so no sync has failed.
                true => io_error(&self.directory)(source),
                false => WalError::Poisoned { what: "sync", path: self.directory.clone(), source },
            })?;
            done.unsettled.names = false;
        }
        done.standbys.append(&mut done.unsettled.standbys);
        Ok(())
    }
}
