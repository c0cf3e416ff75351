//! Events whose lines fit in no segment of the WAL: they become dead letters, and the rest of their group is appended.
//!
//! Guarantees: each is in the dead letter queue, or counted as dropped by its policy, before its group is appended. The whole
//! intake waits during that time: accepted settings produce no such lines, unless a snapshot uses most of its share.

use super::Intake;
use crate::dlq::{ComponentKind, DeadLetter, Letters};
use crate::env::{Disk as _, Env, Sabotage};
use crate::limits::line_bytes_fitting;
use crate::stop::Phase;
use crate::wal::WalError;
use crate::wal::builder::Group;

impl<E: Env> Intake<E> {
    /// Creates dead letters for events that fit in no segment of the WAL.
    pub(super) async fn shed_large(&self, group: &mut Group, error: &WalError) -> Result<(), ()> {
        let (reason, now) = (error.to_string(), self.env.wall());
        let longest = line_bytes_fitting(self.keeper.segment_bytes());
        let mut all = 0;
        for frame in group.rest_mut() {
            let number = frame.pipeline();
            let Some(path) = self.paths.iter().find(|path| path.pipeline(number).is_some()) else { continue };
            let name = path.pipeline(number).map_or("", |pipeline| &pipeline.name);
            let mut letters = Letters::new();
            letters.begin(now);
            frame.shed(longest, |line, timestamp| {
                letters.push(&DeadLetter {
                    kind: ComponentKind::Pipeline,
                    component: name,
                    place: "log",
                    source: b"",
                    reason: &reason,
                    attempts: 0,
                    timestamp,
                    original: line,
                });
            });
            if letters.is_empty() {
                continue;
            }
            all += letters.count();
            if E::Disk::sabotaged(Sabotage::DropOversized) {
                continue;
            }
            let forced = self.stop.reached(Phase::Forced);
            let kept = self.clerk.keep(&mut letters, None, forced).await;
            if kept.left > 0 {
                return Err(());
            }
            path.count_oversized(number, kept.stored, kept.dropped);
        }
        if all == 0 {
            // Without a long line, there is nothing that could be omitted.
            self.stop.fail(reason);
            return Err(());
        }
        tracing::warn!(events = all, %reason, "events that do not fit in the write-ahead log are now dead letters: raise wal.segment_bytes");
        Ok(())
    }
}
