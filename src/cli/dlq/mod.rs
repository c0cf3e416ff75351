//! `dlq`: looks into the dead letter queue, sends letters again, and removes them.
//!
//! Guarantees: looking changes nothing. Replay and purge take sealed segments by renaming them, which works beside a running
//! engine; one that is being written is sealed first, by the engine if there is one. What is taken and not dealt with goes back.

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
use clap::{Args, Subcommand};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tailwater_shards::dlq::segment::{Entry, Found, Segment, list};
use tailwater_shards::dlq::{self, KeptLetter};
use tailwater_shards::env::Disk;
use tailwater_shards::glommio_env::RealDisk;

/// Look at dead letters, send them again, or remove them
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Count letters by component and reason
    Ls(ls::Arguments),
    /// Print letters as JSON, one a line
    Cat(cat::Arguments),
    /// Send the letters of outputs again; what is delivered is removed
    Replay(replay::Arguments),
    /// Remove letters
    Purge(purge::Arguments),
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    match &arguments.verb {
        Verb::Ls(arguments) => ls::run(arguments),
        Verb::Cat(arguments) => cat::run(arguments),
        Verb::Replay(arguments) => replay::run(arguments),
        Verb::Purge(arguments) => purge::run(arguments),
    }
}

/// The queue of a place; none if the configuration cannot be used.
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
    /// Letters that a replay or purge has taken out of the queue and not dealt with yet.
    claimed: bool,
}

impl Queue {
    fn open(root: PathBuf) -> anyhow::Result<Queue> {
        if !root.is_dir() {
            anyhow::bail!("{} is no directory: name the data directory with --data-dir or -c", root.display());
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

    /// Calls `each` for every letter, oldest segments of a shard first, until it says stop. Damage is reported.
    fn letters(&self, mut each: impl FnMut(&Entry, &KeptLetter<'_>) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        for folder in self.folders()? {
            for entry in self.segments(&folder.path)? {
                let segment = match Segment::open(&self.disk, &entry.path) {
                    Ok(segment) => segment,
                    // Whoever took it deals with it.
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
    anyhow::anyhow!("{}: {error}: run this as the user that owns the data directory", path.display())
}

/// A segment that is being written ends in the middle of things.
fn report_damage(entry: &Entry, offset: u64, bytes: u64) {
    if entry.sealed {
        let path = entry.path.display();
        output::complain(&format!(
            "note: {path}: {bytes} bytes from byte {offset} are damaged or of another version; they are passed over\n"
        ));
    }
}
