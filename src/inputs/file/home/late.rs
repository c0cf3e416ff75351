//! What answers late: directories and files that took so long that others went on without them.
//!
//! Guarantees: a late answer is used like any other. What was left alone during the first look counts as found by it whenever it
//! answers. Does not decide what is left alone (see [`super::super::patience`]).

use super::super::discover::Checked;
use super::super::identify::Judged;
use super::super::patience::{Late, Reply};
use super::super::post::FileId;
use super::Home;
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use tailwater_shards::env::Env;
use tailwater_shards::signal::Signal;

/// An answer.
pub(super) enum Answer<E: Env> {
    /// A look at a directory, and how often it had been looked at when that began.
    Directory(Box<Checked>, u64),
    /// A file that was opened.
    File(Box<Judged<E::Disk>>),
    /// A file hangs that took the path of this one.
    NoFile(FileId),
}

struct Shared<E: Env> {
    all: RefCell<Vec<Answer<E>>>,
    raised: Signal,
}

/// Answers that wait for the home shard.
pub(super) struct Answers<E: Env>(Rc<Shared<E>>);

impl<E: Env> Clone for Answers<E> {
    fn clone(&self) -> Answers<E> {
        Answers(self.0.clone())
    }
}

impl<E: Env> Answers<E> {
    /// None yet.
    pub(super) fn new() -> Answers<E> {
        Answers(Rc::new(Shared { all: RefCell::default(), raised: Signal::new() }))
    }

    pub(super) fn push(&self, answer: Answer<E>) {
        self.0.all.borrow_mut().push(answer);
        self.0.raised.notify();
    }

    /// Completes when there is an answer.
    pub(super) async fn raised(&self) {
        self.0.raised.wait().await;
    }
}

impl<E: Env> Home<'_, E> {
    /// A look at a directory takes long. Others are looked at meanwhile.
    pub(super) fn leave_directory(&mut self, path: PathBuf, job: Late<Checked>) {
        let mut looks = 0;
        if let Some(directory) = self.directories.get_mut(&path) {
            directory.is_first |= !self.scanned;
            // Looked at again in any case.
            directory.stamp = None;
            looks = directory.looks;
        }
        let answers = self.answers.clone();
        self.owner.patience.leave(path, job, move |reply| {
            if let Reply::Answered(checked) = reply {
                answers.push(Answer::Directory(Box::new(checked), looks));
            }
        });
    }

    /// Uses the answers that came.
    pub(super) async fn take_answers(&mut self) {
        let all = self.answers.0.all.take();
        for answer in all {
            match answer {
                Answer::Directory(checked, looks) => {
                    // What hung was looked at again without the name that hung: then that is newer.
                    let directory = self.directories.get(&checked.request.directory);
                    if directory.is_none_or(|directory| directory.looks == looks) {
                        self.conclude(vec![*checked], Vec::new()).await;
                    }
                }
                Answer::File(judged) => self.take_in_all(vec![*judged]),
                Answer::NoFile(replaces) => {
                    self.is_no_replacement(Some(replaces));
                    self.say_changes();
                }
            }
        }
    }
}
