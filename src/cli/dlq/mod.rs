//! `dlq`: lists, sends again, and removes dead letters.
//!
//! Guarantees: listing changes nothing. Replay and purge take sealed segments by renaming them, which also works while an
//! engine runs. An open segment is sealed first, by the engine if one runs. Dead letters that were taken but not processed are
//! put back.

mod cat;
mod choice;
mod claim;
mod ls;
mod purge;
mod replay;
#[cfg(test)]
mod tests;

use super::configuration::Place;
use super::{Exit, output};
use crate::app::advice;
use clap::{Args, Subcommand};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tailwater_shards::dlq::segment::{Entry, Found, Segment, list};
use tailwater_shards::dlq::{self, KeptLetter};
use tailwater_shards::env::Disk;
use tailwater_shards::glommio_env::RealDisk;

/// List dead letters, send them again, or remove them
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Count dead letters by component and reason
    Ls(ls::Arguments),
    /// Print dead letters as JSON, one per line
    Cat(cat::Arguments),
    /// Send the dead letters of outputs again, and remove those that are delivered
    Replay(replay::Arguments),
    /// Remove dead letters
    Purge(purge::Arguments),
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    match &arguments.verb {
        Verb::Ls(arguments) => ls::run(arguments),
        Verb::Cat(arguments) => cat::run(arguments),
        Verb::Replay(arguments) => replay::run(arguments),
        Verb::Purge(arguments) => purge::run(arguments),
    }
}

/// Opens the queue; none if the configuration cannot be used.
fn queue(place: &Place) -> anyhow::Result<Option<Queue>> {
    place.root().map(Queue::open).transpose()
}

/// The queue in a data directory.
struct Queue {
    root: PathBuf,
    disk: RealDisk,
}

/// A folder with segments.
struct Folder {
    path: PathBuf,
    /// Dead letters that a replay or purge has taken out of the queue and not processed yet.
    claimed: bool,
}

impl Queue {
    fn open(root: PathBuf) -> anyhow::Result<Queue> {
        if !root.exists() {
            anyhow::bail!("{} does not exist: set the data directory with --data-dir or -c", root.display());
        }
        if !root.is_dir() {
            anyhow::bail!("{} is not a directory: set the data directory with --data-dir or -c", root.display());
        }
        Ok(Queue { root, disk: RealDisk::new() })
    }

    fn path(&self) -> PathBuf {
        dlq::folder(&self.root)
    }

    /// All folders with segments, in order.
    fn folders(&self) -> anyhow::Result<Vec<Folder>> {
        let names = match self.disk.list(&self.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.map_err(|error| unreadable(&self.path(), &error))?,
        };
        let mut folders = Vec::new();
        for name in names.iter().filter_map(|entry| entry.name.to_str()) {
            if dlq::shard_of(name).is_some() {
                folders.push(Folder { path: self.path().join(name), claimed: false });
            } else if claim::is_claim(name) {
                folders.push(Folder { path: self.path().join(name), claimed: true });
            }
        }
        folders.sort_by(|a, b| (a.claimed, &a.path).cmp(&(b.claimed, &b.path)));
        Ok(folders)
    }

    fn segments(&self, folder: &Path) -> anyhow::Result<Vec<Entry>> {
        list(&self.disk, folder).map_err(|error| unreadable(folder, &error))
    }

    /// Calls `each` for every dead letter, the oldest segments of a shard first, until it returns false. Damage is reported.
    fn letters(&self, mut each: impl FnMut(&Entry, &KeptLetter<'_>) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        for folder in self.folders()? {
            for entry in self.segments(&folder.path)? {
                let segment = match Segment::open(&self.disk, &entry.path) {
                    Ok(segment) => segment,
                    // The process that took it handles it.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(unreadable(&entry.path, &error)),
                };
                let mut walk = segment.walk();
                while let Some(found) = walk.next().map_err(|error| unreadable(&entry.path, &error))? {
                    match found {
                        Found::Letter(kept) => {
                            if !each(&entry, &kept)? {
                                return Ok(());
                            }
                        }
                        Found::Damage { offset, bytes } => report_damage(&entry, offset, bytes),
                    }
                }
            }
        }
        Ok(())
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    anyhow::anyhow!("{}: {error}: {}", path.display(), advice::as_owner(path))
}

/// An open segment may end in an incomplete write.
fn report_damage(entry: &Entry, offset: u64, bytes: u64) {
    if entry.sealed {
        let path = entry.path.display();
        output::complain(&format!(
            "note: {path}: {} from byte {offset} skipped: damaged, or of another version\n",
            tailwater_shards::counted::counted(bytes, "byte")
        ));
    }
}
