//! Files that are never read: those that outputs write from this input's own events, also through files that other inputs read, the
//! standard output and standard error of this process, and its data directory. Reading them would produce lines without end.
//!
//! Guarantees: once an output of this process has written a file, that file and its rotated files are skipped under any name. Files
//! and the directories of the data directory are compared by device and inode, so it does not matter how they were reached. A
//! segment of the write-ahead log or of the dead letter queue is known by its header under any name. Does not know what an earlier
//! run wrote to files that no output has opened since.

use super::identity::Inode;
use crate::config::claims::Claims;
use crate::config::component::Facts;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::dlq::segment::is_segment;
use tailwater_shards::env::{Disk, FileKind, Stat};

/// Where the kernel shows what this process writes to without an output, and its names.
const STREAMS: [(&str, &str); 2] =
    [("/proc/self/fd/1", "the standard output of Tailwater"), ("/proc/self/fd/2", "the standard error of Tailwater")];

/// Names per level of the data directory that are looked at for directories. It has some tens, and the segments of letters.
const DIRECTORIES_MAX: usize = 4096;

/// The files that an input does not read.
#[derive(Clone, Default)]
pub struct Own {
    claims: Arc<Claims>,
    outputs: Arc<BTreeSet<Arc<str>>>,
    streams: Vec<(Inode, &'static str)>,
    data: Option<PathBuf>,
    /// The data directory and those in it.
    directories: Vec<Inode>,
}

impl Own {
    /// The files of the outputs that this input's events may reach.
    pub fn new(facts: &Facts) -> Own {
        Own { claims: facts.claims.clone(), outputs: facts.downstream.clone(), ..Own::default() }
    }

    /// The same with the files of the process. Blocks.
    pub fn with_process<D: Disk>(self, disk: &D, data_dir: &Path) -> Own {
        let stream = |(path, name): (&str, &'static str)| {
            let stat = disk.stat(Path::new(path)).ok().filter(|stat| stat.kind == FileKind::Regular)?;
            Some((Inode::of(&stat), name))
        };
        let data = disk.canonical(data_dir).ok();
        let streams = STREAMS.into_iter().filter_map(stream).collect();
        let directories = data.as_ref().map(|data| directories_of(disk, data)).unwrap_or_default();
        Own { streams, data, directories, ..self }
    }

    /// Returns an error that says why if this file is not read. `path` contains no symbolic links.
    pub fn refuse(&self, path: &Path, stat: &Stat) -> io::Result<()> {
        let inode = Inode::of(stat);
        if let Some((_, name)) = self.streams.iter().find(|stream| stream.0 == inode) {
            return Err(busy(&format!("it is {name}")));
        }
        self.refuse_below(path)?;
        self.claims.read(stat, path, &self.outputs).map_err(|output| self.own_error(&output))
    }

    /// The same for a directory.
    pub fn refuse_directory(&self, path: &Path, stat: &Stat) -> io::Result<()> {
        match self.directories.contains(&Inode::of(stat)) {
            true => Err(data_error()),
            false => self.refuse_below(path),
        }
    }

    fn refuse_below(&self, path: &Path) -> io::Result<()> {
        match &self.data {
            Some(data) if path.starts_with(data) => Err(data_error()),
            _ => Ok(()),
        }
    }

    /// The same for a file that is already followed.
    pub fn refuse_inode(&self, inode: &Inode) -> io::Result<()> {
        let key = (inode.device, inode.number, inode.created.map_or(0, |created| created.0));
        self.claims.read_file(key, &self.outputs).map_err(|output| self.own_error(&output))
    }

    fn own_error(&self, output: &str) -> io::Error {
        let way = if self.outputs.contains(output) { "" } else { ", through files that other inputs read" };
        busy(&format!("the output `{output}` writes it and receives events from this input{way}"))
    }
}

/// Why a file that begins like this is not read. It may be a segment under another name, which grows with each event.
pub fn refuse_content(begin: &[u8]) -> io::Result<()> {
    match is_segment(begin) {
        true => Err(io::Error::other("it is a segment of a write-ahead log or of a dead letter queue of Tailwater")),
        false => Ok(()),
    }
}

/// The data directory, the directories in it and those directly below, of whose segments a mount can show each alone.
fn directories_of<D: Disk>(disk: &D, data: &Path) -> Vec<Inode> {
    let mut found = Vec::new();
    let mut level = vec![data.to_path_buf()];
    for depth in 0..3 {
        let mut below = Vec::new();
        for path in level {
            let Some(stat) = disk.stat(&path).ok().filter(|stat| stat.kind == FileKind::Directory) else { continue };
            found.push(Inode::of(&stat));
            if depth < 2 {
                below.extend(disk.list(&path).into_iter().flatten().map(|entry| path.join(entry.name)));
            }
        }
        below.truncate(DIRECTORIES_MAX);
        level = below;
    }
    found
}

/// Whether an error means that the file is one of these.
pub fn is_own(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

fn busy(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, what)
}

fn data_error() -> io::Error {
    busy("it is in the data directory")
}
