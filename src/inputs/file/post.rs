//! What the instances of the input on different shards tell each other.
//!
//! Guarantees: no message is lost when a mailbox is full: it waits here, in order, and the next flush sends it. A shard's
//! instance starts by saying hello and believes nothing before the welcome, so that a restarted instance never acts on what
//! was meant for the one before it.

use super::copies::End;
use super::home::Assignment;
use super::identify::Opened;
use super::identity::{Head, Inode};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tailwater_shards::env::ShardId;
use tailwater_shards::plugin::Peers;
use tailwater_shards::wal::SourceState;

/// Number of a followed file; never reused.
pub type FileId = u64;

/// From the home shard to an owner.
pub enum ToOwner<F> {
    /// The owner's hello was heard; what comes now is meant for it.
    Welcome,
    /// The home shard's instance is new: say hello again.
    SayHello,
    /// Follow this file.
    Assign(Box<Assignment<F>>),
    /// These files may have changed.
    Modified(Vec<FileId>),
    /// The file is now found under another path.
    Moved(FileId, PathBuf),
    /// No path leads to the file any more.
    Away(FileId),
    /// Another file took the path of this one, which may be the same text: see [`Replacement`].
    Replace(FileId, Box<Replacement<F>>),
    /// Descriptors ran out: close some.
    Shed,
}

/// A file that took the path of a followed one.
pub struct Replacement<F> {
    /// The path.
    pub path: PathBuf,
    /// The file, with its descriptor.
    pub opened: Opened<F>,
    /// Whether it was put there in one step, in place of the old one: nobody makes a file that begins anew like that.
    pub in_one_step: bool,
}

/// From an owner to the home shard.
pub enum ToHome<F> {
    /// The owner follows nothing yet; this is what is known of its sources.
    Hello(Arc<Vec<SourceState>>),
    /// The file is closed for good; how far it was read.
    Released(FileId, Box<SourceState>),
    /// The file's beginning, as far as it is now known.
    Head(Head),
    /// A file with this beginning has ended.
    Ended(Head, End),
    /// The file goes on as this inode, at this path.
    Replaced(FileId, Inode, PathBuf),
    /// The file at its path is another text.
    NotReplaced(FileId, Box<Replacement<F>>),
    /// What was taken for the archive of a file is not; the file is closed.
    NotArchive(FileId),
}

/// The mail of one shard.
pub struct Post {
    peers: Rc<Peers>,
    waiting: RefCell<Vec<VecDeque<tailwater_shards::plugin::PeerMessage>>>,
}

impl Post {
    /// Mail to `shards` shards.
    pub fn new(peers: Rc<Peers>, shards: usize) -> Post {
        Post { peers, waiting: RefCell::new((0..shards).map(|_| VecDeque::new()).collect()) }
    }

    /// Sends a message, or keeps it for the next flush.
    pub fn send<M: Send + 'static>(&self, to: ShardId, message: M) {
        self.waiting.borrow_mut()[to.index()].push_back(Box::new(message));
        self.flush();
    }

    /// Sends what waits, as far as the mailboxes have room.
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
