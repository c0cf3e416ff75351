//! The places of a small server: who may connect, for how long, and who gives way when all places are taken.
//!
//! Guarantees: at most [`PLACES_MAX`] connections have a place, and a new connection always gets one. Of these places,
//! [`PLACES_NEAR`] are for connections from this host, whatever other hosts do. Every phase of a connection has a deadline: the
//! head of a request must arrive, and the client must read its answer at [`RATE_MIN`] or faster. When all places are taken, the
//! connection gives way that needs its place least: see [`Need`]. A client that waits for its first answer therefore keeps its
//! place, however often others connect or ask. Reads and writes nothing, and does not close connections: their tasks do.

use std::rc::Rc;
use std::time::Duration;
use tailwater_shards::env::Monotonic;
use tailwater_shards::signal::Signal;

/// The most connections at a time.
pub const PLACES_MAX: usize = 64;

/// How many of them are for this host only, so that an operator on the host reaches the endpoint.
pub const PLACES_NEAR: usize = 8;

/// How long the line and the headers of a request may take, from its first byte, or from the start of the connection.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a connection may wait for its next request. Monitoring systems reconnect without problems.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// How long an answer of no length may take.
pub const ANSWER_TIME_MIN: Duration = Duration::from_secs(5);

/// The lowest rate at which a client must read an answer, in bytes per second.
pub const RATE_MIN: u64 = 64 * 1024;

/// How long a new connection is among the last to give way, though nothing came from it: longer than the head of an honest request
/// takes.
pub const PROTECTED: Duration = Duration::from_secs(1);

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The head of a request is on its way.
    Arriving,
    /// An answer of this many bytes is on its way.
    Answering(u64),
    /// It had its answer and waits for the next request.
    Idle,
}

/// How much a connection needs its place, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// It had an answer and is idle: an honest client connects again.
    Idle,
    /// No request came within [`PROTECTED`].
    Silent,
    /// It had an answer and wants more.
    Again,
    /// It is slow to read its first answer.
    Slow,
    /// It is new, and its first request may be on its way.
    New,
    /// It is new, and its first answer is on its way.
    First,
}

struct Place {
    number: u64,
    is_near: bool,
    had_answer: bool,
    phase: Phase,
    since: Monotonic,
    /// Another connection has its place.
    gave_way: bool,
    /// Raised when its deadline changes.
    changed: Rc<Signal>,
}

impl Place {
    fn need(&self, now: Monotonic) -> Need {
        let is_new = now.since(self.since) < PROTECTED;
        match (self.phase, self.had_answer) {
            (Phase::Idle, _) => Need::Idle,
            (_, true) => Need::Again,
            (Phase::Arriving, false) if is_new => Need::New,
            (Phase::Arriving, false) => Need::Silent,
            (Phase::Answering(_), false) if is_new => Need::First,
            (Phase::Answering(_), false) => Need::Slow,
        }
    }

    fn ends_at(&self) -> Monotonic {
        self.since.after(match self.phase {
            Phase::Arriving => HEAD_TIME_MAX,
            Phase::Answering(bytes) => ANSWER_TIME_MIN + Duration::from_secs(bytes / RATE_MIN),
            Phase::Idle => IDLE_TIME_MAX,
        })
    }

    fn enter(&mut self, phase: Phase, now: Monotonic) {
        (self.phase, self.since) = (phase, now);
        self.changed.notify();
    }
}

/// See the module.
#[derive(Default)]
pub struct Places {
    taken: Vec<Place>,
    next: u64,
}

impl Places {
    /// Gives a new connection a place. Returns its number, and a signal that is raised whenever [`Places::ends_at`] changes.
    pub fn take(&mut self, is_near: bool, now: Monotonic) -> (u64, Rc<Signal>) {
        let held = || self.taken.iter().filter(|place| !place.gave_way);
        let far = held().filter(|place| !place.is_near).count();
        let far_are_full = !is_near && far >= PLACES_MAX - PLACES_NEAR;
        if far_are_full || held().count() >= PLACES_MAX {
            let may = |place: &&mut Place| !place.gave_way && !(far_are_full && place.is_near);
            let least = self.taken.iter_mut().filter(may).min_by_key(|place| (place.need(now), place.since));
            if let Some(place) = least {
                place.gave_way = true;
                place.changed.notify();
            }
        }
        let (number, changed) = (self.next, Rc::new(Signal::new()));
        self.next += 1;
        self.taken.push(Place {
            number,
            is_near,
            had_answer: false,
            phase: Phase::Arriving,
            since: now,
            gave_way: false,
            changed: changed.clone(),
        });
        (number, changed)
    }

    /// The connection has ended.
    pub fn leave(&mut self, number: u64) {
        self.taken.retain(|place| place.number != number);
    }

    /// The number of connections that have not ended, including those that gave way.
    pub fn count(&self) -> usize {
        self.taken.len()
    }

    /// When this connection must end; `None` if it must end now.
    pub fn ends_at(&self, number: u64) -> Option<Monotonic> {
        let place = self.taken.iter().find(|place| place.number == number)?;
        (!place.gave_way).then(|| place.ends_at())
    }

    /// Bytes came.
    pub fn received(&mut self, number: u64, now: Monotonic) {
        if let Some(place) = self.place(number).filter(|place| place.phase == Phase::Idle) {
            place.enter(Phase::Arriving, now);
        }
    }

    /// An answer of this many bytes begins.
    pub fn answers(&mut self, number: u64, bytes: u64, now: Monotonic) {
        if let Some(place) = self.place(number) {
            place.enter(Phase::Answering(bytes), now);
        }
    }

    /// Everything that was to be written is written.
    pub fn flushed(&mut self, number: u64, now: Monotonic) {
        if let Some(place) = self.place(number).filter(|place| matches!(place.phase, Phase::Answering(_))) {
            place.had_answer = true;
            place.enter(Phase::Idle, now);
        }
    }

    fn place(&mut self, number: u64) -> Option<&mut Place> {
        self.taken.iter_mut().find(|place| place.number == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(millis * 1_000_000)
    }

    /// Takes this many places, one per millisecond from `from` on.
    fn fill(places: &mut Places, count: usize, is_near: bool, from: u64) -> Vec<u64> {
        (0..count).map(|index| places.take(is_near, at(from + index as u64)).0).collect()
    }

    /// Those that must end now.
    fn gave_way(places: &Places) -> Vec<u64> {
        places.taken.iter().filter(|place| place.gave_way).map(|place| place.number).collect()
    }

    fn answer(places: &mut Places, number: u64, now: u64) {
        places.answers(number, 100, at(now));
        places.flushed(number, at(now));
    }

    #[test]
    fn every_phase_has_a_deadline() {
        let mut places = Places::default();
        let (number, changed) = places.take(true, at(0));
        assert_eq!(places.ends_at(number), Some(at(5_000)));
        places.received(number, at(4_000));
        assert_eq!(places.ends_at(number), Some(at(5_000)), "a byte now and then wins no time");
        places.answers(number, 10 * RATE_MIN, at(4_000));
        assert_eq!(places.ends_at(number), Some(at(19_000)));
        places.flushed(number, at(6_000));
        assert_eq!(places.ends_at(number), Some(at(66_000)));
        places.flushed(number, at(7_000));
        assert_eq!(places.ends_at(number), Some(at(66_000)), "nothing was written");
        places.received(number, at(8_000));
        assert_eq!(places.ends_at(number), Some(at(13_000)));
        assert!(changed.take());
        places.leave(number);
        assert_eq!((places.ends_at(number), places.count()), (None, 0));
    }

    #[test]
    fn oldest_silent_connection_gives_way() {
        let mut places = Places::default();
        let all = fill(&mut places, PLACES_MAX, true, 0);
        assert_eq!(gave_way(&places), []);
        places.take(true, at(2_000));
        assert_eq!(gave_way(&places), all[..1]);
        assert_eq!(places.ends_at(all[0]), None);
        places.take(true, at(2_000));
        assert_eq!(gave_way(&places), all[..2], "nobody gives way twice");
    }

    #[test]
    fn who_had_an_answer_gives_way_before_who_waits_for_the_first() {
        let mut places = Places::default();
        let all = fill(&mut places, PLACES_MAX - 1, true, 0);
        all.iter().for_each(|&number| answer(&mut places, number, 100));
        // All of them want more, and are being answered, when an honest client connects.
        all.iter().for_each(|&number| places.received(number, at(200)));
        all[..9].iter().for_each(|&number| places.answers(number, 100, at(200)));
        let (honest, _) = places.take(true, at(201));
        fill(&mut places, PLACES_MAX - 1, true, 202);
        assert_eq!(gave_way(&places), all, "as many as came");
        assert!(places.ends_at(honest).is_some());
    }

    #[test]
    fn needs_are_in_order() {
        let mut places = Places::default();
        let all = fill(&mut places, PLACES_MAX, true, 0);
        let [new_first, slow, again, silent, idle, ..] = all[..] else { panic!() };
        all[5..].iter().for_each(|&number| places.answers(number, 1, at(1_900)));
        places.place(new_first).expect("it is there").enter(Phase::Answering(1), at(1_900));
        places.place(slow).expect("it is there").enter(Phase::Answering(1), at(100));
        answer(&mut places, again, 1_800);
        places.received(again, at(1_900));
        answer(&mut places, idle, 1_900);
        let mut order = Vec::new();
        for _ in 0..4 {
            let before = gave_way(&places);
            places.take(true, at(2_000));
            order.extend(gave_way(&places).into_iter().filter(|number| !before.contains(number)));
        }
        assert_eq!(order, [idle, silent, again, slow]);
        places.take(true, at(2_000));
        assert!(places.ends_at(new_first).is_some(), "the new ones that are silent are first");
    }

    #[test]
    fn other_hosts_never_take_the_places_of_this_one() {
        let mut places = Places::default();
        let near = fill(&mut places, PLACES_NEAR, true, 0);
        near.iter().for_each(|&number| answer(&mut places, number, 10));
        let far = fill(&mut places, PLACES_MAX - PLACES_NEAR, false, 20);
        assert_eq!(gave_way(&places), []);
        fill(&mut places, 20, false, 5_000);
        assert_eq!(gave_way(&places), far[..20], "the idle ones of this host stay");
        places.take(true, at(6_000));
        assert_eq!(gave_way(&places)[0], near[0]);
        let mut few = Places::default();
        fill(&mut few, PLACES_MAX, false, 0);
        assert_eq!(gave_way(&few).len(), PLACES_NEAR);
        fill(&mut few, PLACES_NEAR, true, 100);
        assert_eq!(gave_way(&few).len(), PLACES_NEAR, "this host finds its places free");
    }
}
