//! Whether frames can be appended, decided before a byte of them is written.
//!
//! Guarantees: what is planned has its space and its segment. Writes no frame.

use super::*;

impl<E: Env> Writer<E> {
    /// Refuses frames before a byte of them is written. If they need the next segment, it exists with its name.
    pub(super) fn plan(&mut self, frames: &[FrameBuilder], purpose: Purpose) -> Result<(), WalError> {
        // Commits use any existing segment, even if an earlier start had more segments than are allowed now: without commits,
        // none of these would ever be freed.
        let is_held_back = purpose == Purpose::Data || E::Disk::sabotaged(Sabotage::RefuseCommits);
        let reserved = if is_held_back { SEGMENTS_RESERVED } else { 0 };
        let total: usize = frames.iter().map(FrameBuilder::length).sum();
        let rolls = !fits(self.offset, total, self.active.bytes());
        let live = self.log.counters.segments.get() + u64::from(rolls);
        let too_many = is_held_back && live > self.segments_max() - reserved;
        if !rolls {
            return if too_many { Err(WalError::Full) } else { Ok(()) };
        }
        self.build_snapshot()?;
        let segment_bytes = self.options.segment_bytes;
        let mut offset = SEGMENT_HEADER_BYTES as u64 + self.snapshot.frame_bytes();
        // At most half a segment in total, or a single frame: never more than one roll.
        let first = frames.iter().scan(self.offset, |end, frame| {
            *end += frame.length() as u64;
            Some(*end)
        });
        let here = first.take_while(|end| fits(*end, 0, self.active.bytes())).count();
        for frame in &frames[here..] {
            if !fits(offset, frame.length(), segment_bytes) {
                let room = segment_bytes - offset - FRAME_HEADER_BYTES as u64;
                return Err(WalError::TooLarge { bytes: frame.length() as u64, room });
            }
            offset += frame.length() as u64;
        }
        if too_many || self.standbys.len() as u64 <= reserved { Err(WalError::Full) } else { self.name_next() }
    }

    /// Gives the next segment its name before anything of it, or of what needs it, is written. A disk without space for a name
    /// is handled like a full log.
    pub(super) fn name_next(&mut self) -> Result<(), WalError> {
        let (number, standby) = (self.active.number + 1, &mut self.standbys[0]);
        match standby.name(self.log.disk(), number) {
            Ok(newly) => {
                self.names += u64::from(newly);
                Ok(())
            }
            // A start reports this and ends.
            Err(error) if error.is_no_room() && !self.starts_epoch => {
                tracing::warn!(%error, "no disk space for the name of the next segment of the write-ahead log: the intake waits and \
                    nothing is lost");
                Err(WalError::Full)
            }
            Err(WalError::Io { path, source }) => {
                self.poisoning(Err(WalError::Poisoned { what: "rename", path, source }))
            }
            Err(error) => Err(error),
        }
    }
}
