//! When and how a delivery commits: a sync of the output that was started earlier, then the output's own commit, then the
//! cursors.
//!
//! Guarantees: cursors are committed only together with a state that the output returned for exactly what it has delivered.
//! Delivers nothing itself.

use super::*;

impl<E: Env> Deliverer<E> {
    /// Starts a sync when a commit is due, and commits when the sync has ended.
    pub(super) async fn advance_commit(&mut self, output: &mut dyn Output) -> Result<(), End> {
        if let Some(syncing) = &self.syncing {
            let Some(result) = syncing.borrow_mut().take() else { return Ok(()) };
            self.syncing = None;
            result.ok_or_else(panicked)?.map_err(|error| self.failed(error))?;
            return self.commit(output).await;
        }
        let since = self.context.env.now().since(self.last_commit);
        let holds_a_segment = || self.readers.iter().any(LogReader::has_left_a_segment);
        let rest = COMMIT_SEGMENT_INTERVAL.max(self.commit_took * COMMIT_REST);
        let due = since >= COMMIT_INTERVAL || since >= rest && holds_a_segment() || self.holds_a_full_log();
        if self.uncommitted && due { self.begin_sync(output) } else { Ok(()) }
    }

    pub(super) fn begin_sync(&mut self, output: &mut dyn Output) -> Result<(), End> {
        let work = std::panic::catch_unwind(AssertUnwindSafe(|| output.begin_sync())).map_err(|_| panicked())?;
        self.sync_begun = self.context.env.now();
        let syncing: Syncing = Rc::default();
        self.syncing = Some(syncing.clone());
        let news = self.news.clone();
        self.context.env.spawn("output sync", async move {
            let done = AssertUnwindSafe(work).catch_unwind().await.ok();
            *syncing.borrow_mut() = Some(done);
            news.notify();
        });
        Ok(())
    }

    pub(super) async fn commit(&mut self, output: &mut dyn Output) -> Result<(), End> {
        let mut state = Vec::new();
        let work = AssertUnwindSafe(output.commit(&mut state)).catch_unwind();
        let result = self.unless_forced(work).await?.map_err(|_| panicked())?;
        result.map_err(|error| self.failed(error))?;
        self.last_commit = self.context.env.now();
        self.commit_took = self.last_commit.since(self.sync_begun);
        match self.record(Some(state)) {
            Err(error @ WalError::StateTooLarge { .. }) => Err(End::Reopen(error.to_string())),
            Err(_) => Ok(()),
            Ok(()) => {
                self.again_bytes = Some(0);
                Ok(())
            }
        }
    }

    /// Commits when no more events will come. If the WAL refuses even commits, waits in between, because this would be a busy
    /// loop otherwise.
    pub(super) async fn commit_at_the_end(&mut self, output: &mut dyn Output) -> Result<(), End> {
        self.commit(output).await?;
        if self.uncommitted {
            self.unless_forced(self.context.env.sleep(REFUSED_PAUSE)).await?;
        }
        Ok(())
    }

    /// Commits the cursors, with the output's state.
    pub(super) fn record(&mut self, state: Option<Vec<u8>>) -> Result<(), WalError> {
        let positions: Vec<Position> = self.readers.iter().map(LogReader::position).collect();
        let cursors = self.readers.iter().zip(&positions).map(|(reader, position)| (reader.log_id(), *position));
        let commit = Commit {
            output: self.context.number,
            instance: self.instance,
            number: self.commit_number + 1,
            cursors: cursors.collect(),
            state,
        };
        let releases = self.readers.iter().zip(&positions).map(|(reader, position)| reader.release(*position));
        // The keeper has reported the refusal: the log is full even for commits, or the engine ends.
        self.uncommitted = true;
        self.keeper.commit(&commit, releases.collect())?;
        self.uncommitted = false;
        self.readers.iter_mut().zip(&positions).for_each(|(reader, position)| reader.released(*position));
        self.commit_number += 1;
        self.committed = positions;
        self.passed_committed = self.passed;
        self.committed_state = commit.state;
        self.context.counters.commits.add(1);
        Ok(())
    }
}
