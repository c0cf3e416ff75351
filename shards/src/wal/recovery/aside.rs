//! Copies of damaged bytes in the quarantine.
//!
//! Guarantees: a reported copy is durable. No start fails because there is no space for a copy, because the bytes stay in place
//! until their segment is delivered. Writes nothing else. All functions block.

use crate::env::{Disk, File as _, Open};
use crate::wal::segment::io_error;
use crate::wal::{Damage, WalError};
use std::path::Path;

/// Copies the damaged bytes to `directory`, unless an earlier start has done so. For a missing file, creates an empty one, from
/// which the next start knows that it was reported.
pub(super) fn keep<D: Disk>(disk: &D, directory: &Path, damage: &mut Damage, bytes: &[u8]) {
    let place = match bytes.is_empty() {
        true => "missing".to_owned(),
        false => format!("offset-{}.bin", damage.offset),
    };
    let path = directory.join(format!("log-{:08}-segment-{}-{place}", damage.log.0, damage.segment));
    damage.known = holds(disk, &path, bytes);
    let kept = if damage.known { Ok(()) } else { copy_aside(disk, directory, &path, bytes) };
    if bytes.is_empty() {
        return;
    }
    match kept {
        Ok(()) => damage.quarantined = Some(path),
        Err(error) => damage.uncopied = Some(error.to_string()),
    }
}

/// Whether a file contains exactly these bytes, durably.
fn holds<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> bool {
    let Ok(file) = disk.open(path, Open::Read) else { return false };
    let mut held = vec![0; bytes.len() + 1];
    let mut length = 0;
    while length < held.len() {
        match file.read_at(&mut held[length..], length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(_) => return false,
        }
    }
    held[..length] == *bytes && file.sync().is_ok()
}

fn copy_aside<D: Disk>(disk: &D, directory: &Path, path: &Path, bytes: &[u8]) -> Result<(), WalError> {
    disk.create_dir_all(directory).map_err(io_error(directory))?;
    if let Some(parent) = directory.parent() {
        disk.sync_dir(parent).map_err(io_error(parent))?;
    }
    // It has a temporary name until it is complete: an earlier copy of other bytes stays until then, and a partial copy never
    // counts.
    let new = path.with_extension("new");
    let copied = write_whole(disk, &new, bytes).and_then(|()| disk.rename(&new, path)).map_err(io_error(path));
    if copied.is_err() {
        let _ = disk.remove(&new);
    }
    copied?;
    disk.sync_dir(directory).map_err(io_error(directory))
}

fn write_whole<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = disk.open(path, Open::Create)?;
    file.truncate(0).and_then(|()| file.write_at(bytes, 0)).and_then(|()| file.sync())
}
