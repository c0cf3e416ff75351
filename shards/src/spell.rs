//! A spell: something that happens repeatedly for a while. It is reported when it begins, every minute while it lasts, and when
//! it is over.
//!
//! Guarantees: at most two messages per minute, and each event is counted in one of them. Pure: time is an argument. Does not
//! log.

use crate::env::Monotonic;
use std::time::Duration;

/// How often a spell is reported, and how long nothing must happen before it counts as over.
pub const SPELL: Duration = Duration::from_secs(60);

/// What to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It begins.
    Begins,
    /// This many events since the last report, and it continues.
    Lasts(u64),
    /// This many events since the last report, and none for a minute.
    Over(u64),
}

/// See the module documentation. Observes a count that only grows.
#[derive(Default)]
pub struct Spell {
    seen: u64,
    told: u64,
    /// When it was last reported, and when the count last grew. None between spells.
    since: Option<(Monotonic, Monotonic)>,
}

impl Spell {
    /// Whether a spell is in progress.
    pub fn lasts(&self) -> bool {
        self.since.is_some()
    }

    /// What to report about the count at `now`.
    pub fn look(&mut self, count: u64, now: Monotonic) -> Option<News> {
        let grew = count > std::mem::replace(&mut self.seen, count);
        let Some((told_at, grown_at)) = &mut self.since else {
            self.since = grew.then_some((now, now));
            return grew.then_some(News::Begins);
        };
        if grew {
            *grown_at = now;
        }
        let over = now.since(*grown_at) >= SPELL;
        if !over && now.since(*told_at) < SPELL {
            return None;
        }
        *told_at = now;
        let events = count - std::mem::replace(&mut self.told, count);
        if over {
            self.since = None;
            return Some(News::Over(events));
        }
        Some(News::Lasts(events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spell_is_told_at_its_begin_each_minute_and_at_its_end() {
        let mut spell = Spell::default();
        let mut look = |count, seconds: u64| spell.look(count, Monotonic(0).after(Duration::from_secs(seconds)));
        assert_eq!(look(0, 1), None);
        assert_eq!(look(3, 2), Some(News::Begins));
        assert_eq!((look(9, 3), look(20, 61)), (None, None));
        assert_eq!(look(21, 62), Some(News::Lasts(21)));
        assert_eq!((look(25, 70), look(25, 121)), (None, None));
        assert_eq!(look(25, 122), Some(News::Lasts(4)));
        assert_eq!(look(25, 130), Some(News::Over(0)));
        assert_eq!((look(25, 300), look(26, 301)), (None, Some(News::Begins)));
        assert_eq!(look(26, 361), Some(News::Over(1)));
    }
}
