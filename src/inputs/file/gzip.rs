//! Whether a gzip file is the compressed copy of a log that was read.
//!
//! Guarantees: inflates no more than the head window, whatever the file claims. Does not read compressed logs.

use super::identity::HEAD_BYTES;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufReader, Read};
use std::path::Path;
use tailwater_shards::env::{File, Sequential};

/// Whether a path names a gzip file.
pub fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

/// The first bytes of the content, up to the head window; fewer when the file is unfinished or not gzip.
pub fn head<F: File>(file: &F) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let mut decoder = MultiGzDecoder::new(BufReader::with_capacity(4096, Sequential::new(file, 0)));
    let mut piece = [0; HEAD_BYTES];
    while head.len() < HEAD_BYTES {
        let room = HEAD_BYTES - head.len();
        match decoder.read(&mut piece[..room]) {
            Ok(0) => break,
            Ok(length) => head.extend(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Cut off or damaged: what came out before counts, and no error of the disk looks like this.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
                ) =>
            {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(head)
}
