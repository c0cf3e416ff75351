//! Owed ranges: ranges of batches that were dropped at the sender's request and still have to be recorded.
//!
//! Guarantees: a range is recorded after every earlier batch of its lane and before any later one. Consecutive ranges are
//! merged, so that the owed ranges do not grow with every dropped batch. Does not decide what is dropped: the senders ask.

use super::{Intake, introduces};
use crate::batch::SourceRange;
use crate::env::Env;
use crate::lane::Dropped;
use crate::pipeline::record;
use crate::wal::builder::Group;
use crate::wal::frame::FrameKind;
use std::collections::BTreeMap;

/// Maximum number of ranges of dropped batches that wait for space in the log. Ranges of a spread source are never adjacent, so
/// there is one for each batch. When the maximum is reached, nothing more is dropped, and the lane stops its reader.
pub(crate) const OWED_MAX: usize = 1024;

impl<E: Env> Intake<E> {
    /// Drops from a lane what its policy requires while nothing is received from it.
    pub(super) fn drop_oldest_of(&mut self, lane: usize) {
        while self.owed.len() < OWED_MAX
            && let Some(dropped) = self.lanes[lane].receiver.drop_oldest()
        {
            self.owe(lane, dropped);
        }
    }

    /// Keeps a dropped range until the log has space, merged with the previous range of its source: a log that stays full must
    /// not make the queue grow with every dropped batch.
    fn owe(&mut self, lane: usize, dropped: Dropped) {
        let same = self.owed.iter_mut().rfind(|(at, earlier)| *at == lane && earlier.source.key == dropped.source.key);
        if let Some((_, earlier)) = same.filter(|(_, earlier)| earlier.is_followed_by(&dropped)) {
            let range = SourceRange { from: earlier.range.from, ..dropped.range };
            *earlier = Dropped { range, events: earlier.events + dropped.events, ..dropped };
            return;
        }
        self.owed.push_back((lane, dropped));
        self.keeper.count_owed(self.owed.len());
    }

    /// Records the owed ranges of lanes whose earlier batches are all appended. Returns whether there were any. Merged ranges
    /// are not in the order of their tickets, so tickets are returned when all of the lane are recorded.
    pub(super) async fn record_owed(&mut self) -> Result<bool, ()> {
        if self.owed.is_empty() {
            return Ok(false);
        }
        let mut tickets = BTreeMap::new();
        let mut group = Group::new();
        while let Some(at) = self.owed.iter().position(|(lane, _)| self.yards[*lane].is_empty())
            && let Some((lane, dropped)) = self.owed.remove(at)
        {
            self.record(&dropped, &mut group).await?;
            let highest = tickets.entry(lane).or_insert(dropped.ticket);
            *highest = dropped.ticket.max(*highest);
        }
        self.keeper.count_owed(self.owed.len());
        for (lane, ticket) in &tickets {
            // Earlier ranges of its lane may be waiting.
            self.withheld[*lane].pass(*ticket);
            self.acknowledge(*lane);
        }
        Ok(!tickets.is_empty())
    }

    /// Records the range of batches whose events were dropped.
    async fn record(&mut self, dropped: &Dropped, group: &mut Group) -> Result<(), ()> {
        let introduce = introduces(&self.keeper, &dropped.source);
        group.clear();
        let frame = group.frame(FrameKind::Events, 0, 0);
        record(frame, &dropped.source, &dropped.settled, &dropped.range, introduce, dropped.gone);
        frame.discard(dropped.events);
        frame.set_timestamp(self.env.wall());
        frame.finish();
        self.append(group).await.map(|_| ())
    }
}
