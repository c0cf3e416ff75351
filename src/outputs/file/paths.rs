//! What is known about an output's paths before it runs.
//!
//! Guarantees: reports only what is true for every event, or for an event without a field. Opens and creates nothing.

use super::template::PathTemplate;
use crate::codec::marked;
use crate::config::component::Mistake;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tailwater_shards::env::{Disk, FileKind, Stat};

/// Permission bits of directories.
const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Finds what prevents the file or its directory from being created. May block.
pub(super) fn in_the_way<D: Disk>(written: &str, template: &PathTemplate, disk: &D) -> Vec<Mistake> {
    let mistake = |what: String, help: &str| Mistake::new("path", what, help);
    let fixed = template.fixed_directory();
    let directory = as_path(&fixed);
    for above in directory.ancestors() {
        match disk.stat(above) {
            Ok(stat) if stat.kind == FileKind::Directory => break,
            Ok(_) => {
                let what = match marked::has_values(written) {
                    true => format!("a part of {} is not a directory", marked::shown(written)),
                    false => format!("{} is not a directory", above.display()),
                };
                return vec![mistake(what, "move away what is there, or choose another `path`")];
            }
            Err(_) => {}
        }
    }
    let Some(constant) = template.constant() else { return Vec::new() };
    let path = as_path(&constant);
    let shown = marked::shown(written);
    if disk.is_link(path).is_ok_and(|is_link| is_link) {
        let help = match path.starts_with("/dev") || path.starts_with("/proc") {
            true => "to write to standard output or standard error, use an output of type `console`",
            false => "use the path of the file itself",
        };
        return vec![mistake(format!("{shown} is a symbolic link, which is not followed"), help)];
    }
    let help = match path.starts_with("/dev") {
        true => "choose a `path` that is a regular file, or another type of output: `console`, `blackhole`",
        false => "choose a `path` that is a regular file, or move away what is there",
    };
    match disk.stat(path).map(|stat| stat.kind) {
        Ok(FileKind::Directory) => vec![mistake(format!("{shown} is a directory"), help)],
        Ok(FileKind::Other) => vec![mistake(format!("{shown} is a named pipe, a socket or a device"), help)],
        Ok(FileKind::Regular) | Err(_) => Vec::new(),
    }
}

/// Maximum number of names that are looked at below the fixed directory.
const NAMES_MAX: usize = 10_000;

/// A link where the paths of this template need a directory, which the output does not follow. May block.
pub fn linked_directory<D: Disk>(template: &PathTemplate, disk: &D) -> Option<PathBuf> {
    let fixed = template.fixed_path();
    let depth = fixed.components().count() - 1;
    let (mut left, mut directories) = (NAMES_MAX, vec![(fixed, depth)]);
    while let Some((directory, depth)) = directories.pop().filter(|_| left > 0) {
        for entry in disk.list(&directory).unwrap_or_default().into_iter().take(left) {
            left -= 1;
            let is_directory = depth + 1 < template.depth() && template.may_have(depth, entry.name.as_bytes());
            let path = directory.join(&entry.name);
            match is_directory {
                true if entry.link => return Some(path),
                true if entry.directory => directories.push((path, depth + 1)),
                _ => {}
            }
        }
    }
    None
}

/// What others may do to a directory on the way to the paths of this template: it, and a clause about it. May block.
pub fn open_to_others<D: Disk>(template: &PathTemplate, disk: &D) -> Option<(PathBuf, String)> {
    let fixed = template.fixed_path();
    let real = resolved(&fixed, disk).unwrap_or_else(|_| fixed.clone());
    let all = real.ancestors().chain(fixed.ancestors());
    all.filter_map(|directory| Some((directory, disk.stat(directory).ok()?))).find_map(|(directory, stat)| {
        // Where only owners may rename and remove, others can do nothing to the next directory; but they can make new files.
        let is_guarded = stat.mode & STICKY != 0 && directory != real && directory != fixed;
        Some((directory.to_owned(), others_may(&stat, is_guarded, disk)?))
    })
}

/// The same for a directory where an input begins to look: who else can put another one in its place. Others may write to the
/// directory itself, and what a group may do is not asked: it can make no link there that is followed, and on many hosts
/// `/var/log` belongs to one. May block.
pub fn exchanged_by_others<D: Disk>(fixed: &Path, disk: &D) -> Option<(PathBuf, String)> {
    let real = resolved(fixed, disk).unwrap_or_else(|_| fixed.to_owned());
    let above = |path: &'_ Path| path.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
    above(&real).into_iter().chain(above(fixed)).find_map(|directory| {
        let stat = disk.stat(&directory).ok()?;
        let what = others_may(&Stat { mode: stat.mode & !GROUP_WRITES, ..stat }, stat.mode & STICKY != 0, disk)?;
        Some((directory, what))
    })
}

/// What others may do to a directory, as a clause about it. If it is guarded, only owners may do something to what is in it.
fn others_may<D: Disk>(stat: &Stat, is_guarded: bool, disk: &D) -> Option<String> {
    match stat.owner {
        owner if owner != 0 && owner != disk.user() => Some(format!("belongs to the user with the number {owner}")),
        _ if stat.mode & OTHERS_WRITE != 0 && !is_guarded => Some("can be written by every user".to_owned()),
        _ if stat.mode & GROUP_WRITES != 0 && !is_guarded => {
            Some("can be written by every member of its group".to_owned())
        }
        _ => None,
    }
}

/// A path with the symbolic links resolved in the part that exists.
pub fn resolved<D: Disk>(path: &Path, disk: &D) -> io::Result<PathBuf> {
    let mut missing: Vec<OsString> = Vec::new();
    let mut at = path;
    loop {
        match disk.canonical(at) {
            Ok(found) => return Ok(missing.iter().rev().fold(found, |path, name| path.join(name))),
            Err(error) => match (at.parent(), at.file_name()) {
                (Some(parent), Some(name)) => {
                    missing.push(name.to_owned());
                    at = parent;
                }
                _ => return Err(error),
            },
        }
    }
}
