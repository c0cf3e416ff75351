//! Messages between the instances of the input on different shards.
//!
//! Guarantees: no message is lost when a mailbox is full: it waits here, in order, and the next flush sends it. An instance
//! starts by saying hello and ignores all messages until it is welcomed, so a restarted instance never acts on messages to
//! its predecessor.

use super::copies::End;
use super::home::Assignment;
use super::identify::Opened;
use super::identity::{Head, Inode};
use super::notes::Note;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tailwater_shards::env::{Monotonic, ShardId};
use tailwater_shards::plugin::Peers;
use tailwater_shards::wal::SourceState;

/// Number of a followed file; never reused.
pub type FileId = u64;

/// From the home shard to an owner.
pub enum ToOwner<F> {
    /// The hello was received; from now on, messages are for this instance.
    Welcome,
    /// The home shard's instance is new: say hello again.
    SayHello,
    /// Follow this file.
    Assign(Box<Assignment<F>>),
    /// These files may have changed.
    Modified(Vec<FileId>),
    /// The file now has another path.
    Moved(FileId, PathBuf),
    /// No path leads to the file any more.
    Away(FileId),
    /// Another file took the path of this one and may have the same content: see [`Replacement`].
    Replace(FileId, Box<Replacement<F>>),
    /// Another file took the path of this one, which has the name of a backup now: see [`Successor`].
    Compare(FileId, Box<Successor<F>>),
    /// The process ran out of descriptors: close some files.
    Shed,
}

/// A file that took the path of a followed one.
pub struct Replacement<F> {
    /// The path.
    pub path: PathBuf,
    /// The opened file.
    pub opened: Opened<F>,
    /// Whether it was put there in one step, in place of the old one. Programs that start a new file do not do this.
    pub in_one_step: bool,
}

/// A file at the path of one that is a backup now, and perhaps a copy of it that is still being written.
pub struct Successor<F> {
    /// The path.
    pub path: PathBuf,
    /// The opened file.
    pub opened: Opened<F>,
    /// The note by which the next start finds it while nobody follows it.
    pub note: Note,
    /// When it last grew, as far as it was seen.
    pub grown_at: Monotonic,
}

/// From an owner to the home shard.
pub enum ToHome<F> {
    /// The owner follows nothing yet; these are the known states of its sources.
    Hello(Arc<Vec<SourceState>>),
    /// The file is closed for good; this is how far it was read.
    Released(FileId, Box<SourceState>),
    /// The file's head, as far as it is known.
    Head(Head),
    /// A file with this head ended.
    Ended(Head, End),
    /// The file continues as this inode, at this path.
    Replaced(FileId, Inode, PathBuf),
    /// The file at its path has different content.
    NotReplaced(FileId, Box<Replacement<F>>),
    /// How far this file is a copy was found out.
    Compared(Box<Successor<F>>),
    /// The archive was not that of the file; it is closed.
    NotArchive(FileId),
}

/// The outgoing messages of one shard.
pub struct Post {
    peers: Rc<Peers>,
    waiting: RefCell<Vec<VecDeque<tailwater_shards::plugin::PeerMessage>>>,
}

impl Post {
    /// For messages to `shards` shards.
    pub fn new(peers: Rc<Peers>, shards: usize) -> Post {
        Post { peers, waiting: RefCell::new((0..shards).map(|_| VecDeque::new()).collect()) }
    }

    /// Sends a message, or keeps it for the next flush.
    pub fn send<M: Send + 'static>(&self, to: ShardId, message: M) {
        self.waiting.borrow_mut()[to.index()].push_back(Box::new(message));
        self.flush();
    }

    /// Sends waiting messages, as far as the mailboxes have room.
    pub fn flush(&self) {
        for (index, waiting) in self.waiting.borrow_mut().iter_mut().enumerate() {
            while let Some(message) = waiting.pop_front() {
                if let Err(message) = self.peers.send(ShardId(index as u16), message) {
                    waiting.push_front(message);
                    break;
                }
            }
        }
    }

    /// Whether messages wait for room.
    pub fn is_waiting(&self) -> bool {
        self.waiting.borrow().iter().any(|waiting| !waiting.is_empty())
    }
}
