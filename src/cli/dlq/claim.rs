//! Takes dead letters out of the queue, and puts them back.
//!
//! Guarantees: at every moment, each dead letter is in the queue or in a claim; after a crash it is in one of them or in both.
//! There is one claim at a time. A claim of a process that died is put back when the next claim is made.

use super::super::output;
use super::{Queue, unreadable};
use crate::app::{advice, data_dir, users};
use anyhow::Context;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tailwater_shards::dlq::segment::{Entry, Found, Header, Sealed, Segment, file_name, header};
use tailwater_shards::dlq::settle::{Torn, settle};
use tailwater_shards::dlq::store::{SEAL_REQUEST, move_into};
use tailwater_shards::dlq::{KeptLetter, shard_folder};
use tailwater_shards::env::{Disk, ShardId};
use tailwater_shards::glommio_env::RealDisk;
use tailwater_shards::wal::manifest::lock_path;

/// How long to wait for a running engine to seal a segment.
const SEAL_WAIT: Duration = Duration::from_secs(10);
const SEAL_LOOK: Duration = Duration::from_millis(50);

const CLAIM: &str = "claim-";

/// Whether a folder of the queue is a claim.
pub fn is_claim(name: &str) -> bool {
    name.starts_with(CLAIM)
}

/// Dead letters that were taken out of the queue.
pub struct Claim {
    /// Where they are.
    pub folder: PathBuf,
    /// The segments that contain them, and nothing else.
    pub segments: Vec<PathBuf>,
    /// Their number, and the size of the longest original in bytes.
    pub letters: u64,
    /// See [`Claim::letters`].
    pub longest: usize,
    /// Whether an engine runs on the data directory.
    pub engine_runs: bool,
    disk: RealDisk,
    home: PathBuf,
    /// Allows only one claim at a time.
    _lock: <RealDisk as Disk>::Lock,
}

impl Queue {
    /// Takes the dead letters that `wanted` selects out of the queue.
    pub fn claim(&self, wanted: impl Fn(&KeptLetter<'_>) -> bool) -> anyhow::Result<Claim> {
        refuse_of_others(&self.root)?;
        let path = self.path();
        self.disk.create_dir_all(&path).map_err(|error| unreadable(&path, &error))?;
        let lock = self.disk.lock(&path.join("lock")).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => {
                anyhow::anyhow!(
                    "another `tailwater dlq replay` or `purge` is running on this data directory: wait until it ends"
                )
            }
            _ => unreadable(&path, &error),
        })?;
        // No engine can start while the open segments of an earlier one are sealed.
        let engine = self.engine_lock()?;
        self.put_back_all()?;
        match &engine {
            Some(_) => self.settle_all()?,
            None => self.ask_for_seals()?,
        }
        let number = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
        let folder = path.join(format!("{CLAIM}{number:016}"));
        self.disk.create_dir_all(&folder).map_err(|error| unreadable(&folder, &error))?;
        let home = shard_folder(&self.root, ShardId(0));
        let (segments, disk) = (Vec::new(), self.disk.clone());
        let engine_runs = engine.is_none();
        let mut claim = Claim { folder, segments, letters: 0, longest: 0, engine_runs, disk, home, _lock: lock };
        for shard in self.folders()?.into_iter().filter(|folder| !folder.claimed) {
            for entry in self.segments(&shard.path)?.into_iter().filter(|entry| entry.sealed) {
                claim.take(&entry, &wanted).with_context(|| format!("{} cannot be taken", entry.path.display()))?;
            }
        }
        Ok(claim)
    }

    /// The lock of the data directory; none if an engine holds it.
    fn engine_lock(&self) -> anyhow::Result<Option<<RealDisk as Disk>::Lock>> {
        let path = lock_path(&self.root);
        match self.disk.lock(&path) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    fn open_segments(&self) -> anyhow::Result<Vec<Entry>> {
        let mut open = Vec::new();
        for folder in self.folders()?.into_iter().filter(|folder| !folder.claimed) {
            open.extend(self.segments(&folder.path)?.into_iter().filter(|entry| !entry.sealed));
        }
        Ok(open)
    }

    fn settle_all(&self) -> anyhow::Result<()> {
        for entry in self.open_segments()? {
            report(settle(&self.disk, &entry).map_err(|error| unreadable(&entry.path, &error))?);
        }
        Ok(())
    }

    /// Asks the running engine to seal the segments that are open now.
    fn ask_for_seals(&self) -> anyhow::Result<()> {
        let open = self.open_segments()?;
        for entry in &open {
            let request = entry.path.with_file_name(SEAL_REQUEST);
            std::fs::write(&request, b"").map_err(|error| unreadable(&request, &error))?;
        }
        let begun = Instant::now();
        while open.iter().any(|entry| entry.path.exists()) {
            if begun.elapsed() >= SEAL_WAIT {
                output::complain(
                    "note: the running Tailwater did not seal its open segment in time: the letters in it stay in the queue\n",
                );
                return Ok(());
            }
            pause(SEAL_LOOK);
        }
        Ok(())
    }

    /// Puts back the claims of processes that died.
    fn put_back_all(&self) -> anyhow::Result<()> {
        let home = shard_folder(&self.root, ShardId(0));
        for folder in self.folders()?.into_iter().filter(|folder| folder.claimed) {
            put_back(&self.disk, &folder.path, &home).map_err(|error| unreadable(&folder.path, &error))?;
            output::complain(&format!(
                "note: letters that an interrupted run had taken are back in the queue: {}\n",
                folder.path.display()
            ));
        }
        Ok(())
    }
}

impl Claim {
    /// Takes the selected dead letters of a segment; the others stay in the queue.
    fn take(&mut self, entry: &Entry, wanted: impl Fn(&KeptLetter<'_>) -> bool) -> anyhow::Result<()> {
        let segment = match Segment::open(&self.disk, &entry.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            segment => segment?,
        };
        if let Header::Foreign(version) = segment.header() {
            let path = entry.path.display();
            output::complain(&format!(
                "note: {path} was written by another version (format {version}): its letters stay in the queue\n"
            ));
            return Ok(());
        }
        let (mut letters, mut others, mut damaged) = (0, 0, false);
        let mut walk = segment.walk();
        while let Some(found) = walk.next()? {
            match found {
                Found::Letter(kept) if wanted(&kept) => {
                    letters += 1;
                    self.longest = self.longest.max(kept.letter.original.len());
                }
                Found::Letter(_) => others += 1,
                Found::Damage { offset, bytes } => {
                    damaged = true;
                    super::report_damage(entry, offset, bytes);
                }
            }
        }
        if letters == 0 {
            return Ok(());
        }
        // Two shards may have created a segment in the same microsecond.
        let names = (entry.number..).map(|number| self.folder.join(file_name(number, true)));
        let Some(taken) = names.into_iter().find(|path| !path.exists()) else { return Ok(()) };
        if others == 0 && !damaged {
            self.disk.rename(&entry.path, &taken)?;
        } else {
            // The engine may drop its oldest segment meanwhile, so the segment is moved away first, and the part that stays is
            // written back.
            let aside = taken.with_extension("taken");
            self.disk.rename(&entry.path, &aside)?;
            self.split(&segment, entry, &taken, others > 0, wanted)?;
            if damaged {
                // A damaged segment is kept, so that someone can look at it.
                self.disk.rename(&aside, &entry.path.with_extension("damaged"))?;
            } else {
                self.disk.remove(&aside)?;
            }
        }
        self.disk.sync_dir(&self.folder)?;
        self.letters += letters;
        self.segments.push(taken);
        Ok(())
    }

    /// Writes the selected dead letters of a segment to `taken`, and the others, if there are any, back into the queue.
    fn split(
        &self,
        segment: &Segment<<RealDisk as Disk>::File>,
        entry: &Entry,
        taken: &Path,
        others: bool,
        wanted: impl Fn(&KeptLetter<'_>) -> bool,
    ) -> anyhow::Result<()> {
        let begin = |path: &Path| -> std::io::Result<Sealed<<RealDisk as Disk>::File>> {
            let mut out = Sealed::begin(&self.disk, path)?;
            out.write(&header(0, entry.number))?;
            Ok(out)
        };
        let mut mine = begin(taken)?;
        let mut rest = if others { Some(begin(&entry.path)?) } else { None };
        let mut walk = segment.walk();
        while let Some(found) = walk.next()? {
            match (found, &mut rest) {
                (Found::Letter(kept), _) if wanted(&kept) => mine.keep(&kept)?,
                (Found::Letter(kept), Some(rest)) => rest.keep(&kept)?,
                _ => {}
            }
        }
        mine.finish(&self.disk)?;
        rest.map_or(Ok(()), |rest| rest.finish(&self.disk))?;
        Ok(())
    }

    /// Ends the claim and removes its dead letters.
    pub fn finish(self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.folder).map_err(|error| unreadable(&self.folder, &error))
    }

    /// Ends the claim and puts its dead letters back.
    pub fn give_back(self) -> anyhow::Result<()> {
        put_back(&self.disk, &self.folder, &self.home).map_err(|error| unreadable(&self.folder, &error))
    }

    /// Moves the sealed segments of another folder into the queue.
    pub fn hand_over(&self, from: &Path) -> anyhow::Result<()> {
        for entry in tailwater_shards::dlq::segment::list(&self.disk, from)? {
            if !entry.sealed {
                report(settle(&self.disk, &entry)?);
            }
        }
        for entry in tailwater_shards::dlq::segment::list(&self.disk, from)? {
            move_into(&self.disk, &entry.path, entry.number, &self.home)?;
        }
        Ok(())
    }
}

/// Says what was cut from a segment that a process left open.
fn report(torn: Option<Torn>) {
    if let Some(torn) = torn {
        output::complain(&format!("note: {torn}\n"));
    }
}

/// Refuses a data directory of another user, before anything is made in it: that user's service could not open it. Root could give files
/// away after they are made, but outputs and the engine of a replay make files of their own, and a crash would leave them with root.
/// Refuses one that others can change too, as a start does.
fn refuse_of_others(root: &Path) -> anyhow::Result<()> {
    let shown = root.display();
    if let Some(owner) = data_dir::keeper(root) {
        anyhow::bail!(
            "{shown}, or something in it, belongs to the user {}, who could not open what another user makes there; nothing was \
             changed. Run:\n  {}",
            users::shown(owner),
            advice::again_as(owner, root)
        );
    }
    if let Some(data_dir::Objection { what, help }) = data_dir::exposure(root) {
        anyhow::bail!("the data directory {shown}: {what}; nothing was changed; {help}");
    }
    Ok(())
}

/// Moves the segments of a claim back and removes its folder.
fn put_back(disk: &RealDisk, folder: &Path, home: &Path) -> std::io::Result<()> {
    // A segment that was being split when its process died still exists as a whole.
    for entry in disk.list(folder)? {
        let path = folder.join(&entry.name);
        if path.extension().is_some_and(|ending| ending == "taken") {
            disk.rename(&path, &path.with_extension("seg"))?;
        }
    }
    for entry in tailwater_shards::dlq::segment::list(disk, folder)? {
        move_into(disk, &entry.path, entry.number, home)?;
    }
    std::fs::remove_dir_all(folder)
}

#[expect(clippy::disallowed_methods, reason = "a command waits for another process, beside no shard")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
