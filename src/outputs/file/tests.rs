//! The content of the files after anything that may happen.

use super::compress::Compression;
use super::record::State;
use super::writer::{Group, Means, Now, Options, Writer};
use std::io::Read;
use std::path::Path;
use tailwater_shards::env::{Access, Monotonic, Timestamp};
use tailwater_shards::limits::COMMIT_STATE_BYTES_MAX;
use tailwater_shards::sim::{Crash, Outside, Prng, SimDisk};

mod crash;
mod kept;
mod neighbours;
mod others;
mod output;
mod places;
mod shared;
mod strangers;

const JOURNAL: &str = "/data/outputs/1.journal";

fn now(millis: u64) -> Now {
    Now { wall: Timestamp(millis as i64 * 1_000_000), monotonic: Monotonic(millis * 1_000_000) }
}

fn options() -> Options {
    let compression = Compression::None;
    let state_bytes_max = COMMIT_STATE_BYTES_MAX;
    let access = Access::default();
    Options {
        compression,
        rotate_bytes: None,
        rotate_age: None,
        keep: 1000,
        open_files_max: 100,
        state_bytes_max,
        access,
        fixed: "/out".into(),
        blames_events: false,
    }
}

fn open(disk: &SimDisk, options: &Options, state: State) -> std::io::Result<Writer<SimDisk>> {
    let (disk, claims, counters) = (disk.of_this_process(), Default::default(), Default::default());
    let means = Means { disk, name: "out".into(), claims, blocked: Default::default(), counters };
    restored(means, options, JOURNAL, state, Some(u64::MAX))
}

fn restored(
    means: Means<SimDisk>,
    options: &Options,
    journal: &str,
    state: State,
    again_bytes: Option<u64>,
) -> std::io::Result<Writer<SimDisk>> {
    Writer::new(means, options.clone(), Path::new(journal), &state)?.restore(state, again_bytes)
}

fn group(path: &str, text: &str) -> Group {
    let mut group = Group::new(path.into());
    group.bytes = text.into();
    group
}

fn decompress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::None => out.extend_from_slice(bytes),
        Compression::Gzip => {
            flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).expect("whole gzip members");
        }
        Compression::Zstd => {
            zstd::stream::read::Decoder::new(bytes).expect("zstd").read_to_end(&mut out).expect("whole zstd frames");
        }
    }
    out
}

/// The content of all files of a path, oldest first.
fn content(disk: &Outside, path: &str, compression: Compression) -> String {
    let mut all = Vec::new();
    for number in (0..1000).rev() {
        let name = if number == 0 { path.to_owned() } else { format!("{path}.{number}") };
        if let Ok(bytes) = disk.read(&name) {
            all.extend(decompress(compression, &bytes));
        }
    }
    String::from_utf8(all).expect("text")
}
