//! When the text of `/metrics` is made: so rarely that it costs little, however many ask for it.
//!
//! Guarantees: each client gets a text that was made after it asked, and waits at most [`PAUSE_MAX`] until it is made. Making texts
//! takes at most one part in [`SHARE`] of a core, unless a single text takes longer than that part of [`PAUSE_MAX`]. All clients
//! that wait get the same text. Makes no text and waits for nothing: the admin endpoint does.

use hyper::body::Bytes;
use std::time::Duration;
use tailwater_shards::env::Monotonic;

/// Of so many parts of a core's time, making texts takes one.
const SHARE: u32 = 20;

/// The longest time between two texts.
pub const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a client does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It sends this text.
    Send(Bytes),
    /// It makes a text for itself and all others that wait.
    Make,
    /// It waits this long and asks again.
    Wait(Duration),
}

/// The last text.
#[derive(Debug, Default)]
pub struct Scrapes {
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    began: Monotonic,
    /// When the next text may be made.
    next: Monotonic,
    text: Bytes,
}

impl Scrapes {
    /// What a client does that asked at this time.
    pub fn next(&self, asked: Monotonic, now: Monotonic) -> Next {
        match &self.last {
            Some(last) if last.began >= asked => Next::Send(last.text.clone()),
            Some(last) if last.next > now => Next::Wait(last.next.since(now)),
            _ => Next::Make,
        }
    }

    /// A text was made.
    pub fn made(&mut self, began: Monotonic, ended: Monotonic, text: Bytes) {
        let pause = (ended.since(began) * (SHARE - 1)).min(PAUSE_MAX);
        self.last = Some(Last { began, next: ended.after(pause), text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(millis * 1_000_000)
    }

    #[test]
    fn text_is_made_after_a_client_asked_and_serves_all_that_wait() {
        let mut scrapes = Scrapes::default();
        assert_eq!(scrapes.next(at(100), at(100)), Next::Make);
        scrapes.made(at(100), at(102), "one".into());
        assert_eq!(scrapes.next(at(90), at(103)), Next::Send("one".into()));
        assert_eq!(scrapes.next(at(101), at(103)), Next::Wait(Duration::from_millis(37)), "it may be too old");
        assert_eq!(scrapes.next(at(101), at(140)), Next::Make);
        scrapes.made(at(140), at(141), "two".into());
        assert_eq!(scrapes.next(at(101), at(141)), Next::Send("two".into()));
        assert_eq!(scrapes.next(at(120), at(150)), Next::Send("two".into()));
    }

    #[test]
    fn texts_take_a_twentieth_of_a_core_or_come_once_a_second() {
        for (cost, pause) in [(0, 0), (1, 19), (50, 950), (53, 1_000), (3_000, 1_000)] {
            let mut scrapes = Scrapes::default();
            scrapes.made(at(1_000), at(1_000 + cost), Bytes::new());
            let ended = 1_000 + cost;
            let next = |later| scrapes.next(at(ended + 1), at(ended + later));
            assert_eq!(next(pause), Next::Make, "{cost}");
            if pause > 0 {
                assert_eq!(next(pause - 1), Next::Wait(Duration::from_millis(1)), "{cost}");
            }
        }
    }
}
