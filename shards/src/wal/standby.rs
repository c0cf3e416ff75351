//! Maintenance of a log: consumed segments become standbys, missing standbys are made, surplus files go.
//!
//! Guarantees: all of it runs where it may block; segments go from the lowest, each durably before the next, so that a log
//! never has a hole; a recycled file's new name is durable before the file is written to again; a full disk is an answer, not a
//! failure; what an error left undone is handed back; a failed sync of the directory poisons the log as that of any sync does,
//! since which names are durable is not known any more. Decides nothing: [`super::writer::Writer::take_maintenance`] does.

use super::WalError;
use super::segment::{Segment, Standby, io_error, standby_name};
use crate::env::{Disk, Map as _, is_exhausted};
use std::collections::VecDeque;
use std::path::PathBuf;

/// Segments for which the disk has room before standbys are made that only speed wants: the last room is for others.
const ROOMY_SEGMENTS: u64 = 8;

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
    /// How many of them the log needs; the others are for speed alone.
    pub(crate) needed: usize,
    /// First free number of a standby file.
    pub(crate) first_number: u64,
    /// What an earlier round could not finish.
    pub(crate) unsettled: Unsettled<D>,
}

/// What maintenance achieved.
pub struct Maintained<D: Disk> {
    pub(crate) standbys: Vec<Standby<D>>,
    /// Segments that nobody needs and that are still there, lowest first.
    pub(crate) left: VecDeque<Segment<D>>,
    pub(crate) unsettled: Unsettled<D>,
    /// Standbys that are not needed were left out, since the disk has little room.
    pub(crate) scarce: bool,
    /// What kept it from achieving all.
    pub failed: Option<WalError>,
}

/// Names that were changed while the directory could not be synced.
pub(crate) struct Unsettled<D: Disk> {
    /// They can be used once their names are durable.
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
            // Its pages count as resident until they are given back.
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
            // One at a time, the lowest first: a power loss that kept a later removal and undid an earlier one would leave a
            // hole, and recovery might take what lies behind a hole for never durable.
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

    /// Makes changed names durable; what waited for that is ready then.
    fn settle(&self, done: &mut Maintained<D>) -> Result<(), WalError> {
        if done.unsettled.names {
            self.disk.sync_dir(&self.directory).map_err(|source| match is_exhausted(&source) {
                // It could not be opened, so no sync failed.
                true => io_error(&self.directory)(source),
                false => WalError::Poisoned { what: "sync", path: self.directory.clone(), source },
            })?;
            done.unsettled.names = false;
        }
        done.standbys.append(&mut done.unsettled.standbys);
        Ok(())
    }
}
