//! Calls on files that may take long.
//!
//! Guarantees: if a call takes long, or is in a tree that was slow, another reader goes on with the other files (see [`super::crew`]).
//! The answer is used whenever it comes. Nothing is tried where something hangs, and the drain waits for [`LAST_WAIT`] at most.

use super::super::content::FileOf;
use super::super::patience::{BRIEF, Reply, SLOW, Work};
use super::Reader;
use super::crew::Replies;
use futures_lite::future::or;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::env::{Env, File, Stat};
use tailwater_shards::stop::Phase;

/// How long the drain waits for a call on a file.
const LAST_WAIT: Duration = Duration::from_secs(1);

impl<E: Env> Reader<'_, E> {
    /// Runs a call on a file where blocking is allowed. If it takes long, another reader goes on with the other files, and this one waits
    /// for the answer. An error if the path is set aside, or if the drain begins meanwhile.
    pub(super) async fn call<R: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> io::Result<R> {
        let stop = async {
            self.context.stop.reached(Phase::Draining).await;
            self.context.env.sleep(LAST_WAIT).await;
            None
        };
        let answer = or(self.answer(path, work), stop).await;
        answer.unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")))
    }

    async fn answer<R: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> Option<io::Result<R>> {
        let patience = &self.owner.patience;
        if patience.is_aside(path) {
            return None;
        }
        let own = path.to_path_buf();
        let one = move |job: &Work<io::Result<R>>| {
            job.steps.at_path(&own);
            job.done(work());
        };
        let limit = if self.is_aside.get() || patience.was_slow(path) { BRIEF } else { SLOW };
        let (mut done, late) = patience.attend(limit, one).await;
        let Some(late) = late else { return done.pop() };
        let id = self.id.get();
        if !self.is_aside.replace(true) {
            id.into_iter().for_each(|id| self.owner.is_slow(id, path));
            self.crew.needs_another();
        }
        let (replies, env) = (Replies::new(), self.context.env.clone());
        let theirs = replies.clone();
        patience.leave(path.to_path_buf(), late, move |reply| {
            // It may hold a file, and closing that may hang as well.
            theirs.push(reply).into_iter().for_each(|unused| env.discard(unused));
        });
        loop {
            match replies.next().await {
                Reply::Answered(answer) => return Some(answer),
                Reply::Hangs => id.into_iter().for_each(|id| self.owner.is_no_longer_slow(id)),
            }
        }
    }

    /// The metadata of a file, requested where blocking is allowed if necessary.
    pub(super) async fn stat(&self, path: &Path, file: &Arc<FileOf<E>>) -> io::Result<Stat> {
        if !file.is_remote() {
            return file.stat();
        }
        let file = file.clone();
        self.call(path, move || file.stat()).await
    }

    /// The first bytes of a file and their number, read where blocking is allowed if necessary.
    pub(super) async fn peek<const N: usize>(
        &self,
        path: &Path,
        file: &Arc<FileOf<E>>,
    ) -> io::Result<([u8; N], usize)> {
        let mut window = [0; N];
        match file.read_nowait(&mut window, 0) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let file = file.clone();
                let read = move || file.read_at(&mut window, 0).map(|length| (window, length));
                self.call(path, read).await
            }
            read => read.map(|length| (window, length)),
        }
    }
}
