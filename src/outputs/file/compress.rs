//! Compression of an output file: a sequence of gzip members or zstd frames, which every decoder reads as one stream.
//!
//! Guarantees: a finished member can be decoded without the bytes after it. Does not write files: it only produces bytes.

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// How a file's content is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// gzip, fastest level.
    Gzip,
    /// Zstandard, level 1.
    Zstd,
}

/// Bytes that a member needs in addition to its input and output: windows and tables at the fastest level, for either format.
pub const MEMBER_BYTES_MAX: u64 = 2 << 20;

/// A member or frame in progress.
pub enum Member {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Member {
    /// Starts a member; none without compression.
    pub fn begin(compression: Compression) -> io::Result<Option<Member>> {
        Ok(match compression {
            Compression::None => None,
            Compression::Gzip => Some(Member::Gzip(GzEncoder::new(Vec::new(), Level::fast()))),
            Compression::Zstd => Some(Member::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?)),
        })
    }

    /// Compresses `raw` and appends the output so far to `out`.
    pub fn push(&mut self, raw: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let made = match self {
            Member::Gzip(encoder) => {
                encoder.write_all(raw)?;
                encoder.get_mut()
            }
            Member::Zstd(encoder) => {
                encoder.write_all(raw)?;
                encoder.get_mut()
            }
        };
        out.append(made);
        Ok(())
    }

    /// Finishes the member and appends its last bytes.
    pub fn end(self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut made = match self {
            Member::Gzip(encoder) => encoder.finish()?,
            Member::Zstd(encoder) => encoder.finish()?,
        };
        out.append(&mut made);
        Ok(())
    }
}
