//! The manifest as text: what a data directory records in addition to its logs.
//!
//! ```text
//! tailwater-data 2
//! next_log 8
//! logs 1 2 6
//! begun 7
//! lost 31 4
//! output 0 present search
//! output 1 removed archive
//! checksum 9a3bf210
//! ```
//!
//! `logs` are those that had segments when the last start found them, and `begun` those that had none yet. A missing log of either
//! list was lost, because a drained log leaves the manifest before its first segment is removed. `lost` lists the epoch that a start
//! was to write, followed by the logs that this start found to be lost: if a log has that epoch, the loss has been reported and is
//! recorded in the logs. An output has its number, whether it is in the configuration or was removed from it while events for it may
//! be in a log, and its name, in which `\` and line ends are escaped. The checksum is the CRC-32C of all bytes before its line, in
//! hexadecimal. Version 1 has only the first two lines and no checksum. A person who repairs a manifest writes `tailwater-data 1`,
//! and may add lines for outputs.
//!
//! Guarantees: what is written is read back unchanged. A changed byte is detected, and so is anything after the checksum.

use crate::limits::OUTPUTS_MAX;
use crate::wal::{LogId, OutputNumber, RegistryEntry};
use std::fmt::Write as _;

/// The format of the data directory that this code writes. It also reads version 1.
pub const FORMAT_VERSION: u32 = 2;

/// The content of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The number of the next log.
    pub next_log: u64,
    /// The logs.
    pub logs: KnownLogs,
    /// Outputs by number.
    pub outputs: Vec<RegistryEntry>,
}

/// The logs that should exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownLogs {
    /// Logs that had segments.
    pub written: Vec<LogId>,
    /// Logs with a directory and no segment yet.
    pub begun: Vec<LogId>,
    /// Logs that were found to be lost.
    pub lost: Vec<LogId>,
    /// The epoch of the start that found this: if a log has this epoch, the loss is recorded.
    pub lost_epoch: u32,
}

impl KnownLogs {
    pub(super) fn all(&mut self) -> [&mut Vec<LogId>; 3] {
        [&mut self.written, &mut self.begun, &mut self.lost]
    }
}

const DAMAGED: &str = "the manifest is damaged: restore it from a copy, or write the two lines \"tailwater-data 1\" and \"next_log N\" \
                       in its place, with N greater than the number of every log that ever existed here";

impl Manifest {
    pub(super) fn encode(&self) -> String {
        let mut text = format!("tailwater-data {FORMAT_VERSION}\nnext_log {}\n", self.next_log);
        let KnownLogs { written, begun, lost, lost_epoch } = &self.logs;
        for (word, logs) in [("logs".into(), written), ("begun".into(), begun), (format!("lost {lost_epoch}"), lost)] {
            if !logs.is_empty() {
                let logs: Vec<String> = logs.iter().map(|log| log.0.to_string()).collect();
                let _ = writeln!(text, "{word} {}", logs.join(" "));
            }
        }
        for RegistryEntry { number, name, removed } in &self.outputs {
            let name = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
            let _ = writeln!(text, "output {} {}{name}", number.0, if *removed { "removed " } else { "present " });
        }
        let checksum = crc_fast::crc32_iscsi(text.as_bytes());
        let _ = writeln!(text, "checksum {checksum:08x}");
        text
    }

    pub(super) fn decode(text: &str) -> Result<Manifest, String> {
        let version =
            text.lines().next().and_then(|line| line.strip_prefix("tailwater-data ")?.trim().parse::<u32>().ok());
        let version = version.ok_or(DAMAGED)?;
        if version > FORMAT_VERSION {
            return Err(format!(
                "the data directory has format {version} and this program knows {FORMAT_VERSION}: start the version that \
                 wrote it, or name another data_dir"
            ));
        }
        let mut manifest = Manifest::default();
        let (mut from, mut sound, mut ended) = (0, version == 1, false);
        for line in text.split_inclusive('\n') {
            // What is behind the checksum, it does not cover.
            if ended && version > 1 {
                return Err(DAMAGED.to_owned());
            }
            match line.trim_end_matches(['\n', '\r']).split_once(' ') {
                Some(("next_log", number)) => manifest.next_log = number.trim().parse().unwrap_or(0),
                Some(("logs", logs)) => manifest.logs.written = numbers(logs)?,
                Some(("begun", logs)) => manifest.logs.begun = numbers(logs)?,
                Some(("lost", lost)) => {
                    let (epoch, logs) = lost.split_once(' ').ok_or(DAMAGED)?;
                    manifest.logs.lost_epoch = epoch.parse().map_err(|_| DAMAGED)?;
                    manifest.logs.lost = numbers(logs)?;
                }
                Some(("output", entry)) => manifest.outputs.push(output(entry).ok_or(DAMAGED)?),
                Some(("checksum", sum)) => {
                    let wanted = crc_fast::crc32_iscsi(&text.as_bytes()[..from]);
                    sound |= u32::from_str_radix(sum.trim(), 16) == Ok(wanted);
                    ended = true;
                }
                _ => {}
            }
            from += line.len();
        }
        if !sound {
            return Err(format!("{DAMAGED}; if you edit the manifest, write `tailwater-data 1` in its first line"));
        }
        match version > 0 && manifest.next_log > 0 && manifest.is_sound() {
            true => Ok(manifest),
            false => Err(DAMAGED.to_owned()),
        }
    }

    fn is_sound(&self) -> bool {
        let mut seen = 0u64;
        self.outputs.iter().all(|output| {
            let new = seen & output.number.bit() == 0;
            seen |= output.number.bit();
            new
        })
    }
}

fn numbers(logs: &str) -> Result<Vec<LogId>, &'static str> {
    logs.split_whitespace().map(|text| text.parse().map(LogId).map_err(|_| DAMAGED)).collect()
}

fn output(entry: &str) -> Option<RegistryEntry> {
    let (number, rest) = entry.split_once(' ')?;
    let number = number.parse().ok().filter(|number| usize::from(*number) < OUTPUTS_MAX).map(OutputNumber)?;
    let (word, name) = rest.split_once(' ')?;
    let removed = match word {
        "present" => false,
        "removed" => true,
        _ => return None,
    };
    Some(RegistryEntry { number, name: unescape(name)?, removed })
}

fn unescape(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry =
            |number, name: &str, removed| RegistryEntry { number: OutputNumber(number), name: name.into(), removed };
        let logs = KnownLogs {
            written: vec![LogId(1), LogId(6)],
            begun: vec![LogId(7)],
            lost: vec![LogId(2), LogId(3)],
            lost_epoch: 12,
        };
        Manifest { next_log: 8, logs, outputs: vec![entry(0, "es", false), entry(5, "two words\n\\n", true)] }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Manifest::decode(&manifest().encode()), Ok(manifest()));
        let first = Manifest { next_log: 3, ..Manifest::default() };
        assert_eq!(Manifest::decode("tailwater-data 1\nnext_log 3\n"), Ok(first));
    }

    #[test]
    fn a_flipped_bit_is_noticed_or_changes_nothing() {
        let text = manifest().encode();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let read = Manifest::decode(&String::from_utf8_lossy(&bytes));
                assert!(read.is_err() || read == Ok(manifest()), "bit {bit} of byte {at}: {read:?}");
            }
        }
    }

    #[test]
    fn nothing_behind_the_checksum_counts() {
        let text = manifest().encode();
        for more in ["output 9 present es\n", "\n", "next_log 99\n", &text] {
            assert!(Manifest::decode(&format!("{text}{more}")).is_err(), "{more:?}");
        }
        let repaired = format!("{}output 9 present more\n", text.replacen("tailwater-data 2", "tailwater-data 1", 1));
        let read = Manifest::decode(&repaired).expect("a person writes lines where they like");
        assert_eq!(read.outputs.len(), manifest().outputs.len() + 1);
    }
}
