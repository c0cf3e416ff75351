//! Files that outputs write from this input's own events. They are not read, because each line would be read and written
//! without end.
//!
//! Guarantees: once an output of this process has written a file, that file and its rotated files are skipped under any name.
//! Does not know what an earlier run wrote to files that no output has opened since.

use super::identity::Inode;
use crate::config::claims::Claims;
use crate::config::component::Facts;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tailwater_shards::env::Stat;

/// The files of this input's own outputs.
#[derive(Clone, Default)]
pub struct Own {
    claims: Arc<Claims>,
    outputs: Arc<BTreeSet<Arc<str>>>,
}

impl Own {
    /// The files of the outputs that this input's events may reach.
    pub fn new(facts: &Facts) -> Own {
        Own { claims: facts.claims.clone(), outputs: facts.downstream.clone() }
    }

    /// Returns an error that names the output if an output writes this file. `path` contains no symbolic links.
    pub fn refuse(&self, path: &Path, stat: &Stat) -> io::Result<()> {
        match self.claims.writer_of(stat, path, &self.outputs) {
            None => Ok(()),
            Some(output) => Err(io::Error::new(io::ErrorKind::ResourceBusy, own_message(&output))),
        }
    }

    /// The same for a file that is already followed.
    pub fn refuse_inode(&self, inode: &Inode) -> io::Result<()> {
        let key = (inode.device, inode.number, inode.created.map_or(0, |created| created.0));
        match self.claims.writer_of_file(key, &self.outputs) {
            None => Ok(()),
            Some(output) => Err(io::Error::new(io::ErrorKind::ResourceBusy, own_message(&output))),
        }
    }
}

/// Whether an error means that the file is one of these.
pub fn is_own(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

fn own_message(output: &str) -> String {
    format!("the output `{output}` writes it and receives events from this input")
}
