//! Syncs several files at a time.
//!
//! Guarantees: each file is synced once, and the results are in the order of the files. A file system writes its journal once for all
//! syncs that wait at the same time, so many files take little more time than one. Does not know what was written to them.

use super::RealFile;
use crate::env::File;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{Builder, scope};

/// Threads that sync at the same time. They only wait for the disk.
const THREADS_MAX: usize = 16;
const STACK_BYTES: usize = 64 << 10;

/// Syncs all of these files.
pub(super) fn together(files: &[Arc<RealFile>]) -> Vec<io::Result<()>> {
    let sync = |part: &[Arc<RealFile>]| part.iter().map(|file| file.sync()).collect::<Vec<_>>();
    if files.len() < 2 {
        return sync(files);
    }
    scope(|scope| {
        let begun: Vec<_> = files
            .chunks(files.len().div_ceil(THREADS_MAX))
            .map(|part| {
                let thread = Builder::new().name("sync".to_owned()).stack_size(STACK_BYTES);
                // Where no further thread can be made, it takes longer.
                thread.spawn_scoped(scope, move || sync(part)).map_err(|_| sync(part))
            })
            .collect();
        let joined = begun.into_iter().flat_map(|thread| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(done) => done,
        });
        joined.collect()
    })
}
