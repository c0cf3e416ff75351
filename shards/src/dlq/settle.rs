//! Settling: seals a segment that nothing writes any more, left open by a process that died or by an error.
//!
//! Guarantees: every whole letter stays. Bytes that were durable and are no letter stay too, as damage. All others are an unfinished
//! write, whose letters were never reported as stored, or damage that nothing proves: they are set aside in a file with the ending
//! `.torn`, of which a folder holds [`TORN_FILES_MAX`] at most, and the caller gets to know. Zeros are no content, and are cut without
//! a word. All functions block.

use super::segment::{Entry, Found, HEADER_BYTES, Header, Sealed, Segment, header};
use crate::env::{Disk, File, Open};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The ending of files with bytes that were set aside.
const TORN: &str = "torn";

/// Files of that kind that a folder holds. Of what is found later, only the report remains.
const TORN_FILES_MAX: usize = 16;

/// Bytes that were cut from a segment.
#[derive(Debug)]
pub struct Torn {
    segment: PathBuf,
    bytes: u64,
    /// Where they are kept, or why they are not.
    kept: Result<PathBuf, String>,
}

impl fmt::Display for Torn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Torn { segment, bytes, kept } = self;
        let shown = segment.display();
        write!(
            out,
            "dead letters in {shown}: {bytes} bytes at its end are no letter. Either a process was killed while it wrote them, and makes \
             those letters again, or the file was damaged. The other letters are kept; these bytes are "
        )?;
        match kept {
            Ok(path) => write!(out, "in {}, which you may remove", path.display()),
            Err(error) => write!(out, "lost: {error}"),
        }
    }
}

/// Seals a segment that nothing writes any more, and returns what was cut from it.
pub fn settle<D: Disk>(disk: &D, entry: &Entry) -> io::Result<Option<Torn>> {
    let (segment, sealed) = (Segment::open(disk, &entry.path)?, entry.path.with_extension("seg"));
    if let Header::Foreign(_) = segment.header() {
        return disk.rename(&entry.path, &sealed).map(|()| None);
    }
    let proven = proven(&segment)?;
    let mut torn = 0;
    let kept = walk_parts(&segment, proven, |part| {
        if !part.stays && !segment.is_blank(part.from, part.to)? {
            torn += part.to - part.from;
        }
        Ok(())
    })?;
    let torn = (torn > 0).then(|| Torn {
        segment: entry.path.clone(),
        bytes: torn,
        kept: set_aside(disk, entry, &segment, proven).map_err(|error| error.to_string()),
    });
    match kept {
        Kept::Nothing => disk.remove(&entry.path)?,
        Kept::Beginning(length) => {
            let file = disk.open(&entry.path, Open::Write)?;
            if length < segment.length() {
                file.truncate(length)?;
            }
            // Bytes that a killed process had written but not synced must not become torn after the segment counts as sealed.
            file.sync()?;
            disk.rename(&entry.path, &sealed)?;
        }
        Kept::Parts => {
            let mut out = Sealed::begin(disk, &sealed)?;
            if is_begun_anew(&segment, proven) {
                out.write(&header(0, entry.number))?;
            }
            walk_parts(&segment, proven, |part| match part.stays {
                true => segment.copy(part.from, part.to, &mut out),
                false => Ok(()),
            })?;
            out.finish(disk)?;
            disk.remove(&entry.path)?;
        }
    }
    Ok(torn)
}

/// Copies the bytes that do not stay to a file of their own.
fn set_aside<D: Disk>(disk: &D, entry: &Entry, segment: &Segment<D::File>, proven: u64) -> io::Result<PathBuf> {
    let folder = entry.path.parent().unwrap_or(&entry.path);
    let mut taken = disk.list(folder)?;
    taken.retain(|found| Path::new(&found.name).extension().is_some_and(|ending| ending == TORN));
    // The number of a segment of which nothing stays may come back if the clock is set back.
    let name = |copy: usize| match copy {
        0 => format!("{:016}.{TORN}", entry.number),
        copy => format!("{:016}-{copy}.{TORN}", entry.number),
    };
    let is_free = |name: &String| !taken.iter().any(|found| found.name == **name);
    if taken.len() >= TORN_FILES_MAX {
        return Err(io::Error::other(format!(
            "there are {TORN_FILES_MAX} files with the ending .{TORN} beside it already"
        )));
    }
    let path = folder.join((0..=TORN_FILES_MAX).map(name).find(is_free).unwrap_or_default());
    let mut out = Sealed::begin(disk, &path)?;
    let copied = walk_parts(segment, proven, |part| match part.stays {
        true => Ok(()),
        false => segment.copy(part.from, part.to, &mut out),
    });
    let copied = copied.and_then(|_| out.finish(disk));
    if copied.is_err() {
        // It may occupy part of the last free space.
        let _ = disk.remove(&path.with_extension("new"));
    }
    copied.map(|()| path)
}

/// What remains of a segment without its torn parts.
enum Kept {
    Nothing,
    /// This many of its first bytes.
    Beginning(u64),
    Parts,
}

/// A part of a segment, and whether it stays.
struct Part {
    from: u64,
    to: u64,
    stays: bool,
}

/// Bytes that were certainly durable: the highest number that a letter states.
fn proven<F: File>(segment: &Segment<F>) -> io::Result<u64> {
    let (mut walk, mut proven) = (segment.walk(), 0);
    while let Some(found) = walk.next()? {
        if let Found::Letter(kept) = found {
            proven = kept.synced.max(proven);
        }
    }
    Ok(proven)
}

/// Whether the header itself is torn.
fn is_begun_anew<F: File>(segment: &Segment<F>, proven: u64) -> bool {
    segment.header() != Header::Known && proven == 0
}

/// Passes on the parts of a segment, those that are torn and those that stay.
fn walk_parts<F: File>(
    segment: &Segment<F>,
    proven: u64,
    mut each: impl FnMut(Part) -> io::Result<()>,
) -> io::Result<Kept> {
    // The end of the intact beginning, and whether more intact parts follow.
    let mut beginning = if segment.header() == Header::Known { HEADER_BYTES as u64 } else { 0 };
    let (mut whole, mut any) = (!is_begun_anew(segment, proven), false);
    each(Part { from: 0, to: beginning, stays: true })?;
    let mut walk = segment.walk();
    let mut from = beginning;
    loop {
        let torn = match walk.next()? {
            None => break,
            Some(Found::Damage { offset, .. }) => offset >= proven,
            Some(Found::Letter(_)) => false,
        };
        let to = walk.at();
        each(Part { from, to, stays: !torn })?;
        if !torn {
            any = true;
            whole &= from == beginning;
            beginning = to;
        }
        from = to;
    }
    match (any, whole) {
        (false, _) => Ok(Kept::Nothing),
        (true, true) => Ok(Kept::Beginning(beginning)),
        (true, false) => Ok(Kept::Parts),
    }
}
