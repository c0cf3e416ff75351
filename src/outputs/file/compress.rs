//! Compression of an output file: a series of gzip members or zstd frames, which every decoder reads as one.
//!
//! Guarantees: a member that was ended decodes without what follows it. Does not write: it makes bytes.

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// How a file's content is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, fastest level.
    Gzip,
    /// Zstandard, level 1.
    Zstd,
}

/// Bytes of what a member needs beside its input and its output: windows and tables of either kind at its fastest level.
pub const MEMBER_BYTES_MAX: u64 = 2 << 20;

/// A member or frame that is being made.
pub enum Member {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Member {
    /// Begins a member; none without compression.
    pub fn begin(compression: Compression) -> io::Result<Option<Member>> {
        Ok(match compression {
            Compression::None => None,
            Compression::Gzip => Some(Member::Gzip(GzEncoder::new(Vec::new(), Level::fast()))),
            Compression::Zstd => Some(Member::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?)),
        })
    }

    /// Takes `raw` in and appends to `out` what came out so far.
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

    /// Ends the member and appends its last bytes.
    pub fn end(self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut made = match self {
            Member::Gzip(encoder) => encoder.finish()?,
            Member::Zstd(encoder) => encoder.finish()?,
        };
        out.append(&mut made);
        Ok(())
    }
}
