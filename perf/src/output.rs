//! Observes a file that a program writes: how many lines it has, and when bytes became visible.
//!
//! Guarantees: reads each byte once. A file that does not exist yet counts as empty. Takes no lock for which the writer could
//! wait.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Reads what was added since the last read.
pub struct Output {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
    /// Bytes seen.
    pub end: u64,
    /// Line ends seen.
    pub lines: u64,
}

impl Output {
    /// A file that may not exist yet.
    pub fn new(path: &Path) -> Output {
        Output { path: path.to_owned(), file: None, buffer: vec![0; 1 << 18], end: 0, lines: 0 }
    }

    /// Reads once, at most a buffer; returns how many bytes were new.
    pub fn look(&mut self) -> Result<usize, String> {
        let fail = |error: std::io::Error| format!("{}: {error}", self.path.display());
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(0),
                Err(error) => return Err(fail(error)),
            }
        }
        let Some(file) = &self.file else { return Ok(0) };
        let length = file.read_at(&mut self.buffer, self.end).map_err(fail)?;
        self.end += length as u64;
        self.lines += self.buffer[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(length)
    }

    /// Reads everything that exists now, but not what is added in the meantime. Returns the number of lines so far.
    pub fn count(&mut self) -> Result<u64, String> {
        let length = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        while self.end < length && self.look()? > 0 {}
        Ok(self.lines)
    }
}
