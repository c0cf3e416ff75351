//! Files that are never read: those that outputs write from this input's own events, the standard output and standard error of this
//! process, and its data directory. Reading them would produce lines without end.
//!
//! Guarantees: once an output of this process has written a file, that file and its rotated files are skipped under any name. Files
//! are compared by device and inode, so it does not matter how they were reached. Does not know what an earlier run wrote to files
//! that no output has opened since.

use super::identity::Inode;
use crate::config::claims::Claims;
use crate::config::component::Facts;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::env::{Disk, FileKind, Stat};

/// Where the kernel shows what this process writes to without an output, and its names.
const STREAMS: [(&str, &str); 2] =
    [("/proc/self/fd/1", "the standard output of Tailwater"), ("/proc/self/fd/2", "the standard error of Tailwater")];

/// The files that an input does not read.
#[derive(Clone, Default)]
pub struct Own {
    claims: Arc<Claims>,
    outputs: Arc<BTreeSet<Arc<str>>>,
    streams: Vec<(Inode, &'static str)>,
    data: Option<(PathBuf, Inode)>,
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
        let data = disk.canonical(data_dir).and_then(|real| Ok((Inode::of(&disk.stat(&real)?), real)));
        let streams = STREAMS.into_iter().filter_map(stream).collect();
        Own { streams, data: data.ok().map(|(inode, real)| (real, inode)), ..self }
    }

    /// Returns an error that says why if this file is not read. `path` contains no symbolic links.
    pub fn refuse(&self, path: &Path, stat: &Stat) -> io::Result<()> {
        let inode = Inode::of(stat);
        if let Some((_, name)) = self.streams.iter().find(|stream| stream.0 == inode) {
            return Err(busy(&format!("it is {name}")));
        }
        self.refuse_below(path)?;
        match self.claims.writer_of(stat, path, &self.outputs) {
            None => Ok(()),
            Some(output) => Err(own_error(&output)),
        }
    }

    /// The same for a directory.
    pub fn refuse_directory(&self, path: &Path, stat: &Stat) -> io::Result<()> {
        match &self.data {
            Some((_, inode)) if *inode == Inode::of(stat) => Err(data_error()),
            _ => self.refuse_below(path),
        }
    }

    fn refuse_below(&self, path: &Path) -> io::Result<()> {
        match &self.data {
            Some((data, _)) if path.starts_with(data) => Err(data_error()),
            _ => Ok(()),
        }
    }

    /// The same for a file that is already followed.
    pub fn refuse_inode(&self, inode: &Inode) -> io::Result<()> {
        let key = (inode.device, inode.number, inode.created.map_or(0, |created| created.0));
        match self.claims.writer_of_file(key, &self.outputs) {
            None => Ok(()),
            Some(output) => Err(own_error(&output)),
        }
    }
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

fn own_error(output: &str) -> io::Error {
    busy(&format!("the output `{output}` writes it and receives events from this input"))
}
