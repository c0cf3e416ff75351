//! The files that one shard follows, and which of them have something to read.
//!
//! Guarantees: files with unread bytes take turns. A file that no path leads to any more stays open until it has been read and
//! has not grown for `rotate_wait`. If too many files are open, those that still have a path are closed: first quiet files that
//! are read, and at the limit also unread ones of the user who has most (see [`descriptors`]). Recently active files are
//! checked on each tick, quiet ones every ten seconds. Ticks come every second, and less often while all files are quiet. Holds
//! no lane: it may outlive the reader.

mod afar;
mod deleted;
pub mod descriptors;
mod generations;
mod replaced;
mod sides;
mod successors;
mod turns;
mod unread;

use super::StartAt;
use super::by_tree::ByTree;
use super::content::FileOf;
use super::follow::{Farewell, Followed};
use super::glimpse::{self, Glimpse};
use super::home::Assignment;
use super::notes::{Note, Notes};
use super::patience::Patience;
use super::patterns::Patterns;
use super::post::{FileId, Post, Replacement, Successor, ToHome};
use crate::codec::framing::Rules;
use crate::config::room::Room;
use afar::Looked;
use descriptors::OpenFiles;
use generations::Turn;
use sides::Sides;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::batch::Source;
use tailwater_shards::counters::InputCounters;
use tailwater_shards::env::{Env, File, Monotonic, ShardId};
use tailwater_shards::plugin::{InputContext, Ticket};
use tailwater_shards::signal::Signal;
use tailwater_shards::wal::SourceState;
use turns::Turns;
use unread::{Leaving, Standing};

/// How long after its last change a file counts as recently active.
const ACTIVE: Duration = Duration::from_secs(10);

/// Period in seconds in which each quiet file is checked once.
const QUIET_SECS: u64 = 10;

/// Seconds between ticks, and the same while all files are quiet.
const TICK_SECS: u64 = 1;
const TICK_QUIET_SECS: u64 = 4;

/// The settings that the shards use.
pub struct Options {
    /// How lines are split.
    pub rules: Rules,
    /// How long a rotated file is followed after it last grew.
    pub rotate_wait: Duration,
    /// Where reading starts at the first run.
    pub start_at: StartAt,
    /// Files older than this count as read when they are found for the first time.
    pub ignore_older: Option<Duration>,
    /// What is read, and where links may lead.
    pub patterns: Arc<Patterns>,
    /// Room for what is followed.
    pub room: Arc<Room>,
}

/// A followed file and its state among the others.
struct Slot<F> {
    /// None while the reader holds it.
    followed: Option<Box<Followed<F>>>,
    /// What can be checked while the reader holds it.
    glimpse: Option<Glimpse<F>>,
    /// Its path according to the home shard.
    path: PathBuf,
    /// Whether it is in the queue.
    queued: bool,
    /// Whether it was woken while the reader held it.
    woken: bool,
    /// Since when no path leads to it.
    away_since: Option<Monotonic>,
    /// Since when its last line may lack a newline, because the file was renamed.
    moved_since: Option<Monotonic>,
    /// Whether the wait is over and the current content is final.
    finish: bool,
    /// When it last changed.
    active_at: Monotonic,
    /// Its source in the WAL.
    source: Arc<Source>,
    /// The user that owns it.
    owner: u32,
    /// Its share of the counter of unread bytes.
    unread: u64,
    /// Bytes seen in it, its first unread byte, and what was last sent.
    seen_length: u64,
    position: u64,
    sent: Option<Ticket>,
    /// The same at the last tick.
    standing: Standing,
    /// The files that it waits for.
    turn: Turn,
    /// Files that took its path, in order.
    replacements: VecDeque<Box<Replacement<F>>>,
    /// The same, while it has the name of a backup.
    successors: VecDeque<Box<Successor<F>>>,
    /// The note on the one that the reader holds.
    comparing: Option<Note>,
    /// Whether it waits for the next tick after a failure, or while it rests.
    failed: bool,
    /// Whether its next turn is one of those for searches.
    searches: bool,
}

/// A file that the reader holds.
pub struct Taken<F> {
    /// Its number.
    pub id: FileId,
    /// The file.
    pub followed: Box<Followed<F>>,
    /// Whether an unfinished line at its end counts as complete.
    pub finish: bool,
    /// Whether no path leads to it.
    pub away: bool,
    /// Whether it has the turn of the files that search.
    pub searches: bool,
}

/// The result of the reader's turn with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is more to read.
    More,
    /// A search must go on before there is more to read: see [`turns`].
    Searching,
    /// Everything was read for now.
    Read,
    /// Everything was read, including the unfinished line, and nothing more is expected.
    Finished,
    /// It is not the expected file: it is released unread.
    NotIt,
    /// It failed; the next tick retries.
    Failed,
    /// Its dead letters wait for space, so it is not read; the next tick asks again.
    Rests,
}

impl Outcome {
    /// Whether it is not read to its end.
    pub fn goes_on(self) -> bool {
        matches!(self, Outcome::More | Outcome::Searching)
    }
}

/// See the module.
pub struct Owner<E: Env> {
    /// The environment.
    pub env: E,
    /// The settings.
    pub options: Rc<Options>,
    /// Sources that ended without a file.
    pub farewells: RefCell<VecDeque<Farewell>>,
    /// Raised when there is something to read.
    pub ready: Signal,
    post: Rc<Post>,
    /// What waits for jobs that may hang.
    pub patience: Rc<Patience<E>>,
    /// The notes for the next start.
    pub notebook: Notes<E>,
    /// Notes of an earlier run on files that are still being searched.
    pub carried: RefCell<Vec<Note>>,
    /// Messages to the home shard if this is the home shard.
    to_home: RefCell<Vec<ToHome<FileOf<E>>>>,
    counters: Arc<InputCounters>,
    input: Arc<str>,
    slots: RefCell<HashMap<FileId, Slot<FileOf<E>>>>,
    turns: Turns,
    sides: Sides,
    /// Files in trees that are slow whose metadata is requested, and what was found out late.
    slow: RefCell<ByTree<FileId>>,
    late: Rc<RefCell<Vec<Looked>>>,
    away: RefCell<HashSet<FileId>>,
    leaving: RefCell<Vec<Leaving>>,
    /// The archive that is being decompressed. Others wait, so that their windows are not all in memory at once.
    pub unpacking: Cell<Option<FileId>>,
    open_files: OpenFiles,
    unread: Cell<u64>,
    /// Whether it was told that deleted files hold much that is unread.
    told_of_deleted: Cell<bool>,
    /// Seconds that the ticks so far have covered.
    ticked_secs: Cell<u64>,
    ticked_at: Cell<Monotonic>,
    /// Whether no file has been active since the last tick.
    quiet: Cell<bool>,
    /// Raised when a file becomes active while all are quiet.
    stirred: Signal,
}

impl<E: Env> Owner<E> {
    /// An owner without files.
    pub fn new(context: &InputContext<E>, options: Rc<Options>, post: Rc<Post>) -> Owner<E> {
        let (env, input, patterns) = (context.env.clone(), context.name.clone(), options.patterns.clone());
        Owner {
            patience: Patience::new(env, input, context.counters.clone(), patterns),
            env: context.env.clone(),
            options,
            farewells: RefCell::default(),
            ready: Signal::new(),
            post,
            notebook: Notes::new(&context.env, &context.data_dir, &context.name),
            carried: RefCell::default(),
            unpacking: Cell::new(None),
            leaving: RefCell::default(),
            to_home: RefCell::default(),
            counters: context.counters.clone(),
            input: context.name.clone(),
            slots: RefCell::default(),
            turns: Turns::default(),
            sides: Sides::default(),
            slow: RefCell::default(),
            late: Rc::default(),
            away: RefCell::default(),
            open_files: OpenFiles::default(),
            unread: Cell::new(0),
            told_of_deleted: Cell::new(false),
            ticked_secs: Cell::new(0),
            ticked_at: Cell::new(context.env.now()),
            quiet: Cell::new(false),
            stirred: Signal::new(),
        }
    }

    /// Counts and reports an error. The input continues.
    pub fn error(&self, message: &str) {
        self.counters.errors.add(1);
        tracing::warn!(component_id = %self.input, component_kind = "input", "{message}");
    }

    /// Follows a file.
    pub fn assign(&self, assignment: Assignment<FileOf<E>>) {
        let Assignment { id, mut followed, before, has_path } = assignment;
        let now = self.env.now();
        let turn = self.wait_for(id, &before);
        if followed.file.is_some() {
            self.opened(followed.owner);
        }
        if has_path {
            self.close_beyond_share(&mut followed);
        }
        let slot = Slot {
            owner: followed.owner,
            path: followed.path.clone(),
            source: followed.source.clone(),
            seen_length: followed.seen_length,
            position: followed.span().from,
            sent: None,
            standing: Standing::new(followed.seen_length),
            turn,
            replacements: VecDeque::new(),
            successors: VecDeque::new(),
            comparing: None,
            followed: Some(followed),
            glimpse: None,
            queued: false,
            woken: false,
            away_since: None,
            moved_since: None,
            finish: false,
            active_at: now,
            unread: 0,
            failed: false,
            searches: false,
        };
        self.slots.borrow_mut().insert(id, slot);
        self.counters.files.set(self.slots.borrow().len() as u64);
        self.count_unread(id);
        self.wake(id);
    }

    /// Marks a file as active and queues it.
    pub fn wake(&self, id: FileId) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(&id) {
            slot.active_at = self.env.now();
            self.enqueue(id, slot);
        }
    }

    fn stir(&self) {
        if self.quiet.replace(false) {
            self.stirred.notify();
        }
    }

    /// Completes when a file becomes active while all are quiet: the next tick is then due earlier.
    pub async fn stirred(&self) {
        self.stirred.wait().await;
    }

    /// Whether no file is active.
    pub fn is_quiet(&self) -> bool {
        self.quiet.get()
    }

    /// The time of the tick after `now`. Pass `quiet` if the caller's own periodic work may become less frequent too.
    pub fn next_tick(&self, now: Monotonic, quiet: bool) -> Monotonic {
        let secs = if quiet && self.is_quiet() { TICK_QUIET_SECS } else { TICK_SECS };
        now.after(now.until_next(Duration::from_secs(secs)))
    }

    /// The file now has another path.
    pub fn moved(&self, id: FileId, path: PathBuf) {
        let now = self.env.now();
        if let Some(slot) = self.slots.borrow_mut().get_mut(&id) {
            slot.path = path;
            slot.away_since = None;
            slot.moved_since = Some(now);
            slot.finish = false;
            self.away.borrow_mut().remove(&id);
            self.enqueue(id, slot);
        }
    }

    /// No path leads to the file any more.
    pub fn gone_away(&self, id: FileId) {
        let now = self.env.now();
        if let Some(slot) = self.slots.borrow_mut().get_mut(&id) {
            slot.away_since = Some(now);
            slot.finish = false;
            self.away.borrow_mut().insert(id);
            self.enqueue(id, slot);
        }
    }

    /// Queues the record of a source that no file continues.
    pub fn say_farewell(&self, farewell: Farewell) {
        self.farewells.borrow_mut().push_back(farewell);
        self.ready.notify();
    }

    /// Takes the next file from the queue.
    pub fn take(&self) -> Option<(FileId, Taken<FileOf<E>>)> {
        loop {
            let (id, searches) = self.turns.next(|| self.env.now())?;
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slots.get_mut(&id) else { continue };
            if self.waits_for_others(id, &slot.path) {
                continue;
            }
            slot.queued = false;
            slot.woken = false;
            let Some(mut followed) = slot.followed.take() else { continue };
            if followed.path != slot.path {
                followed.path.clone_from(&slot.path);
            }
            slot.glimpse = Glimpse::of(&followed);
            slot.source.clone_from(&followed.source);
            let (finish, away) = (slot.finish, slot.away_since.is_some());
            return Some((id, Taken { id, followed, finish, away, searches }));
        }
    }

    /// The greatest length that was seen in a file since the reader took it.
    pub fn seen_meanwhile(&self, id: FileId) -> u64 {
        let slots = self.slots.borrow();
        slots.get(&id).and_then(|slot| slot.glimpse.as_ref()).map_or(0, Glimpse::seen_length)
    }

    /// Bytes seen in the file since the reader took it no longer exist.
    pub fn forget_seen(&self, id: FileId) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(&id) {
            slot.glimpse = None;
        }
    }

    /// Returns a file after its turn.
    pub fn put_back(&self, id: FileId, followed: Box<Followed<FileOf<E>>>, outcome: Outcome) {
        let mut waiters = Vec::new();
        {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slots.get_mut(&id) else { return self.env.discard(followed) };
            slot.glimpse = None;
            slot.searches = outcome == Outcome::Searching;
            let again = slot.woken || outcome.goes_on();
            if !Arc::ptr_eq(&slot.source, &followed.source) {
                slot.source.clone_from(&followed.source);
            }
            if outcome == Outcome::NotIt || outcome == Outcome::Finished && !slot.woken {
                if outcome == Outcome::NotIt || slot.away_since.is_some() {
                    slot.followed = Some(followed);
                    drop(slots);
                    return self.release(id);
                }
                slot.moved_since = None;
            }
            slot.finish = false;
            slot.failed = outcome == Outcome::Failed || outcome == Outcome::Rests;
            if slot.failed {
                self.stir();
            }
            let followed = slot.followed.insert(followed);
            let reachable = slot.away_since.is_none() && (slot.moved_since.is_none() || self.open_files.is_crowded());
            let is_read = outcome == Outcome::Read && followed.is_read();
            if reachable && is_read && self.open_files.excess() > 0 {
                self.close(followed);
            } else if reachable && slot.replacements.is_empty() {
                self.close_beyond_share(followed);
            }
            let again = again || !slot.replacements.is_empty();
            if again && !slot.failed {
                self.enqueue(id, slot);
            }
            if slot.turn.is_waited_for() {
                waiters = Self::over_for(slot, outcome);
            }
        }
        self.end_waits(waiters);
        self.count_unread(id);
    }

    /// Sends a message to the home shard.
    pub fn tell_home(&self, message: ToHome<FileOf<E>>) {
        match self.env.shard() {
            ShardId(0) => self.to_home.borrow_mut().push(message),
            _ => self.post.send(ShardId(0), message),
        }
    }

    /// The messages to the home shard if this is the home shard.
    pub fn messages_to_home(&self) -> Vec<ToHome<FileOf<E>>> {
        self.to_home.take()
    }

    /// The next record of a source that ended without a file.
    pub fn next_farewell(&self) -> Option<Farewell> {
        self.farewells.borrow_mut().pop_front()
    }

    /// Whether a file is followed here.
    pub fn follows(&self, id: FileId) -> bool {
        self.slots.borrow().contains_key(&id)
    }

    /// Whether no files are followed.
    pub fn is_idle(&self) -> bool {
        self.slots.borrow().is_empty() && !self.is_leaving()
    }

    /// Drops all files and returns how far each was read. A file that the reader holds is missing: it is read again from
    /// where the WAL ends.
    pub fn forget_all(&self) -> Vec<SourceState> {
        let slots = self.slots.take();
        let states = slots.values().filter_map(|slot| Some(slot.followed.as_ref()?.state())).collect();
        self.env.discard(slots);
        self.turns.clear();
        self.sides.clear();
        self.away.borrow_mut().clear();
        self.open_files.clear();
        self.unread.set(0);
        self.counters.files.set(0);
        self.counters.unread_bytes.set(0);
        states
    }

    /// Closes all files where blocking is allowed, at the end of the input.
    pub fn close_all(&self) {
        self.env.discard(self.slots.take());
    }

    /// Checks the files that are due, wakes those that changed, and ends the wait for late writes. Called at the times that
    /// [`Owner::next_tick`] returns.
    pub async fn tick(&self) {
        let now = self.env.now();
        let passed = now.since(self.ticked_at.replace(now)) + Duration::from_millis(500);
        let secs = passed.as_secs().clamp(1, QUIET_SECS);
        let begin = self.ticked_secs.get();
        self.ticked_secs.set(begin + secs);
        let closed = self.look_at_open_files(now, begin..begin + secs);
        self.take_stats(self.late.take());
        let closed = self.leave_slow(closed);
        self.look_at_closed_files(closed).await;
        self.look_at_slow_files().await;
        self.recover_descriptors(now);
        self.close_quiet_files(now);
        self.count_deleted();
        self.patience.count();
    }

    /// Checks open files. Returns the paths of due files that are closed or remote. Of the quiet files, those whose second is
    /// in `secs` are due.
    fn look_at_open_files(&self, now: Monotonic, secs: std::ops::Range<u64>) -> Vec<(FileId, PathBuf)> {
        let mut closed = Vec::new();
        let mut quiet = true;
        let in_turn = |id: FileId| (id + QUIET_SECS - secs.start % QUIET_SECS) % QUIET_SECS < secs.end - secs.start;
        for (&id, slot) in self.slots.borrow_mut().iter_mut() {
            let recent = now.since(slot.active_at) < ACTIVE || slot.away_since.is_some() || slot.moved_since.is_some();
            quiet &= !recent && !slot.failed;
            if !slot.successors.is_empty() {
                self.enqueue(id, slot);
            }
            let has_room = slot.followed.as_ref().is_some_and(|followed| followed.room_begin().is_some());
            let due = recent || slot.failed || has_room || in_turn(id);
            if let Some(growth) = slot.glimpse.as_mut().map(Glimpse::look) {
                slot.unread += growth;
                slot.seen_length += growth;
                self.unread.set(self.unread.get() + growth);
                self.counters.unread_bytes.set(self.unread.get());
            }
            let Some(followed) = slot.followed.as_mut().filter(|_| due) else { continue };
            if followed.file.as_ref().is_none_or(|file| file.is_remote()) {
                closed.push((id, slot.path.clone()));
                continue;
            }
            let changed = glimpse::look(followed, now);
            let unread = !followed.is_read();
            if changed {
                slot.active_at = now;
                self.count(slot);
            }
            self.end_wait(slot, now);
            if changed || unread || slot.failed || slot.finish {
                slot.failed = false;
                self.enqueue(id, slot);
                quiet = false;
            }
        }
        self.quiet.set(quiet);
        closed
    }

    /// Ends the wait for late writes to a file that was renamed or deleted.
    fn end_wait(&self, slot: &mut Slot<FileOf<E>>, now: Monotonic) {
        let Some(followed) = slot.followed.as_ref() else { return };
        let Some(since) = slot.away_since.or(slot.moved_since) else { return };
        let quiet_since = since.max(followed.grown_at);
        if followed.is_read() && now.since(quiet_since) >= self.options.rotate_wait {
            slot.finish = true;
        }
    }

    fn release(&self, id: FileId) {
        let Some(mut slot) = self.slots.borrow_mut().remove(&id) else { return };
        self.end_waits_for(&mut slot);
        self.leave(&slot);
        for replacement in std::mem::take(&mut slot.replacements) {
            self.tell_home(ToHome::NotReplaced(id, replacement));
        }
        for successor in std::mem::take(&mut slot.successors) {
            self.tell_home(ToHome::Compared(successor));
        }
        self.away.borrow_mut().remove(&id);
        self.unread.set(self.unread.get() - slot.unread);
        self.counters.unread_bytes.set(self.unread.get());
        self.counters.files.set(self.slots.borrow().len() as u64);
        let Some(mut followed) = slot.followed else { return };
        // Sent before the descriptor is closed: only then can the inode be reused.
        self.tell_home(ToHome::Released(id, Box::new(followed.state())));
        self.close(&mut followed);
    }
}
