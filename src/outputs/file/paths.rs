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
use tailwater_shards::env::{Disk, FileKind};

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
