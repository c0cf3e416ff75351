//! Files that outputs write of this input's own events: they are not read, or each line would come again without end.
//!
//! Guarantees: what an output of this process has written is left out from then on, under whatever name, and its rotated
//! files with it. Does not know what an earlier start wrote to files that no output has opened since.

use super::identity::Inode;
use crate::config::claims::Claims;
use crate::config::component::Facts;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tailwater_shards::env::Stat;

/// Which files are an input's own.
#[derive(Clone, Default)]
pub struct Own {
    claims: Arc<Claims>,
    outputs: Arc<BTreeSet<Arc<str>>>,
}

impl Own {
    /// Those of the outputs that its events may go to.
    pub fn new(facts: &Facts) -> Own {
        Own { claims: facts.claims.clone(), outputs: facts.downstream.clone() }
    }

    /// An error that says which output writes a file, if one does. `path` is without symbolic links.
    pub fn refuse(&self, path: &Path, stat: &Stat) -> io::Result<()> {
        match self.claims.writer_of(stat, path, &self.outputs) {
            None => Ok(()),
            Some(output) => Err(io::Error::new(io::ErrorKind::ResourceBusy, said(&output))),
        }
    }

    /// The same for a file that is followed already.
    pub fn refuse_inode(&self, inode: &Inode) -> io::Result<()> {
        let key = (inode.device, inode.number, inode.created.map_or(0, |created| created.0));
        match self.claims.writer_of_file(key, &self.outputs) {
            None => Ok(()),
            Some(output) => Err(io::Error::new(io::ErrorKind::ResourceBusy, said(&output))),
        }
    }
}

/// Whether an error is that of a file that is left out.
pub fn is_own(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

fn said(output: &str) -> String {
    format!("the output `{output}` writes it, and gets events of this input")
}
