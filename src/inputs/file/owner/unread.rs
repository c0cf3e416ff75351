//! Bytes of followed files that are not read yet or not in the WAL yet: counted, and noted for the next start.
//!
//! Guarantees: a file is noted if bytes that existed at the last tick are still unread, or if what was read before that tick
//! is not in the WAL. This includes files that were released in the meantime. Reads only file heads that are in the page
//! cache, and writes nothing.

use super::super::content::FileOf;
use super::super::identity::{Descriptor, HEAD_BYTES, Head, Identity};
use super::super::notes::Note;
use super::super::post::FileId;
use super::{Owner, Slot};
use std::path::Path;
use tailwater_shards::env::{Env, File};
use tailwater_shards::plugin::{Lanes, Ticket};

/// The state of a file at the last tick.
#[derive(Clone, Copy, Default)]
pub(super) struct Standing {
    /// Bytes that were seen.
    seen_length: u64,
    /// What was last sent.
    sent: Option<Ticket>,
}

impl Standing {
    /// For a file that was just assigned: all its bytes are to be read.
    pub(super) fn new(seen_length: u64) -> Standing {
        Standing { seen_length, sent: None }
    }
}

/// A released file whose last bytes may not be in the WAL yet.
pub(super) struct Leaving {
    note: Note,
    sent: Ticket,
    /// Whether a tick has seen it.
    seen: bool,
}

impl<E: Env> Owner<E> {
    pub(super) fn count_unread(&self, id: FileId) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(&id) {
            self.count(slot);
        }
    }

    pub(super) fn count(&self, slot: &mut Slot<FileOf<E>>) {
        let Some(followed) = slot.followed.as_ref() else { return };
        let unread = followed.unread();
        self.unread.set(self.unread.get() - slot.unread + unread);
        slot.unread = unread;
        slot.seen_length = followed.seen_length;
        slot.position = followed.span().from;
        slot.sent = followed.sent;
        self.counters.unread_bytes.set(self.unread.get());
    }

    /// Keeps the note on a released file until all of the file is in the WAL.
    pub(super) fn leave(&self, slot: &Slot<FileOf<E>>) {
        let Some(followed) = &slot.followed else { return };
        if let Some(sent) = followed.sent {
            let descriptor = followed.source.descriptor.clone();
            let note = Note { key: followed.source.key, seen_length: followed.seen_length, descriptor };
            self.leaving.borrow_mut().push(Leaving { note, sent, seen: false });
        }
    }

    /// Whether there are released files that may have to be noted.
    pub(super) fn is_leaving(&self) -> bool {
        !self.leaving.borrow().is_empty()
    }

    /// The notes on files with waiting bytes. Called once per tick.
    pub fn notes(&self, lanes: &Lanes<E>) -> Vec<Note> {
        self.notes_of(lanes, false)
    }

    /// The same at the end of the process, when there is no next tick.
    pub fn last_notes(&self, lanes: &Lanes<E>) -> Vec<Note> {
        self.notes_of(lanes, true)
    }

    fn notes_of(&self, lanes: &Lanes<E>, last: bool) -> Vec<Note> {
        let mut notes = self.carried.borrow().clone();
        let in_no_log = |sent: Option<Ticket>| sent.is_some_and(|ticket| !lanes.is_acknowledged(ticket));
        for slot in self.slots.borrow_mut().values_mut() {
            let now = Standing { seen_length: slot.seen_length, sent: slot.sent };
            let before = std::mem::replace(&mut slot.standing, now);
            let Standing { seen_length, sent } = if last { now } else { before };
            if slot.position < seen_length || in_no_log(sent) {
                notes.push(slot.note());
            }
            notes.extend(slot.successors.iter().map(|successor| &successor.note).chain(&slot.comparing).cloned());
        }
        self.leaving.borrow_mut().retain_mut(|leaving| {
            let waits = in_no_log(Some(leaving.sent));
            if waits && (last || std::mem::replace(&mut leaving.seen, true)) {
                notes.push(leaving.note.clone());
            }
            waits
        });
        notes.sort_unstable_by_key(|note| note.key);
        notes
    }
}

impl<F: File> Slot<F> {
    /// The note on this file. If it was never read, its descriptor has no head yet, so the head is added.
    fn note(&self) -> Note {
        let mut descriptor = self.source.descriptor.clone();
        if let Some(known) = Descriptor::decode(&descriptor)
            && known.identity.head.is_outgrown_by(self.seen_length)
            && let Some(head) = self.head()
            && head.length > known.identity.head.length
        {
            use std::os::unix::ffi::OsStrExt;
            let path = std::ffi::OsStr::from_bytes(&known.path);
            descriptor = Descriptor::encode(&Identity { head, ..known.identity }, Path::new(path));
        }
        Note { key: self.source.key, seen_length: self.seen_length, descriptor }
    }

    fn head(&self) -> Option<Head> {
        let followed = self.followed.as_ref().and_then(|followed| followed.file.as_deref());
        let file = followed.or_else(|| self.glimpse.as_ref().map(|glimpse| glimpse.file()))?;
        let mut window = [0; HEAD_BYTES];
        let length = file.read_nowait(&mut window, 0).ok()?;
        Some(Head::of(&window[..length]))
    }
}
