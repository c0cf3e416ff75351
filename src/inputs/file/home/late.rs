//! What answers late: directories and files that took so long that others went on without them.
//!
//! Guarantees: a late answer is used like any other. What was left alone during the first look counts as found by it whenever it
//! answers. Does not decide what is left alone (see [`super::super::patience`]).

use super::super::discover::Checked;
use super::super::identify::Judged;
use super::super::patience::Late;
use super::{Home, Unknown};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use tailwater_shards::env::Env;
use tailwater_shards::signal::Signal;

/// An answer.
pub(super) enum Answer<E: Env> {
    /// A look at a directory.
    Directory(Box<Checked>),
    /// A file that was opened.
    File(Box<Judged<E::Disk>>),
    /// This file hangs.
    NoFile(Unknown),
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
        if let Some(directory) = self.directories.get_mut(&path) {
            directory.is_first |= !self.scanned;
            // Looked at again in any case.
            directory.stamp = None;
        }
        let answers = self.answers.clone();
        self.owner.patience.leave(path, job, move |checked| {
            checked.into_iter().for_each(|checked| answers.push(Answer::Directory(Box::new(checked))));
        });
    }

    /// Uses the answers that came.
    pub(super) async fn take_answers(&mut self) {
        let all = self.answers.0.all.take();
        for answer in all {
            match answer {
                Answer::Directory(checked) => self.conclude(vec![*checked], Vec::new()).await,
                Answer::File(judged) => self.take_in_all(vec![*judged]),
                Answer::NoFile(unknown) => self.file_hangs(&unknown),
            }
        }
    }
}
