//! Indexes for which the server accepts nothing for now, although it accepts events of others: closed, blocked, missing, without an
//! active shard, or forbidden to the output's user.
//!
//! Guarantees: if events choose the index, the output waits for such indexes for [`WAIT`] in [`WAIT_AGAIN`] at most, all of them together.
//! Then their events are dead letters until the index accepts one again. An index is given up only if the server accepts others: one
//! since it was refused first, or one before, if it never accepted any itself. So a server that accepts nothing any more makes the output
//! wait, whatever it says about each index.
//!
//! All that is delivered may be for such indexes, so that nothing else can show what the server accepts. Therefore, when it accepted
//! nothing for [`ALONE`], the output looks at what comes next: for [`LOOK`], events of refused indexes are dead letters. After each look
//! in vain it waits twice as long, up to [`ALONE_MAX`]. If an index that accepted events before is refused, the server itself is likely to
//! have a trouble: this ends a look at once, and costs the index no event. Whoever can have such an index closed stops the output with it,
//! but not for longer than [`ALONE_MAX`]: then a look passes over the events of such indexes as well.
//!
//! A server takes its time to say that a shard is missing, and all events of the request wait for that. So for an index that was given up
//! because of it, events are sent only every [`ASK_EVERY`], those for all such indexes at the same moment.
//!
//! Memory is bounded by [`INDEXES_MAX`] and [`GOOD_MAX`]. Does not read responses, and does not know which indexes events choose.

use std::collections::HashMap;
use std::time::Duration;
use tailwater_shards::env::Monotonic;

/// How long an output waits for such indexes: somebody may be about to open, to make or to allow one.
pub const WAIT: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(30) };

/// How long it does not wait again after that, and how long an index without events is remembered.
pub const WAIT_AGAIN: Duration = Duration::from_secs(600);

/// How long an output waits for a server that accepts nothing, at first and at most, and how long it looks then whether it accepts what
/// comes next.
pub const ALONE: Duration = if cfg!(test) { Duration::from_millis(2400) } else { Duration::from_secs(120) };
const ALONE_MAX: Duration = if cfg!(test) { Duration::from_millis(12_000) } else { WAIT_AGAIN };
pub const LOOK: Duration = if cfg!(test) { Duration::from_millis(600) } else { Duration::from_secs(60) };

/// How often the server is asked about indexes of which it says late that it accepts nothing.
pub const ASK_EVERY: Duration = if cfg!(test) { Duration::from_millis(600) } else { Duration::from_secs(60) };

/// Maximum number of indexes that are remembered to be refused. There are no more in an output, unless it has several in turn.
const INDEXES_MAX: usize = 1024;

/// How many of those that accepted events are remembered: the last ones.
const GOOD_MAX: usize = 256;

/// What happens to events of an index that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are sent again.
    Again,
    /// They become dead letters: the server accepts others.
    Rejected {
        /// Whether that is so from now on.
        is_news: bool,
    },
    /// They become dead letters: the server accepts nothing, and what comes next shows whether it would.
    PassedOver {
        /// Whether that is so from now on.
        is_news: bool,
    },
}

/// What to do with events of an index before they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<'a> {
    /// They are sent.
    Send,
    /// They are sent, and it matters whether one is accepted.
    Ask,
    /// They become dead letters for this reason.
    HoldBack(&'a str),
}

/// An index that is refused.
struct Refused {
    since: Monotonic,
    seen: Monotonic,
    /// Whether it accepted events before.
    was_good: bool,
    is_given_up: bool,
    /// Why, if the server said it late.
    late: Option<String>,
}

/// A time in which the server accepted nothing.
#[derive(Clone, Copy)]
struct Nothing {
    /// Since then, or since the last look.
    since: Monotonic,
    /// The same, but only looks count that may have passed over indexes which accepted events before.
    good_since: Monotonic,
    looks_since: Option<Monotonic>,
    /// Number of looks so far.
    looks: u32,
}

impl Nothing {
    /// Whether events of an index may be passed over, in a look that begins if there is none.
    fn is_due(&self, was_good: bool, now: Monotonic) -> bool {
        let wait = ALONE.saturating_mul(1 << self.looks.min(16)).min(ALONE_MAX);
        match was_good {
            true => now.since(self.good_since) >= ALONE_MAX,
            false => self.looks_since.is_some() || now.since(self.since) >= wait,
        }
    }

    /// The state after a look, or after it was cut short.
    fn looked(self, now: Monotonic) -> Nothing {
        let is_of_good = self.looks_since.is_some_and(|begun| begun.since(self.good_since) >= ALONE_MAX);
        let good_since = if is_of_good { now } else { self.good_since };
        Nothing { since: now, good_since, looks_since: None, looks: self.looks + 1 }
    }
}

/// See the module. A key stands for an index.
#[derive(Default)]
pub struct Barred {
    waits_since: Option<Monotonic>,
    nothing: Option<Nothing>,
    refused: HashMap<Vec<u8>, Refused>,
    /// When each of the others accepted something last.
    good: HashMap<Vec<u8>, Monotonic>,
    asked: Option<Monotonic>,
}

impl Barred {
    /// Records that an index accepted an event. Returns whether its events were dead letters before.
    pub fn accepted(&mut self, key: &[u8], now: Monotonic) -> bool {
        self.nothing = None;
        if let Some(last) = self.good.get_mut(key) {
            *last = now;
            return false;
        }
        if self.good.len() >= GOOD_MAX
            && let Some(oldest) = self.good.iter().min_by_key(|(_, last)| **last).map(|(key, _)| key.clone())
        {
            self.good.remove(&oldest);
        }
        self.good.insert(key.to_vec(), now);
        self.refused.remove(key).is_some_and(|refused| refused.is_given_up)
    }

    /// Records that the server refused an event because of its index, and decides what happens to it. `late` is the reason, if the
    /// server took its time to say it.
    pub fn refused(&mut self, key: &[u8], late: Option<&str>, now: Monotonic) -> Fate {
        self.nothing.get_or_insert(Nothing { since: now, good_since: now, looks_since: None, looks: 0 });
        let was_good = self.good.remove(key).is_some();
        if self.refused.len() >= INDEXES_MAX && !self.refused.contains_key(key) {
            self.refused.retain(|_, refused| now.since(refused.seen) < WAIT_AGAIN);
        }
        let may_wait = self.may_wait(now);
        if self.refused.len() >= INDEXES_MAX && !self.refused.contains_key(key) {
            let accepts_others = !was_good && !self.good.is_empty();
            return match accepts_others && !may_wait {
                true => Fate::Rejected { is_news: false },
                false => self.wait_or_look(may_wait, was_good, now),
            };
        }
        let new = Refused { since: now, seen: now, was_good, is_given_up: false, late: None };
        let refused = self.refused.entry(key.to_vec()).or_insert(new);
        if now.since(refused.seen) >= WAIT_AGAIN {
            (refused.since, refused.is_given_up) = (now, false);
        }
        refused.seen = now;
        match late {
            Some(why) if refused.late.is_none() => refused.late = Some(why.to_owned()),
            Some(_) => {}
            None => refused.late = None,
        }
        if refused.is_given_up {
            return Fate::Rejected { is_news: false };
        }
        let accepts_others =
            self.good.values().any(|last| *last >= refused.since) || (!refused.was_good && !self.good.is_empty());
        if may_wait || !accepts_others {
            let was_good = refused.was_good;
            return self.wait_or_look(may_wait, was_good, now);
        }
        refused.is_given_up = true;
        if late.is_some() && self.asked.is_none_or(|at| now.since(at) >= ASK_EVERY) {
            self.asked = Some(now);
        }
        Fate::Rejected { is_news: true }
    }

    /// What happens to an event that the output would wait for, in a time in which the server accepted nothing.
    fn wait_or_look(&mut self, may_wait: bool, was_good: bool, now: Monotonic) -> Fate {
        let Some(nothing) = self.nothing.filter(|_| !may_wait) else { return Fate::Again };
        let is_over = nothing.looks_since.is_some_and(|begun| now.since(begun) >= LOOK);
        if is_over || !nothing.is_due(was_good, now) {
            if nothing.looks_since.is_some() {
                self.nothing = Some(nothing.looked(now));
            }
            return Fate::Again;
        }
        self.nothing = Some(Nothing { looks_since: nothing.looks_since.or(Some(now)), ..nothing });
        Fate::PassedOver { is_news: nothing.looks_since.is_none() }
    }

    /// Whether events of an index are sent. `now` is when their delivery began: all of its indexes are asked about if one is.
    pub fn turn(&mut self, key: &[u8], now: Monotonic) -> Turn<'_> {
        let Some(refused) = self.refused.get_mut(key) else { return Turn::Send };
        let Some(why) = refused.late.as_deref().filter(|_| refused.is_given_up) else { return Turn::Send };
        // It is as good as unknown.
        if now.since(refused.seen) >= WAIT_AGAIN {
            return Turn::Send;
        }
        if self.asked.is_none_or(|at| at == now || now.since(at) >= ASK_EVERY) {
            self.asked = Some(now);
            return Turn::Ask;
        }
        refused.seen = now;
        Turn::HoldBack(why)
    }

    /// Whether an index may be held back.
    pub fn is_empty(&self) -> bool {
        self.refused.is_empty()
    }

    /// Whether the output may wait for an index now. Begins the wait if none began lately.
    fn may_wait(&mut self, now: Monotonic) -> bool {
        match self.waits_since.map(|since| now.since(since)) {
            Some(waited) if waited < WAIT_AGAIN => waited < WAIT,
            _ => {
                self.waits_since = Some(now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic(1_000_000_000);
    const NEWS: Fate = Fate::Rejected { is_news: true };

    fn after(waits: u32) -> Monotonic {
        NOW.after(WAIT * waits)
    }

    #[test]
    fn index_that_never_accepted_an_event_is_given_up_when_others_did() {
        let mut barred = Barred::default();
        assert!(!barred.accepted(b"good", NOW));
        assert_eq!(barred.refused(b"evil", None, NOW), Fate::Again);
        assert_eq!(barred.refused(b"evil", None, after(1)), NEWS);
        assert_eq!(barred.refused(b"evil", None, after(1)), Fate::Rejected { is_news: false });
        assert_eq!(barred.refused(b"evil too", None, after(1)), NEWS, "no further wait soon");
        assert!(barred.accepted(b"evil", after(2)) && !barred.accepted(b"evil", after(2)));
        assert_eq!(barred.refused(b"other", None, NOW.after(WAIT_AGAIN)), Fate::Again, "but later");
    }

    #[test]
    fn server_that_accepts_nothing_any_more_makes_the_output_wait() {
        let mut barred = Barred::default();
        for key in [b"a", b"b", b"c"] {
            barred.accepted(key, NOW);
        }
        for round in 0..ALONE.as_millis() as u32 / WAIT.as_millis() as u32 {
            for key in [b"a", b"b", b"c"] {
                assert_eq!(barred.refused(key, None, after(round)), Fate::Again, "{round}");
            }
            assert_eq!(barred.refused(b"new", None, after(round)), Fate::Again, "{round}");
        }
        // One of them accepts events again, so the others are not refused because of the server.
        let now = NOW.after(ALONE);
        barred.accepted(b"a", now);
        assert_eq!(barred.refused(b"b", None, now), NEWS);
    }

    #[test]
    fn server_that_never_accepted_anything_makes_the_output_wait() {
        let mut barred = Barred::default();
        for round in 0..ALONE.as_millis() as u32 / WAIT.as_millis() as u32 {
            assert_eq!(barred.refused(b"a", None, after(round)), Fate::Again);
            assert_eq!(barred.refused(b"b", None, after(round)), Fate::Again);
        }
    }

    fn passed(is_news: bool) -> Fate {
        Fate::PassedOver { is_news }
    }

    /// A delivery that holds nothing but such events tells nothing about the others behind it.
    #[test]
    fn output_looks_from_time_to_time_whether_the_server_accepts_what_comes_next() {
        let mut barred = Barred::default();
        let both = |barred: &mut Barred, now| [b"a", b"b"].map(|key| barred.refused(key, None, now));
        assert_eq!(both(&mut barred, NOW), [Fate::Again; 2]);
        let mut begin = NOW;
        for wait in [ALONE, ALONE * 2, ALONE * 4, ALONE_MAX, ALONE_MAX] {
            let look = begin.after(wait);
            assert_eq!(both(&mut barred, begin.after(wait * 3 / 4)), [Fate::Again; 2], "{wait:?}");
            assert_eq!(both(&mut barred, look), [passed(true), passed(false)], "{wait:?}");
            assert_eq!(both(&mut barred, look.after(LOOK / 2)), [passed(false); 2]);
            // It was in vain.
            begin = look.after(LOOK);
            assert_eq!(both(&mut barred, begin), [Fate::Again; 2]);
        }
        let look = begin.after(ALONE_MAX);
        assert_eq!(both(&mut barred, look), [passed(true), passed(false)]);
        barred.accepted(b"c", look);
        assert_eq!(both(&mut barred, look), [NEWS; 2], "the server accepts others");
        assert_eq!(both(&mut barred, look.after(ALONE)), [Fate::Rejected { is_news: false }; 2]);
    }

    /// The server has a trouble of its own, and loses no event of an index that is as it should be.
    #[test]
    fn index_that_was_good_and_is_refused_ends_a_look_at_once() {
        let mut barred = Barred::default();
        barred.accepted(b"good", NOW);
        let mut all = |key: &[u8], now| barred.refused(key, None, now);
        assert_eq!([all(b"good", NOW), all(b"evil", NOW)], [Fate::Again; 2]);
        let look = NOW.after(ALONE);
        assert_eq!([all(b"good", look), all(b"evil", look)], [Fate::Again, passed(true)], "it begins none");
        assert_eq!(
            [all(b"evil", look), all(b"good", look), all(b"evil", look)],
            [passed(false), Fate::Again, Fate::Again]
        );
        assert_eq!(all(b"evil", look.after(ALONE)), Fate::Again, "and the next one is later");
        assert_eq!(all(b"evil", look.after(ALONE * 2)), passed(true));
    }

    /// Somebody has an index of his own closed, and sends nothing else.
    #[test]
    fn index_that_was_good_stops_others_no_longer_than_the_longest_wait() {
        let mut barred = Barred::default();
        barred.accepted(b"his", NOW);
        let step = ALONE_MAX / 40;
        let (mut at, mut passed_over) = (NOW, 0);
        for _ in 0..39 {
            assert_eq!([b"his", b"new"].map(|key| barred.refused(key, None, at))[0], Fate::Again);
            at = at.after(step);
        }
        at = at.after(step);
        assert_eq!(barred.refused(b"his", None, at), passed(true));
        for _ in 0..80 {
            passed_over += u32::from(barred.refused(b"his", None, at) == passed(false));
            at = at.after(step);
        }
        let most = 2 * (LOOK.as_nanos().div_ceil(step.as_nanos()) as u32 + 1);
        assert!((2..=most).contains(&passed_over), "{passed_over} of {most}: it waits in between");
        barred.accepted(b"other", at);
        assert_eq!(barred.refused(b"his", None, at), NEWS);
    }

    #[test]
    fn server_is_seldom_asked_about_indexes_of_which_it_answers_late() {
        let mut barred = Barred::default();
        barred.accepted(b"good", NOW);
        for key in [b"red1", b"red2"] {
            assert_eq!(barred.refused(key, Some("no shard"), NOW), Fate::Again);
            assert_eq!(barred.turn(key, NOW), Turn::Send, "it is waited for");
            assert_eq!(barred.refused(key, Some("no shard"), after(1)), NEWS);
        }
        assert_eq!(barred.refused(b"closed", None, after(1)), NEWS);
        let held = Turn::HoldBack("no shard");
        let turns = |barred: &mut Barred, now| [&b"red1"[..], b"red2"].map(|key| barred.turn(key, now) == held);
        assert_eq!(turns(&mut barred, after(1).after(ASK_EVERY / 2)), [true; 2]);
        let ask = after(1).after(ASK_EVERY);
        assert!(barred.turn(b"red1", ask) == Turn::Ask && barred.turn(b"red2", ask) == Turn::Ask, "all at once");
        assert_eq!(turns(&mut barred, ask.after(ASK_EVERY / 2)), [true; 2]);
        assert!([&b"closed"[..], b"good"].into_iter().all(|key| barred.turn(key, ask) == Turn::Send));
        assert!(barred.accepted(b"red1", ask));
        assert_eq!(turns(&mut barred, ask.after(ASK_EVERY / 2)), [false, true]);
        assert_eq!(barred.turn(b"red2", ask.after(ASK_EVERY / 2).after(WAIT_AGAIN)), Turn::Send, "it is forgotten");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut barred = Barred::default();
        for number in 0..5000_u64 {
            barred.accepted(&number.to_le_bytes(), NOW.after(Duration::from_nanos(number)));
        }
        assert_eq!(barred.good.len(), GOOD_MAX);
        assert!(barred.good.contains_key(&4999_u64.to_le_bytes()[..]));
        for number in 10_000..20_000_u64 {
            barred.refused(&number.to_le_bytes(), None, after(1));
        }
        assert_eq!(barred.refused.len(), INDEXES_MAX);
        barred.refused(b"new", None, NOW.after(WAIT_AGAIN * 2));
        assert_eq!(barred.refused.len(), 1, "those without events are forgotten");
    }
}
