//! Maintenance of a log: consumed segments become standbys, missing standbys are made, surplus files go.
//!
//! Guarantees: all of it runs where it may block; segments go from the lowest, each durably before the next, so that a log
//! never has a hole; a recycled file's new name is durable before the file is written to again; a full disk is an answer, not a failure. Decides nothing: [`super::writer::Writer::take_maintenance`] does.

use super::WalError;
use super::segment::{Segment, Standby, io_error, standby_name};
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
    /// What kept it from achieving all.
    pub failed: Option<WalError>,
}

impl<D: Disk> Maintenance<D> {
    /// Does the work. Blocks: run it with [`crate::env::Env::blocking`].
    pub fn run(self) -> Maintained<D> {
        let mut done = Maintained { standbys: Vec::new(), failed: None };
        if let Err(error) = self.work(&mut done.standbys) {
            done.failed = Some(error);
        }
        done
    }

    fn work(self, ready: &mut Vec<Standby<D>>) -> Result<(), WalError> {
        let Maintenance { disk, directory, segment_bytes, consumed, mut recycle, create, first_number } = self;
        let mut number = first_number;
        let mut recycled = Vec::new();
        for segment in consumed {
            // Its pages count as resident until they are given back.
            segment.map.release(0, segment.map.length());
            if recycle > 0 && segment.map.length() as u64 == segment_bytes {
                recycle -= 1;
                let path = directory.join(standby_name(number));
                disk.rename(&segment.path, &path).map_err(io_error(&segment.path))?;
                recycled.push(Standby { number, path, file: segment.file, map: segment.map });
                number += 1;
            } else {
                disk.remove(&segment.path).map_err(io_error(&segment.path))?;
            }
            // One at a time, the lowest first: a power loss that kept a later removal and undid an earlier one would leave a
            // hole, and recovery might take what lies behind a hole for never durable.
            disk.sync_dir(&directory).map_err(io_error(&directory))?;
        }
        let mut failed = Ok(());
        for _ in 0..create {
            match Standby::prepare(&disk, &directory, number, segment_bytes) {
                Ok(standby) => recycled.push(standby),
                Err(error) => failed = Err(error),
            }
            number += 1;
        }
        if create > 0 {
            disk.sync_dir(&directory).map_err(io_error(&directory))?;
        }
        ready.append(&mut recycled);
        failed
    }
}
